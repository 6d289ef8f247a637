"""Locks that the kernel gives back when their holder dies, however it dies (flock on small files).

A lock belongs to the open file, not to the process: a child that inherits the descriptor holds it too. The keeper uses
that on purpose (the server's processes hold `server.lock`); everybody else opens with close-on-exec.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from simples3dms.db.embedded.files import give_to_owner_of_parent

_POLL_SECONDS = 0.02


def open_lock(path: Path) -> int:
    """Open (and make, if need be) a lock file; nothing is locked yet."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    give_to_owner_of_parent(descriptor, path)
    return descriptor


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take the lock if that is possible at once."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_by(descriptor: int, deadline: float, *, shared: bool = False) -> bool:
    """Take the lock, trying until `deadline` (of `time.monotonic`); say whether it was got."""
    while not try_lock(descriptor, shared=shared):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock exclusively. The probe itself holds it, shared, for an instant."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(descriptor, shared=True)
    finally:
        os.close(descriptor)


def is_shared(path: Path) -> bool:
    """Whether somebody holds the lock shared and nobody exclusively."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(descriptor) and try_lock(descriptor, shared=True)
    finally:
        os.close(descriptor)
