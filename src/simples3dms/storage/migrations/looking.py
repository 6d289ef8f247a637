"""A migration in words, as people see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.counters import repository as counters
from simples3dms.storage.migrations.values import Migration, MigrationPlan, MigrationRow, State
from simples3dms.storage.migrations.windows import next_opening, parse, rests
from simples3dms.storage.placement.values import Grant


async def in_words(uow: UnitOfWork, row: MigrationRow, grants: Sequence[Grant]) -> Migration:
    names = {grant.store_id: grant.name for grant in grants}
    debtor = row.staying_store_id if row.state == State.ROLLING_BACK else row.target_store_id
    if State.SOAKING in (row.state, row.resume_state):
        debtor = row.source_store_id
    resting = rests(row)
    owed = await counters.count_owed(uow, debtor)
    return Migration(
        id=row.id,
        source=names.get(row.source_store_id, str(row.source_store_id)),
        target=names.get(row.target_store_id, str(row.target_store_id)),
        only=row.only,
        state=row.state,
        resume_state=row.resume_state,
        automatic_cutover=row.automatic_cutover,
        finalize_after_seconds=row.finalize_after_seconds,
        finalize_at=row.finalize_at,
        windows=row.windows,
        proof=row.proof,
        resting=resting,
        opens_at=next_opening([parse(one) for one in row.windows], row.read_at) if resting else None,
        plan=plan_in_words(row.plan),
        copied_count=row.copied_count,
        copied_bytes=row.copied_bytes,
        total_count=row.total_count,
        total_bytes=row.total_bytes,
        pending_count=owed.get("pending", 0),
        failed_count=owed.get("failed", 0),
        waived_count=owed.get("waived", 0),
        proven=row.state in (State.READY, State.SOAKING, State.FINALIZING, State.DONE),
        error_code=row.error_code,
        error_message=row.error_message,
        created_at=row.created_at,
        started_at=row.started_at,
        cut_over_at=row.cut_over_at,
        finished_at=row.finished_at,
    )


def plan_in_words(document: Mapping[str, Any]) -> MigrationPlan:
    """A plan as it was written down, by this version or an earlier one, which knew less."""
    known = {one.name: document[one.name] for one in fields(MigrationPlan) if one.name in document}
    return MigrationPlan(**{**known, "blockers": tuple(document.get("blockers", ()))})
