"""Server processes of the sandbox: on free loopback ports, and never outliving whoever started them."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from simples3dms.errors import Unavailable

_PR_SET_PDEATHSIG = 1
_LOWEST_PORT, _HIGHEST_PORT = 20_000, 31_000
_TAIL_LINES = 15


def free_port_block(count: int, also: Sequence[int] = (0,)) -> int:
    """The first of `count` consecutive ports of the loopback that are free, at each of the offsets in `also`.

    They may be taken before the caller binds them: whoever starts a server tries again with others then.
    """
    start = _LOWEST_PORT + (os.getpid() * 97 + time.monotonic_ns() // 1000) % (_HIGHEST_PORT - _LOWEST_PORT)
    for step in range(0, _HIGHEST_PORT - _LOWEST_PORT, count):
        base = _LOWEST_PORT + (start - _LOWEST_PORT + step) % (_HIGHEST_PORT - _LOWEST_PORT - count)
        if all(_is_free(base + offset + number) for offset in also for number in range(count)):
            return base
    raise Unavailable("There are no free ports on the loopback interface.")


def _is_free(port: int) -> bool:
    with ExitStack() as stack:
        probe = stack.enter_context(socket.socket())
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _die_with_parent() -> None:
    """In the child, before it becomes the server: the kernel kills it when its parent is gone, however that went."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class ServerProcess:
    """One server: started, waited for, and ended by its pid."""

    def __init__(self, command: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None) -> None:
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            self._process = subprocess.Popen(  # noqa: S603 programs of our own choosing
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, **(environment or {})},
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait_until(self, ready: Callable[[], bool], *, seconds: float) -> bool:
        """Whether the server became ready in time; False as soon as it has ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.is_running():
            if ready():
                return True
            time.sleep(0.05)
        return False

    def kill(self) -> None:
        """End it at once. Both stand-ins keep what they acknowledged."""
        self._process.kill()
        self._process.wait()

    def log_tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
