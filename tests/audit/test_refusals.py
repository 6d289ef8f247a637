"""Refused attempts: the first at once, repeats as a count, and never more than a bounded number of events a minute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from tests.audit.conftest import ANNA

from simples3dms.audit.refusals import Refusal, Refusals
from simples3dms.audit.service import Audit
from simples3dms.context import PLATFORM, Principal
from simples3dms.db.session import Database

pytestmark = pytest.mark.anyio


def attempt(target: object = "set_member", *, who: Principal = ANNA, chain_id: UUID = PLATFORM) -> Refusal:
    return Refusal(chain_id, who, "access.refused", "operation", str(target), {"code": "permission_required"})


async def test_s45_the_first_is_recorded_at_once_and_repeats_are_counted(audit: Audit, database: Database) -> None:
    book = Refusals(database)
    for _ in range(30):
        await book.note(attempt())
    (event,) = await audit.list_events(None)
    assert (event.outcome, event.details) == ("refused", {"code": "permission_required"})
    await book.note(attempt("purge_document"))
    await book.close()
    events = await audit.list_events(None, oldest_first=True)
    assert [event.target_id for event in events] == ["set_member", "purge_document", "set_member"]
    assert events[-1].details == {"code": "permission_required", "repeated": 29, "within_seconds": 60.0}


async def test_s45_a_minute_later_it_is_recorded_again(
    audit: Audit, database: Database, eventually: Callable[..., Any]
) -> None:
    book = Refusals(database, window_seconds=0.2)
    await book.note(attempt())
    await book.note(attempt())

    async def is_counted() -> bool:
        return len(await audit.list_events(None)) == 2

    await eventually(is_counted)
    await book.note(attempt())
    assert len(await audit.list_events(None)) == 3
    await book.close()
    assert len(await audit.list_events(None)) == 3, "one that was not repeated has no count"


async def test_s45_strangers_do_not_fill_the_disk(audit: Audit, database: Database) -> None:
    """Of attempts that never repeat, so many a minute have events of their own, and all others share one."""
    book = Refusals(database, most_kinds=5)
    for number in range(200):
        await book.note(attempt(number))
    assert len(await audit.list_events(None, limit=500)) == 6
    await book.close()
    newest, *_ = await audit.list_events(None)
    assert (newest.principal_name, newest.details["repeated"]) == ("several", 194)


async def test_s45_strangers_do_not_hide_what_somebody_who_is_known_tries(audit: Audit, database: Database) -> None:
    book, nobody = Refusals(database, most_kinds=5), Principal(None, "somebody")
    for number in range(20):
        await book.note(Refusal(PLATFORM, nobody, "sign_in.refused", "user", "unknown", apart=str(number)))
    await book.note(attempt())
    newest, *others = await audit.list_events(None)
    assert (newest.principal_name, newest.target_id) == (ANNA.name, "set_member")
    assert [event.target_id for event in others] == ["several"] + ["unknown"] * 5
    await book.close()


async def test_s45_another_tenants_or_persons_attempt_is_another(
    audit: Audit, database: Database, tenant_id: UUID
) -> None:
    book = Refusals(database)
    for who, chain_id in ((ANNA, PLATFORM), (ANNA, tenant_id), (Principal(None, "bert"), PLATFORM)):
        await book.note(attempt(who=who, chain_id=chain_id))
    assert len(await audit.list_events(None)) == 2
    assert len(await audit.list_events(tenant_id)) == 1
    await book.close()


@pytest.mark.parametrize("hostile", ["a\x00b", "\ud800", "x" * 10_000, "\r\n\x1b[2J\u2028"])
async def test_s43_whatever_is_typed_can_be_recorded(audit: Audit, database: Database, hostile: str) -> None:
    book = Refusals(database)
    refusal = Refusal(PLATFORM, Principal(None, "nobody"), "sign_in.refused", "user", hostile, {"tenant": hostile})
    await book.note(refusal)
    (event,) = await audit.list_events(None)
    assert 0 < len(event.target_id) <= 320
    assert await audit.sealer.seal_all() == 1
    assert (await audit.verify(None)).is_good
    await book.close()


async def test_a_refusal_stands_where_it_can_not_be_recorded(database: Database) -> None:
    book = Refusals(database)
    await book.note(Refusal(PLATFORM, ANNA, "No Action", "operation", "x"))
    await book.close()
