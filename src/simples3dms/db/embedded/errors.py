"""What can go wrong with the embedded server, each in one sentence that says what to do."""

from __future__ import annotations

import errno
from pathlib import Path

from simples3dms.errors import Unavailable


class EmbeddedPostgresError(Unavailable):
    """The embedded server can't be used now. `extra["log_tail"]` holds the log's last lines where there are any."""


_SAYINGS = (
    ("No space left on device", "The disk is full: make room on the file system of {where}."),
    ("Disk quota exceeded", "The disk quota is used up: make room on the file system of {where}."),
    ("Read-only file system", "{where} is on a read-only file system: choose a data directory that can be written."),
    (
        "could not look up effective user ID",
        "The user that runs this has no entry in /etc/passwd and PostgreSQL wants one: add it, or run as another user.",
    ),
    ("Cannot allocate memory", "There is too little memory for the embedded PostgreSQL server: it needs about 100 MB."),
    ("Permission denied", "The embedded server may not use its files in {where}: make them belong to its user again."),
)


def from_log(happened: str, tail: str, where: Path) -> EmbeddedPostgresError:
    """The error for a server program that failed, explained by what it wrote."""
    for needle, saying in _SAYINGS:
        if needle in tail:
            happened = saying.format(where=where)
            break
    return EmbeddedPostgresError(f"{happened} Its log ends:\n{tail}" if tail else happened, log_tail=tail)


def from_os_error(error: OSError, where: Path) -> EmbeddedPostgresError:
    """The error for a failed system call on `where` or something in it."""
    path = error.filename or where
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EmbeddedPostgresError(f"The disk is full: make room on the file system of {path}.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return EmbeddedPostgresError(
            f"{path} can't be used ({error.strerror}): choose a data directory that the user running this may write."
        )
    return EmbeddedPostgresError(f"The embedded server's files can't be used: {error}.")
