"""How each kind copies inside its service: by the kernel between directories, in parts between buckets."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simples3dms.providers.base import CopySource, ObjectInfo
from simples3dms.providers.errors import AccessDenied, IntegrityError, ObjectNotFound
from simples3dms.providers.kinds.local.provider import LocalProvider, LocalSettings
from simples3dms.providers.kinds.local.tree import FileOps
from simples3dms.providers.kinds.s3 import S3Provider
from simples3dms.providers.kinds.s3 import provider as s3_module
from simples3dms.providers.kinds.s3.config import S3Credential, S3Settings
from simples3dms.providers.kinds.s3.profiles import PROFILES
from simples3dms.sandbox.seaweedfs import SeaweedServer

pytestmark = pytest.mark.anyio
PART = 5 * 2**20


class Watched(FileOps):
    """Notes what is made durable, and moves a little at a time."""

    def __init__(self) -> None:
        self.synced: list[int] = []
        self.moved = 0

    def move(self, source: int, target: int, offset: int, count: int) -> int:
        self.moved += 1
        return super().move(source, target, offset, min(count, 1000))

    def fsync(self, fd: int) -> None:
        self.synced.append(os.fstat(fd).st_ino)
        super().fsync(fd)


@pytest.fixture
def disks(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    return tmp_path / "one", tmp_path / "two"


async def test_between_directories_the_kernel_makes_a_file_of_its_own_and_it_is_durable(
    disks: tuple[Path, Path],
) -> None:
    ops, body = Watched(), random.Random(1).randbytes(4500)
    one, two = (
        LocalProvider(LocalSettings(path=str(disks[0]), prefix="in")),
        LocalProvider(LocalSettings(path=str(disks[1])), ops=ops),
    )
    await one.put("x/y", body)
    made = await two.copy(CopySource(one.location, "x/y", len(body)), "a/b")
    source, copy = next(disks[0].rglob("y")).stat(), (disks[1] / "a" / "b").stat()
    assert made.size_bytes == len(body)
    assert (disks[1] / "a" / "b").read_bytes() == body
    assert ops.moved == 5
    assert (source.st_nlink, copy.st_nlink) == (1, 1), "a link is no copy"
    assert {copy.st_ino, (disks[1] / "a").stat().st_ino, disks[1].stat().st_ino} <= set(ops.synced)
    for provider in (one, two):
        await provider.close()


async def test_a_source_that_is_gone_shrinks_or_is_a_link_leaves_nothing(disks: tuple[Path, Path]) -> None:
    class Shrinking(FileOps):
        def move(self, source: int, target: int, offset: int, count: int) -> int:
            return 0

    one = LocalProvider(LocalSettings(path=str(disks[0])))
    two = LocalProvider(LocalSettings(path=str(disks[1])))
    three = LocalProvider(LocalSettings(path=str(disks[1])), ops=Shrinking())
    await one.put("x", b"bytes")
    (disks[0] / "link").symlink_to(disks[0] / "x")
    with pytest.raises(ObjectNotFound):
        await two.copy(CopySource(one.location, "gone", 5), "a")
    with pytest.raises(AccessDenied):
        await two.copy(CopySource(one.location, "link", 5), "a")
    with pytest.raises(IntegrityError):
        await three.copy(CopySource(one.location, "x", 5), "a")
    assert list(disks[1].iterdir()) == []
    for provider in (one, two, three):
        await provider.close()


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    with SeaweedServer(tmp_path_factory.mktemp("weed"), buckets=("one-bucket", "two-bucket")) as server:
        yield server


async def test_between_buckets_what_is_too_large_for_one_request_goes_in_parts(
    weed: SeaweedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_module, "_COPY_PART_BYTES", PART)
    monkeypatch.setitem(PROFILES, "other", replace(PROFILES["other"], largest_put_bytes=PART))
    credential = S3Credential(access_key_id=weed.access_key, secret_access_key=weed.secret_key)  # type: ignore[arg-type]
    stores = []
    for bucket, prefix in (("one-bucket", "in"), ("two-bucket", "")):
        settings: dict[str, Any] = {"endpoint": weed.endpoint, "bucket": bucket, "prefix": prefix}
        stores.append(S3Provider(S3Settings(**settings), credential))
    one, two = stores
    body = random.Random(2).randbytes(2 * PART + 77)

    async def chunks() -> Any:
        yield body

    await one.put("x", chunks())
    made = await two.copy(CopySource(one.location, "x", len(body)), "y")
    assert made.size_bytes == len(body)
    async with two.open("y") as reader:
        assert b"".join([chunk async for chunk in reader]) == body
    # A copy that can't be finished leaves no parts behind.
    with pytest.raises(ObjectNotFound):
        await two.copy(CopySource(one.location, "gone", len(body)), "z")
    left: list[ObjectInfo] = [info async for info in two.list_unfinished()]
    assert left == []
    for provider in stores:
        await provider.close()
