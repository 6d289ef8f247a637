"""A tenant with documents at an object store, and a cache in front of it: what the tests of caches do."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.support import Place

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.providers.base import StorageProvider
from simples3dms.providers.layers.integrity import IntegrityLayer
from simples3dms.providers.layers.meter import MeterLayer
from simples3dms.sandbox.seaweedfs import SeaweedServer

MOST_BYTES = 10_000


@dataclass(frozen=True)
class Cached:
    """A tenant with documents at an object store, and a directory in front of it."""

    place: Place
    cache_id: UUID
    directory: Path

    @property
    def services(self) -> Services:
        return self.place.services

    async def upload(self, body: bytes) -> UUID:
        return (await self.place.upload(body)).document.id

    async def read(self, document_id: UUID, *, settle: bool = True, **part: int) -> tuple[bytes, set[str]]:
        """The bytes, and which stores were asked for them."""
        ids = {"far": self.place.a_id, "cache": self.cache_id}
        stacks = {name: await self.services.stores.provider(one) for name, one in ids.items()}
        before = {name: count_reads(stack) for name, stack in stacks.items()}
        body = await self.place.read(document_id, **part)
        asked = {name for name, stack in stacks.items() if count_reads(stack) > before[name]}
        if settle:
            await self.services.blobs.caches.settle()
        return body, asked

    async def states(self, document_id: UUID) -> list[tuple[str, str]]:
        return [
            (one.store, one.state)
            for one in await self.services.documents.list_replicas(self.place.tenant_id, document_id)
        ]

    async def is_cached(self, document_id: UUID) -> bool:
        return ("cache", "cached") in await self.states(document_id)

    def files(self) -> list[Path]:
        return [one for one in self.directory.rglob("*") if one.is_file() and len(one.name) == 36]

    async def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        async with self.services.database.platform() as uow:
            cursor = await uow.connection.execute(statement, values)  # type: ignore[call-overload]
            return await cursor.fetchall() if cursor.description else []

    async def used_bytes(self) -> int:
        """What the records say, which the directory must bear out."""
        ((used, rows),) = await self.sql(
            """SELECT coalesce((SELECT used_bytes FROM cache_sizes WHERE store_id = %s), 0),
                 coalesce((SELECT sum(size_bytes) FROM cache_entries WHERE store_id = %s), 0)::bigint""",
            self.cache_id,
            self.cache_id,
        )
        assert used == rows
        return int(used)

    async def settle_at(self, used_bytes: int) -> None:
        """Wait until it holds no more than that."""
        async with asyncio.timeout(60):
            while await self.used_bytes() > used_bytes:
                await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    with SeaweedServer(tmp_path_factory.mktemp("weed"), buckets=()) as server:
        yield server


@pytest.fixture
async def cached(services: Services, server: SeaweedServer, tmp_path: Path) -> Cached:
    bucket = f"far-{secrets.token_hex(4)}"
    await asyncio.to_thread(server.create_bucket, bucket)
    far = {"bucket": bucket, "endpoint": server.endpoint, "region": server.region}
    credential = {"access_key_id": server.access_key, "secret_access_key": server.secret_key}
    directory = tmp_path / "cache"
    directory.mkdir()
    far_id = (await services.stores.add_store(HOST, "far", "s3", far, credential)).id
    cache = await services.stores.add_store(
        HOST, "cache", "local", {"path": str(directory)}, {}, cache_max_bytes=MOST_BYTES
    )
    assert cache.cache_max_bytes == MOST_BYTES
    place = await tenant_of(services, "acme", far_id)
    return Cached(place, cache.id, directory)


async def tenant_of(services: Services, name: str, far_id: UUID) -> Place:
    tenant = await services.tenants.create_tenant(HOST, name, name)
    for store in ("far", "cache"):
        await services.stores.grant_store(HOST, tenant.id, store)
    await services.placements.set_placement(HOST, tenant.id, write="far")
    return Place(services, tenant.id, "far", "far", far_id, far_id)


def count_reads(stack: StorageProvider) -> int:
    """How often a store was asked for bytes; a fill of the cache may begin before a read ends."""
    assert isinstance(stack, IntegrityLayer)
    assert isinstance(stack.inner, MeterLayer)
    return stack.inner.metered.calls["open"]


def body_of(size: int = 1000) -> bytes:
    return secrets.token_bytes(size)
