"""The embedded PostgreSQL server as the application sees it: start, address, stop; shared by all processes that ask.

The server listens on a Unix socket only, in a directory that just its user (and root) can enter, and wants a password
(SCRAM) even there. A socket rather than a port: nobody can take its place while the server restarts, no firewall or
network namespace matters, and its path is the same for the life of the data directory.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import quote, urlencode

from simples3dms.db.embedded.accounts import DEFAULT_EMBEDDED_DIR
from simples3dms.db.embedded.cluster import SUPERUSER
from simples3dms.db.embedded.errors import EmbeddedPostgresError, from_os_error
from simples3dms.db.embedded.files import ControlFiles, find_json, find_text
from simples3dms.db.embedded.launch import launch_keeper, reap_keeper
from simples3dms.db.embedded.locks import is_held, is_shared, lock_by, open_lock, try_lock
from simples3dms.kit.secret import Secret

_POLL_SECONDS = 0.02
_WATCH_SECONDS = 0.5
_STOP_SECONDS = 40.0
#: Beyond the keeper's own limit: making the cluster, copying programs, waiting for another process that starts it.
_SLACK_SECONDS = 60.0


@dataclass(frozen=True)
class ServerAddress:
    """Where the server listens: the directory of its socket, and the number in the socket's name."""

    host: str
    port: int
    bin_dir: Path

    def dsn(self, user: str, password: str | Secret, dbname: str) -> str:
        """A libpq URL, with the password in clear."""
        opened = password.reveal() if isinstance(password, Secret) else password
        where = urlencode({"host": self.host, "port": self.port}, quote_via=quote)
        return f"postgresql://{quote(user, safe='')}:{quote(opened, safe='')}@/{quote(dbname, safe='')}?{where}"


class EmbeddedPostgres:
    """One process's use of the server of a data directory. Thread-safe; after a fork the child has no part in it.

    `fsync` and `extra_conf` (settings by name) are for tests, and count only for the process that starts the server.
    `embedded_dir` is where files go that the server's user could not reach otherwise; used as root only.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        embedded_dir: Path | None = None,
        start_timeout_seconds: float = 120,
        fsync: bool = True,
        extra_conf: Mapping[str, str] | None = None,
    ) -> None:
        self._files = ControlFiles(data_dir.resolve())
        self._timeout = start_timeout_seconds
        self._options = {
            "data_dir": str(self._files.data_dir),
            "embedded_dir": str((embedded_dir or DEFAULT_EMBEDDED_DIR).resolve()),
            "start_timeout_seconds": start_timeout_seconds,
            "fsync": fsync,
            "extra_conf": dict(extra_conf or {}),
        }
        self._mutex = threading.RLock()
        self._leaving = threading.Event()
        self._users_lock: int | None = None
        self._address: ServerAddress | None = None
        self._keeper: int | None = None
        self._watcher: threading.Thread | None = None

    def __enter__(self) -> EmbeddedPostgres:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> ServerAddress:
        if self._address is None:
            raise EmbeddedPostgresError("The embedded server was not started: call start() first.")
        return self._address

    def superuser_dsn(self, dbname: str = "postgres") -> str:
        """A libpq URL for making roles and databases; nothing at run time should use it."""
        return self.address.dsn(SUPERUSER, self._superuser_password(), dbname)

    def _superuser_password(self) -> Secret:
        password = find_text(self._files.password)
        if not password:
            raise EmbeddedPostgresError(f"{self._files.password} is gone: restore it, the database has that password.")
        return Secret(password)

    def start(self) -> None:
        """Use the server, bringing it up if it does not run; return when it takes connections. Idempotent."""
        with self._mutex:
            fresh = self._users_lock is None
            try:
                self._bring_up()
            except BaseException as error:
                if fresh:
                    self._let_go()
                if isinstance(error, OSError):
                    raise from_os_error(error, self._files.data_dir) from error
                raise
            if self._watcher is None:
                self._leaving.clear()
                self._watcher = threading.Thread(target=self._watch, name="embedded-postgres", daemon=True)
                self._watcher.start()

    def ensure_running(self) -> None:
        """Return when the server takes connections; start it again if it and its keeper are gone."""
        self.start()

    def stop(self) -> None:
        """Use the server no more; the last one to leave waits until it has stopped. Idempotent."""
        self._leaving.set()
        watcher = self._watcher
        if watcher is not None and watcher is not threading.current_thread():
            watcher.join()
        with self._mutex:
            self._watcher = None
            if self._users_lock is None:
                return
            self._let_go()
            deadline = time.monotonic() + _STOP_SECONDS
            while is_held(self._files.keeper_lock) and not is_shared(self._files.users_lock):
                if time.monotonic() > deadline:
                    break
                time.sleep(_POLL_SECONDS)
            if self._keeper is not None:
                reap_keeper(self._keeper, patience_seconds=0 if is_held(self._files.keeper_lock) else 1)

    def _let_go(self) -> None:
        if self._users_lock is not None:
            os.close(self._users_lock)
            self._users_lock = None
        self._address = None

    def _bring_up(self) -> None:
        deadline = time.monotonic() + self._timeout + _SLACK_SECONDS
        self._files.ensure_directory()
        mutex = open_lock(self._files.start_lock)
        try:
            if not lock_by(mutex, deadline):
                raise EmbeddedPostgresError("Another process has been starting the database server for too long.")
            self._join_users(deadline)
            while not self._answers():
                if time.monotonic() > deadline:
                    raise EmbeddedPostgresError(f"The database server does not answer: look into {self._files.log}.")
                self._launch_if_alone(deadline)
        finally:
            os.close(mutex)

    def _join_users(self, deadline: float) -> None:
        """From here on the server stays; a keeper that is just leaving is waited for."""
        if self._users_lock is not None:
            return
        descriptor = open_lock(self._files.users_lock)
        if not lock_by(descriptor, deadline, shared=True):
            os.close(descriptor)
            raise EmbeddedPostgresError("The database server has been stopping for too long.")
        self._users_lock = descriptor
        _forget_in_children(self)

    def _launch_if_alone(self, deadline: float) -> None:
        lock = open_lock(self._files.keeper_lock)
        try:
            if try_lock(lock):
                self._keeper = launch_keeper(self._options, keeper_lock=lock, deadline=deadline)
            else:
                time.sleep(_POLL_SECONDS)
        finally:
            os.close(lock)

    def _answers(self) -> bool:
        """Whether a keeper lives and its server takes our connection, which also proves to us that it is ours."""
        import psycopg  # here, because the keeper loads this package too and should start at once and stay small

        found = find_json(self._files.address) if is_held(self._files.keeper_lock) else None
        if found is None:
            return False
        address = ServerAddress(found["host"], found["port"], Path(found["bin_dir"]))
        try:
            psycopg.connect(address.dsn(SUPERUSER, self._superuser_password(), "postgres"), connect_timeout=10).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise EmbeddedPostgresError(
                    f"The database has another password than {self._files.password}."
                ) from error
            return False
        self._address = address
        return True

    def _watch(self) -> None:
        """Start a new keeper if ours was killed. Failures are the keeper's to log and the next connection's to feel."""
        while not self._leaving.wait(_WATCH_SECONDS):
            if self._keeper is not None:
                reap_keeper(self._keeper)
            if not is_held(self._files.keeper_lock):
                try:
                    with self._mutex:
                        self._bring_up()
                except (EmbeddedPostgresError, OSError):
                    continue

    def _after_fork_in_child(self) -> None:
        """Close our copy of the lock's descriptor (the parent keeps its hold); the server is the parent's concern."""
        self._mutex = threading.RLock()
        self._watcher = self._keeper = None
        if self._users_lock is not None:
            os.close(self._users_lock)
            self._users_lock = None


_users: weakref.WeakSet[EmbeddedPostgres] = weakref.WeakSet()
_hooked = threading.Event()


def _forget_in_children(user: EmbeddedPostgres) -> None:
    _users.add(user)
    if not _hooked.is_set():
        _hooked.set()
        os.register_at_fork(after_in_child=_close_in_child)


def _close_in_child() -> None:
    for user in list(_users):
        user._after_fork_in_child()
