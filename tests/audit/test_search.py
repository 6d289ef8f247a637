"""Search: by whom, what, to what, with what outcome, and when; both ways; sealed or not; each by an index."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from tests.audit.conftest import ANNA

from simples3dms.audit import repository
from simples3dms.audit.service import Audit, record
from simples3dms.audit.values import Search
from simples3dms.context import Principal
from simples3dms.db.session import Database
from simples3dms.errors import Invalid
from simples3dms.kit.ids import new_id

pytestmark = pytest.mark.anyio
BERT = Principal(new_id(), "bert@example.org")


async def note(database: Database, tenant_id: UUID, who: Principal, action: str, target: str, outcome: str) -> None:
    async with database.tenant(tenant_id) as uow:
        kind = action.partition(".")[0]
        await record(uow, who, action, target_type=kind, target_id=target, tenant_id=tenant_id, outcome=outcome)


@pytest.fixture
async def filled(audit: Audit, database: Database, tenant_id: UUID) -> Audit:
    """Six events, of which the last two are not sealed yet."""
    for who, action, target, outcome in (
        (ANNA, "document.uploaded", "1", "done"),
        (BERT, "document.deleted", "1", "done"),
        (ANNA, "documents.moved", "2", "done"),
        (BERT, "member.set", "3", "failed"),
    ):
        await note(database, tenant_id, who, action, target, outcome)
    await audit.sealer.seal_all()
    await note(database, tenant_id, ANNA, "document.purged", "1", "refused")
    await note(database, tenant_id, BERT, "member.removed", "3", "done")
    return audit


WANTED: list[tuple[Search, str]] = [
    (Search(), "123456"),
    (Search(principal=str(ANNA.id)), "135"),
    (Search(principal="bert@example.org"), "246"),
    (Search(action="document.deleted"), "2"),
    (Search(action="document.*"), "125"),
    (Search(action="member.*", outcome="failed"), "4"),
    (Search(target_id="1"), "125"),
    (Search(target_type="member", target_id="3"), "46"),
    (Search(outcome="refused"), "5"),
    (Search(outcome="done"), "1236"),
    (Search(since=datetime(2020, 1, 1, tzinfo=UTC)), "123456"),
    (Search(until=datetime(2020, 1, 1, tzinfo=UTC)), ""),
    (Search(principal="%"), ""),
]


@pytest.mark.parametrize(("wanted", "expected"), WANTED)
@pytest.mark.parametrize("oldest_first", [False, True])
async def test_it_finds_what_is_wanted_page_by_page(
    filled: Audit, tenant_id: UUID, wanted: Search, expected: str, oldest_first: bool
) -> None:
    order = {event.id: str(n) for n, event in enumerate(await filled.list_events(tenant_id, oldest_first=True), 1)}
    found: list[str] = []
    after: UUID | None = None
    while page := await filled.list_events(tenant_id, wanted=wanted, after=after, oldest_first=oldest_first, limit=2):
        found += [order[event.id] for event in page]
        after = page[-1].id
    assert "".join(found) == (expected if oldest_first else expected[::-1])


async def test_a_span_of_time_begins_with_since_and_ends_before_until(filled: Audit, tenant_id: UUID) -> None:
    events = await filled.list_events(tenant_id, oldest_first=True)
    wanted = Search(since=events[1].at, until=events[3].at)
    assert await filled.list_events(tenant_id, wanted=wanted, oldest_first=True) == events[1:3]
    later = Search(since=events[-1].at + timedelta(microseconds=1))
    assert await filled.list_events(tenant_id, wanted=later) == []


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (Search(action="document"), "audit_action_invalid"),
        (Search(action="*.deleted"), "audit_action_invalid"),
        (Search(action="doc%.deleted"), "audit_action_invalid"),
        (Search(since=datetime(2026, 1, 1)), "audit_time_invalid"),  # noqa: DTZ001 that is what is refused
        (Search(principal="\x00"), "audit_search_invalid"),
        (Search(target_id="\ud800"), "audit_search_invalid"),
    ],
)
async def test_what_can_be_no_search_is_said(audit: Audit, tenant_id: UUID, wanted: Search, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        await audit.list_events(tenant_id, wanted=wanted)
    assert refused.value.problem_code == code


async def test_a_page_does_not_go_on_from_an_event_that_is_gone(filled: Audit, tenant_id: UUID) -> None:
    with pytest.raises(Invalid) as refused:
        await filled.list_events(tenant_id, after=new_id())
    assert refused.value.problem_code == "cursor_unknown"


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (Search(), "audit_events_at"),
        (Search(principal=str(new_id())), "audit_events_principal"),
        (Search(principal="anna"), "audit_events_name"),
        (Search(action="document.deleted"), "audit_events_action"),
        (Search(action="document.*"), "audit_events_noun"),
        (Search(target_id="1"), "audit_events_target"),
        (Search(target_type="member"), "audit_events_target_type"),
        (Search(outcome="refused"), "audit_events_outcome"),
        (Search(since=datetime(2026, 1, 1, tzinfo=UTC)), "audit_events_at"),
    ],
)
async def test_each_search_has_its_index(
    database: Database, intruder: psycopg.Connection[Any], tenant_id: UUID, wanted: Search, index: str
) -> None:
    """Among many events, no search reads more than its page: neither a sort nor a filter over the trail."""
    intruder.execute(
        """INSERT INTO audit_events (tenant_id, id, at, principal_id, principal_name, action, target_type, target_id,
             outcome, details, seq, hash, noun)
           SELECT %s, gen_random_uuid(), now() - make_interval(secs => n), gen_random_uuid(), 'name-' || n %% 50,
             'noun_' || chr(97 + n %% 26) || '.done', 'type-' || n %% 30, n::text,
             CASE WHEN n %% 500 = 0 THEN 'refused' ELSE 'done' END, '{}', n, sha256(n::text::bytea),
             'noun_' || chr(97 + n %% 26)
           FROM generate_series(1, 20000) n""",
        [tenant_id],
    )
    intruder.execute("ANALYZE audit_events")
    plans: list[str] = []
    async with database.tenant(tenant_id) as uow:
        real = uow.rows

        async def explain(row_type: Any, query: Any, params: Any = None) -> Any:
            text = query.as_string(uow.connection)
            plans.extend(await uow.scalars("EXPLAIN " + text, params))
            return await real(row_type, query, params)

        uow.rows = explain  # type: ignore[method-assign]
        cursor = (datetime.now(UTC), new_id())
        await repository.search(uow, tenant_id, replace(wanted), cursor=cursor, oldest_first=False, limit=10)
    assert any(f"using {index} " in line for line in plans), "\n".join(plans)
    assert not any("Seq Scan" in line for line in plans)
