"""A local store knows its own directory: a disk that is not mounted is no empty store."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from pathlib import Path

import pytest

from simples3dms.providers.base import ObjectRef, StorageProvider, check_key
from simples3dms.providers.errors import BucketMissing, ObjectNotFound, StoreFull, StoreUnavailable, Unsupported
from simples3dms.providers.kinds.local import provider as local_provider
from simples3dms.providers.kinds.local.provider import KIND
from simples3dms.providers.kinds.local.tree import FileOps, Tree
from simples3dms.providers.kinds.local.writer import PendingFile
from simples3dms.providers.stack import StackSettings, build_stack

pytestmark = pytest.mark.anyio


def settled(disk: Path, prefix: str = "") -> dict[str, object]:
    settings = {"path": str(disk), "prefix": prefix}
    assert KIND.settle is not None
    return {**settings, **KIND.settle(KIND.validate_settings(settings))}


def opened(settings: dict[str, object]) -> StorageProvider:
    return build_stack(KIND.create(settings), StackSettings(retry_attempts=1))


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    disk = tmp_path / "disk"
    disk.mkdir()
    return disk


async def everything(store: StorageProvider) -> list[str]:
    return [info.key async for info in store.list()] + [info.key async for info in store.list_unfinished()]


@pytest.mark.parametrize("there", ["an empty directory", "another store"])
async def test_f51_a_disk_that_is_not_mounted_is_no_empty_store(disk: Path, tmp_path: Path, there: str) -> None:
    """Nothing is called missing, nothing is called deleted, and nothing is written onto the wrong disk."""
    store = opened(settled(disk))
    await store.put("a/x", b"1")
    elsewhere = disk.rename(tmp_path / "unmounted")
    disk.mkdir()
    if there == "another store":
        settled(disk)
    before = sorted(path.name for path in disk.rglob("*"))

    async def read() -> None:
        async with store.open("a/x"):
            pass

    for act in (
        lambda: store.head("a/x"),
        read,
        lambda: store.put("b/y", b"2"),
        lambda: store.discard("a/x"),
        lambda: everything(store),
        store.check,
    ):
        with pytest.raises(BucketMissing) as caught:
            await act()  # type: ignore[operator]
        assert caught.value.vendor_code == "NoMark"
    [outcome] = await store.delete([ObjectRef("a/x")])
    assert isinstance(outcome.error, BucketMissing)
    assert sorted(path.name for path in disk.rglob("*")) == before

    for path in disk.iterdir():
        path.unlink()
    disk.rmdir()
    elsewhere.rename(disk)
    assert await everything(store) == ["a/x"]
    with pytest.raises(ObjectNotFound):
        await store.head("a/y")
    await store.close()


async def test_stores_in_one_directory_share_its_mark_and_never_list_it(disk: Path) -> None:
    first, second, again = settled(disk), settled(disk, "b"), settled(disk)
    assert first["mark"] == second["mark"] == again["mark"]
    store = opened(first)
    assert await everything(store) == []
    for key in ("x", "~store/x", "store"):
        await store.put(key, b"1")
    assert await everything(store) == ["store", "x", "~store/x"]
    for key in ("x", "~store/x", "store"):
        await store.discard(key)
    assert [path.name for path in disk.iterdir()] == [".~store"]
    await store.check()
    await store.close()


async def test_a_store_without_a_mark_works_as_before(disk: Path) -> None:
    store = opened({"path": str(disk)})
    await store.put("x", b"1")
    assert await everything(store) == ["x"]
    await store.close()


async def test_every_leftover_is_listed_whatever_the_borders_of_pages(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temporary names sort otherwise than the keys they belong to, and one key may have several."""
    monkeypatch.setattr(local_provider, "_LIST_PAGE", 2)
    tree = Tree(disk, "own/", FileOps())
    keys = ["a", "a", "a", "a-b", "a.b", "a/b", "a/b", "ab", "z/y/x", "~"]
    writers = [PendingFile(tree, key) for key in keys]
    for writer in writers:
        writer.write([b"1"])
    store = opened({"path": str(disk), "prefix": "own"})
    assert sorted([info.key async for info in store.list_unfinished()]) == sorted(keys)
    assert [info async for info in store.list()] == []
    for key in ("a", "a/b"):
        await store.discard(key)
    assert sorted([info.key async for info in store.list_unfinished()]) == ["a-b", "a.b", "ab", "z/y/x", "~"]
    for writer in writers:
        writer.abort()
    await store.close()


class FailingClose(FileOps):
    """A network file system that tells at the close that the bytes did not get there; the number is free by then."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    def close(self, fd: int) -> None:
        null = os.open(os.devnull, os.O_RDONLY)
        self.taken.append(os.dup2(null, fd))  # closes it, and gives its number to another file at once
        os.close(null)
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


async def test_f43_a_close_that_fails_fails_the_write_and_closes_no_other_file(disk: Path) -> None:
    ops = FailingClose()
    store = build_stack(
        local_provider.LocalProvider(local_provider.LocalSettings(path=str(disk)), ops=ops),
        StackSettings(retry_attempts=1),
    )
    with pytest.raises(StoreFull):
        await store.put("x", b"1")
    assert len(ops.taken) == 1  # a second close would be of the other file
    os.close(ops.taken[0])
    assert await everything(store) == []
    await store.close()


async def test_a_store_that_was_closed_says_so(disk: Path) -> None:
    store = opened(settled(disk))
    await store.close()
    for act in (store.put("x", b"1"), store.head("x"), store.list_page(), store.discard("x")):
        with pytest.raises(StoreUnavailable) as caught:
            await act
        assert caught.value.vendor_code == "closed"


class Full(FileOps):
    """No space, and slow to say so."""

    def write(self, fd: int, data: memoryview) -> int:
        time.sleep(0.005)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_whoever_is_cancelled_while_a_failed_write_is_tidied_up_leaves_nothing(disk: Path) -> None:
    """With a full disk many fail at once, and the tidying waits for its turn in the same few threads."""
    plain = local_provider.LocalProvider(local_provider.LocalSettings(path=str(disk)), ops=Full())
    store = build_stack(plain, StackSettings(retry_attempts=1))
    for waits in range(1, 8):
        puts = [asyncio.create_task(store.put(f"{number}/x", b"1")) for number in range(60)]
        await asyncio.sleep(waits * 0.01)
        for put in puts:
            put.cancel()
        await asyncio.gather(*puts, return_exceptions=True)
    await store.close()
    assert os.listdir(disk) == []


def test_a_key_that_is_no_text_is_refused_as_such() -> None:
    with pytest.raises(Unsupported):
        check_key("a\ud800")
