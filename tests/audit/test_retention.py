"""Retention: the oldest go under a signed cut, and what is left is proven from there on."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest
from tests.audit.conftest import ANNA, act, exported

from simples3dms.audit.service import Audit
from simples3dms.audit.verifier import verify
from simples3dms.context import HOST
from simples3dms.crypto.keyring import Keyring
from simples3dms.db.session import Database
from simples3dms.errors import Invalid

pytestmark = pytest.mark.anyio


async def aged(database: Database, intruder: psycopg.Connection[Any], tenant_id: UUID, *days: int) -> None:
    """Events that were recorded so many days ago, and are not sealed yet."""
    for number, age in enumerate(days):
        await act(database, tenant_id, f"{age}/{number}")
        intruder.execute(
            "UPDATE audit_events SET at = at - make_interval(days => %s) WHERE target_id = %s",
            [age, f"{age}/{number}"],
        )


async def test_the_oldest_go_and_the_rest_is_proven(
    audit: Audit, database: Database, tenant_id: UUID, intruder: psycopg.Connection[Any]
) -> None:
    await aged(database, intruder, tenant_id, 400, 300, 200, 20, 10)
    early = await audit.create_checkpoint(ANNA, tenant_id)
    assert await audit.cut(tenant_id) == 0, "nothing is cut unless somebody says so"
    await audit.set_retention(ANNA, tenant_id, 100)
    assert await audit.list_to_cut(hours=1, limit=10) == [tenant_id]
    assert await audit.cut(tenant_id) == 3
    assert await audit.cut(tenant_id) == 0
    assert await audit.list_to_cut(hours=1, limit=10) == []
    await audit.sealer.seal(tenant_id)
    events = await audit.list_events(tenant_id, oldest_first=True)
    assert [event.seq for event in events] == [4, 5, 6, 7, 8]
    assert [event.action for event in events[2:]] == ["audit.checkpointed", "audit.retention_set", "audit.cut"]
    assert (events[-1].target_id, events[-1].details["days"]) == ("3", 100)
    trail = await audit.get_trail(tenant_id)
    assert (trail.first_seq, trail.last_seq, trail.retention_days) == (4, 8, 100)
    keys = {key.key_id: key.public_key for key in await audit.list_keys()}
    lines = await exported(audit, tenant_id)
    assert verify(lines, checkpoints=[early], keys=keys).is_good
    assert verify(lines, keys=keys).is_good, "the cut's signature is enough"
    assert (await audit.verify(tenant_id)).is_good
    with pytest.raises(Invalid) as refused:
        await audit.open_export(tenant_id, after_seq=1)
    assert refused.value.problem_code == "audit_start_invalid"


async def test_one_that_is_young_keeps_all_that_follow_it(
    audit: Audit, database: Database, tenant_id: UUID, intruder: psycopg.Connection[Any]
) -> None:
    """The chain loses its oldest end and nothing in the middle, whatever the times say."""
    await aged(database, intruder, tenant_id, 300)
    await audit.sealer.seal(tenant_id)
    await aged(database, intruder, tenant_id, 5)
    await audit.sealer.seal(tenant_id)
    await aged(database, intruder, tenant_id, 290)
    await audit.sealer.seal(tenant_id)
    await audit.set_retention(ANNA, tenant_id, 100)
    assert await audit.cut(tenant_id) == 1
    await audit.sealer.seal(tenant_id)
    assert [event.seq for event in await audit.list_events(tenant_id) if event.action == "document.uploaded"] == [2, 3]


async def test_a_cut_that_was_interrupted_is_gone_on_with(
    audit: Audit,
    database: Database,
    tenant_id: UUID,
    intruder: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await aged(database, intruder, tenant_id, *[300] * 7, 1)
    await audit.sealer.seal(tenant_id)
    await audit.set_retention(ANNA, tenant_id, 100)

    async def crash(_chain_id: UUID) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(audit, "_delete_cut", crash)
        with pytest.raises(KeyboardInterrupt):
            await audit.cut(tenant_id)
    # Cut, and still there: no export has them any more.
    assert (await audit.get_trail(tenant_id)).first_seq == 8
    assert (await audit.verify(tenant_id)).is_good
    assert await audit.cut(tenant_id) == 7
    assert (await audit.verify(tenant_id)).is_good


async def test_never_below_what_the_operator_demands(
    audit: Audit, database: Database, tenant_id: UUID, intruder: psycopg.Connection[Any]
) -> None:
    with pytest.raises(Invalid) as refused:
        await audit.set_retention(ANNA, tenant_id, 29)
    assert refused.value.problem_code == "audit_retention_too_short"
    assert refused.value.extra == {"least_days": 30}
    await aged(database, intruder, tenant_id, 200, 50)
    await audit.sealer.seal(tenant_id)
    await audit.set_retention(ANNA, tenant_id, 30)
    # The operator demands more than when the tenant chose.
    stricter = Audit(database, Keyring({"k-1": b"k" * 32}, "k-1"), least_retention_days=100)
    assert await stricter.cut(tenant_id) == 1
    assert await audit.cut(tenant_id) == 1


async def test_a_tail_removed_without_a_cut_is_found(
    audit: Audit, database: Database, tenant_id: UUID, intruder: psycopg.Connection[Any]
) -> None:
    await act(database, tenant_id, 1, 2, 3)
    await audit.sealer.seal(tenant_id)
    intruder.execute("DELETE FROM audit_events WHERE seq <= 2; UPDATE audit_heads SET cut_seq = 2")
    breach = (await audit.verify(tenant_id)).breach
    assert breach is not None
    assert breach.code == "hash_wrong"


async def test_a_key_that_is_rotated_is_still_known(audit: Audit, database: Database, tenant_id: UUID) -> None:
    await act(database, tenant_id, 1)
    first = await audit.create_checkpoint(ANNA, tenant_id)
    made = await audit.rotate_key(HOST)
    await act(database, tenant_id, 2)
    second = await audit.create_checkpoint(ANNA, tenant_id)
    assert (second.key_id, first.key_id == second.key_id) == (made.key_id, False)
    keys = await audit.list_keys()
    assert [key.retired_at is None for key in keys] == [True, False]
    verdict = verify(
        await exported(audit, tenant_id),
        checkpoints=[first, second],
        keys={key.key_id: key.public_key for key in keys},
    )
    assert (verdict.breach, verdict.checkpoint_count) == (None, 2)
    async with database.platform() as uow:
        left = await uow.scalar("SELECT count(*) FROM audit_signing_keys WHERE sealed IS NOT NULL")
    assert left == 1, "an old key's secret is forgotten"
    (told,) = [event for event in await audit.list_events(None) if event.action == "audit_key.rotated"]
    assert (told.target_id, told.details) == (made.key_id, {"retired_key_id": first.key_id})


async def test_a_signing_key_is_sealed_for_its_place(audit: Audit, database: Database, tenant_id: UUID) -> None:
    """Another key ring can't open it, and it is nowhere in the clear."""
    await act(database, tenant_id, 1)
    await audit.create_checkpoint(ANNA, tenant_id)
    stranger = Audit(database, Keyring({"k-1": b"x" * 32}, "k-1"))
    await act(database, tenant_id, 2)
    with pytest.raises(Exception, match="changed or moved"):
        await stranger.create_checkpoint(ANNA, tenant_id)
    assert (await audit.verify(tenant_id)).is_good
