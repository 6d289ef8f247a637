"""Notices of migrations: one letter a change to each who may run them, none twice, none where it is turned off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import pytest
from tests.identity.mailbox import Mailbox, mail_server
from tests.support import Place, make_place, working

from simples3dms.bootstrap import Services, build_services
from simples3dms.context import HOST
from simples3dms.identity.letters import repository as letters
from simples3dms.jobs import watchdog
from simples3dms.kit import failpoints
from simples3dms.kit.failpoints import FailPointError
from simples3dms.settings import Settings
from simples3dms.storage.migrations.values import Schedule

pytestmark = pytest.mark.anyio
PEOPLE = {"olga": "owner", "adam": "administrator", "ed": "editor", "vic": "viewer", "aud": "auditor"}


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    with mail_server() as found:
        yield found


@pytest.fixture
async def place(settings: Settings, mailbox: tuple[Mailbox, int]) -> AsyncIterator[Place]:
    """A tenant with a member of each role, of services that send mail."""
    given = {
        "smtp_host": "127.0.0.1",
        "smtp_port": mailbox[1],
        "smtp_tls": "none",
        "public_url": "https://d.example.org",
    }
    services = await asyncio.to_thread(build_services, settings.model_copy(update=given))
    await services.open()
    place = await make_place(services)
    for name, role in PEOPLE.items():
        await services.identity.create_user(HOST, f"{name}@example.org")
        await services.identity.set_member(HOST, place.tenant_id, f"{name}@example.org", role)
    await place.upload(b"bytes")
    yield place
    await services.close()


async def planned(place: Place, schedule: Schedule) -> UUID:
    m = place.services.migrations
    made = await m.plan_migration(HOST, place.tenant_id, target=place.b, schedule=schedule)
    await m.start_migration(HOST, place.tenant_id, made.id)
    return made.id


def came(box: Mailbox) -> list[tuple[str, str]]:
    return sorted((to[0].partition("@")[0], str(letter["Subject"]).rpartition(": ")[2]) for to, letter in box.came)


async def all_sent(place: Place) -> None:
    """Until nothing is owed any more."""
    async with asyncio.timeout(30):
        while await _open(place.services):
            await asyncio.sleep(0.05)


async def _open(services: Services) -> int:
    async with services.database.platform() as uow:
        return int(
            await uow.scalar(
                "SELECT (SELECT count(*) FROM letters) + (SELECT count(*) FROM notices WHERE taken_at IS NULL)", []
            )
        )


async def test_each_change_is_told_once_to_each_who_may_run_it(place: Place, mailbox: tuple[Mailbox, int]) -> None:
    async with working(place.services):
        migration_id = await planned(place, Schedule(automatic_cutover=True, finalize_after_seconds=0))
        await place.until(migration_id, "done")
        await all_sent(place)
        await asyncio.gather(*(watchdog.tick(place.services) for _ in range(4)))
        await all_sent(place)
    wanted = [(who, state) for who in ("adam", "olga") for state in ("done", "finalizing", "soaking")]
    assert came(mailbox[0]) == sorted(wanted)
    text: Any = mailbox[0].came[0][1]
    assert str(migration_id) in text.get_content()
    assert "https://d.example.org" in text.get_content()


async def test_a_resume_is_told_to_nobody_and_a_failure_with_its_cause(
    place: Place, mailbox: tuple[Mailbox, int]
) -> None:
    m, t = place.services.migrations, place.tenant_id
    async with working(place.services):
        migration_id = await planned(place, Schedule())
        await place.until(migration_id, "ready")
        await m.pause_migration(HOST, t, migration_id)
        await m.resume_migration(HOST, t, migration_id)
        async with place.services.database.tenant(t) as uow:
            row = await m._lock(uow, migration_id)
            await m._engine.fail(uow, row[1], code="store_full", message="the disk is full")
        await all_sent(place)
    assert came(mailbox[0]) == sorted(
        (who, state) for who in ("adam", "olga") for state in ("ready", "paused", "failed")
    )
    failed: list[Any] = [letter for _, letter in mailbox[0].came if str(letter["Subject"]).endswith("failed")]
    assert all("the disk is full" in letter.get_content() for letter in failed)


async def test_a_letter_that_comes_twice_after_a_crash_is_the_same_one(
    place: Place, mailbox: tuple[Mailbox, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    migration_id = await planned(place, Schedule())
    await place.services.migrations.pause_migration(HOST, place.tenant_id, migration_id)
    await place.services.notices.owe_due(limit=10)
    async with place.services.database.platform() as uow:
        owed = await uow.scalars("SELECT id FROM letters ORDER BY id")

    async def die(*_: object) -> None:
        raise RuntimeError("the worker dies, and the mail server has the letter")

    with monkeypatch.context() as dying:
        dying.setattr(letters, "settle", die)
        for letter_id in owed:
            with pytest.raises(RuntimeError):
                await place.services.letters.send(letter_id)
    async with place.services.database.platform() as uow:
        await uow.execute("UPDATE letters SET lease_until = NULL")
    for letter_id in owed:
        await place.services.letters.send(letter_id)
    marks = [str(letter["Message-ID"]) for _, letter in mailbox[0].came]
    assert len(marks) == 4
    assert marks[:2] == marks[2:]
    assert len(set(marks)) == 2, "one to each, and no two of them the same"


async def test_what_did_not_happen_is_told_to_nobody(place: Place, mailbox: tuple[Mailbox, int]) -> None:
    """The notice is of the transaction that turns the placement: where that breaks off, there is none."""
    async with working(place.services):
        migration_id = await planned(place, Schedule())
        await place.until(migration_id, "ready")
        await all_sent(place)
    failpoints.arm("cutover.in_txn=raise", environment="test")
    try:
        with pytest.raises(FailPointError):
            await place.services.migrations.cut_over(HOST, place.tenant_id, migration_id)
    finally:
        failpoints.arm("", environment="test")
    async with working(place.services):
        await all_sent(place)
    assert {state for _, state in came(mailbox[0])} == {"ready"}


async def test_a_tenant_turns_them_off_and_on(place: Place, mailbox: tuple[Mailbox, int]) -> None:
    tenants = place.services.tenants
    await tenants.change_settings(HOST, place.tenant_id, {"migration_letters": False})
    async with working(place.services):
        migration_id = await planned(place, Schedule(automatic_cutover=True))
        await place.until(migration_id, "soaking")
        await all_sent(place)
        assert mailbox[0].came == []
        await tenants.change_settings(HOST, place.tenant_id, {"migration_letters": None})
        await place.services.migrations.roll_back(HOST, place.tenant_id, migration_id)
        await place.until(migration_id, "rolled_back")
        await all_sent(place)
    assert came(mailbox[0]) == sorted(
        (who, state) for who in ("adam", "olga") for state in ("rolled back", "rolling back")
    )


async def test_who_has_left_meanwhile_gets_none(place: Place, mailbox: tuple[Mailbox, int]) -> None:
    migration_id = await planned(place, Schedule(automatic_cutover=True))
    await place.services.migrations.roll_back(HOST, place.tenant_id, migration_id)
    await place.services.notices.owe_due(limit=10)
    await place.services.identity.remove_member(HOST, place.tenant_id, "adam@example.org")
    async with working(place.services):
        await place.until(migration_id, "rolled_back")
        await all_sent(place)
    assert {who for who, _ in came(mailbox[0])} == {"olga"}


async def test_where_no_mail_is_sent_nothing_is_kept_for_later(services: Services) -> None:
    place = await make_place(services)
    async with working(services):
        migration_id = await planned(place, Schedule(automatic_cutover=True, finalize_after_seconds=0))
        await place.until(migration_id, "done")
        await all_sent(place)
