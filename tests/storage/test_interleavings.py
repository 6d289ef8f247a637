"""A new version, a purge and the steps of a migration at once on one document, in every order that matters."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import random
import secrets
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import pytest
from tests.interleaving import Act, Interleaver, Run, explore, shuffled
from tests.support import Place, assert_clean, make_place

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.documents.values import UploadResult
from simples3dms.errors import Failure, NotFound
from simples3dms.settings import Settings
from simples3dms.storage.migrations import service as migrations_service
from simples3dms.storage.migrations.chunks import repository as chunks
from simples3dms.storage.transfers import repository as transfers_repository

pytestmark = pytest.mark.anyio
#: What an act may be told when another was faster. All others have to succeed.
_REFUSED = {
    "new_version": {"document_not_found", "document_deleted"},
    "cut_over": {"migration_not_proven"},
}


class Scene:
    """One document of a tenant whose migration is in some state, and what may be done to it at once."""

    def __init__(self, first: Place, state: str) -> None:
        """`first` is a tenant whose stores all others use, too: to add one takes longer than all the rest."""
        self.services = first.services
        self.first = first
        self.state = state

    async def _make_place(self) -> Place:
        services, first = self.services, self.first
        tenant = await services.tenants.create_tenant(HOST, f"t-{secrets.token_hex(8)}", "A tenant")
        for store in (first.a, first.b):
            await services.stores.grant_store(HOST, tenant.id, store)
        await services.placements.set_placement(HOST, tenant.id, write=first.a, copies=[], read=[])
        return dataclasses.replace(first, tenant_id=tenant.id)

    async def begin(self) -> None:
        self.place = await self._make_place()
        self.bodies = {1: b"first"}
        self.document_id = (await self.place.upload(b"first")).document.id
        self.is_purged = False
        migrations, engine, tenant_id = self.services.migrations, self.services.migration_engine, self.place.tenant_id
        planned = await migrations.plan_migration(HOST, tenant_id, target=self.place.b)
        self.migration_id: UUID = planned.id
        await migrations.start_migration(HOST, tenant_id, planned.id)
        await engine.advance(tenant_id, planned.id)
        if self.state == "copying":
            return
        await self.run_chunks("copy")
        await engine.advance(tenant_id, planned.id)
        if self.state == "finalizing":
            await migrations.cut_over(HOST, tenant_id, planned.id)
            await migrations.finalize(HOST, tenant_id, planned.id)
            await engine.advance(tenant_id, planned.id)
        assert (await self.place.migration(planned.id)).state == self.state

    # --- acts -------------------------------------------------------------------------------------------------------

    async def new_version(self) -> UploadResult:
        result = await self.place.upload(b"second", document_id=self.document_id)
        self.bodies[result.version.number] = b"second"
        return result

    async def purge(self) -> None:
        documents, tenant_id = self.services.documents, self.place.tenant_id
        await documents.delete_document(HOST, tenant_id, self.document_id)
        await documents.purge_document(HOST, tenant_id, self.document_id)
        self.is_purged = True
        await self.sweep()

    async def trash_and_restore(self) -> None:
        documents, tenant_id = self.services.documents, self.place.tenant_id
        await documents.delete_document(HOST, tenant_id, self.document_id)
        await documents.restore_document(HOST, tenant_id, self.document_id)

    async def cut_over(self) -> None:
        await self.services.migrations.cut_over(HOST, self.place.tenant_id, self.migration_id)

    async def run_chunks(self, phase: Any) -> int:
        async with self.services.database.tenant(self.place.tenant_id) as uow:
            free = await chunks.list_free(uow, self.migration_id, phase, limit=10)
        for chunk in free:
            await self.services.migration_engine.run_chunk(
                self.place.tenant_id, self.migration_id, phase, chunk.low_seq
            )
        return len(free)

    async def copy(self) -> None:
        await self.run_chunks("copy")

    async def evacuate(self) -> None:
        await self.run_chunks("evacuate")

    async def sweep(self) -> None:
        await self.services.blobs.sweep(self.place.tenant_id)

    # --- what must hold ---------------------------------------------------------------------------------------------

    async def check(self, run: Run) -> None:
        """At once, and again when workers have done all that is left."""
        for name, outcome in run.outcomes.items():
            if isinstance(outcome, Failure):
                assert outcome.problem_code in _REFUSED.get(name, ()), (name, outcome.problem_code)
        await self._check_document()
        await self._work()
        await self._check_document()
        held = {
            store_id: len([one for one in await self.place.listing(store_id) if "/audit/" not in one.key])
            for store_id in (self.place.a_id, self.place.b_id)
        }
        count = 0 if self.is_purged else len(self.bodies)
        migration = await self.place.migration(self.migration_id)
        assert migration.state == {"finalizing": "done"}.get(self.state, migration.state)
        assert held == {self.place.a_id: 0 if migration.state == "done" else count, self.place.b_id: count}

    async def _check_document(self) -> None:
        documents, tenant_id = self.services.documents, self.place.tenant_id
        if self.is_purged:
            with pytest.raises(NotFound):
                await documents.get_document(tenant_id, self.document_id)
            return
        versions = await documents.list_versions(tenant_id, self.document_id)
        assert [version.number for version in versions] == sorted(self.bodies, reverse=True)
        assert sorted(self.bodies) == list(range(1, len(self.bodies) + 1))
        for number, body in self.bodies.items():
            assert await self.place.read(self.document_id, number=number) == body

    async def _work(self) -> None:
        """What workers do, until nothing is left; nobody else is at work, so no claim has to run out first."""
        tenant_id = self.place.tenant_id
        for _ in range(50):
            async with self.services.database.tenant(tenant_id) as uow:
                await uow.execute("UPDATE replicas SET lease_until = now() WHERE state IN ('writing', 'retiring')")
                owed = await uow.scalars("SELECT id FROM transfers WHERE state = 'pending'")
                left = await uow.scalar("SELECT count(*) FROM replicas WHERE state IN ('writing', 'retiring')")
            async with self.services.database.platform() as uow:
                due = {row.id for row in await transfers_repository.list_due(uow, limit=100)}
            for transfer_id in due.intersection(owed):
                await self.services.transfers.run(tenant_id, transfer_id)
            before = (await self.place.migration(self.migration_id)).state
            worked = await self.run_chunks("copy") + await self.run_chunks("evacuate")
            await self.services.migration_engine.advance(tenant_id, self.migration_id)
            await self.sweep()
            if not (owed or left or worked or (await self.place.migration(self.migration_id)).state != before):
                return
            await asyncio.sleep(0.005)
        raise AssertionError("work never ends")


#: The migration's state, and what is done at once.
SCENES = {
    "copied": ("copying", ["new_version", "purge", "copy"]),
    "turned": ("ready", ["new_version", "purge", "cut_over"]),
    "turned_in_the_trash": ("ready", ["new_version", "trash_and_restore", "cut_over"]),
    "emptied": ("finalizing", ["new_version", "evacuate", "sweep"]),
    "emptied_and_purged": ("finalizing", ["purge", "evacuate", "sweep"]),
}


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """No claim runs out here, and a cut-over that must wait gives up soon."""
    monkeypatch.setattr(migrations_service, "_CUT_OVER_TRIES", 2)
    monkeypatch.setattr(migrations_service, "_CUT_OVER_WAIT_SECONDS", 0)
    monkeypatch.setattr(migrations_service, "_HOLD_SECONDS", 0.05)
    return settings.model_copy(update={"retry_base_seconds": 0.01, "lease_seconds": 60})


async def _try(services: Services, name: str, *, most_preemptions: int, seeds: Sequence[int]) -> None:
    """The scene in every order with so few preemptions, and in one for each seed."""
    state, names = SCENES[name]
    scene, interleaver = Scene(await make_place(services), state), Interleaver(services.database.url)

    async def make_acts() -> Mapping[str, Act]:
        await scene.begin()
        return {name: getattr(scene, name) for name in names}

    async def check(run: Run, told: str) -> None:
        try:
            await scene.check(run)
        except AssertionError as error:
            raise AssertionError(f"{told}: {run.passed}") from error

    count = 0
    async for run in explore(interleaver, make_acts, most_preemptions=most_preemptions):
        await check(run, f"order {count}")
        count += 1
    assert count >= math.factorial(len(names))
    async for seed, run in shuffled(interleaver, make_acts, seeds=seeds):
        await check(run, f"seed {seed}")
    await assert_clean(services)


@pytest.mark.parametrize("name", SCENES)
async def test_f55_one_after_the_other_and_at_random_on_one_document(services: Services, name: str) -> None:
    await _try(services, name, most_preemptions=0, seeds=range(8))


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SCENES)
async def test_f55_every_order_with_one_preemption_on_one_document(services: Services, name: str) -> None:
    await _try(services, name, most_preemptions=1, seeds=random.sample(range(10**6), 50))
