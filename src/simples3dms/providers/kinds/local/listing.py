"""Walks a tree in the byte order of its keys, holding one folder per level."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from simples3dms.providers.base import ObjectInfo
from simples3dms.providers.kinds.local.tree import STORE_MARK, TEMP_MARK, Tree, name_of_temp


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which paths, from the root: those that start with `prefix`, after `start_after`; finished ones or leftovers.

    `start_after` is a place in the walk, which goes by the names on the disk: those of leftovers are not their keys.
    """

    prefix: str
    start_after: str | None = None
    unfinished: bool = False

    def takes(self, path: str, place: str) -> bool:
        return path.startswith(self.prefix) and (self.start_after is None or place > self.start_after)

    def enters(self, folder: str) -> bool:
        """Whether anything below `folder` (which ends with a slash) can be wanted."""
        if not (folder.startswith(self.prefix) or self.prefix.startswith(folder)):
            return False
        return self.start_after is None or folder > self.start_after or self.start_after.startswith(folder)


def iter_tree(tree: Tree, wanted: Wanted) -> Generator[ObjectInfo, None, None]:
    """What is wanted, one by one. What vanishes meanwhile is left out; links are not followed."""
    with tree.folder([]) as fds:
        yield from _iter_folder(tree, wanted, fds[-1], "")


def _iter_folder(tree: Tree, wanted: Wanted, folder: int, path: str) -> Iterator[ObjectInfo]:
    with os.scandir(folder) as entries:
        names = sorted(f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name for entry in entries)
    for name in names:
        if name.endswith("/"):
            if wanted.enters(path + name):
                yield from _enter(tree, wanted, folder, path, name)
        elif name.startswith(TEMP_MARK) == wanted.unfinished and not (path == "" and name.startswith(STORE_MARK)):
            info = _inspect(tree, wanted, folder, path, name)
            if info is not None:
                yield info


def _enter(tree: Tree, wanted: Wanted, folder: int, path: str, name: str) -> Iterator[ObjectInfo]:
    try:
        fd = os.open(name[:-1], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        yield from _iter_folder(tree, wanted, fd, path + name)
    finally:
        os.close(fd)


def _inspect(tree: Tree, wanted: Wanted, folder: int, path: str, name: str) -> ObjectInfo | None:
    full = path + (name_of_temp(name) if wanted.unfinished else name)
    if not wanted.takes(full, path + name):
        return None
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    key = full[len(tree.prefix) :]
    return ObjectInfo(key, 0, version_id=name) if wanted.unfinished else tree.info(key, found)
