"""Where a B2 store is: its own bucket, though it was made anew, and its own prefix, whatever an id leads to."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from b2sdk.v3 import B2Api, InMemoryAccountInfo

from simples3dms.providers.base import StorageProvider
from simples3dms.providers.errors import BucketMissing, ObjectNotFound
from simples3dms.providers.registry import get_kind
from simples3dms.providers.stack import StackSettings, build_stack
from simples3dms.sandbox.b2 import B2Sandbox

pytestmark = pytest.mark.anyio
Make = Callable[[str], StorageProvider]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[B2Sandbox]:
    with B2Sandbox(tmp_path, buckets=("documents",)) as server:
        yield server


@pytest.fixture
def make(server: B2Sandbox) -> Make:
    credential = {"application_key_id": server.application_key_id, "application_key": server.application_key}

    def make(prefix: str) -> StorageProvider:
        settings = {"realm": server.url, "bucket": "documents", "prefix": prefix}
        return build_stack(get_kind("b2").create(settings, credential), StackSettings(retry_attempts=1))

    return make


async def read(store: StorageProvider, key: str, version_id: str | None, start: int = 0) -> bytes:
    async with store.open(key, version_id=version_id, start=start) as reader:
        return b"".join([chunk async for chunk in reader])


async def test_f49_a_bucket_that_was_made_anew_is_found_again(server: B2Sandbox, make: Make) -> None:
    """It has another id. Else the store would be out of order until each process is started again."""
    store = make("")
    await store.put("x", b"1")
    await store.discard("x")
    api = B2Api(InMemoryAccountInfo())
    api.authorize_account(server.application_key_id, server.application_key, realm=server.url)
    api.delete_bucket(api.get_bucket_by_name("documents"))
    with pytest.raises(BucketMissing):
        await store.put("x", b"1")
    api.create_bucket("documents", "allPrivate")
    made = await store.put("x", b"2")
    assert await read(store, "x", made.version_id) == b"2"
    await store.close()


@pytest.mark.parametrize("key", ["x", "ein schöner+Tag 100%/#1"])
async def test_f51_an_id_leads_to_no_file_of_another_place(make: Make, key: str) -> None:
    one, other = make("one"), make("other")
    body = secrets.token_bytes(1000)
    made = await other.put(key, body)
    assert await read(other, key, made.version_id) == body
    assert await read(other, key, made.version_id, start=10) == body[10:]
    for start in (0, 10):
        with pytest.raises(ObjectNotFound):
            await read(one, key, made.version_id, start)
        with pytest.raises(ObjectNotFound):
            await read(other, "another", made.version_id, start)
    await one.close()
    await other.close()
