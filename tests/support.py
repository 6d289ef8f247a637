"""What many tests do: a tenant with stores, uploads, reads, a worker in the background."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.documents.values import UploadRequest, UploadResult
from simples3dms.jobs.worker import run_worker
from simples3dms.providers.base import ObjectInfo
from simples3dms.storage.migrations.values import Migration


@dataclass(frozen=True)
class Place:
    """A tenant with a write store `a` and a second store `b`."""

    services: Services
    tenant_id: UUID
    a: str
    b: str
    a_id: UUID
    b_id: UUID

    async def upload(self, body: bytes, *, name: str = "file.bin", **announced: Any) -> UploadResult:
        announced.setdefault("size_bytes", len(body))
        request = UploadRequest(name, "application/octet-stream", **announced)
        return await self.services.uploads.upload(HOST, self.tenant_id, request, chunked(body))

    async def read(self, document_id: UUID, *, number: int | None = None, **part: int) -> bytes:
        async with self.services.documents.open_download(
            self.tenant_id, document_id, number=number, **part
        ) as download:
            return b"".join([chunk async for chunk in download.chunks])

    async def listing(self, store_id: UUID) -> list[ObjectInfo]:
        provider = await self.services.stores.provider(store_id)
        return [info async for info in provider.list(f"t/{self.tenant_id}/")]

    async def migration(self, migration_id: UUID) -> Migration:
        return await self.services.migrations.get_migration(self.tenant_id, migration_id)

    async def until(self, migration_id: UUID, *states: str, seconds: float = 120) -> Migration:
        """Wait for the migration to reach one of the states."""
        async with asyncio.timeout(seconds):
            while True:
                migration = await self.migration(migration_id)
                if migration.state in states:
                    return migration
                await asyncio.sleep(0.03)


async def chunked(body: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    for offset in range(0, len(body), size):
        yield body[offset : offset + size]


async def make_place(services: Services, *, kind: str = "memory", settings: tuple[dict, dict] | None = None) -> Place:
    """A fresh tenant that writes to store `a` and may use store `b`."""
    mark = secrets.token_hex(4)
    names = (f"a-{mark}", f"b-{mark}")
    given = settings or ({"name": names[0], "versions": True}, {"name": names[1]})
    stores = [
        await services.stores.add_store(HOST, name, kind, one, {}) for name, one in zip(names, given, strict=True)
    ]
    tenant = await services.tenants.create_tenant(HOST, f"t-{mark}", "A tenant")
    for name in names:
        await services.stores.grant_store(HOST, tenant.id, name)
    await services.placements.set_placement(HOST, tenant.id, write=names[0], copies=[], read=[])
    return Place(services, tenant.id, names[0], names[1], stores[0].id, stores[1].id)


@asynccontextmanager
async def working(services: Services) -> AsyncIterator[None]:
    """A worker in the background. What it dies of comes out at the end of the block."""
    stop = asyncio.Event()
    worker = asyncio.create_task(run_worker(services, stop=stop))
    try:
        yield
    finally:
        stop.set()
        await worker


async def quiet(place: Place, *, seconds: float = 90) -> None:
    """Wait until nothing of the tenant is under way or due."""
    async with asyncio.timeout(seconds):
        while True:
            report = await place.services.upkeep.fsck()
            if not any(count for name, count in report.counts.items() if name.startswith("pending")):
                return
            await asyncio.sleep(0.05)


async def assert_clean(services: Services) -> None:
    """Every promise holds, over every byte."""
    report = await services.upkeep.fsck(read_data=True)
    assert report.findings == []
