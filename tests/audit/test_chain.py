"""The chain: gap-free and unbroken, whoever records at the same time, and closed to everybody who works at run time."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from uuid import UUID

import psycopg
import pytest
from tests.audit.conftest import ANNA, act, exported

from simples3dms.audit.engine import Sealer
from simples3dms.audit.service import Audit, record
from simples3dms.audit.verifier import verify
from simples3dms.context import HOST, PLATFORM
from simples3dms.db.session import Database
from simples3dms.kit import failpoints
from simples3dms.kit.ids import new_id

pytestmark = pytest.mark.anyio


async def numbers(audit: Audit, tenant_id: UUID | None) -> dict[str, int | None]:
    events = await audit.list_events(tenant_id, oldest_first=True, limit=500)
    return {event.target_id: event.seq for event in events}


async def test_events_are_numbered_and_chained(audit: Audit, database: Database, tenant_id: UUID) -> None:
    await act(database, tenant_id, 1, 2, 3, details={"size": 1.50, "näme": "ü\u2028\x1b[31m", "none": None, "is": True})
    assert set((await numbers(audit, tenant_id)).values()) == {None}
    assert await audit.sealer.seal_all() == 3
    assert await audit.sealer.seal_all() == 0
    assert await numbers(audit, tenant_id) == {"1": 1, "2": 2, "3": 3}
    verdict = verify(await exported(audit, tenant_id))
    assert (verdict.breach, verdict.event_count, verdict.last_seq) == (None, 3, 3)
    assert (await audit.verify(tenant_id)).is_good


async def test_each_tenant_has_its_own_chain(audit: Audit, database: Database, tenant_id: UUID) -> None:
    other = new_id()
    await act(database, tenant_id, "a", "b")
    await act(database, other, "c")
    async with database.platform() as uow:
        await record(uow, HOST, "user.created", target_type="user", target_id="d")
    assert await audit.sealer.seal_all() == 4
    assert await numbers(audit, tenant_id) == {"a": 1, "b": 2}
    assert await numbers(audit, other) == {"c": 1}
    assert await numbers(audit, None) == {"d": 1}
    assert set(await audit.list_chains()) == {tenant_id, other, PLATFORM}
    for one in (tenant_id, other, None):
        assert (await audit.verify(one)).is_good


async def test_who_commits_late_is_neither_skipped_nor_waited_for(
    audit: Audit, database: Database, tenant_id: UUID
) -> None:
    """Neither ids nor times are in the order of commits: the number is given to what is committed, and to that only."""
    async with database.tenant(tenant_id) as slow:
        await record(slow, ANNA, "document.purged", target_type="document", target_id="slow", tenant_id=tenant_id)
        await act(database, tenant_id, "quick")
        assert await audit.sealer.seal(tenant_id) == 1
        assert await numbers(audit, tenant_id) == {"quick": 1}
    await act(database, tenant_id, "later")
    assert await audit.sealer.seal(tenant_id) == 2
    assert await numbers(audit, tenant_id) == {"quick": 1, "slow": 2, "later": 3}
    assert (await audit.verify(tenant_id)).is_good


async def test_an_act_that_follows_another_has_the_higher_number(
    audit: Audit, database: Database, tenant_id: UUID
) -> None:
    """Over more than one batch, too."""
    await act(database, tenant_id, *range(25))
    assert await Sealer(database, batch=4).seal(tenant_id) == 25
    assert await numbers(audit, tenant_id) == {str(number): number + 1 for number in range(25)}


async def act_or_fail(database: Database, tenant_id: UUID, target: str, *, fail: bool) -> None:
    async with database.tenant(tenant_id) as uow:
        await record(uow, ANNA, "thing.done", target_type="thing", target_id=target, tenant_id=tenant_id)
        if fail:
            raise KeyError


async def test_i11_many_record_and_many_seal_at_once(audit: Audit, database: Database, tenant_id: UUID) -> None:
    """I11: gap-free, chained from the first, every earlier checkpoint a prefix, as many events as there were acts."""
    done, signed = asyncio.Event(), asyncio.Event()
    checkpoints = []

    async def seal(batch: int) -> None:
        sealer = Sealer(database, batch=batch)
        while not done.is_set():
            await sealer.seal_all()

    async def sign() -> None:
        while not done.is_set():
            if (await audit.get_trail(tenant_id)).last_seq:
                checkpoints.append(await audit.checkpoint_due(tenant_id))
                signed.set()
            await asyncio.sleep(0.05)

    async def work(name: int) -> None:
        for number in range(30):
            if number == 15:
                await asyncio.wait_for(signed.wait(), 60)
            with contextlib.suppress(KeyError):
                await act_or_fail(database, tenant_id, f"{name}/{number}", fail=number % 5 == 0)

    background = [asyncio.create_task(one) for one in (seal(1), seal(3), sign())]
    await asyncio.gather(*(work(name) for name in range(4)))
    done.set()
    await asyncio.gather(*background)
    await audit.sealer.seal_all()
    checkpoints.append(await audit.checkpoint_due(tenant_id))
    keys = {key.key_id: key.public_key for key in await audit.list_keys()}
    verdict = verify(await exported(audit, tenant_id), checkpoints=checkpoints, keys=keys)
    assert (verdict.breach, verdict.event_count) == (None, 4 * 24)
    assert verdict.checkpoint_count == len({checkpoint.seq for checkpoint in checkpoints}) > 1


async def test_a_sealer_that_stops_is_cut_off_and_seals_nothing_when_it_wakes(
    audit: Audit, database: Database, tenant_id: UUID
) -> None:
    await act(database, tenant_id, 0)
    await audit.sealer.seal(tenant_id)
    await act(database, tenant_id, 1, 2)
    failpoints.arm("seal.in_txn=sleep:6@1", environment="test")
    try:
        sleeper = asyncio.create_task(Sealer(database, idle_seconds=2).seal(tenant_id))
        while not failpoints.hits():
            await asyncio.sleep(0.01)
        assert await audit.sealer.seal(tenant_id) == 0, "its lock is held"
        assert await audit.sealer.seal(tenant_id, wait=True) == 2
        await act(database, tenant_id, 3)
        with pytest.raises(Exception, match="not reachable"):
            await sleeper
    finally:
        failpoints.arm("", environment="test")
    assert await audit.sealer.seal(tenant_id) == 1
    assert await numbers(audit, tenant_id) == {"0": 1, "1": 2, "2": 3, "3": 4}
    assert (await audit.verify(tenant_id)).is_good


SEALED = [
    ("UPDATE audit_events SET outcome = 'failed'", "permission denied"),
    ("UPDATE audit_events SET seq = 7", "never changed|permission denied"),
    ("UPDATE audit_events SET hash = sha256('x')", "never changed|permission denied"),
    ("UPDATE audit_events SET seq = NULL, hash = NULL, noun = NULL", "never changed|permission denied"),
    ("UPDATE audit_events SET at = now()", "permission denied"),
    ("DELETE FROM audit_events", "only by a signed cut|permission denied"),
    ("TRUNCATE audit_events", "permission denied"),
    ("ALTER TABLE audit_events DISABLE TRIGGER ALL", "must be owner"),
    ("DROP TRIGGER audit_keep_sealed ON audit_events", "must be owner"),
    ("SET session_replication_role = replica", "permission denied"),
    ("UPDATE audit_heads SET cut_seq = seq", "signed cut|permission denied"),
    ("UPDATE audit_heads SET seq = seq - 1", "only grows|permission denied"),
    ("DELETE FROM audit_heads", "permission denied"),
    ("UPDATE audit_checkpoints SET seq = 1", "permission denied"),
    ("DELETE FROM audit_checkpoints", "permission denied"),
    ("UPDATE audit_cuts SET seq = 1", "permission denied"),
    ("DELETE FROM audit_cuts", "permission denied"),
    ("DELETE FROM audit_signing_keys", "permission denied"),
]


@pytest.mark.parametrize(("statement", "told"), SEALED)
async def test_s44_nobody_at_run_time_changes_what_is_sealed(
    audit: Audit, database: Database, tenant_id: UUID, statement: Any, told: str
) -> None:
    await act(database, tenant_id, 1, 2)
    await audit.create_checkpoint(ANNA, tenant_id)
    before = await exported(audit, tenant_id)
    for context in (database.platform(), database.tenant(tenant_id), database.sealer(tenant_id)):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=told):
            async with context as uow:
                await uow.execute(statement)
    assert await exported(audit, tenant_id) == before


@pytest.mark.parametrize("column", ["seq, hash, noun", "at"])
async def test_s44_nobody_forges_a_number_a_hash_or_a_time(database: Database, tenant_id: UUID, column: str) -> None:
    value = "now() - interval '1 year'" if column == "at" else "1, sha256(''), 'thing'"
    statement: Any = f"""
        INSERT INTO audit_events (tenant_id, id, principal_name, action, target_type, target_id, outcome, {column})
        VALUES (%s, %s, 'x', 'thing.done', 'thing', '1', 'done', {value})"""
    for context in (database.platform(), database.tenant(tenant_id), database.sealer(tenant_id)):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with context as uow:
                await uow.execute(statement, [tenant_id, new_id()])


async def test_s44_even_the_sealer_removes_nothing_that_is_not_sealed(database: Database, tenant_id: UUID) -> None:
    await act(database, tenant_id, 1)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="signed cut"):
        async with database.sealer(tenant_id) as uow:
            await uow.execute("DELETE FROM audit_events")


async def test_a_sealer_sees_its_own_tenant_only(audit: Audit, database: Database, tenant_id: UUID) -> None:
    await act(database, tenant_id, 1)
    await audit.create_checkpoint(ANNA, tenant_id)
    async with database.sealer(new_id()) as uow:
        for table in ("audit_events", "audit_heads", "audit_checkpoints", "audit_cuts"):
            assert await uow.scalar(f"SELECT count(*) FROM {table}") == 0  # type: ignore[arg-type]


CHANGES = {
    "an edit": ("UPDATE audit_events SET target_id = '9' WHERE seq = 2", "hash_wrong", 2),
    "a deletion": ("DELETE FROM audit_events WHERE seq = 2", "event_missing", 2),
    "the first deleted": ("DELETE FROM audit_events WHERE seq = 1", "event_missing", 1),
    "a cut tail": ("DELETE FROM audit_events WHERE seq = 4", "tail_missing", 4),
    "a cut tail and head": (
        "DELETE FROM audit_events WHERE seq = 4;"
        "UPDATE audit_heads SET seq = 3, checkpoint_seq = 0, hash = (SELECT hash FROM audit_events WHERE seq = 3)",
        "tail_missing",
        4,
    ),
    "a re-order": (
        "UPDATE audit_events SET seq = seq + 10 WHERE seq IN (2, 3);"
        "UPDATE audit_events SET seq = 15 - seq WHERE seq > 10",
        "hash_wrong",
        2,
    ),
    "a new time": ("UPDATE audit_events SET at = at + interval '1 microsecond' WHERE seq = 3", "hash_wrong", 3),
    "other details": ("UPDATE audit_events SET details = '{\"a\": 1.0}' WHERE seq = 3", "hash_wrong", 3),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_s44_what_the_owner_of_the_machine_changes_is_found(
    audit: Audit, database: Database, tenant_id: UUID, intruder: psycopg.Connection[Any], change: str
) -> None:
    """The database can't hold its superuser: the chain and the checkpoints tell."""
    await act(database, tenant_id, 1, 2, 3, 4, details={"a": 1})
    await audit.create_checkpoint(ANNA, tenant_id)
    assert (await audit.verify(tenant_id)).is_good
    statement, code, seq = CHANGES[change]
    intruder.execute(statement)  # type: ignore[call-overload]
    breach = (await audit.verify(tenant_id)).breach
    assert breach is not None
    assert (breach.code, breach.seq) == (code, seq)
