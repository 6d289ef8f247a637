"""Starting PostgreSQL's programs: as the right user, with a clean environment, and never outliving the keeper."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from simples3dms.db.embedded.accounts import Account

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
#: Nothing of ours: no PG* variable may point the server elsewhere, no secret may sit in its environment.
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def adopt_orphans() -> None:
    """Become the parent of our grandchildren when theirs dies, so that they can be reaped where PID 1 does not."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _before_exec(death_signal: int) -> Callable[[], None]:
    prctl, keeper = ctypes.CDLL(None).prctl, os.getpid()

    def in_child() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        # Changing the user clears this setting, so it comes after that (as `preexec_fn` does); the keeper
        # may have died before it was made.
        prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != keeper:
            os._exit(1)

    return in_child


def _as_user(account: Account | None) -> dict[str, Any]:
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def spawn(
    command: Sequence[str | Path],
    *,
    account: Account | None,
    output: int,
    death_signal: int,
    keep_open: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a program that gets `death_signal` when we die. Only for a process with one thread: the keeper."""
    return subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=_ENVIRONMENT,
        cwd="/",
        pass_fds=keep_open,
        preexec_fn=_before_exec(death_signal),
        **_as_user(account),
    )


def ask_version(program: Path, account: Account | None) -> str | None:
    """What `program --version` says when that user runs it, or None if it can't be run."""
    try:
        said: bytes = subprocess.check_output(  # noqa: S603
            [program, "--version"], stderr=subprocess.DEVNULL, env=_ENVIRONMENT, cwd="/", **_as_user(account)
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.decode(errors="replace").strip()


def is_living_in(pid: int, directory: Path) -> bool:
    """Whether process `pid` runs (is no zombie) with `directory` as its current one, as a server does with its own."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
        return state not in "ZX" and Path(f"/proc/{pid}/cwd").resolve() == directory.resolve()
    except (OSError, IndexError):
        return False
