"""The SHA-1 of B2's large files: told where it is known, taken along, never believed."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from b2sdk.v3 import B2Api, InMemoryAccountInfo

from simples3dms.providers.base import CopySource, Expected, StorageProvider
from simples3dms.providers.errors import IntegrityError
from simples3dms.providers.kinds.b2 import calls
from simples3dms.providers.registry import get_kind
from simples3dms.providers.stack import StackSettings, build_stack
from simples3dms.sandbox.b2 import B2Sandbox

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[B2Sandbox]:
    with B2Sandbox(tmp_path_factory.mktemp("b2"), buckets=("documents",)) as server:
        yield server


@pytest.fixture
async def provider(server: B2Sandbox) -> AsyncIterator[StorageProvider]:
    credential = {"application_key_id": server.application_key_id, "application_key": server.application_key}
    made = get_kind("b2").create({"realm": server.url, "bucket": "documents"}, credential)
    store = build_stack(made, StackSettings(retry_base_seconds=0.01))
    yield store
    await store.close()


def told(server: B2Sandbox, version_id: str | None) -> dict[str, Any]:
    """What the service itself says of a file."""
    api = B2Api(InMemoryAccountInfo())
    api.authorize_account(server.application_key_id, server.application_key, realm=server.url)
    found: dict[str, Any] = api.session.get_file_info_by_id(version_id)
    return found


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    for offset in range(0, len(body), 500_000):
        yield body[offset : offset + 500_000]


@pytest.mark.parametrize("known", [True, False])
async def test_mode_20_the_sha1_of_a_large_file_is_sent_when_it_is_known(
    server: B2Sandbox, provider: StorageProvider, known: bool
) -> None:
    """B2 keeps none of its own for a file in parts, and other tools look for it. It must stand there before the bytes
    come, so of a stream nobody knows it unless it was told."""
    body = secrets.token_bytes(11 * 2**20)
    sha1 = hashlib.sha1(body, usedforsecurity=False)
    made = await provider.put("large", chunks(body), expected=Expected(sha1=sha1.digest() if known else None))
    info = told(server, made.version_id)
    assert info["fileInfo"].get("large_file_sha1") == (sha1.hexdigest() if known else None)
    assert (await provider.head("large", version_id=made.version_id)).sha1 is None  # told by us is no evidence


@pytest.mark.parametrize("size", [1000, 11 * 2**20])
async def test_mode_20_a_wrong_sha1_is_never_left_with_a_file(provider: StorageProvider, size: int) -> None:
    body = secrets.token_bytes(size)
    for whole in (body, chunks(body)):
        with pytest.raises(IntegrityError):
            await provider.put("wrong", whole, expected=Expected(sha1=bytes(20)))
    assert [info.key async for info in provider.list("wrong")] == []
    assert [info.key async for info in provider.list_unfinished("wrong")] == []


async def test_mode_20_a_copy_in_parts_takes_the_sha1_along(
    server: B2Sandbox, provider: StorageProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_SIMPLE_COPY_BYTES", 2**20)
    monkeypatch.setattr(calls, "_COPY_PART_BYTES", 6 * 2**20)
    body = secrets.token_bytes(11 * 2**20)
    sha1 = hashlib.sha1(body, usedforsecurity=False)
    made = await provider.put("from", chunks(body), expected=Expected(sha1=sha1.digest()), content_type="text/x-a")
    copied = await provider.copy(CopySource(provider.location, "from", len(body), made.version_id), "to")
    info = told(server, copied.version_id)
    assert info["fileInfo"] == {"large_file_sha1": sha1.hexdigest()}
    assert info["contentType"] == "text/x-a"
