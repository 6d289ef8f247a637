"""Server processes of the sandbox: started, waited for, ended by pid, and never outliving whoever started them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

_TAIL_LINES = 15

# Becomes the server after asking the kernel to kill it when its parent is gone (1: PR_SET_PDEATHSIG, 9: SIGKILL).
# A launcher, because code between fork and exec is unsafe in a process with threads.
_LAUNCHER = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("its starter is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


@cache
def _starter(_pid: int) -> ThreadPoolExecutor:
    """The thread that starts servers: for the kernel the parent is a thread, so it must be one that stays."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-starter")


class ServerProcess:
    """One server. `command` begins with the path of its program."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._log = log
        self._process = _starter(os.getpid()).submit(self._start, command, environment or {}, pass_fds).result()

    def _start(
        self, command: Sequence[str], environment: Mapping[str, str], pass_fds: Sequence[int]
    ) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as file:
            return subprocess.Popen(  # noqa: S603 programs of our own choosing
                [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, **environment},
                pass_fds=pass_fds,
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
        """End it at once, like a power cut of the process. Both stand-ins keep what they acknowledged."""
        self._process.kill()
        self._process.wait()

    def log_tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
