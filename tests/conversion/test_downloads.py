"""Downloads: resumed, checked, and given up with one line; against a server on this machine."""

import contextlib
import hashlib
import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from torch_networks import network, saved

import conversion
from conversion import downloads
from conversion.downloads import MIRROR_VARIABLE, downloaded
from perceptual_jax import weights
from perceptual_jax.weights import Download, WeightsError

DATA = np.random.default_rng(0).bytes(100_000)
ROOT = Path(__file__).parent.parent.parent


class Server(http.server.ThreadingHTTPServer):
    """Answers each request with the next of `answers`; the last one stays.

    An answer is a function of the handler. `asked` holds the path and the Range of every request.
    """

    daemon_threads = True

    def __init__(self, data: bytes, *answers):
        super().__init__(("127.0.0.1", 0), Handler)
        self.data = data
        self.answers = list(answers)
        self.asked = []
        self.go_on = threading.Event()

    @property
    def ranges(self) -> list[str | None]:
        return [each for _, each in self.asked]

    def url(self, name: str = "file.bin") -> str:
        return f"http://127.0.0.1:{self.server_port}/models/{name}"

    def download(self) -> Download:
        return Download(self.url(), hashlib.sha256(self.data).hexdigest()[:8])


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Range")))
        answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # The client has gone.
            answer(self)
        self.close_connection = True

    def log_message(self, *_):
        pass

    def head(self, code, **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def asked_part(self) -> bytes:
        """The head for what was asked, and what is to be sent."""
        data, have = self.server.data, 0
        if given := self.headers.get("Range"):
            have = int(given.removeprefix("bytes=").removesuffix("-"))
            if have >= len(data):
                self.head(416)
                return b""
            span = f"bytes {have}-{len(data) - 1}/{len(data)}"
            self.head(206, Content_Length=len(data) - have, Content_Range=span)
        else:
            self.head(200, Content_Length=len(data))
        return data[have:]


def well(handler):
    handler.wfile.write(handler.asked_part())


def no_ranges(handler):
    handler.head(200, Content_Length=len(handler.server.data))
    handler.wfile.write(handler.server.data)


def another_range(handler):
    data = handler.server.data
    span = f"bytes 0-{len(data) - 1}/{len(data)}"
    handler.head(206, Content_Length=len(data), Content_Range=span)
    handler.wfile.write(data)


def no_length(handler):
    handler.head(200)
    handler.wfile.write(handler.server.data)


def breaks_off(handler):
    part = handler.asked_part()
    handler.wfile.write(part[: len(part) // 2])


def breaks_off_in_chunks(handler):
    handler.protocol_version = "HTTP/1.1"
    handler.head(200, Transfer_Encoding="chunked")
    handler.wfile.write(b"3e8\r\n" + handler.server.data[:1000] + b"\r\n")


def stalls(handler):
    part = handler.asked_part()
    handler.wfile.write(part[: len(part) // 2])
    handler.wfile.flush()
    handler.server.go_on.wait(30)


def silent(handler):
    handler.server.go_on.wait(30)


def wrong_bytes(handler):
    handler.wfile.write(bytes(len(handler.asked_part())))


def longer_than_it_is(handler):
    data = handler.server.data
    have = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
    if have >= len(data):
        handler.head(416)
        return
    handler.head(200, Content_Length=len(data) + 1000)
    handler.wfile.write(data)


def shorter_than_it_is(handler):
    handler.head(200, Content_Length=len(handler.server.data) - 1000)
    handler.wfile.write(handler.server.data)


def too_long(handler):
    handler.head(200, Content_Length=2**40)
    handler.wfile.write(handler.server.data)


def status(code):
    return lambda handler: handler.head(code, Content_Length=0)


def redirect(location):
    return lambda handler: handler.head(302, Location=location, Content_Length=0)


@pytest.fixture
def serve():
    """`serve(answer, ...)` starts a server of `DATA`."""
    running = []

    def start(*answers, data=DATA) -> Server:
        server = Server(data, *answers)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.go_on.set()
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def publishers_address(monkeypatch):
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)


def fetched(server: Server, folder: Path, progress=None) -> bytes:
    download = server.download()
    with downloaded(download, folder, progress=progress, timeout=0.3, pause=0) as file:
        path = file()
        data = path.read_bytes()
    assert not path.exists()
    return data


def refused(server: Server, folder: Path, message: str) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        fetched(server, folder)
    assert "\n" not in str(caught.value)
    assert not (folder / "file.bin").exists()


@pytest.mark.parametrize(
    ("answers", "ranges"),
    [
        ([well], [None]),
        ([no_ranges], [None]),
        ([no_length], [None]),
        ([breaks_off, well], [None, "bytes=50000-"]),
        ([breaks_off, breaks_off, well], [None, "bytes=50000-", "bytes=75000-"]),
        ([breaks_off, no_ranges], [None, "bytes=50000-"]),
        ([breaks_off, another_range], [None, "bytes=50000-"]),
        ([breaks_off_in_chunks, well], [None, "bytes=1000-"]),
        ([stalls, well], [None, "bytes=50000-"]),
        ([silent, well], [None, None]),
        ([status(500), well], [None, None]),
        ([status(429), status(503), well], [None, None, None]),
        ([redirect("/elsewhere/file.bin"), well], [None, None]),
        ([breaks_off, redirect("/elsewhere"), well], [None, "bytes=50000-", "bytes=50000-"]),
        ([breaks_off, status(416), well], [None, "bytes=50000-", None]),
        ([longer_than_it_is, well], [None, "bytes=100000-", None]),
    ],
    ids=lambda value: "-".join(a.__name__ for a in value) if callable(value[0]) else "",
)
def test_it_arrives(serve, tmp_path, answers, ranges):
    server = serve(*answers)
    assert fetched(server, tmp_path) == DATA
    assert server.ranges == ranges
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("answers", "message", "attempts"),
    [
        ([wrong_bytes], "is not the file that its publisher describes", 1),
        ([shorter_than_it_is], "is not the file that its publisher describes", 1),
        ([status(404)], "the server answers 404", 1),
        ([status(403)], "the server answers 403", 1),
        ([status(500)], "the server answers 500", 4),
        ([silent], "nothing came for 0.3 seconds", 4),
        ([redirect("file:///etc/passwd")], "file:", 1),
        ([redirect("ftp://127.0.0.1/file.bin")], "which is not https: or http:", 1),
        ([redirect("/models/file.bin")], "redirect", None),
        ([too_long], "1,099,511,627,776 bytes, more than", 1),
        # What never ends where it says begins anew; that it began is no progress.
        ([longer_than_it_is], "run the same command again|broke off", 7),
    ],
    ids=lambda value: value[0].__name__ if isinstance(value, list) else "",
)
def test_it_is_given_up(serve, tmp_path, answers, message, attempts):
    server = serve(*answers)
    refused(server, tmp_path, message)
    if attempts is not None:
        assert len(server.asked) <= attempts
    assert len(server.asked) < 20


def test_wrong_bytes_are_not_kept(serve, tmp_path):
    """So that they are not in the way of the right ones."""
    server = serve(wrong_bytes, well)
    refused(server, tmp_path, "does not begin with")
    assert not [path for path in tmp_path.iterdir() if path.stat().st_size]
    assert fetched(server, tmp_path) == DATA


def test_what_came_is_kept_for_the_next_run(serve, tmp_path):
    server = serve(stalls, silent)
    refused(server, tmp_path, "nothing came for 0.3 seconds; run the same command again to go on")
    assert (tmp_path / "file.bin.part").read_bytes() == DATA[:50_000]
    server.answers = [well]
    assert fetched(server, tmp_path) == DATA
    assert server.ranges[-1] == "bytes=50000-"


@pytest.mark.parametrize(
    ("left", "ranges"),
    [
        (DATA, []),  # Whole already: killed before it had its name.
        (DATA + b"more", ["bytes=100004-", None]),
        (b"\0" * 70_000, ["bytes=70000-", None]),  # The beginning of something else.
        (b"\0" * 100_000, ["bytes=100000-", None]),
    ],
    ids=["whole", "longer", "other", "other of the same length"],
)
def test_what_an_earlier_run_left(serve, tmp_path, left, ranges):
    (tmp_path / "file.bin.part").write_bytes(left)
    server = serve(well)
    assert fetched(server, tmp_path) == DATA
    assert server.ranges == ranges


def test_it_stays_if_its_use_fails(serve, tmp_path):
    """Then the next call need not download it."""
    server = serve(well)

    def use() -> None:
        with downloaded(server.download(), tmp_path, timeout=0.3, pause=0) as file:
            assert file().read_bytes() == DATA
            raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            use()
    assert fetched(server, tmp_path) == DATA
    assert len(server.asked) == 1


def test_progress_is_told(serve, tmp_path):
    """The bytes that are there, never fewer than before; they go on from where they were."""
    told = []
    server = serve(breaks_off, well)
    fetched(server, tmp_path, progress=lambda have, total: told.append((have, total)))
    have = [each for each, _ in told]
    assert have == sorted(have)
    assert 50_000 in have
    assert told[-1] == (100_000, 100_000)
    assert {total for _, total in told} == {100_000}


def test_a_length_nobody_told_is_none(serve, tmp_path):
    told = []
    fetched(serve(no_length), tmp_path, progress=lambda *numbers: told.append(numbers))
    assert told[-1] == (100_000, None)


def test_there_is_no_server(serve, tmp_path):
    server = serve(well)
    server.shutdown()
    server.server_close()
    refused(server, tmp_path, "Connection refused|connection")


def test_no_such_host(tmp_path, monkeypatch):
    def unknown(*_, **__):
        raise downloads.socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(downloads.socket, "getaddrinfo", unknown)
    download = Download("https://publisher.invalid/file.bin", "0" * 8)
    with (
        pytest.raises(WeightsError, match="without a network, fetch it by other means"),
        downloaded(download, tmp_path, pause=0) as file,
    ):
        file()


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_mirror_replaces_the_address_up_to_the_name(serve, tmp_path, monkeypatch, slash):
    server = serve(well)
    mirror = server.url("mirror") + slash
    monkeypatch.setenv(MIRROR_VARIABLE, mirror)
    elsewhere = Download("https://publisher.invalid/a/b/file.bin", server.download().sha256)
    with downloaded(elsewhere, tmp_path, timeout=0.3, pause=0) as file:
        assert file().read_bytes() == DATA
    assert server.asked == [("/models/mirror/file.bin", None)]


@pytest.mark.parametrize("mirror", ["file:///etc", "ftp://127.0.0.1", "/etc"])
def test_a_mirror_is_http(mirror, tmp_path, monkeypatch):
    monkeypatch.setenv(MIRROR_VARIABLE, mirror)
    with (
        pytest.raises(WeightsError, match="must be an http or https address"),
        downloaded(Download("https://publisher.invalid/file.bin", "0" * 8), tmp_path) as file,
    ):
        file()


# --- Weights from the network ----------------------------------------------------------------

NAME = "squeezenet1_1"
SETS = (NAME, f"{NAME}-classifier")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file as torchvision publishes it: random weights, with the classifier."""
    folder = tmp_path_factory.mktemp("published")
    return saved(network(NAME, with_classifier=True).state_dict(), folder / "net.pth").read_bytes()


@pytest.fixture(scope="module")
def expected(published, tmp_path_factory):
    """What the store must hold."""
    folder = tmp_path_factory.mktemp("expected")
    (folder / "net.pth").write_bytes(published)
    paths = conversion.convert(
        folder / "net.pth", NAME, with_classifier=True, out=folder / "net.safetensors"
    )
    pairs = zip(SETS, paths, strict=True)
    return {each: weights.read_file(path, each)[1].sha256 for each, path in pairs}


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv(weights.CACHE_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def publish(serve, store, published, monkeypatch):
    """`publish(answer, ...)` serves the file; the manifest says so."""

    def start(*answers) -> Server:
        server = serve(*answers, data=published)
        known = dict(weights.manifest())
        for each in SETS:
            known[each] = known[each]._replace(download=server.download())
        monkeypatch.setattr(weights, "manifest", lambda: known)
        return server

    return start


def check_store(store, expected, names=SETS) -> None:
    assert {each: weights.provenance(each).sha256 for each in names} == {
        each: expected[each] for each in names
    }
    files = [path.name for path in (store / "weights").iterdir()]
    assert sorted(files) == sorted(f"{each}.safetensors" for each in names)
    assert not [path for path in (store / "downloads").iterdir() if path.stat().st_size]


def test_weights_come_from_the_network(publish, store, expected, published):
    server = publish(well)
    told = []
    assert conversion.get(NAME, progress=lambda *n: told.append(n)) == (weights.find(NAME),)
    check_store(store, expected, SETS[:1])
    assert told[-1] == (len(published), len(published))
    found = weights.provenance(NAME)
    assert found.source == server.url()
    assert found.source_sha256 == hashlib.sha256(published).hexdigest()
    conversion.get(NAME)
    assert len(server.asked) == 1


def test_one_download_serves_the_classifier_too(publish, store, expected):
    server = publish(well)
    paths = conversion.get(NAME, with_classifier=True)
    assert paths == tuple(weights.find(each) for each in SETS)
    check_store(store, expected)
    assert len(server.asked) == 1


def test_offline_leaves_the_network_alone(publish, store):
    server = publish(well)
    with pytest.raises(WeightsError, match=r"offline, so http.*--from FILE"):
        conversion.get(NAME, offline=True)
    assert not server.asked
    assert not list(store.rglob("*"))


def test_a_file_comes_before_the_network(publish, store, expected, published, tmp_path):
    server = publish(well)
    file = tmp_path / "mine.pth"
    file.write_bytes(published)
    conversion.get(NAME, file=file)
    assert weights.provenance(NAME).sha256 == expected[NAME]
    assert weights.provenance(NAME).source == "mine.pth"
    assert not server.asked


def test_the_network_makes_up_for_another_file(publish, store, expected, tmp_path):
    publish(well)
    (tmp_path / "mine.pth").write_bytes(b"nothing of the kind")
    conversion.get(NAME, file=tmp_path / "mine.pth")
    check_store(store, expected, SETS[:1])


def test_another_file_is_not_taken(publish, store, published, tmp_path):
    """Not where nothing but its publisher's checksum tells what the weights are."""
    publish(well)
    (tmp_path / "mine.pth").write_bytes(published + b"\0")
    with pytest.raises(WeightsError, match=r"weights convert .*mine\.pth --as squeezenet1_1"):
        conversion.get(NAME, file=tmp_path / "mine.pth", offline=True)


def test_a_wrong_file_of_the_network_is_not_stored(publish, store):
    publish(wrong_bytes)
    with pytest.raises(WeightsError, match=r"could not be had: .* is not the file"):
        conversion.get(NAME)
    assert weights.find(NAME) is None


_GET = """
import sys
import conversion
from perceptual_jax import weights
name, url, sha256 = sys.argv[1:]
known = dict(weights.manifest())
known[name] = known[name]._replace(download=weights.Download(url, sha256))
weights.manifest = lambda: known
conversion.get(name)
"""


def getting(server: Server) -> subprocess.Popen:
    """Another process that gets the weights from the server."""
    command = [sys.executable, "-c", _GET, NAME, *server.download()]
    return subprocess.Popen(command, env=os.environ, cwd=ROOT)


def wait_until(met, seconds=60.0) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end
        time.sleep(0.01)


def half_then_the_rest(handler):
    part = handler.asked_part()
    handler.wfile.write(part[: len(part) // 2])
    handler.wfile.flush()
    handler.server.go_on.wait(30)
    handler.wfile.write(part[len(part) // 2 :])


@pytest.mark.multiprocess
def test_two_processes_share_a_download(publish, store, expected):
    """The second waits for the first, then finds the store filled."""
    server = publish(half_then_the_rest)
    running = [getting(server) for _ in range(2)]
    wait_until(lambda: server.asked)
    time.sleep(2)  # The other process is at the lock, or will be.
    assert len(server.asked) == 1
    server.go_on.set()
    assert [process.wait(60) for process in running] == [0, 0]
    assert len(server.asked) == 1
    check_store(store, expected, SETS[:1])


@pytest.mark.multiprocess
def test_a_killed_download_is_gone_on_with(publish, store, expected, published):
    server = publish(half_then_the_rest, well)
    process = getting(server)
    partial = store / "downloads" / "file.bin.part"
    wait_until(lambda: partial.is_file() and partial.stat().st_size > 1000)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    have = partial.stat().st_size
    assert 1000 < have < len(published)
    assert partial.read_bytes() == published[:have]
    assert weights.find(NAME) is None
    assert getting(server).wait(60) == 0
    assert server.ranges == [None, f"bytes={have}-"]
    check_store(store, expected, SETS[:1])
