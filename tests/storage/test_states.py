"""A tenant's documents and migrations under any order of acts and worker steps, against a plain model.

Workers' steps are drawn like everything else: a chunk run twice, a sweep between a copy and its confirmation, a
roll-back in the middle of copying. After each step every acknowledged version must read back as it was sent.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from typing import Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings, strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.support import Place, make_place

from simples3dms.bootstrap import Services, build_services
from simples3dms.context import HOST
from simples3dms.errors import Conflict, Failure, NotFound
from simples3dms.providers.kinds import memory
from simples3dms.settings import Settings
from simples3dms.storage.migrations import service as migrations_service
from simples3dms.storage.migrations.chunks import repository as chunks
from simples3dms.storage.transfers import repository as transfers_repository

#: Which of the things there are: drawn as a number, so that a draw never depends on ids made at run time.
PICKS = strategies.integers(0, 999)
BODIES = strategies.sampled_from([b"", b"a", b"some bytes" * 50, b"z" * 20_000])


class TenantLife(RuleBasedStateMachine):
    """The model: what was acknowledged, what is in the trash, what was purged."""

    services: ClassVar[Services]
    loop: ClassVar[asyncio.AbstractEventLoop]

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    @initialize()
    def begin(self) -> None:
        self.place: Place = self.run(make_place(self.services))
        self.live: dict[UUID, list[bytes]] = {}
        self.trash: dict[UUID, list[bytes]] = {}
        self.purged: set[UUID] = set()
        self.migration_id: UUID | None = None
        self.chance = random.Random(0)

    # --- people -----------------------------------------------------------------------------------------------------

    @rule(body=BODIES)
    def upload(self, body: bytes) -> None:
        self.live[self.run(self.place.upload(body)).document.id] = [body]

    @precondition(lambda self: self.live)
    @rule(body=BODIES, pick=PICKS)
    def replace(self, body: bytes, pick: int) -> None:
        document_id = sorted(self.live)[pick % len(self.live)]
        self.run(self.place.upload(body, document_id=document_id))
        self.live[document_id].append(body)

    @precondition(lambda self: self.live)
    @rule(pick=PICKS, purge=strategies.booleans())
    def delete(self, pick: int, purge: bool) -> None:
        document_id = sorted(self.live)[pick % len(self.live)]
        self.run(self.services.documents.delete_document(HOST, self.place.tenant_id, document_id))
        bodies = self.live.pop(document_id)
        if purge:
            self.run(self.services.documents.purge_document(HOST, self.place.tenant_id, document_id))
            self.purged.add(document_id)
        else:
            self.trash[document_id] = bodies

    @precondition(lambda self: self.trash)
    @rule(pick=PICKS)
    def restore(self, pick: int) -> None:
        document_id = sorted(self.trash)[pick % len(self.trash)]
        self.run(self.services.documents.restore_document(HOST, self.place.tenant_id, document_id))
        self.live[document_id] = self.trash.pop(document_id)

    # --- the administrator ------------------------------------------------------------------------------------------

    @rule()
    def plan_and_start(self) -> None:
        migrations, tenant_id = self.services.migrations, self.place.tenant_id
        write = self.run(self.services.placements.get_placement(tenant_id)).write
        target = self.place.b if write == self.place.a else self.place.a
        try:
            planned = self.run(migrations.plan_migration(HOST, tenant_id, target=target))
        except Conflict:
            return
        self.migration_id = planned.id
        self.run(migrations.start_migration(HOST, tenant_id, planned.id))

    @precondition(lambda self: self.migration_id)
    @rule(action=strategies.sampled_from(["pause_migration", "resume_migration", "cut_over", "roll_back", "finalize"]))
    def steer(self, action: str) -> None:
        before = self.run(self.services.placements.get_placement(self.place.tenant_id))
        try:
            self.run(getattr(self.services.migrations, action)(HOST, self.place.tenant_id, self.migration_id))
        except Conflict:
            after = self.run(self.services.placements.get_placement(self.place.tenant_id))
            assert (after.version, after.write) == (before.version, before.write)

    # --- workers ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.migration_id)
    @rule()
    def advance(self) -> None:
        self.run(self.services.migration_engine.advance(self.place.tenant_id, self.migration_id))

    @precondition(lambda self: self.migration_id)
    @rule(twice=strategies.booleans())
    def run_a_chunk(self, twice: bool) -> None:
        self.run(self._run_chunks(most=1, times=2 if twice else 1))

    @rule(twice=strategies.booleans())
    def run_a_transfer(self, twice: bool) -> None:
        self.run(self._run_transfers(most=1, times=2 if twice else 1))

    @rule()
    def sweep(self) -> None:
        self.run(self.services.blobs.sweep(self.place.tenant_id))

    @rule(pick=PICKS)
    def damage_a_copy_that_is_not_the_last(self, pick: int) -> None:
        """Bytes go bad at one store, of a blob that has another proven copy."""
        found = self.run(self._redundant())
        if found:
            name, key = found[pick % len(found)]
            shelf = memory._shelves[name]
            kept = next((path for path in shelf.objects if path.endswith(key)), None)
            if kept is not None:
                shelf.objects[kept] = [memory._Stored(b"damaged", stored.info) for stored in shelf.objects[kept]]

    async def _redundant(self) -> list[tuple[str, str]]:
        async with self.services.database.tenant(self.place.tenant_id) as uow:
            cursor = await uow.connection.execute(
                """SELECT s.name, r.key FROM replicas r JOIN stores s ON s.id = r.store_id WHERE r.state = 'live'
                     AND (SELECT count(*) FROM replicas o WHERE o.blob_id = r.blob_id AND o.state = 'live'
                          AND o.evidence = 'read-back') > 1 ORDER BY r.key LIMIT 5"""
            )
            rows = await cursor.fetchall()
        damaged = {key for name in (self.place.a, self.place.b) for key in self._damaged(name)}
        blobs = await self._blobs_of(damaged)
        return [(name, key) for name, key in rows if not await self._blobs_of({key}) & blobs]

    def _damaged(self, name: str) -> list[str]:
        shelf = memory._shelves.get(name)
        return [path for path, kept in shelf.objects.items() if kept and kept[-1].data == b"damaged"] if shelf else []

    async def _blobs_of(self, keys: set[str]) -> set[UUID]:
        async with self.services.database.tenant(self.place.tenant_id) as uow:
            return set(await uow.scalars("SELECT blob_id FROM replicas WHERE key = ANY(%s)", [list(keys)]))

    async def _run_chunks(self, *, most: int, times: int) -> int:
        # Chunks of a phase that is over stay as they are: nobody may claim them any more.
        state = (await self.place.migration(self.migration_id)).state  # type: ignore[arg-type]
        phase = {"copying": "copy", "rolling_back": "evacuate", "finalizing": "evacuate"}.get(state)
        if phase is None:
            return 0
        async with self.services.database.tenant(self.place.tenant_id) as uow:
            free = await chunks.list_free(uow, self.migration_id, phase, limit=most)  # type: ignore[arg-type]
        for chunk in free:
            await asyncio.gather(
                *(
                    self.services.migration_engine.run_chunk(
                        self.place.tenant_id,
                        self.migration_id,
                        chunk.phase,
                        chunk.low_seq,  # type: ignore[arg-type]
                    )
                    for _ in range(times)
                )
            )
        return len(free)

    async def _run_transfers(self, *, most: int, times: int) -> int:
        async with self.services.database.platform() as uow:
            due = await transfers_repository.list_due(uow, limit=100)
        mine = [row for row in due if row.tenant_id == self.place.tenant_id][:most]
        for row in mine:
            await asyncio.gather(*(self.services.transfers.run(row.tenant_id, row.id) for _ in range(times)))
        return len(mine)

    # --- promises ---------------------------------------------------------------------------------------------------

    @invariant()
    def what_was_acknowledged_reads_back(self) -> None:
        if not hasattr(self, "place") or not self.live:
            return
        for document_id in self.chance.sample(sorted(self.live), min(3, len(self.live))):
            for number, body in enumerate(self.live[document_id], start=1):
                assert self.run(self.place.read(document_id, number=number)) == body

    @invariant()
    def what_was_purged_stays_away(self) -> None:
        for document_id in list(getattr(self, "purged", ()))[:3]:
            with pytest.raises(NotFound):
                self.run(self.services.documents.get_document(self.place.tenant_id, document_id))

    def teardown(self) -> None:
        if hasattr(self, "place"):
            self.run(self._end())

    async def _end(self) -> None:
        """Faults over, workers busy until nothing is left to do: everything must have converged."""
        services, tenant_id = self.services, self.place.tenant_id
        if self.migration_id is not None:
            with suppress(Failure):
                await services.migrations.resume_migration(HOST, tenant_id, self.migration_id)
        await self._drain()
        for document_id, bodies in self.live.items():
            for number, body in enumerate(bodies, start=1):
                assert await self.place.read(document_id, number=number) == body
        # Reading found damage, if there was any; what was found is mended by the same workers.
        await self._drain()
        listed = await services.documents.list_documents(tenant_id, limit=1000)
        assert {document.id for document in listed} == set(self.live)

    async def _drain(self) -> None:
        """Work until nothing is left. What never ends is told as it stands."""
        for _ in range(600):
            if not await self._work_left():
                return
            await asyncio.sleep(0.01)
        async with self.services.database.tenant(self.place.tenant_id) as uow:
            cursor = await uow.connection.execute(
                """SELECT 'replica', state, evidence, attempt::text, lease_until - now() FROM replicas
                     WHERE state <> 'live' UNION ALL
                   SELECT 'transfer', state, error_kind, attempt::text, due_at - now() FROM transfers UNION ALL
                   SELECT 'chunk', phase, state, attempt::text, due_at - now() FROM migration_chunks
                     WHERE state = 'pending' UNION ALL
                   SELECT 'migration', state, error_code, attempt::text, lease_until - now() FROM migrations"""
            )
            left = await cursor.fetchall()
        raise AssertionError(f"work never ends: {left}")

    async def _work_left(self) -> bool:
        tenant_id = self.place.tenant_id
        worked = await self._run_transfers(most=50, times=1)
        if self.migration_id is not None:
            worked += await self._run_chunks(most=50, times=1)
            await self.services.migration_engine.advance(tenant_id, self.migration_id)
            migration = await self.place.migration(self.migration_id)
            worked += migration.state in ("copying", "rolling_back", "finalizing") and not migration.failed_count
        await self.services.blobs.sweep(tenant_id)
        async with self.services.database.tenant(tenant_id) as uow:
            waiting = await uow.scalar("SELECT count(*) FROM replicas WHERE state IN ('writing', 'retiring')")
            owed = await uow.scalar("SELECT count(*) FROM transfers WHERE state = 'pending'")
        return bool(worked or waiting or owed)


@pytest.fixture
def machine(settings_for_states: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[TenantLife]]:
    monkeypatch.setattr(migrations_service, "_CUT_OVER_TRIES", 2)
    monkeypatch.setattr(migrations_service, "_CUT_OVER_WAIT_SECONDS", 0)
    loop = asyncio.new_event_loop()
    services = build_services(settings_for_states)
    loop.run_until_complete(services.open())
    TenantLife.services, TenantLife.loop = services, loop
    yield TenantLife
    loop.run_until_complete(services.close())
    loop.close()


@pytest.fixture
def settings_for_states(settings: Settings) -> Settings:
    return settings.model_copy(update={"chunk_blobs": 2, "retry_base_seconds": 0.01, "lease_seconds": 30})


def test_any_order_of_acts_and_steps_keeps_the_promises(machine: type[TenantLife]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=15,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.long
def test_many_orders_of_acts_and_steps_keep_the_promises(machine: type[TenantLife]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=400, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
