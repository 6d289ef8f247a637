"""A directory tree walked by file descriptors, so that no symbolic link is ever followed below its root."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from simples3dms.providers.base import ObjectInfo, check_key
from simples3dms.providers.errors import AccessDenied, BucketMissing, ObjectNotFound, Unsupported

TEMP_MARK: Final = ".~"
#: The file in the root that says which directory this is. No key is called so.
STORE_MARK: Final = ".~store"
_MARK_BYTES: Final = 64
#: Names tried for a temporary file, in order: derived from the key, so that `discard` finds them without a search.
TEMP_SLOTS: Final = 8
_LONGEST_SEGMENT_BYTES: Final = 250
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class FileOps:
    """The calls that make bytes durable, in one place, so that a test can watch them or make them fail."""

    def write(self, fd: int, data: memoryview) -> int:
        return os.write(fd, data)

    def move(self, source: int, target: int, offset: int, count: int) -> int:
        """Bytes from a place of one file to the end of another, within the kernel; how many, 0 at the end.

        Not `copy_file_range`: on file systems that can, it has both files share their blocks, and one bad block would
        then take both replicas.
        """
        return os.sendfile(target, source, offset, count)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def close(self, fd: int) -> None:
        """Of a file that was written: network file systems may say only here that it did not get there."""
        os.close(fd)


def temp_name(name: str, slot: int) -> str:
    return f"{TEMP_MARK}{name}~{slot}"


def name_of_temp(temp: str) -> str:
    return temp[len(TEMP_MARK) :].rpartition("~")[0]


@dataclass(frozen=True, slots=True)
class Tree:
    """Everything under `root`, at keys below `prefix`. All methods block: they belong in a thread."""

    root: Path
    prefix: str
    ops: FileOps
    mark: str | None = None
    """What the root's mark must say; None: any directory will do."""

    def segments(self, key: str) -> list[str]:
        """The path of a key below the root; Unsupported for names that we keep for ourselves."""
        segments = check_key(self.prefix + key).split("/")
        if any(part.startswith(TEMP_MARK) or len(part.encode()) > _LONGEST_SEGMENT_BYTES for part in segments):
            raise Unsupported(f"no part of a key starts with '{TEMP_MARK}' or is longer than 250 bytes", key=key)
        return segments

    @contextmanager
    def folder(self, folders: list[str], *, create: bool = False) -> Iterator[list[int]]:
        """Descriptors of the root and of each folder on the way down, closed at the end."""
        with ExitStack() as stack:
            fds = [self._open(stack, None, str(self.root))]
            # On the descriptor that is used: a disk that goes away between this look and the use takes it along.
            if self.mark is not None and read_mark(fds[0]) != self.mark:
                raise BucketMissing("the store's disk is not mounted: its mark is not there", vendor_code="NoMark")
            for name in folders:
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(name, 0o750, dir_fd=fds[-1])
                fds.append(self._open(stack, fds[-1], name))
            yield fds

    def _open(self, stack: ExitStack, parent: int | None, name: str) -> int:
        # The root may be a link (it is the operator's own path); nothing below it may be.
        flags = _DIRECTORY if parent is not None else _DIRECTORY & ~os.O_NOFOLLOW
        try:
            fd = os.open(name, flags, dir_fd=parent)
        except OSError as error:
            if parent is None and error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise BucketMissing("the store's directory is not there", vendor_code="ENOENT") from None
            if parent is not None and error.errno in (errno.ENOTDIR, errno.ELOOP):
                refuse_link(name, parent)
            raise
        stack.callback(os.close, fd)
        return fd

    def info(self, key: str, found: os.stat_result) -> ObjectInfo:
        return ObjectInfo(
            key=key,
            size_bytes=found.st_size,
            etag=f"{found.st_mtime_ns:x}-{found.st_size:x}",
            modified_at=datetime.fromtimestamp(found.st_mtime, UTC),
        )

    def open_file(self, key: str) -> tuple[int, os.stat_result]:
        """A descriptor for reading a regular file, never a link, a pipe or a device."""
        *folders, name = self.segments(key)
        with self.folder(folders) as fds:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=fds[-1])
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise ObjectNotFound("no such object", key=key)
        return fd, found

    def head(self, key: str) -> ObjectInfo:
        *folders, name = self.segments(key)
        with self.folder(folders) as fds:
            found = os.stat(name, dir_fd=fds[-1], follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            raise ObjectNotFound("no such object", key=key)
        return self.info(key, found)

    def remove(self, key: str, *, leftovers: bool) -> None:
        """Delete the file (and first, with `leftovers`, its temporary files), durably, and folders left empty.

        Temporary files go first: a writer that lost its own can no longer rename it into place.
        """
        *folders, name = self.segments(key)
        names = [temp_name(name, slot) for slot in range(TEMP_SLOTS)] if leftovers else []
        try:
            with self.folder(folders) as fds:
                gone = [unlink_if_there(each, fds[-1]) for each in [*names, name]]
                if any(gone) or leftovers:
                    self.prune(folders, fds)
        except (FileNotFoundError, NotADirectoryError):
            return

    def prune(self, folders: list[str], fds: list[int]) -> None:
        level = len(folders)
        while level > 0:
            try:
                os.rmdir(folders[level - 1], dir_fd=fds[level - 1])
            except FileNotFoundError:
                pass
            except OSError:
                break  # not empty: somebody lives there
            level -= 1
        self.ops.fsync(fds[level])


def read_mark(root: int) -> str | None:
    try:
        fd = os.open(STORE_MARK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    except FileNotFoundError:
        return None
    try:
        return os.read(fd, _MARK_BYTES).decode("ascii", "replace").strip()
    finally:
        os.close(fd)


def ensure_mark(tree: Tree) -> str:
    """The mark of the root, made durably if there is none; all stores in one directory share it."""
    with tree.folder([]) as fds:
        fresh = f"{STORE_MARK}~{secrets.token_hex(8)}"
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640, dir_fd=fds[0])
        try:
            os.write(fd, f"{secrets.token_hex(16)}\n".encode())
            tree.ops.fsync(fd)
            with suppress(FileExistsError):
                os.link(fresh, STORE_MARK, src_dir_fd=fds[0], dst_dir_fd=fds[0])
        finally:
            os.close(fd)
            os.unlink(fresh, dir_fd=fds[0])
        tree.ops.fsync(fds[0])
        found = read_mark(fds[0])
    assert found is not None
    return found


def unlink_if_there(name: str, folder: int) -> bool:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    except IsADirectoryError:
        return False
    return True


def refuse_link(name: str, folder: int) -> None:
    """Raise AccessDenied if this entry is a symbolic link."""
    with suppress(FileNotFoundError):
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise AccessDenied("a symbolic link stands in the way", vendor_code="ELOOP")
