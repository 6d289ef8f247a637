"""The embedded server's own files in the data directory: names, safe writing, and the log.

<data_dir>/embedded/          0700, of the application's user
    start.lock                held while a process brings the server up
    users.lock                held, shared, by each process that uses the server; exclusively by a leaving keeper
    keeper.lock               held by the keeper as long as it lives
    home                      where the cluster is: a path, relative to the data directory or absolute
    address.json              where the server listens, written by the keeper before it says "ready"
    superuser.password        0600
    postgres.log, .log.1      what PostgreSQL and the keeper say
<home>/                       0700, of the server's user; `<data_dir>/postgres` unless that user can't reach it
    server.lock               held by every process of the running server
    cluster/                  PGDATA
    run/                      the Unix socket
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

#: Size at which the log is moved aside; one older file is kept, so the two take at most twice this.
MAX_LOG_BYTES = 5_000_000
_TAIL_LINES = 20
_TAIL_BYTES = 8_000


class ControlFiles:
    """The paths above, for one data directory (absolute, symbolic links resolved)."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.directory = data_dir / "embedded"
        self.start_lock = self.directory / "start.lock"
        self.users_lock = self.directory / "users.lock"
        self.keeper_lock = self.directory / "keeper.lock"
        self.home = self.directory / "home"
        self.address = self.directory / "address.json"
        self.password = self.directory / "superuser.password"
        self.log = self.directory / "postgres.log"

    def ensure_directory(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        try:
            self.directory.mkdir(mode=0o700)
        except FileExistsError:
            return
        if os.geteuid() == 0:
            owner = self.data_dir.stat()
            os.chown(self.directory, owner.st_uid, owner.st_gid, follow_symlinks=False)


def give_to_owner_of_parent(descriptor: int, path: Path) -> None:
    """Keep what root makes usable for the directory's owner: one `sudo simples3dms` must not lock a service out."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        if os.fstat(descriptor).st_uid != owner.st_uid:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def write_file(path: Path, text: str) -> None:
    """Write a 0600 file whole or not at all, and durably."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            give_to_owner_of_parent(descriptor, draft)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def find_text(path: Path) -> str | None:
    """A small file's text without surrounding white space, or None if there is no such file."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def find_json(path: Path) -> dict[str, Any] | None:
    text = find_text(path)
    return json.loads(text) if text else None


class Log:
    """The log file, open for appending; PostgreSQL writes to the same descriptor."""

    def __init__(self, path: Path) -> None:
        self._path = path
        older = path.with_name(path.name + ".1")
        if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
            path.replace(older)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self.descriptor = os.open(path, flags, 0o600)
        give_to_owner_of_parent(self.descriptor, path)
        self._older = older
        self._start = os.fstat(self.descriptor).st_size

    def write(self, text: str) -> None:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        os.write(self.descriptor, f"{stamp} [{os.getpid()}] keeper: {text}\n".encode())

    def tail(self) -> str:
        """The last lines written since this object was made."""
        size = os.fstat(self.descriptor).st_size
        start = max(self._start, size - _TAIL_BYTES) if size >= self._start else 0
        text = os.pread(self.descriptor, _TAIL_BYTES, start).decode(errors="replace")
        return "\n".join(text.splitlines()[-_TAIL_LINES:])

    def bound(self) -> None:
        """Keep a running server's log small: copy and empty it. Lines written between the two may be lost."""
        if os.fstat(self.descriptor).st_size > MAX_LOG_BYTES:
            shutil.copyfile(self._path, self._older)
            os.truncate(self.descriptor, 0)
