"""Starting the keeper from a user process, and hearing from it whether the server is ready."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from typing import Any

from simples3dms.db.embedded.errors import EmbeddedPostgresError

_KEEPER = "simples3dms.db.embedded.keeper"


def launch_keeper(options: dict[str, Any], *, keeper_lock: int, deadline: float) -> int:
    """Start a keeper that takes over our hold of `keeper.lock`; return its process id when its server is ready.

    The caller holds `users.lock` shared; otherwise the keeper leaves at once.
    """
    argument = json.dumps({**options, "keeper_lock": keeper_lock})
    keeper = subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", "-m", _KEEPER, argument],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(keeper_lock,),
        start_new_session=True,  # neither Ctrl-C nor a closed terminal is for it
    )
    assert keeper.stdout is not None
    try:
        with keeper.stdout:
            said = _read_all(keeper.stdout.fileno(), deadline)
        _understand(said)
    except BaseException:
        keeper.kill()  # the server, if there is one, stops with it
        keeper.wait()
        raise
    keeper.returncode = 0  # reaped by `reap_keeper`; Popen would complain that it runs on
    return keeper.pid


def reap_keeper(pid: int, patience_seconds: float = 0) -> None:
    """Collect the keeper that we started if it has ended, so that no zombie stays while we live."""
    deadline = time.monotonic() + patience_seconds
    try:
        while os.waitpid(pid, os.WNOHANG) == (0, 0) and time.monotonic() < deadline:
            time.sleep(0.005)
    except ChildProcessError:
        return


def _read_all(descriptor: int, deadline: float) -> str:
    """All that the keeper says until it closes its end."""
    said = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            raise EmbeddedPostgresError("The database server's keeper does not answer: look into its log.")
        chunk = os.read(descriptor, 65536)
        if not chunk:
            return said.decode(errors="replace").strip()
        said += chunk


def _understand(said: str) -> None:
    try:
        answer = json.loads(said.rpartition("\n")[2])
    except ValueError:
        raise EmbeddedPostgresError(f"The database server's keeper failed: {said or 'it was killed'}") from None
    if "error" in answer:
        raise EmbeddedPostgresError(answer["error"], **answer["extra"])
