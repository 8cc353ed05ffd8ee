"""Readers on hostile input, within bounds: what they may do, how long it may take, what it costs.

The law is one for all of them: whatever comes in, what comes out is a result or an `InputError` of
one readable line, soon, in little memory; nothing in the input is executed, and no file outside of
the folder that was named is opened.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from perceptual_jax.errors import InputError

__all__ = ["Cases", "watched"]

SECONDS = 5.0
"""How long one case may take, of the processor's time: the machine may be busy."""
MEMORY = 2**29
"""How much more memory the cases may take at a time, in bytes."""
SPACE = 2**33
"""How much more address space: Python asks for what a file says it holds before it reads it."""
LONGEST_MESSAGE = 5000

# What input has no business to cause, as Python's audit events call it.
_FORBIDDEN = {
    *("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"),
    *("subprocess.Popen", "pty.spawn", "os.kill", "os.putenv", "os.chmod", "os.chown"),
    *("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "urllib.Request"),
    *("pickle.find_class", "exec", "ctypes.dlopen", "code.__new__", "webbrowser.open"),
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate"),
    *("shutil.rmtree", "shutil.copyfile", "shutil.move", "shutil.unpack_archive"),
}


class _TooLongError(BaseException):
    """Not an `Exception`: no reader may take it for damage."""


class _Watch:
    """The audit hook, which once added stays: it looks only while a case runs, in its thread."""

    def __init__(self) -> None:
        self.thread: int | None = None
        self.folder = ""
        self.allowed: frozenset[str] = frozenset()
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.thread != threading.get_ident():
            return
        if event == "exec" and self._installed(arguments[0].co_filename):
            return  # A module that Python or a package had not imported yet.
        if event in _FORBIDDEN - self.allowed:
            self.seen.append(f"{event} {arguments!r:.200}")
        elif event == "open":
            path, mode, flags = arguments
            if isinstance(path, int) or path is None:
                return
            where = os.path.realpath(os.fsdecode(path))
            writes = (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            inside = where.startswith(self.folder) or self._installed(where)
            if not inside or writes or (mode or "r")[0] != "r":
                self.seen.append(f"open {where!r} {mode}")

    @staticmethod
    def _installed(where: str) -> bool:
        return where.startswith((sys.prefix, sys.base_prefix, "<frozen "))


_watch: _Watch | None = None


def _on_alarm(_signal: int, _frame: Any) -> None:
    raise _TooLongError


class Cases:
    """Runs the cases of a test, and counts what came of them.

    Attributes:
      accepted: how many gave a result.
      refused: how many raised an `InputError`.
      wrong: what broke the law.
    """

    def __init__(self, folder: Path, watch: _Watch) -> None:
        self.folder = folder
        self.accepted = self.refused = 0
        self.wrong: list[str] = []
        self._watch = watch

    def run(self, read: Callable[[], Any], case: object, names: str | None = None) -> Any:
        """What one case gave; None where it was refused.

        Args:
          read: reads the case.
          case: what it is, to be reported where it breaks the law.
          names: what a refusal must name: the file.
        """
        self._watch.seen.clear()
        found, fault = None, ""
        self._watch.thread = threading.get_ident()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            found = read()
        except InputError as error:
            fault = _fault(str(error), names)
            self.refused += 1
        except _TooLongError:
            fault = f"took longer than {SECONDS:g} s"
        except BaseException as error:
            fault = f"raised {type(error).__name__}: {error!s:.300}"
        else:
            self.accepted += 1
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            self._watch.thread = None
        if self._watch.seen:
            fault += f" did {self._watch.seen[:3]}"
        if fault:
            self.wrong.append(f"{case!r:.500}: {fault}")
        return found

    def check(self, count: int) -> None:
        """All kept the law, there were as many, and of both kinds: none of this is empty."""
        print(f"{self.accepted + self.refused:,} cases: {self.accepted:,} read, "
              f"{self.refused:,} refused")  # fmt: skip
        assert not self.wrong, f"{len(self.wrong)} broke the law:\n" + "\n".join(self.wrong[:10])
        assert self.accepted + self.refused == count
        assert self.accepted > count / 100
        assert self.refused > count / 100


def _fault(message: str, names: str | None) -> str:
    """What is wrong with the message of a refusal."""
    if names is not None and names not in message:
        return f"does not name {names}: {message!r:.300}"
    if not message.isprintable():
        return f"is not one readable line: {message!r:.300}"
    if len(message) > LONGEST_MESSAGE:
        return f"is {len(message)} characters long: {message!r:.300}"
    # Out of memory is no answer: the input asked for too much, and began to get it.
    if "MemoryError" in message or "llocate" in message:
        return f"ran out of memory: {message!r:.300}"
    return ""


@contextmanager
def watched(folder: Path, *, allowed: Iterable[str] = ()) -> Iterator[Cases]:
    """Cases that may open files of a folder, in bounded memory; and cause the events allowed."""
    global _watch
    if not hasattr(signal, "setitimer") or not Path("/proc/self/clear_refs").exists():
        pytest.skip("bounds of time and memory are those of Linux")
    _watch = _watch or _Watch()
    _watch.folder, _watch.allowed = os.path.realpath(folder), frozenset(allowed)
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGPROF, _on_alarm)
    resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + SPACE, before[1]))
    Path("/proc/self/clear_refs").write_text("5")  # The peak begins anew.
    resident = _memory("VmRSS")
    cases = Cases(folder, _watch)
    try:
        yield cases
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGPROF, handler)
    assert _memory("VmHWM") <= resident + MEMORY, "the cases took too much memory"


def _memory(what: str) -> int:
    """In bytes, as the system counts it for this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))
