"""The keeper: a small process that is the server's parent, restarts it when it dies and stops it when nobody uses it.

It is started by `launch.py` with its lock already held on an inherited descriptor, in a session of its own, and says
on its standard output, in one line of JSON, that the server is ready or why it is not. It leaves when it can have
`users.lock` exclusively, which the kernel gives back when a user process dies; it keeps that lock until it has ended,
so a process that is just arriving waits and then starts a new keeper.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import Any

from simples3dms.db.embedded.accounts import Home, ensure_home
from simples3dms.db.embedded.binaries import find_installation
from simples3dms.db.embedded.cluster import PORT, ensure_socket_dir, find_major, make_cluster, server_command
from simples3dms.db.embedded.errors import EmbeddedPostgresError, from_log, from_os_error
from simples3dms.db.embedded.files import ControlFiles, Log, find_text, write_file
from simples3dms.db.embedded.locks import lock_by, open_lock, try_lock
from simples3dms.db.embedded.postmaster import Postmaster
from simples3dms.db.embedded.processes import adopt_orphans

_TICK_SECONDS = 0.1
_STARTING_TICK_SECONDS = 0.01
_LOG_LOOK_SECONDS = 10.0


class Keeper:
    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._files = ControlFiles(Path(options["data_dir"]))
        self._log = Log(self._files.log)
        self._users = open_lock(self._files.users_lock)
        self._deadline = time.monotonic() + float(options["start_timeout_seconds"])

    def start(self) -> Postmaster:
        """Make the cluster if there is none, start the server and wait until it takes connections."""
        home = ensure_home(self._files, Path(self._options["embedded_dir"]))
        installation = find_installation(find_major(home.path), home.account, Path(self._options["embedded_dir"]))
        if find_major(home.path) is None:
            lock = self._lock_home(home)
            password = secrets.token_urlsafe(24)
            write_file(self._files.password, password)
            make_cluster(home, installation, password, self._log, server_lock=lock, fsync=self._options["fsync"])
            os.close(lock)
        elif not find_text(self._files.password):
            raise EmbeddedPostgresError(f"{self._files.password} is gone: restore it, the database has that password.")
        socket_dir = ensure_socket_dir(home)
        command = server_command(
            home.path,
            installation,
            socket_dir,
            fsync=self._options["fsync"],
            extra_conf=self._options["extra_conf"],
        )
        postmaster = Postmaster(home, command, socket_dir, self._log)
        self._await_ready(postmaster, home)
        address = {"host": str(socket_dir), "port": PORT, "bin_dir": str(installation.bin_dir), "home": str(home.path)}
        write_file(self._files.address, json.dumps(address))
        return postmaster

    def _lock_home(self, home: Home) -> int:
        lock = open_lock(home.path / "server.lock")
        if not lock_by(lock, self._deadline):
            raise EmbeddedPostgresError(f"{home.path} is still used by another process: wait until it has ended.")
        return lock

    def _await_ready(self, postmaster: Postmaster, home: Home) -> None:
        try:
            while not postmaster.try_start():
                self._check_patience(home)
            while not postmaster.is_ready:
                if postmaster.reap() is not None:
                    raise from_log("The database server did not start.", self._log.tail(), home.path)
                self._check_patience(home)
        except BaseException:
            postmaster.stop()
            raise

    def _check_patience(self, home: Home) -> None:
        if try_lock(self._users):
            raise EmbeddedPostgresError("Nobody waits for the database server any more.")
        if time.monotonic() > self._deadline:
            raise from_log("The database server is not ready in time.", self._log.tail(), home.path)
        time.sleep(_STARTING_TICK_SECONDS)

    def keep(self, postmaster: Postmaster) -> None:
        """Until the last user has gone."""
        look_at_log = time.monotonic() + _LOG_LOOK_SECONDS
        while not try_lock(self._users):
            try:
                postmaster.tend()
                if time.monotonic() > look_at_log:
                    self._log.bound()
                    look_at_log = time.monotonic() + _LOG_LOOK_SECONDS
            except (OSError, EmbeddedPostgresError) as error:
                self._log.write(f"{error}")
                time.sleep(1)
            time.sleep(_TICK_SECONDS)
        postmaster.stop()

    def detach(self) -> None:
        """Say no more to whoever started us, and let go of their pipe."""
        os.dup2(self._log.descriptor, 1)
        os.dup2(self._log.descriptor, 2)


def _start(options: dict[str, Any]) -> tuple[Keeper, Postmaster]:
    files = ControlFiles(Path(options["data_dir"]))
    try:
        keeper = Keeper(options)
        return keeper, keeper.start()
    except OSError as error:
        raise from_os_error(error, files.data_dir) from error


def _report(message: dict[str, Any]) -> None:
    try:
        os.write(1, json.dumps(message).encode() + b"\n")
    except BrokenPipeError:  # whoever started us is gone; others may be waiting
        return


def _ignore(_signal: int, _frame: object) -> None:
    """Shutting down the machine signals everybody at once; our users may need the server to the end of their work."""


def main() -> int:
    options = json.loads(sys.argv[1])
    os.set_inheritable(options["keeper_lock"], False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, _ignore)  # not SIG_IGN, which the server would inherit
    os.chdir("/")
    adopt_orphans()
    try:
        keeper, postmaster = _start(options)
    except EmbeddedPostgresError as error:
        _report({"error": error.message, "extra": error.extra})
        return 1
    _report({"ready": True})
    keeper.detach()
    keeper.keep(postmaster)
    return 0


if __name__ == "__main__":
    sys.exit(main())
