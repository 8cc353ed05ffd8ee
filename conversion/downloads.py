"""Downloads that can be interrupted, resumed and trusted.

What arrives goes to a file beside the one it will be, so that a killed process is gone on with. It
takes its name only when its SHA-256 is the publisher's. A lock lets two processes share it.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from perceptual_jax.weights import Download, WeightsError

__all__ = ["MIRROR_VARIABLE", "Progress", "downloaded"]

MIRROR_VARIABLE = "PERCEPTUAL_JAX_MIRROR"
"""The environment variable that replaces the publisher's address, up to the file's name."""

Progress = Callable[[int, int | None], None]
"""Is told the bytes that are there and those that there will be, if that is known."""

_BLOCK = 2**20
_MAX_BYTES = 2**31
_FAILURES = 4  # Attempts in a row that bring nothing.
_MAX_ATTEMPTS = 100
_USER_AGENT = "perceptual-jax"


class _HopelessError(Exception):
    """What another attempt would not mend."""


class _SameKind(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to what is not."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        allowed = ("https:",) if req.full_url.startswith("https:") else ("https:", "http:")
        if not newurl.startswith(allowed):
            fp.close()
            raise _HopelessError(f"it redirects to {newurl}, which is not {' or '.join(allowed)}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextmanager
def downloaded(
    source: Download,
    folder: Path,
    *,
    progress: Progress | None = None,
    timeout: float = 30.0,
    pause: float = 1.0,
) -> Iterator[Callable[[], Path]]:
    """A file from the network, checked, for the block to use; then it is removed.

    Other processes that want the same file wait for the block to end. It is downloaded when the
    block asks for it: what another process made of it meanwhile may be enough. If the block
    raises, the file stays, and the next call need not download it.

    Args:
      source: its address, whose beginning `$PERCEPTUAL_JAX_MIRROR` replaces, and its SHA-256.
      folder: where it goes; made if need be.
      progress: is told how far it is.
      timeout: seconds without a byte after which a connection is given up.
      pause: seconds before the second attempt; twice as long before every further one.

    Yields:
      A function that returns the file.

    Raises:
      WeightsError: from that function, if the server cannot be reached, breaks off too often, or
        serves another file. What was downloaded of the right one is kept, to go on with.
    """
    url = _address(source.url)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / Path(urllib.parse.urlparse(source.url).path).name
    partial = path.with_name(f"{path.name}.part")

    def fetched() -> Path:
        if not _matches(path, source):
            # What an earlier run left may be whole, the beginning, or of something else.
            resumed = partial.is_file()
            if not _matches(partial, source):
                _fetch(url, partial, progress, timeout, pause)
            if resumed and not _matches(partial, source):
                partial.unlink()
                _fetch(url, partial, progress, timeout, pause)
            if not _matches(partial, source):
                partial.unlink()
                raise WeightsError(
                    f"{url} is not the file that its publisher describes: its SHA-256 does not "
                    f"begin with {source.sha256}"
                )
            partial.replace(path)
        return path

    with _locked(path.with_name(f"{path.name}.lock")):
        yield fetched
        path.unlink(missing_ok=True)


def _address(url: str) -> str:
    mirror = os.environ.get(MIRROR_VARIABLE)
    if not mirror:
        return url
    if not mirror.startswith(("http://", "https://")):
        raise WeightsError(f"${MIRROR_VARIABLE} must be an http or https address; got {mirror!r}")
    return f"{mirror.rstrip('/')}/{url.rsplit('/', 1)[1]}"


def _fetch(url: str, path: Path, progress: Progress | None, timeout: float, pause: float) -> None:
    """Appends what is missing, in as many attempts as it may take."""
    failures = 0
    furthest = path.stat().st_size if path.exists() else 0
    for _ in range(_MAX_ATTEMPTS):
        try:
            with path.open("ab") as file:
                _append(url, file, progress, timeout)
            return
        except _HopelessError as error:
            raise WeightsError(f"{url}: {error}") from None
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            problem = _problem(url, error, timeout)
            if isinstance(error, urllib.error.HTTPError) and error.code == 416:
                path.unlink()  # There is nothing after what we have: it is not what it was.
        # An attempt that came further than any is no failure: a poor line gets there in the end.
        # What is fetched anew, as far as before, is: a server that never is content would go on.
        have = path.stat().st_size if path.exists() else 0
        failures = 0 if have > furthest else failures + 1
        furthest = max(furthest, have)
        if failures == _FAILURES:
            break
        time.sleep(min(pause * 2**failures, 30))
    raise WeightsError(f"{url}: {problem}; run the same command again to go on")


def _problem(url: str, error: Exception, timeout: float) -> str:
    """What went wrong, in words; raises a `WeightsError` where another attempt is no use."""
    reason = getattr(error, "reason", error)
    if isinstance(error, urllib.error.HTTPError):
        # urllib's own words for redirects in a circle are three lines.
        answer = f"the server answers {error.code} {' '.join(str(error.reason).split())}"
        if error.code < 500 and error.code not in (408, 416, 429):
            raise WeightsError(f"{error.url}: {answer}")
        return answer
    if isinstance(reason, socket.gaierror):
        raise WeightsError(
            f"{url}: there is no way to the server ({reason}); without a network, fetch it by "
            f"other means and add --from FILE, or name a mirror in ${MIRROR_VARIABLE}"
        )
    if isinstance(reason, TimeoutError):
        return f"nothing came for {timeout:g} seconds"
    if isinstance(error, http.client.IncompleteRead):
        # Of what is sent in chunks nobody knows the length.
        left = "" if error.expected is None else f"{error.expected:,} bytes "
        return f"the server broke off {left}before the end"
    return str(reason) or type(reason).__name__


def _append(url: str, file: BinaryIO, progress: Progress | None, timeout: float) -> None:
    """One attempt: asks for what comes after what is there."""
    have = file.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"User-Agent": _USER_AGENT})
    if have:
        request.add_header("Range", f"bytes={have}-")
    opener = urllib.request.build_opener(_SameKind)
    with opener.open(request, timeout=timeout) as response:
        if have and not (
            response.status == 206
            and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        ):
            file.truncate(0)  # The server begins anew.
            have = file.seek(0)
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None and length.isdigit() else None
        if (total or 0) > _MAX_BYTES:
            raise _HopelessError(f"{total:,} bytes, more than {_MAX_BYTES:,}")
        while block := response.read1(_BLOCK):
            file.write(block)
            have += len(block)
            if have > _MAX_BYTES:
                file.truncate(0)
                raise _HopelessError(f"more than {_MAX_BYTES:,} bytes")
            if progress:
                progress(have, total)
        if total is not None and have != total:
            raise http.client.IncompleteRead(b"", total - have)


def _matches(path: Path, source: Download) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(source.sha256)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lets one process in at a time; the lock goes when the process does. Windows has none."""
    with path.open("ab") as file:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
