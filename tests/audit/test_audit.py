"""Audit events: there with the change, gone with it, never changed, and each tenant's own."""

from __future__ import annotations

import psycopg
import pytest

from simples3dms.audit.service import Audit, record
from simples3dms.context import HOST, PLATFORM, Principal
from simples3dms.db.session import Database
from simples3dms.kit.ids import new_id
from simples3dms.kit.secret import Secret

pytestmark = pytest.mark.anyio


@pytest.fixture
def audit(database: Database) -> Audit:
    return Audit(database)


async def test_an_event_says_who_did_what(audit: Audit, database: Database) -> None:
    tenant_id, principal = new_id(), Principal(new_id(), "anna@example.org")
    async with database.tenant(tenant_id) as uow:
        await record(
            uow,
            principal,
            "document.deleted",
            target_type="document",
            target_id="d1",
            tenant_id=tenant_id,
            outcome="refused",
            details={"why": "held", "count": 3},
        )
    (event,) = await audit.list_events(tenant_id)
    assert (event.principal_id, event.principal_name) == (principal.id, "anna@example.org")
    assert (event.action, event.target_type, event.target_id) == ("document.deleted", "document", "d1")
    assert (event.outcome, event.details) == ("refused", {"why": "held", "count": 3})
    assert event.at.tzinfo is not None


async def test_an_event_goes_with_the_change_that_is_undone(audit: Audit, database: Database) -> None:
    async def change_and_fail() -> None:
        async with database.platform() as uow:
            await record(uow, HOST, "thing.done", target_type="thing", target_id="1")
            raise RuntimeError("undo")

    with pytest.raises(RuntimeError):
        await change_and_fail()
    assert await audit.list_events(None) == []


async def test_pages_run_from_the_newest(audit: Audit, database: Database) -> None:
    for number in range(5):
        async with database.platform() as uow:
            await record(uow, HOST, "thing.done", target_type="thing", target_id=str(number))
    first = await audit.list_events(None, limit=3)
    second = await audit.list_events(None, after=first[-1].id, limit=3)
    assert [event.target_id for event in first + second] == ["4", "3", "2", "1", "0"]


async def test_a_tenant_sees_and_writes_its_own_only(audit: Audit, database: Database) -> None:
    one, two = new_id(), new_id()
    async with database.platform() as uow:
        await record(uow, HOST, "store.granted", target_type="store", target_id="s", tenant_id=one)
        await record(uow, HOST, "user.created", target_type="user", target_id="u")
    assert len(await audit.list_events(one)) == 1
    assert await audit.list_events(two) == []
    for other in (two, PLATFORM):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with database.tenant(one) as uow:
                await record(uow, HOST, "thing.done", target_type="thing", target_id="1", tenant_id=other)


@pytest.mark.parametrize("statement", ["UPDATE audit_events SET outcome = 'failed'", "DELETE FROM audit_events"])
async def test_nobody_changes_what_is_recorded(database: Database, statement: str) -> None:
    for context in (database.platform(), database.tenant(new_id())):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with context as uow:
                await uow.execute(statement)  # type: ignore[arg-type]


async def test_a_secret_does_not_get_in(database: Database) -> None:
    with pytest.raises(TypeError):
        async with database.platform() as uow:
            await record(
                uow, HOST, "thing.done", target_type="thing", target_id="1", details={"password": Secret("canary")}
            )


async def test_an_action_is_a_noun_and_a_verb(database: Database) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        async with database.platform() as uow:
            await record(uow, HOST, "Did Something", target_type="thing", target_id="1")
