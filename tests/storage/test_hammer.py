"""Everything at once on one document, for as long as it takes to move its tenant there and back."""

from __future__ import annotations

import asyncio
import random
import secrets
from contextlib import suppress
from uuid import UUID

import pytest
from tests.support import Place, assert_clean, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.errors import Conflict, Unavailable
from simples3dms.storage.migrations.values import Schedule

pytestmark = pytest.mark.anyio


class Hammer:
    """A document with what was acknowledged of it, by version."""

    def __init__(self, place: Place, document_id: UUID, first: bytes) -> None:
        self.place, self.services = place, place.services
        self.document_id = document_id
        self.bodies = {1: first}
        self.is_moved = asyncio.Event()

    async def write(self) -> None:
        while not self.is_moved.is_set():
            body = secrets.token_bytes(500)
            with suppress(Conflict, Unavailable):
                # Refused while it is in the trash; given up where the machine was so busy that a claim ran out.
                result = await self.place.upload(body, document_id=self.document_id)
                assert result.version.number not in self.bodies
                self.bodies[result.version.number] = body
            # Workers are in this process, too: all get their turn.
            await asyncio.sleep(0.1)

    async def trash(self) -> None:
        while not self.is_moved.is_set():
            await self.services.documents.delete_document(HOST, self.place.tenant_id, self.document_id)
            await self.services.documents.restore_document(HOST, self.place.tenant_id, self.document_id)
            await asyncio.sleep(0.1)

    async def migrate(self) -> None:
        migrations, tenant_id = self.services.migrations, self.place.tenant_id
        schedule = Schedule(automatic_cutover=True, finalize_after_seconds=0)
        for target in (self.place.b, self.place.a):
            planned = await migrations.plan_migration(HOST, tenant_id, target=target, schedule=schedule)
            await migrations.start_migration(HOST, tenant_id, planned.id)
            await self.place.until(planned.id, "done")
        self.is_moved.set()


async def test_f55_a_hammer_on_one_document(services: Services) -> None:
    """Three writers, somebody who puts it into the trash and takes it out again, and a migration there and back."""
    place = await make_place(services)
    document_id, neighbour = [(await place.upload(b"first")).document.id for _ in range(2)]
    hammer = Hammer(place, document_id, b"first")
    async with working(services):
        async with asyncio.TaskGroup() as group:
            for act in (hammer.write, hammer.write, hammer.write, hammer.trash, hammer.migrate):
                group.create_task(act())
            await services.documents.delete_document(HOST, place.tenant_id, neighbour)
            await services.documents.purge_document(HOST, place.tenant_id, neighbour)
        await quiet(place)
    versions = await services.documents.list_versions(place.tenant_id, document_id)
    assert [version.number for version in versions] == list(range(len(hammer.bodies), 0, -1))
    for number in random.sample(sorted(hammer.bodies), min(30, len(hammer.bodies))):
        assert await place.read(document_id, number=number) == hammer.bodies[number]
    assert len(await place.listing(place.a_id)) == len(hammer.bodies)
    assert await place.listing(place.b_id) == []
    await assert_clean(services)
