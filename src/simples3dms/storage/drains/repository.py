"""SQL of drains, for the platform's unit of work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.drains.values import DrainPlan, DrainRow, DrainState, DrainTenant, Progress, StepCounts

_DRAIN: Final = """SELECT d.id, d.store_id, d.target_store_id, s.name AS store, t.name AS target, d.state, d.steps,
    d.step, d.automatic, d.most_active, d.finalize_after_seconds, d.most_failed_percent, d.most_read_ms, d.proof,
    d.read_ms, d.slow_count, d.listed_after, d.is_listed, d.reason, d.created_at, d.finished_at, d.fence
  FROM drains d JOIN stores s ON s.id = d.store_id JOIN stores t ON t.id = d.target_store_id"""
_IS_PLACED: Final = """(write_store_id = %(store)s OR %(store)s = ANY (copy_store_ids || store_ids)
  OR %(store)s = ANY (read_store_ids) OR write_weights ? (%(store)s::uuid)::text)"""
_STATES: Final = ("waiting", "moving", "cut_over", "moved", "failed", "blocked", "stepped_back")
_COUNTS: Final = ", ".join(f"count(*) FILTER (WHERE d.state = '{state}') AS {state}" for state in _STATES)


async def insert(uow: UnitOfWork, drain_id: UUID, store_id: UUID, target_store_id: UUID, plan: DrainPlan) -> bool:
    """False while another one of the store has not ended. The caller holds the store's row."""
    count = await uow.execute(
        """INSERT INTO drains (id, store_id, target_store_id, state, steps, automatic, most_active,
             finalize_after_seconds, most_failed_percent, most_read_ms, proof)
           VALUES (%s, %s, %s, 'running', %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING""",
        [
            drain_id,
            store_id,
            target_store_id,
            list(plan.steps),
            plan.automatic,
            plan.most_active,
            plan.finalize_after_seconds,
            plan.most_failed_percent,
            plan.most_read_ms,
            str(plan.proof),
        ],
    )
    return count == 1


async def find(uow: UnitOfWork, drain_id: UUID) -> DrainRow | None:
    return await uow.find(DrainRow, f"{_DRAIN} WHERE d.id = %s", [drain_id])


async def find_newest(uow: UnitOfWork, store_id: UUID) -> DrainRow | None:
    return await uow.find(DrainRow, f"{_DRAIN} WHERE d.store_id = %s ORDER BY d.id DESC LIMIT 1", [store_id])


async def lock(uow: UnitOfWork, drain_id: UUID) -> DrainRow | None:
    return await uow.find(DrainRow, f"{_DRAIN} WHERE d.id = %s FOR UPDATE OF d", [drain_id])


async def list_working(uow: UnitOfWork, *, limit: int) -> list[UUID]:
    return await uow.scalars(
        "SELECT id FROM drains WHERE state IN ('running', 'stepping_back') ORDER BY id LIMIT %s", [limit]
    )


async def claim(uow: UnitOfWork, drain_id: UUID, *, lease_seconds: float) -> DrainRow | None:
    """Take the drain over, unless another worker is at it."""
    count = await uow.execute(
        """UPDATE drains SET fence = fence + 1, lease_until = now() + make_interval(secs => %s::float8)
           WHERE id = %s AND state IN ('running', 'stepping_back') AND (lease_until IS NULL OR lease_until < now())""",
        [lease_seconds, drain_id],
    )
    return await find(uow, drain_id) if count == 1 else None


async def extend(uow: UnitOfWork, row: DrainRow, *, lease_seconds: float) -> bool:
    count = await uow.execute(
        "UPDATE drains SET lease_until = now() + make_interval(secs => %s::float8) WHERE id = %s AND fence = %s",
        [lease_seconds, row.id, row.fence],
    )
    return count == 1


async def release(uow: UnitOfWork, row: DrainRow) -> None:
    await uow.execute("UPDATE drains SET lease_until = NULL WHERE id = %s AND fence = %s", [row.id, row.fence])


async def set_state(uow: UnitOfWork, row: DrainRow, state: str, *, reason: str | None = None) -> None:
    """The caller holds the row's lock. The fence rises: work begun before counts no more."""
    await uow.execute(
        """UPDATE drains SET state = %(state)s, reason = %(reason)s, fence = fence + 1, lease_until = NULL,
             slow_count = 0, finished_at = CASE WHEN %(state)s IN ('done', 'cancelled') THEN now() END
           WHERE id = %(id)s""",
        {"state": state, "reason": reason, "id": row.id},
    )


async def set_step(uow: UnitOfWork, row: DrainRow, step: int) -> None:
    await uow.execute("UPDATE drains SET step = %s WHERE id = %s", [step, row.id])


async def note_listed(uow: UnitOfWork, row: DrainRow, *, after: UUID | None, is_listed: bool) -> None:
    """How far the placements were looked through; a drain that lists anew begins with None."""
    await uow.execute("UPDATE drains SET listed_after = %s, is_listed = %s WHERE id = %s", [after, is_listed, row.id])


async def note_reads(uow: UnitOfWork, row: DrainRow, *, read_ms: int, is_slow: bool) -> int:
    """Keep how long reads took; how often in a row they were slow."""
    found = await uow.scalar(
        """UPDATE drains SET read_ms = %s, slow_count = CASE WHEN %s THEN slow_count + 1 ELSE 0 END WHERE id = %s
           RETURNING slow_count""",
        [read_ms, is_slow, row.id],
    )
    return int(found)


async def list_placed(uow: UnitOfWork, row: DrainRow, *, limit: int) -> list[tuple[UUID, bool]]:
    """The next tenants by id; True where the placement names the store."""
    cursor = await uow.connection.execute(
        f"""SELECT tenant_id, {_IS_PLACED}
           FROM placements WHERE %(after)s::uuid IS NULL OR tenant_id > %(after)s ORDER BY tenant_id LIMIT %(limit)s""",  # noqa: S608
        {"store": row.store_id, "after": row.listed_after, "limit": limit},
    )
    return await cursor.fetchall()


async def has_placed(uow: UnitOfWork, row: DrainRow) -> bool:
    """Whether any placement names the store. One pass, once at the end."""
    found = await uow.scalar(
        f"SELECT 1 FROM placements WHERE {_IS_PLACED} LIMIT 1",  # noqa: S608
        {"store": row.store_id},
    )
    return found is not None


async def is_placed(uow: UnitOfWork, row: DrainRow, tenant_id: UUID) -> bool:
    """Whether the tenant's placement names the store."""
    found = await uow.scalar(
        f"SELECT 1 FROM placements WHERE tenant_id = %(tenant)s AND {_IS_PLACED}",  # noqa: S608
        {"store": row.store_id, "tenant": tenant_id},
    )
    return found is not None


async def insert_tenants(uow: UnitOfWork, row: DrainRow, tenants: Sequence[tuple[UUID, int]]) -> int:
    """How many of them are new to the drain; one that was moved and names the store again waits once more."""
    return await uow.execute(
        """INSERT INTO drain_tenants AS d (tenant_id, drain_id, step, state)
           SELECT i.tenant_id, %(drain)s, i.step, 'waiting'
           FROM unnest(%(tenants)s::uuid[], %(steps)s::integer[]) AS i (tenant_id, step)
           ON CONFLICT (tenant_id, drain_id) DO UPDATE SET state = 'waiting', migration_id = NULL, updated_at = now()
             WHERE d.state = 'moved'""",
        {"drain": row.id, "tenants": [one for one, _ in tenants], "steps": [step for _, step in tenants]},
    )


async def refresh(uow: UnitOfWork, row: DrainRow) -> None:
    """Take over where the tenants' migrations are. While a step is taken back, one that was taken back is its own."""
    await uow.execute(
        """UPDATE drain_tenants d SET updated_at = now(), state = n.state,
             code = CASE n.state WHEN 'failed' THEN m.error_code WHEN 'blocked' THEN 'migration_' || m.state END,
             message = CASE n.state WHEN 'failed' THEN m.error_message
               WHEN 'blocked' THEN 'somebody has taken the migration back' END
           FROM migrations m CROSS JOIN LATERAL (SELECT CASE
               WHEN m.state IN ('soaking', 'finalizing') OR m.resume_state IN ('soaking', 'finalizing')
                 AND m.state = 'paused' THEN 'cut_over'
               WHEN m.state = 'done' THEN 'moved' WHEN m.state = 'failed' THEN 'failed'
               WHEN m.state IN ('rolling_back', 'rolled_back', 'cancelled') THEN 'blocked' ELSE 'moving' END) n (state)
           WHERE d.drain_id = %s AND d.state IN ('moving', 'failed', 'cut_over') AND m.tenant_id = d.tenant_id
             AND m.id = d.migration_id AND d.state <> n.state AND (n.state <> 'blocked' OR %s)""",
        [row.id, row.state != DrainState.STEPPING_BACK],
    )


async def count_step(uow: UnitOfWork, row: DrainRow) -> StepCounts:
    found = await uow.find(
        StepCounts,
        """SELECT count(*) FILTER (WHERE state = 'waiting') AS waiting,
             count(*) FILTER (WHERE state = 'moving') AS active,
             count(*) FILTER (WHERE state = 'cut_over') AS cut_over, count(*) FILTER (WHERE state = 'moved') AS moved,
             count(*) FILTER (WHERE state = 'failed') AS failed,
             count(*) FILTER (WHERE step = %(step)s AND migration_id IS NOT NULL
               AND state IN ('moving', 'cut_over', 'moved', 'failed')) AS started,
             count(*) FILTER (WHERE step = %(step)s AND state = 'failed') AS step_failed
           FROM drain_tenants WHERE drain_id = %(drain)s AND step <= %(step)s""",
        {"drain": row.id, "step": row.step},
    )
    assert found is not None
    return found


async def get_progress(uow: UnitOfWork, row: DrainRow) -> Progress:
    found = await uow.find(
        Progress,
        f"""SELECT {_COUNTS}, coalesce(sum(m.copied_bytes), 0)::bigint AS copied_bytes,
              coalesce(sum(m.total_bytes), 0)::bigint AS total_bytes
            FROM drain_tenants d LEFT JOIN migrations m ON m.tenant_id = d.tenant_id AND m.id = d.migration_id
            WHERE d.drain_id = %s""",  # noqa: S608
        [row.id],
    )
    assert found is not None
    return found


async def list_tenants(
    uow: UnitOfWork,
    row: DrainRow,
    *,
    states: Sequence[str] = _STATES,
    steps: tuple[int, int] = (0, 99),
    after: UUID | None = None,
    limit: int,
) -> list[DrainTenant]:
    """By id: those of these states, of the first to the last of these steps."""
    return await uow.rows(
        DrainTenant,
        """SELECT d.tenant_id, t.slug, d.step, d.state, d.migration_id, d.code, d.message, d.updated_at
           FROM drain_tenants d JOIN tenants t ON t.id = d.tenant_id WHERE d.drain_id = %(drain)s
             AND d.state = ANY (%(states)s) AND d.step BETWEEN %(low)s AND %(high)s
             AND (%(after)s::uuid IS NULL OR d.tenant_id > %(after)s) ORDER BY d.tenant_id LIMIT %(limit)s""",
        {
            "drain": row.id,
            "states": list(states),
            "low": steps[0],
            "high": steps[1],
            "after": after,
            "limit": limit,
        },
    )


async def set_tenant(
    uow: UnitOfWork,
    row: DrainRow,
    tenant_id: UUID,
    state: str,
    *,
    migration_id: UUID | None = None,
    code: str | None = None,
    message: str | None = None,
) -> bool:
    """False, and nothing is changed, if the claim was lost."""
    count = await uow.execute(
        """UPDATE drain_tenants SET state = %s, migration_id = coalesce(%s, migration_id), code = %s, message = %s,
             updated_at = now() WHERE tenant_id = %s AND drain_id = %s
             AND EXISTS (SELECT 1 FROM drains WHERE id = %s AND fence = %s)""",
        [state, migration_id, code, message, tenant_id, row.id, row.id, row.fence],
    )
    return count == 1


async def try_again(uow: UnitOfWork, row: DrainRow) -> int:
    """Tenants that were blocked or stepped back wait for their turn anew."""
    return await uow.execute(
        """UPDATE drain_tenants SET state = 'waiting', migration_id = NULL, code = NULL, message = NULL,
             updated_at = now() WHERE drain_id = %s AND state IN ('blocked', 'stepped_back')""",
        [row.id],
    )


async def find_planned(uow: UnitOfWork, row: DrainRow, tenant_id: UUID) -> UUID | None:
    """A migration that was planned for this and not noted: the worker died between the two.

    One on other terms is somebody's own, and for them to start: the drain would wait for a cut-over that is theirs.
    """
    found: UUID | None = await uow.scalar(
        """SELECT id FROM migrations WHERE tenant_id = %s AND source_store_id = %s AND target_store_id = %s
           AND state = 'planned' AND NOT scope ? 'only' AND automatic_cutover AND proof = %s AND windows = '[]'
           AND finalize_after_seconds IS NOT DISTINCT FROM %s::bigint""",
        [tenant_id, row.store_id, row.target_store_id, row.proof, row.finalize_after_seconds],
    )
    return found


async def list_samples(uow: UnitOfWork, row: DrainRow, *, limit: int) -> list[tuple[str, str | None]]:
    """Keys, with their versions, of something at the target of each of the tenants that were cut over last."""
    cursor = await uow.connection.execute(
        """SELECT r.key, r.version_id FROM (SELECT tenant_id FROM drain_tenants WHERE drain_id = %(drain)s
             AND state IN ('cut_over', 'moved') ORDER BY updated_at DESC LIMIT %(limit)s) d
           CROSS JOIN LATERAL (SELECT r.key, r.version_id FROM replicas r JOIN blobs b ON b.tenant_id = r.tenant_id
             AND b.id = r.blob_id WHERE r.tenant_id = d.tenant_id AND r.store_id = %(target)s AND r.state = 'live'
             AND b.size_bytes > 0 LIMIT 1) r""",
        {"drain": row.id, "target": row.target_store_id, "limit": limit},
    )
    return await cursor.fetchall()
