"""What a run keeps is read as what may be damaged, and every configuration survives the way."""

import dataclasses
import errno
import importlib
import json
import os
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

import perceptual_jax as pj
from experiments.__main__ import COMMANDS
from experiments.claims.claim import read_measured
from experiments.common import lock
from experiments.common.run_folder import RunFolder, resumed, start
from experiments.demo import Config


def saved(folder, command, config) -> None:
    """A run's config.json, as `start` writes it."""
    (folder / command / "a").mkdir(parents=True)
    text = json.dumps({"config": dataclasses.asdict(config)})
    (folder / command / "a" / "config.json").write_text(text)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_preset_can_be_resumed(tmp_path, command):
    """With options of the kinds that they had."""
    module = importlib.import_module(COMMANDS[command][0])
    for number, preset in enumerate(module.PRESETS.values()):
        if not hasattr(preset, "resume"):
            continue
        folder = tmp_path / str(number)
        saved(folder, command, preset)
        asked = dataclasses.replace(preset, out=str(folder), name="a", resume=True)
        assert resumed(command, asked) == asked


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps": "many"}, "steps cannot be 'many'"),
        ({"steps": True}, "steps cannot be True"),
        ({"steps": 1.5}, "steps cannot be 1.5"),
        ({"distances": "l1"}, "distances cannot be 'l1'"),
        ({"distances": ["l1", 2]}, "distances cannot be"),
        ({"strange": 1}, "strange"),
        ({"name": ["a"]}, "name cannot be"),
    ],
)
def test_options_of_another_kind_are_refused(tmp_path, changed, message):
    saved(tmp_path, "demo", Config())
    path = tmp_path / "demo" / "a" / "config.json"
    options = dataclasses.asdict(Config()) | changed
    path.write_text(json.dumps({"config": options}))
    asked = Config(out=str(tmp_path), name="a", resume=True)
    with pytest.raises(pj.InputError, match=message):
        resumed("demo", asked)


def test_lines_of_metrics_that_are_none_are_passed_over(tmp_path):
    """Those cut short by a kill, and those that are of another kind."""
    sound = {"distance": "l1", "step": 1}
    lines = [json.dumps(sound), "5", "[]", '{"step": "a"}', "[" * 100_000, '{"a": "\xff', '{"st']
    (tmp_path / "metrics.jsonl").write_bytes("\n".join(lines).encode("latin1"))
    folder = RunFolder(tmp_path, "glo")
    assert folder.metrics() == [sound]
    assert folder.forget_after(1, {"distance": "l1"}) == [sound]


@pytest.mark.parametrize(
    "text",
    ['{"numbers": {}, "captions": {"../x": ["a"]}}', '{"numbers": {}, "captions": {"x": [1]}}',
     '{"numbers": [], "captions": {}}', "[]", "{", "[" * 100_000],
)  # fmt: skip
def test_measurements_of_claims_that_are_none(tmp_path, text):
    """Pictures that they name are those of their own folder."""
    pj.images.write(tmp_path / "x-1.png", np.zeros((4, 4, 3)))
    (tmp_path / "claim").mkdir()
    (tmp_path / "claim" / "measured.json").write_text(text)
    with pytest.raises(pj.InputError, match=r"measured\.json cannot be read .* measure again"):
        read_measured(tmp_path / "claim")


# --- One process at a time -----------------------------------------------------------------


@contextmanager
def another_has(folder, says=""):
    """Another process that holds a run's lock, and wrote so into its file, until it is killed."""
    script = f"""
import fcntl, sys
file = open({str(folder / ".lock")!r}, "w")
fcntl.flock(file, fcntl.LOCK_EX)
file.write({says!r})
file.flush()
print("held", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield
        process.kill()


def is_free(folder):
    """Whether another process could have a run."""
    script = """
import fcntl, sys
with open(sys.argv[1], "r+") as file:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
"""
    command = [sys.executable, "-c", script, str(folder / ".lock")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def begun(tmp_path):
    """`begun(resume=True)`: a run, started or gone on with."""

    def begin(*, name="a", resume=False):
        return start("demo", Config(out=str(tmp_path), name=name, resume=resume))

    return begin


@pytest.mark.parametrize(
    ("says", "named"),
    [
        ("process 12 on a-host.org", "process 12 on a-host.org"),
        ("", "another process"),
        ("process 12 on \x1b[2J", "another process"),
        ("x" * 100_000, "another process"),
    ],
)
def test_a_run_that_another_process_has_is_refused(begun, says, named):
    """Until that is killed: the system takes its lock away."""
    path = begun().path
    with another_has(path, says):
        with pytest.raises(pj.InputError) as refused:
            begun(resume=True)
        assert str(refused.value) == (
            f"{path} is in use by {named}: wait until that is done or stop it, or start another "
            "run under another --name"
        )
    assert begun(resume=True).path == path


def test_a_run_is_another_processs_when_nothing_refers_to_it(begun):
    """This process itself may have it more than once."""
    first = begun()
    again = begun(resume=True)
    path = first.path
    assert (path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
    assert not is_free(path)
    del first
    assert not is_free(path)
    del again
    assert is_free(path)


def test_what_is_discarded_is_no_longer_locked(begun):
    folder = begun()
    with pytest.raises(KeyError), folder.discarded_on_error():
        raise KeyError
    assert not folder.lock.held
    assert not is_free(begun().path)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_runs_go_on_without(begun, monkeypatch, code):
    def flock(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", flock)
    assert begun().lock is None
    assert begun(resume=True).lock is None


def test_a_system_without_locks(begun, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert lock._fcntl() is None
    assert begun().lock is None


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_lock_that_is_none_is_left_alone(begun, tmp_path, kind):
    """A run's folder may come from others."""
    path = begun().path / ".lock"
    path.unlink()
    outside = tmp_path / "outside"
    outside.write_text("as it was")
    match kind:
        case "link":
            path.symlink_to(outside)
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
    assert begun(resume=True).lock is None
    assert outside.read_text() == "as it was"


# --- Killed while the folder is made -------------------------------------------------------


def test_a_name_is_given_to_a_whole_folder_alone(begun, tmp_path, monkeypatch):
    """What a kill leaves before that is in nobody's way."""

    class KilledError(BaseException):
        pass

    def write(*_):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_json", write)
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        with pytest.raises(KilledError):
            begun()
    assert [path.name[0] + path.suffix for path in (tmp_path / "demo").iterdir()] == ["..part"]
    assert begun().path == tmp_path / "demo" / "a"


def test_an_empty_folder_is_a_name_that_is_free(begun, tmp_path):
    (tmp_path / "demo" / "a").mkdir(parents=True)
    path = begun().path
    assert json.loads((path / "config.json").read_text())["config"]["name"] == "a"


@pytest.mark.parametrize("kind", ["run", "file", "link"])
def test_a_name_that_is_taken(begun, tmp_path, kind):
    """Nothing is changed, and nothing left."""
    taken = tmp_path / "demo" / "b"
    match kind:
        case "run":
            begun(name="b")
        case "file":
            taken.parent.mkdir()
            taken.write_text("as it was")
        case "link":
            begun(name="c").path.rename(tmp_path / "c")
            taken.symlink_to(tmp_path / "c")
    before = [*taken.parent.iterdir()], taken.stat().st_mtime_ns
    with pytest.raises(pj.InputError, match=r"the run .*b exists: .* --name, or --resume it"):
        begun(name="b")
    assert ([*taken.parent.iterdir()], taken.stat().st_mtime_ns) == before


def test_what_a_kill_left_half_written_is_removed_on_resuming(begun):
    """Of nobody else: not while another process writes it."""
    path = begun().path
    (path / "distances").mkdir()
    halves = [path / ".x.part", path / "distances" / ".y.part"]
    for half in halves:
        half.write_bytes(b"half")
    with another_has(path), pytest.raises(pj.InputError):
        begun(resume=True)
    assert all(half.exists() for half in halves)
    begun(resume=True)
    assert not any(half.exists() for half in halves)
