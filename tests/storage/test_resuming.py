"""Copies of large objects go on where they stopped, whoever stopped and whoever goes on; wrong bytes begin anew."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from tests.support import Place, assert_clean, make_place

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.kit import failpoints
from simples3dms.providers.kinds import memory
from simples3dms.providers.layers.forwarding import Layer
from simples3dms.providers.layers.meter import Metered, MeterLayer
from simples3dms.storage.placement import repository as placement_repository
from simples3dms.storage.placement.values import Grant
from simples3dms.storage.transfers.values import Outcome, Result

pytestmark = pytest.mark.anyio
_PART_BYTES = 5 * 2**20
_SIZE = 7 * _PART_BYTES + 123_456


@dataclass
class Copying:
    """A large document at `a` that is owed a copy at `b`."""

    place: Place
    grant: Grant
    document_id: UUID
    blob_id: UUID
    body: bytes

    async def copy(self) -> Result:
        (result,) = await self.place.services.transfers._engine.copy(self.place.tenant_id, [self.blob_id], self.grant)
        return result

    async def stop_at(self, part: int) -> None:
        """Copy, and stop when so many parts have been sent."""
        failpoints.arm(f"copy.part_sent=raise@{part}", environment="test")
        with pytest.RaisesGroup(failpoints.FailPointError):
            await self.copy()
        failpoints.arm("", environment="test")

    async def ask(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        async with self.place.services.database.tenant(self.place.tenant_id) as uow:
            cursor = await uow.connection.execute(statement, [self.place.tenant_id, *parameters])
            return await cursor.fetchall() if cursor.description else []

    async def at_target(self) -> list[tuple[Any, ...]]:
        """The replicas at `b`: id, state, fence."""
        return await self.ask(
            "SELECT id, state, fence FROM replicas WHERE tenant_id = %s AND store_id = %s ORDER BY id", self.place.b_id
        )

    async def part_count(self) -> int:
        ((count,),) = await self.ask("SELECT count(*) FROM sent_parts WHERE tenant_id = %s")
        return int(count)

    async def sent_bytes(self) -> int:
        ((size,),) = await self.ask("SELECT sum(size_bytes) FROM sent_parts WHERE tenant_id = %s")
        return int(size)

    async def metered(self, store_id: UUID) -> Metered:
        layer: Any = await self.place.services.stores.provider(store_id)
        while not isinstance(layer, MeterLayer):
            assert isinstance(layer, Layer)
            layer = layer.inner
        return layer.metered


@pytest.fixture
async def copying(services: Services) -> AsyncIterator[Copying]:
    place = await make_place(services)
    body = secrets.token_bytes(_SIZE)
    done = await place.upload(body)
    await services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b], read=[])
    async with services.database.tenant(place.tenant_id) as uow:
        (grant,) = [one for one in await placement_repository.list_grants(uow) if one.name == place.b]
        blob_id = await uow.scalar("SELECT id FROM blobs WHERE tenant_id = %s", [place.tenant_id])
    yield Copying(place, grant, done.document.id, blob_id, body)
    failpoints.arm("", environment="test")


def frozen(copying: Copying, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen process gives no sign of life, and is not told that its claim is lost."""
    monkeypatch.setattr(copying.place.services.blobs, "keep_alive", lambda *_: nullcontext())


async def test_f06_a_large_copy_that_was_stopped_goes_on_from_its_last_part(copying: Copying) -> None:
    await copying.stop_at(4)
    ((replica_id, state, fence),) = await copying.at_target()
    assert (state, fence) == ("writing", 1)
    assert await copying.part_count() >= 4
    sent_bytes = await copying.sent_bytes()
    # A sweep leaves it alone: somebody is to go on with it.
    await copying.place.services.blobs.sweep(copying.place.tenant_id)
    source = await copying.metered(copying.place.a_id)
    before = source.bytes_read
    assert (await copying.copy()).outcome is Outcome.COPIED
    assert source.bytes_read - before == _SIZE - sent_bytes
    assert await copying.at_target() == [(replica_id, "live", 2)]
    assert await copying.part_count() == 0
    assert len(await copying.place.listing(copying.place.b_id)) == 1
    await assert_clean(copying.place.services)


async def test_f08_who_was_thought_dead_and_wakes_up_changes_nothing(
    copying: Copying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another has taken the copy over, with the same key: what the first one still does must not hurt it."""
    frozen(copying, monkeypatch)
    failpoints.arm("copy.part_sent=sleep:4@2", environment="test")
    first = asyncio.create_task(copying.copy())
    while await copying.part_count() < 2:
        await asyncio.sleep(0.01)
    await copying.ask("UPDATE replicas SET lease_until = now() - interval '1 second' WHERE tenant_id = %s")
    assert (await copying.copy()).outcome is Outcome.COPIED
    assert (await first).outcome is Outcome.BUSY
    ((_, state, fence),) = await copying.at_target()
    assert (state, fence) == ("live", 2)
    await copying.place.services.blobs.sweep(copying.place.tenant_id)
    assert len(await copying.place.listing(copying.place.b_id)) == 1
    await assert_clean(copying.place.services)


async def test_f08_who_finishes_after_another_has_finished_removes_nothing(
    copying: Copying, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen(copying, monkeypatch)
    failpoints.arm("copy.after_put=sleep:4@1", environment="test")
    first = asyncio.create_task(copying.copy())
    while await copying.part_count() < 8 or not await copying.place.listing(copying.place.b_id):
        await asyncio.sleep(0.01)
    await copying.ask("UPDATE replicas SET lease_until = now() - interval '1 second' WHERE tenant_id = %s")
    assert (await copying.copy()).outcome is Outcome.COPIED
    assert (await first).outcome is Outcome.BUSY
    ((_, state, fence),) = await copying.at_target()
    assert (state, fence) == ("live", 2)
    assert len(await copying.place.listing(copying.place.b_id)) == 1
    await assert_clean(copying.place.services)


async def test_f31_parts_that_were_hurt_begin_anew_at_another_key(copying: Copying) -> None:
    """What arrived wrong is found when it is read back; nothing of it is used again."""
    await copying.stop_at(4)
    ((first_id, _, _),) = await copying.at_target()
    (upload,) = memory._shelves[copying.place.b].uploads.values()
    number = min(upload.parts)
    upload.parts[number] = bytes(len(upload.parts[number]))
    # The store says of it what it said before: it is as if the bytes had changed where they lie.
    await _believe(copying, number, upload.parts[number])
    result = await copying.copy()
    assert (result.outcome, result.error_kind, result.retryable) == (Outcome.FAILED, "integrity", True)
    assert await copying.part_count() == 0
    ((_, state, _),) = await copying.at_target()
    assert state == "retiring"
    assert (await copying.copy()).outcome is Outcome.COPIED
    live = [one for one in await copying.at_target() if one[1] == "live"]
    assert len(live) == 1
    assert live[0][0] != first_id
    await copying.ask("UPDATE replicas SET lease_until = NULL WHERE tenant_id = %s AND state = 'retiring'")
    await copying.place.services.blobs.sweep(copying.place.tenant_id)
    assert len(await copying.place.listing(copying.place.b_id)) == 1
    await assert_clean(copying.place.services)


async def test_f30_a_large_source_with_other_bytes_is_found_out(copying: Copying) -> None:
    shelf = memory._shelves[copying.place.a]
    original = dict(shelf.objects)
    for key, versions in original.items():
        wrong = [memory._Stored(b"?" + one.data[1:], one.info) for one in versions if len(one.data) == _SIZE]
        if wrong:
            shelf.objects[key] = wrong
    result = await copying.copy()
    assert (result.outcome, result.error_kind) == (Outcome.FAILED, "integrity")
    states = await copying.ask("SELECT state FROM replicas WHERE tenant_id = %s ORDER BY state")
    assert states == [("retiring",), ("suspect",)]
    shelf.objects.update(original)
    assert (await copying.copy()).outcome is Outcome.COPIED


async def test_nobody_goes_on_with_a_copy_to_a_store_that_is_left(copying: Copying) -> None:
    services, place = copying.place.services, copying.place
    await services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[], read=[])
    planned = await services.migrations.plan_migration(HOST, place.tenant_id, target=place.b)
    await services.migrations.start_migration(HOST, place.tenant_id, planned.id)
    await copying.stop_at(3)
    await services.migrations.roll_back(HOST, place.tenant_id, planned.id)
    assert await copying.part_count() == 0
    await services.blobs.sweep(place.tenant_id)
    ((_, state, _),) = await copying.at_target()
    assert state == "retiring"


async def test_nobody_goes_on_with_a_copy_of_what_was_purged(copying: Copying) -> None:
    services, place = copying.place.services, copying.place
    await copying.stop_at(3)
    await services.documents.delete_document(HOST, place.tenant_id, copying.document_id)
    await services.documents.purge_document(HOST, place.tenant_id, copying.document_id)
    await services.blobs.sweep(place.tenant_id)
    assert [state for _, state, _ in await copying.at_target()] in ([], ["retiring"])
    await copying.ask("UPDATE replicas SET lease_until = NULL WHERE tenant_id = %s")
    await services.blobs.sweep(place.tenant_id)
    assert await copying.at_target() == []
    assert await copying.part_count() == 0
    assert memory._shelves[place.b].uploads == {}


async def _believe(copying: Copying, number: int, body: bytes) -> None:
    """Record the entity tag that the memory store would give these bytes."""
    provider = await copying.place.services.stores.provider(copying.place.b_id)
    (upload_id,) = memory._shelves[copying.place.b].uploads
    ((key,),) = await copying.ask("SELECT key FROM replicas WHERE tenant_id = %s AND state = 'writing'")
    listed = {part.number: part for part in await provider.list_parts(memory.PartsUpload(key, upload_id, _PART_BYTES))}
    assert listed[number].size_bytes == len(body)
    await copying.ask("UPDATE sent_parts SET tenant_id = %s, etag = %s WHERE number = %s", listed[number].etag, number)
