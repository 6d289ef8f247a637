"""Reconciles by schedule: due, spread, one at a time at a store, passed over where they make no sense; and told of."""

from __future__ import annotations

import asyncio
import dataclasses
from uuid import UUID

import pytest
import structlog
from tests.storage.test_reconciles import plant
from tests.support import Place, make_place

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.errors import NotFound
from simples3dms.jobs import watchdog
from simples3dms.storage.reconciles import service
from simples3dms.storage.reconciles.service import StoreSchedule

pytestmark = pytest.mark.anyio


@pytest.fixture
async def places(services: Services) -> list[Place]:
    """Three tenants, all of them with a place in the first one's store `a`, and none of them new to it."""
    made = [await make_place(services)]
    for number in range(2):
        tenant = await services.tenants.create_tenant(HOST, f"t-{number}", "Another tenant")
        await services.stores.grant_store(HOST, tenant.id, made[0].a)
        made.append(dataclasses.replace(made[0], tenant_id=tenant.id))
    await sql(made[0], "UPDATE store_grants SET reconcile_at = now() - interval '8 days'")
    return made


async def sql(place: Place, statement: str, *params: object) -> None:
    async with place.services.database.platform() as uow:
        await uow.execute(statement, list(params))


async def schedule(place: Place, every_days: float | None = 7) -> StoreSchedule:
    return await place.services.reconciles.set_schedule(HOST, place.a, every_days=every_days, older_than_days=0)


async def start_due(place: Place) -> None:
    await place.services.reconciles.start_due(limit=100)


async def begun(places: list[Place]) -> list[UUID]:
    """Whose were begun, in their order."""
    found = []
    for place in places:
        for row in await place.services.reconciles.list_page(place.tenant_id):
            assert row.is_scheduled
            found.append((row.id, place.tenant_id))
    return [tenant_id for _, tenant_id in sorted(found)]


async def run_all(places: list[Place]) -> None:
    for place in places:
        for row in await place.services.reconciles.list_page(place.tenant_id):
            await place.services.reconciles.engine.run(place.tenant_id, row.id)


async def hurry(place: Place) -> None:
    """As if the next one's time had come."""
    await sql(place, "UPDATE reconcile_schedules SET next_at = now()")


async def test_one_place_at_a_time_each_in_its_turn_and_by_one_worker(places: list[Place]) -> None:
    first = places[0]
    await start_due(first)
    assert await begun(places) == [], "nothing begins by itself unless somebody says so"
    await schedule(first)
    await asyncio.gather(*(start_due(first) for _ in range(3)))
    assert len(await begun(places)) == 1
    await hurry(first)
    await start_due(first)
    assert len(await begun(places)) == 1, "one is under way there"
    for count in (2, 3, 3):
        await run_all(places)
        await hurry(first)
        await start_due(first)
        assert len(await begun(places)) == count
    assert set(await begun(places)) == {place.tenant_id for place in places}
    found = await first.services.reconciles.get_schedule(first.a)
    assert (found.places.place_count, found.places.due_count, found.places.running_count) == (3, 0, 0)
    assert [one.state for one in found.results] == ["done"] * 3
    events = [event.action for event in await first.services.audit.list_events(first.tenant_id, limit=50)]
    assert events.count("reconcile.started") == 1


async def test_they_are_spread_over_the_days_however_they_fell_due(places: list[Place]) -> None:
    first = places[0]
    await schedule(first, 5)
    await start_due(first)
    await run_all(places)
    await start_due(first)
    assert len(await begun(places)) == 1
    async with first.services.database.platform() as uow:
        wait = await uow.scalar("SELECT extract(epoch FROM next_at - now()) / 86400 FROM reconcile_schedules")
    assert 1.49 < wait <= 1.5, "a third of five days, less a tenth"


async def test_what_was_reconciled_by_hand_is_not_due(places: list[Place]) -> None:
    first = places[0]
    await first.services.reconciles.start(HOST, first.tenant_id, store=first.a, older_than_days=7)
    await first.services.reconciles.engine.run(
        first.tenant_id, (await first.services.reconciles.list_page(first.tenant_id))[0].id
    )
    await schedule(first)
    for _ in range(3):
        await hurry(first)
        await start_due(first)
        await run_all(places)
    assert [row.is_scheduled for row in await first.services.reconciles.list_page(first.tenant_id)] == [False]
    assert set(await begun(places[1:])) == {place.tenant_id for place in places[1:]}


NO_SENSE = {
    "UPDATE stores SET untrusted_at = now(), untrusted_reason = 'it smells'": (
        "UPDATE stores SET untrusted_at = NULL, untrusted_reason = NULL"
    ),
    "UPDATE stores SET disabled_at = now()": "UPDATE stores SET disabled_at = NULL",
    "UPDATE store_grants SET revoked_at = now()": "UPDATE store_grants SET revoked_at = NULL",
    "UPDATE tenants SET deleting_at = now(), suspended_at = now(), suspension_reason = 'x'": (
        "UPDATE tenants SET deleting_at = NULL, suspended_at = NULL, suspension_reason = NULL"
    ),
    "UPDATE store_grants SET reconcile_at = now() - interval '6 days'": (
        "UPDATE store_grants SET reconcile_at = now() - interval '8 days'"
    ),
    "UPDATE reconcile_schedules SET next_at = now() + interval '1 hour'": (
        "UPDATE reconcile_schedules SET next_at = now()"
    ),
}


async def test_where_it_makes_no_sense_none_begins(places: list[Place]) -> None:
    await schedule(places[0])
    for why, no_more in NO_SENSE.items():
        await sql(places[0], why)
        await start_due(places[0])
        assert await begun(places) == [], why
        await sql(places[0], no_more)
    await start_due(places[0])
    assert len(await begun(places)) == 1


async def test_one_that_waits_for_its_store_holds_up_no_other(places: list[Place]) -> None:
    await schedule(places[0])
    await start_due(places[0])
    await sql(places[0], "UPDATE reconciles SET error_code = 'store_unreachable', due_at = 'infinity'")
    await hurry(places[0])
    await start_due(places[0])
    assert len(await begun(places)) == 2


async def test_what_is_found_is_kept_told_and_named_until_it_is_removed(places: list[Place]) -> None:
    first, services = places[0], places[0].services
    await plant(first, first.a, "nobodys", b"12345")
    await schedule(first)
    with structlog.testing.capture_logs() as told:
        for _ in range(3):
            await hurry(first)
            await watchdog.tick(services)
            await run_all(places)
    (warning,) = [line for line in told if line["event"] == "reconcile.found"]
    assert (warning["store"], warning["unexplained"], warning["log_level"]) == (first.a, 1, "warning")
    found = await services.reconciles.get_schedule(first.a)
    assert found.results[0].tenant_id == first.tenant_id
    assert [one.unexplained_count for one in found.results] == [1, 0, 0]
    wrong = {(one.code, one.store) for one in await services.health.list_degradations()}
    assert wrong == {("reconcile_found", first.a)}
    await services.reconciles.remove(HOST, first.tenant_id, found.results[0].reconcile_id, count=1)
    await run_all(places)
    assert await services.health.list_degradations() == []


async def test_old_results_are_forgotten_and_those_by_hand_kept(
    places: list[Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = places[0]
    monkeypatch.setattr(service, "_KEPT", 2)
    await first.services.reconciles.start(HOST, first.tenant_id, store=first.a, older_than_days=7)
    await run_all([first])
    await schedule(first)
    for _ in range(4):
        await sql(
            first,
            "UPDATE store_grants SET reconcile_at = now() - interval '8 days' WHERE tenant_id = %s",
            first.tenant_id,
        )
        await sql(first, "UPDATE store_grants SET reconcile_at = now() WHERE tenant_id <> %s", first.tenant_id)
        await hurry(first)
        await start_due(first)
        await run_all([first])
    rows = await first.services.reconciles.list_page(first.tenant_id)
    assert [row.is_scheduled for row in rows] == [True, True, True, False]


async def test_a_schedule_is_recorded_and_taken_back(places: list[Place]) -> None:
    first = places[0]
    found = await schedule(first, 3.5)
    assert found.schedule is not None
    assert (found.schedule.every_days, found.schedule.older_than_days, found.places.due_count) == (3.5, 0, 3)
    assert (await schedule(first, None)).schedule is None
    events = await first.services.audit.list_events(None, limit=50)
    assert [event.details["every_days"] for event in events if event.action == "store.reconcile_scheduled"] == [
        None,
        3.5,
    ]
    with pytest.raises(NotFound):
        await first.services.reconciles.get_schedule("nowhere")
