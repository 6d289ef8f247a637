"""Blobs that are there already come to be owed what a changed placement wants of them, and a rule about age waits."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from hypothesis import given
from tests.storage.test_router import policies, subjects
from tests.support import Place, assert_clean, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.jobs import watchdog
from simples3dms.storage.placement import repository
from simples3dms.storage.placement.router import owed_stores, wanted_stores, write_store_of
from simples3dms.storage.placement.values import Match, Policy, RuleWords, Subject
from simples3dms.storage.transfers import service as transfers_service


@pytest.fixture
async def place(services: Services) -> Place:
    return await make_place(services)


async def due(place: Place) -> bool:
    async with place.services.database.tenant(place.tenant_id) as uow:
        found = await uow.scalar("SELECT 1 FROM placement_surveys WHERE due_at <= now() + interval '1 hour'", [])
    return found is not None


async def surveyed(place: Place, seconds: float = 60) -> None:
    async with working(place.services), asyncio.timeout(seconds):
        await watchdog.tick(place.services)
        while await due(place):
            await asyncio.sleep(0.05)
        await quiet(place)


@pytest.mark.anyio
async def test_copies_that_are_wanted_now_come_to_be_owed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers_service, "_SURVEY_PAGE", 3)
    bodies = {(await place.upload(f"{n}".encode())).document.id: f"{n}".encode() for n in range(10)}
    set_to = place.services.placements.set_placement
    await set_to(HOST, place.tenant_id, write=place.b)
    assert not await due(place), "another write target is for what is written from now on"
    await set_to(HOST, place.tenant_id, write=place.a)
    await set_to(HOST, place.tenant_id, write=place.a, copies=[place.b])
    assert await due(place)
    assert await place.listing(place.b_id) == [], "nothing in the request"
    await surveyed(place)
    assert len(await place.listing(place.b_id)) == 10
    await set_to(HOST, place.tenant_id, write=place.a)
    assert not await due(place)
    assert len(await place.listing(place.b_id)) == 10, "what is wanted no more stays"
    for document_id, body in bodies.items():
        assert await place.read(document_id) == body
    await assert_clean(place.services)


@pytest.mark.anyio
async def test_a_survey_that_was_broken_off_goes_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers_service, "_SURVEY_PAGE", 2)
    for number in range(5):
        await place.upload(f"{number}".encode())
    await place.services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b])
    async with place.services.database.tenant(place.tenant_id) as uow:
        first = await repository.claim_survey(uow, lease_seconds=0)
        assert first is not None
    async with place.services.database.tenant(place.tenant_id) as uow:
        await place.services.transfers._survey_page(uow, first)
    # Another one takes over where it was; the first one's word counts no more.
    async with place.services.database.tenant(place.tenant_id) as uow:
        await uow.execute("UPDATE placement_surveys SET due_at = now()", [])
        second = await repository.claim_survey(uow, lease_seconds=0)
    assert second is not None
    assert second.after_seq > 0
    async with place.services.database.tenant(place.tenant_id) as uow:
        assert not await repository.advance_survey(uow, first, after_seq=0, due_in_seconds=None)
        await uow.execute("UPDATE placement_surveys SET due_at = now()", [])
    await surveyed(place)
    assert len(await place.listing(place.b_id)) == 5
    await assert_clean(place.services)


@pytest.mark.anyio
async def test_a_survey_waits_for_a_migration(place: Place) -> None:
    await place.upload(b"x")
    await place.services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b])
    planned = await place.services.migrations.plan_migration(HOST, place.tenant_id, target=place.b)
    await place.services.migrations.start_migration(HOST, place.tenant_id, planned.id)
    await place.services.transfers.survey(place.tenant_id)
    assert await due(place), "later"
    async with place.services.database.tenant(place.tenant_id) as uow:
        assert await uow.scalar("SELECT count(*) FROM transfers", []) == 0


@pytest.mark.anyio
async def test_a_rule_about_age_is_for_what_was_written_elsewhere(place: Place) -> None:
    await place.upload(b"old")
    await place.upload(b"young")
    async with place.services.database.tenant(place.tenant_id) as uow:
        await uow.execute(
            "UPDATE blobs SET created_at = now() - interval '31 days' WHERE size_bytes = 3",
            [],
        )
    rule = RuleWords(place.b, match=Match(min_age_days=30))
    await place.services.placements.set_placement(HOST, place.tenant_id, write=place.a, rules=[rule])
    await surveyed(place)
    assert [info.size_bytes for info in await place.listing(place.b_id)] == [3]
    async with place.services.database.tenant(place.tenant_id) as uow:
        left = await uow.scalar("SELECT due_at > now() + interval '20 hours' FROM placement_surveys", [])
    assert left is True, "again tomorrow"
    await assert_clean(place.services)


@given(policies(), subjects())
def test_a_blob_without_any_replica_is_owed_all_and_one_with_all_is_owed_nothing(policy: Policy, blob: Subject) -> None:
    wanted = wanted_stores(policy, blob)
    assert owed_stores(policy, blob, []) == wanted
    assert owed_stores(policy, blob, wanted) == []
    elsewhere = [UUID(int=99)]
    assert set(wanted) - set(owed_stores(policy, blob, elsewhere)) <= {write_store_of(policy, blob)}
