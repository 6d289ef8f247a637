"""Writes one file so that it is there, whole and durable, or not at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from simples3dms.providers.errors import BucketMissing, IntegrityError, StoreUnavailable, Unsupported
from simples3dms.providers.kinds.local.tree import TEMP_SLOTS, Tree, refuse_link, temp_name, unlink_if_there

_EXCLUSIVE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: What the kernel copies at a time: between two it is asked whether anybody still waits.
_COPY_BYTES: Final = 64 * 2**20
#: How often a folder may vanish under us (a delete prunes it as we enter) before we call the store unwell.
_TRIES: Final = 32


class PendingFile:
    """Temporary file, write, fsync, rename, fsync of every folder up to the root.

    Folders are synced whether or not we made them: another process may have made one and not yet synced it.
    The methods run in threads, one at a time; `give_up` may be called meanwhile, from anywhere.
    A failed fsync fails the write for good: the kernel may have dropped the pages, so it is never tried again.
    """

    def __init__(self, tree: Tree, key: str) -> None:
        self._tree = tree
        *self._folders, self._name = tree.segments(key)
        self._lock = threading.Lock()
        self._given_up = False
        self._fd: int | None = None
        self._temp: str | None = None
        self.size_bytes = 0

    def write(self, chunks: Iterable[bytes]) -> None:
        with self._lock:
            self._write(chunks)

    def finish(self, chunks: Iterable[bytes]) -> os.stat_result:
        """Write the last chunks and make the file visible under its name."""
        with self._lock:
            self._write(chunks)
            fd = self._opened()
            self._tree.ops.fsync(fd)
            found = os.fstat(fd)
            self._close()
            self._publish()
            return found

    def finish_copy(self, source: int, size_bytes: int) -> os.stat_result:
        """Have so many bytes of another file copied by the kernel, and make the file visible under its name."""
        with self._lock:
            while self.size_bytes < size_bytes:
                moved = self._tree.ops.move(
                    source, self._opened(), self.size_bytes, min(_COPY_BYTES, size_bytes - self.size_bytes)
                )
                if moved == 0:
                    raise IntegrityError("the file is shorter than it was when opened")
                self.size_bytes += moved
        return self.finish([])

    def _close(self) -> None:
        """Forgotten before it is closed: a close that fails has freed the number, which may be another file's next."""
        fd, self._fd = self._fd, None
        if fd is not None:
            self._tree.ops.close(fd)

    def give_up(self) -> None:
        """Tell a thread that is at work not to publish. Does not block."""
        self._given_up = True

    def abort(self) -> None:
        """Remove what was written so far. Waits for a thread that is at work."""
        self._given_up = True
        with self._lock:
            with suppress(OSError):
                self._close()
            if self._temp is not None:
                with suppress(OSError, BucketMissing), self._tree.folder(self._folders) as fds:
                    unlink_if_there(self._temp, fds[-1])
                    # The folders were made for this file; those where nobody lives go with it.
                    self._tree.prune(self._folders, fds)
                self._temp = None

    def _write(self, chunks: Iterable[bytes]) -> None:
        fd = self._opened()
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                rest = rest[self._tree.ops.write(fd, rest) :]
            self.size_bytes += len(chunk)

    def _opened(self) -> int:
        if self._given_up:
            raise StoreUnavailable("the write was given up")
        if self._fd is None:
            self._fd = self._create()
        return self._fd

    def _create(self) -> int:
        for _ in range(_TRIES):
            try:
                with self._tree.folder(self._folders, create=True) as fds:
                    return self._create_in(fds[-1])
            except FileNotFoundError:
                continue
            except NotADirectoryError:
                raise Unsupported("a part of the key is an object itself") from None
        raise StoreUnavailable("a folder of the store keeps vanishing")

    def _create_in(self, folder: int) -> int:
        for slot in range(TEMP_SLOTS):
            name = temp_name(self._name, slot)
            with suppress(FileExistsError):
                fd = os.open(name, _EXCLUSIVE, 0o640, dir_fd=folder)
                self._temp = name
                return fd
        raise StoreUnavailable("too many unfinished writes of this key: discard it first")

    def _publish(self) -> None:
        assert self._temp is not None
        with self._tree.folder(self._folders) as fds:
            refuse_link(self._name, fds[-1])
            if self._given_up:
                raise StoreUnavailable("the write was given up")
            os.rename(self._temp, self._name, src_dir_fd=fds[-1], dst_dir_fd=fds[-1])
            self._temp = None
            try:
                for fd in reversed(fds):
                    self._tree.ops.fsync(fd)
            except OSError:
                # It would be seen, and gone after a power cut: what was told as failed is not there.
                with suppress(OSError):
                    unlink_if_there(self._name, fds[-1])
                raise
