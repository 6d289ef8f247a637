"""Repairs that somebody asks for, and a look at a sample of the bytes."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
import typer
import typer.main
from tests.support import Place, assert_clean, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.cli import host
from simples3dms.cli.main import app
from simples3dms.context import HOST
from simples3dms.errors import Conflict, NotFound
from simples3dms.providers.kinds import memory
from simples3dms.storage.scrubs import repository as scrubs_repository
from simples3dms.storage.transfers import service

pytestmark = pytest.mark.anyio


@pytest.fixture
async def place(services: Services) -> Place:
    return await make_place(services)


async def doubt_all(place: Place) -> list[tuple[UUID, UUID]]:
    """Every replica is suspect, and its repair was given up; blob and store of each."""
    async with place.services.database.tenant(place.tenant_id) as uow, uow.connection.cursor() as cursor:
        await cursor.execute(
            """UPDATE replicas SET state = 'suspect', evidence = 'doubted', last_error = 'integrity'
               RETURNING blob_id, store_id"""
        )
        found = await cursor.fetchall()
        for blob_id, store_id in found:
            await uow.execute(
                """INSERT INTO transfers (tenant_id, id, blob_id, target_store_id, state)
                   VALUES (%s, gen_random_uuid(), %s, %s, 'failed')""",
                [place.tenant_id, blob_id, store_id],
            )
    return found


async def doubtful(place: Place) -> int:
    return len(await place.services.scrubs.list_doubtful(place.tenant_id, limit=1000))


@pytest.mark.parametrize("by_store", [True, False])
async def test_what_was_given_up_is_copied_anew_when_somebody_asks(
    place: Place, monkeypatch: pytest.MonkeyPatch, by_store: bool
) -> None:
    documents = [(await place.upload(f"body {number}".encode())).document.id for number in range(5)]
    assert len(await doubt_all(place)) == 5
    async with working(place.services):
        await quiet(place)
    assert await doubtful(place) == 5, "nobody sees to what was given up"
    monkeypatch.setattr(service, "_REPAIR_PAGE", 2)
    counts, after = [], None
    while True:
        done = await place.services.transfers.repair_page(
            HOST, place.tenant_id, store=place.a if by_store else None, after=after
        )
        counts.append(done.count)
        after = done.next_after
        if after is None:
            break
    assert counts == [2, 2, 1]
    async with working(place.services):
        async with asyncio.timeout(60):
            while await doubtful(place):
                await asyncio.sleep(0.05)
        await quiet(place)
    for number, document in enumerate(documents):
        assert await place.read(document) == f"body {number}".encode()
    await assert_clean(place.services)
    actions = [event.action for event in await place.services.audit.list_events(place.tenant_id, limit=50)]
    assert actions.count("replica.repair_asked") == 3


async def test_what_was_waived_is_tried_anew_once_no_migration_counts_on_it(place: Place) -> None:
    documents = [(await place.upload(f"body {number}".encode())).document.id for number in range(2)]
    await doubt_all(place)
    async with place.services.database.tenant(place.tenant_id) as uow:
        await uow.execute("UPDATE transfers SET state = 'waived', waived_reason = 'gone', waived_at = now()")

    async def waived_after_repair() -> int:
        assert (await place.services.transfers.repair_page(HOST, place.tenant_id, store=place.a)).count == 2
        async with place.services.database.tenant(place.tenant_id) as uow:
            return len(await uow.scalars("SELECT id FROM transfers WHERE state = 'waived' AND waived_reason = 'gone'"))

    migrations = place.services.migrations
    planned = await migrations.plan_migration(HOST, place.tenant_id, target=place.b)
    await migrations.start_migration(HOST, place.tenant_id, planned.id)
    assert await waived_after_repair() == 2
    await migrations.pause_migration(HOST, place.tenant_id, planned.id)
    assert await waived_after_repair() == 2
    async with working(place.services):
        await migrations.roll_back(HOST, place.tenant_id, planned.id)
        await place.until(planned.id, "rolled_back")
        await quiet(place)
        assert await doubtful(place) == 2, "nobody sees to what was waived"
        await migrations.plan_migration(HOST, place.tenant_id, target=place.b)
        assert await waived_after_repair() == 0
        async with asyncio.timeout(60):
            while await doubtful(place):
                await asyncio.sleep(0.05)
        await quiet(place)
    for number, document in enumerate(documents):
        assert await place.read(document) == f"body {number}".encode()
    await assert_clean(place.services)


async def test_f36_a_store_that_is_not_trusted_is_passed_over_and_refused_by_name(place: Place) -> None:
    await place.upload(b"body")
    await doubt_all(place)
    async with place.services.database.platform() as uow:
        await scrubs_repository.distrust(uow, place.a_id, "it smells")
    with pytest.raises(Conflict) as caught:
        await place.services.transfers.repair_page(HOST, place.tenant_id, store=place.a)
    assert caught.value.problem_code == "store_untrusted"
    with pytest.raises(NotFound):
        await place.services.transfers.repair_page(HOST, place.tenant_id, store="never-was")
    assert (await place.services.transfers.repair_page(HOST, place.tenant_id)).count == 0


async def test_a_sample_is_read_and_the_rest_is_counted(place: Place) -> None:
    for number in range(40):
        await place.upload(f"body {number}".encode())
    counts = (await place.services.upkeep.fsck(read_data=True, share=0.5)).counts
    assert counts["replicas_read"] + counts["replicas_passed_over"] == 40
    assert 0 < counts["replicas_read"] < 40
    for versions in memory._shelves[place.a].objects.values():
        versions.clear()
    whole = await place.services.upkeep.fsck(read_data=True)
    assert whole.counts["replicas_passed_over"] == 0
    assert len([finding for finding in whole.findings if finding.kind == "replica_object_not_found"]) == 40


async def test_one_tenant_is_checked_alone(place: Place) -> None:
    other = await make_place(place.services)
    for one in (place, other):
        await one.upload(b"a body")
    for versions in memory._shelves[other.a].objects.values():
        versions.clear()
    check = place.services.upkeep.fsck
    assert (await check(read_data=True, tenant_id=place.tenant_id)).findings == []
    found = await check(read_data=True, tenant_id=other.tenant_id)
    assert [(one.kind, one.tenant_id) for one in found.findings] == [("replica_object_not_found", other.tenant_id)]
    assert found.counts["tenants"] == 1


def test_a_sample_is_asked_for_as_a_percentage() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]

    def given(*arguments: str) -> tuple[bool, str]:
        params = commands["fsck"].make_context("fsck", list(arguments)).params
        return params["read_data"], params["sample"]

    assert given() == (False, "100%")
    assert given("--read-data") == (True, "100%")
    assert given("--read-data=5%") == given("--read-data", "--sample", "5%") == (True, "5%")
    assert host._share_of("5%") == host._share_of("5") == 0.05
    for wrong in ("0", "-1", "101%", "some", "nan"):
        with pytest.raises(typer.BadParameter):
            host._share_of(wrong)
