"""SQL of migrations: their rows, and the proof over the catalogue, page by page."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from simples3dms.db.session import UnitOfWork
from simples3dms.kit.ids import new_id
from simples3dms.storage.blobs.proofs import Proof
from simples3dms.storage.blobs.repository import PROVEN
from simples3dms.storage.migrations.values import (
    CountPage,
    EvidenceRow,
    Hindrance,
    MigrationRow,
    ProofPage,
    Schedule,
)
from simples3dms.storage.notices import repository as notices_repository
from simples3dms.storage.notices.values import WORDS
from simples3dms.storage.placement.repository import IS_SELECTED, MEETS_ONLY, selection_params
from simples3dms.storage.placement.selections import Selection
from simples3dms.storage.placement.turns import Move, only_scope

_COLUMNS: Final = """id, tenant_id, source_store_id, target_store_id, state, resume_state, automatic_cutover, plan,
  created_at, started_at, cut_over_at, finished_at, barrier_seq, planned_seq, proven_seq, proof_loss_count,
  copied_count, copied_bytes, total_count, total_bytes, error_code, error_message, fence, target_was_copy,
  waivers_changed, proof, finalize_after_seconds, finalize_at, coalesce(finalize_at <= now(), false) AS finalize_due,
  windows, clock_timestamp() AS read_at, scope, phase_at"""


@dataclass(frozen=True, slots=True)
class ActiveMigration:
    """Where a migration with work to do is, for the watchdog."""

    tenant_id: UUID
    id: UUID


async def insert(
    uow: UnitOfWork, migration_id: UUID, move: Move, *, schedule: Schedule, proof: Proof, plan: dict[str, Any]
) -> bool:
    """Record a planned migration; False while another of the tenant has not ended."""
    count = await uow.execute(
        """INSERT INTO migrations (tenant_id, id, source_store_id, target_store_id, state, automatic_cutover,
             finalize_after_seconds, windows, proof, plan, total_count, total_bytes, scope)
           VALUES (%s, %s, %s, %s, 'planned', %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING""",
        [
            uow.tenant_id,
            migration_id,
            move.source,
            move.target,
            schedule.automatic_cutover,
            schedule.finalize_after_seconds,
            Jsonb(list(schedule.windows)),
            str(proof),
            Jsonb(plan),
            plan["blob_count"],
            plan["size_bytes"],
            Jsonb(only_scope(move.only)),
        ],
    )
    return count == 1


async def find(uow: UnitOfWork, migration_id: UUID) -> MigrationRow | None:
    return await uow.find(
        MigrationRow,
        f"SELECT {_COLUMNS} FROM migrations WHERE tenant_id = %s AND id = %s",  # noqa: S608
        [uow.tenant_id, migration_id],
    )


async def lock(uow: UnitOfWork, migration_id: UUID) -> MigrationRow | None:
    """Read the row for changing it. Lock order: the placement row first, where both are needed."""
    return await uow.find(
        MigrationRow,
        f"SELECT {_COLUMNS} FROM migrations WHERE tenant_id = %s AND id = %s FOR UPDATE",  # noqa: S608
        [uow.tenant_id, migration_id],
    )


async def find_active_id(uow: UnitOfWork) -> UUID | None:
    """The tenant's migration that was started and has not ended, if there is one."""
    found: UUID | None = await uow.scalar(
        """SELECT id FROM migrations WHERE tenant_id = %s
           AND state NOT IN ('planned', 'done', 'rolled_back', 'cancelled')""",
        [uow.tenant_id],
    )
    return found


async def list_page(uow: UnitOfWork, *, after: UUID | None, limit: int) -> list[MigrationRow]:
    """Newest first."""
    return await uow.rows(
        MigrationRow,
        f"""SELECT {_COLUMNS} FROM migrations WHERE tenant_id = %(tenant)s
            AND (%(after)s::uuid IS NULL OR id < %(after)s) ORDER BY id DESC LIMIT %(limit)s""",  # noqa: S608
        {"tenant": uow.tenant_id, "after": after, "limit": limit},
    )


async def set_state(uow: UnitOfWork, row: MigrationRow, state: str, *, resume_state: str | None = None) -> None:
    """Move to another state. The caller holds the row's lock. The fence rises: work begun before counts no more."""
    await uow.execute(
        """UPDATE migrations SET state = %(state)s, resume_state = %(resume)s, fence = fence + 1, lease_until = NULL,
             error_code = NULL, error_message = NULL,
             started_at = CASE WHEN %(state)s = 'copying' THEN coalesce(started_at, now()) ELSE started_at END,
             cut_over_at = CASE WHEN %(state)s = 'soaking' THEN coalesce(cut_over_at, now()) ELSE cut_over_at END,
             finalize_at = CASE WHEN %(state)s = 'soaking'
               THEN clock_timestamp() + make_interval(secs => finalize_after_seconds) END,
             finished_at = CASE WHEN %(state)s IN ('done', 'rolled_back', 'cancelled') THEN now() END
           WHERE tenant_id = %(tenant)s AND id = %(id)s""",
        {"state": state, "resume": resume_state, "tenant": uow.tenant_id, "id": row.id},
    )
    if _is_told(row, state):
        await notices_repository.insert(uow, new_id(), migration_id=row.id, state=state)


def _is_told(row: MigrationRow, state: str) -> bool:
    """Of a resume nobody is told; nor that it is ready, where it goes on by itself."""
    goes_on = row.state in ("paused", "failed") or (state == "ready" and row.automatic_cutover)
    return state in WORDS and not (state in ("ready", "soaking", "finalizing") and goes_on)


async def set_schedule(uow: UnitOfWork, row: MigrationRow, schedule: Schedule) -> None:
    """The caller holds the row's lock. What is in flight goes on until it next looks."""
    await uow.execute(
        """UPDATE migrations SET automatic_cutover = %(cutover)s, windows = %(windows)s, finalize_at = CASE
             WHEN finalize_after_seconds IS NOT DISTINCT FROM %(after)s::bigint THEN finalize_at
             WHEN state = 'soaking' THEN clock_timestamp() + make_interval(secs => %(after)s::bigint) END,
             finalize_after_seconds = %(after)s
           WHERE tenant_id = %(tenant)s AND id = %(id)s""",
        {
            "cutover": schedule.automatic_cutover,
            "windows": Jsonb(list(schedule.windows)),
            "after": schedule.finalize_after_seconds,
            "tenant": uow.tenant_id,
            "id": row.id,
        },
    )


async def has_doubtful(uow: UnitOfWork, *, store_id: UUID) -> bool:
    """Whether the tenant has a replica in the store that is missing, or whose bytes are in doubt."""
    found = await uow.scalar(
        """SELECT 1 FROM replicas WHERE tenant_id = %s AND store_id = %s AND state IN ('suspect', 'missing') LIMIT 1""",
        [uow.tenant_id, store_id],
    )
    return found is not None


async def begin_phase(uow: UnitOfWork, migration_id: UUID) -> None:
    """Begin a phase's chunks from the start of the catalogue, to where it reaches now.

    The caller holds the placement's lock and swaps the policy: whatever is made later is made under the new one.
    """
    await uow.execute(
        """UPDATE migrations SET planned_seq = 0, barrier_seq = %s, phase_at = clock_timestamp()
           WHERE tenant_id = %s AND id = %s""",
        [await last_seq(uow), uow.tenant_id, migration_id],
    )


async def note_before(uow: UnitOfWork, row: MigrationRow, *, was_copy: bool, scope: dict[str, Any]) -> None:
    """Keep what the placement was before the migration began: whether it wanted copies at the target, and which of its
    layouts the migration is about."""
    await uow.execute(
        "UPDATE migrations SET target_was_copy = %s, scope = %s WHERE tenant_id = %s AND id = %s",
        [was_copy, Jsonb(scope), uow.tenant_id, row.id],
    )


async def fail(uow: UnitOfWork, row: MigrationRow, *, code: str, message: str) -> None:
    """Stop the migration where it stands until a person resumes it. The caller holds the row's lock."""
    await set_state(uow, row, "failed", resume_state=row.state)
    await uow.execute(
        "UPDATE migrations SET error_code = %s, error_message = %s WHERE tenant_id = %s AND id = %s",
        [code, message, uow.tenant_id, row.id],
    )


async def claim(uow: UnitOfWork, migration_id: UUID, *, lease_seconds: float) -> MigrationRow | None:
    """Take the planning of the migration over, unless another worker is at it."""
    return await uow.find(
        MigrationRow,
        f"""UPDATE migrations SET fence = fence + 1, attempt = attempt + 1,
              lease_until = now() + make_interval(secs => %(lease)s::float8)
            WHERE tenant_id = %(tenant)s AND id = %(id)s AND state IN ('copying', 'finalizing', 'rolling_back')
              AND (lease_until IS NULL OR lease_until < now()) RETURNING {_COLUMNS}""",  # noqa: S608
        {"tenant": uow.tenant_id, "id": migration_id, "lease": lease_seconds},
    )


async def release(uow: UnitOfWork, row: MigrationRow) -> None:
    await uow.execute(
        "UPDATE migrations SET lease_until = NULL WHERE tenant_id = %s AND id = %s AND fence = %s",
        [uow.tenant_id, row.id, row.fence],
    )


async def extend(uow: UnitOfWork, row: MigrationRow, *, lease_seconds: float) -> bool:
    """Keep the claim on the planning; False if it was lost."""
    count = await uow.execute(
        """UPDATE migrations SET lease_until = now() + make_interval(secs => %s::float8)
           WHERE tenant_id = %s AND id = %s AND fence = %s""",
        [lease_seconds, uow.tenant_id, row.id, row.fence],
    )
    return count == 1


async def last_seq(uow: UnitOfWork) -> int:
    """The newest blob's sequence. If the caller holds the placement's lock, nothing lower is still to come."""
    return int(await uow.scalar("SELECT max(seq) FROM blobs WHERE tenant_id = %s", [uow.tenant_id]) or 0)


#: What of a page is counted, as pairs of columns.
_COUNTED: Final = ", ".join(
    f"count(*) FILTER (WHERE {which}) AS {count}, coalesce(sum(size_bytes) FILTER (WHERE {which}), 0)::bigint AS {size}"
    for count, size, which in (
        ("blob_count", "size_bytes", "is_in"),
        ("left_count", "left_bytes", "NOT is_in"),
        ("source_count", "source_bytes", "is_in AND at_source"),
        ("target_count", "target_bytes", "is_in AND at_target"),
        ("leaving_count", "leaving_bytes", "at_source AND is_met"),
    )
)


async def count_page(uow: UnitOfWork, selection: Selection, move: Move, *, after_seq: int, limit: int) -> CountPage:
    """Count the next living blobs: those of the part, and the others, and what lies in the two stores."""
    there = """EXISTS (SELECT 1 FROM replicas r WHERE r.tenant_id = b.tenant_id AND r.blob_id = b.id
      AND r.state = 'live' AND r.store_id ="""
    found = await uow.find(
        CountPage,
        f"""SELECT max(seq) AS last_seq, {_COUNTED}
            FROM (SELECT b.seq, b.size_bytes, {IS_SELECTED} AS is_in, {MEETS_ONLY} AS is_met,
                    {there} %(source)s) AS at_source, {there} %(target)s) AS at_target FROM blobs b
                  WHERE b.tenant_id = %(tenant)s AND b.seq > %(after)s AND b.dead_at IS NULL
                  ORDER BY b.seq LIMIT %(limit)s) page""",  # noqa: S608
        {
            "tenant": uow.tenant_id,
            "source": move.source,
            "target": move.target,
            "after": after_seq,
            "limit": limit,
            **selection_params(selection),
        },
    )
    assert found is not None
    return found


async def find_page_end(uow: UnitOfWork, *, after_seq: int, upto_seq: int, limit: int) -> int | None:
    """The last of so many next blobs; None: there are no more."""
    end: int | None = await uow.scalar(
        """SELECT max(seq) FROM (SELECT seq FROM blobs WHERE tenant_id = %s AND seq > %s AND seq <= %s
             ORDER BY seq LIMIT %s) page""",
        [uow.tenant_id, after_seq, upto_seq, limit],
    )
    return end


async def list_evidence(
    uow: UnitOfWork, row: MigrationRow, *, after_seq: int, upto_seq: int, documents: int
) -> list[EvidenceRow]:
    """The living blobs between that the migration is about, or has moved, with their copies at both stores, and what
    was waived."""
    return await uow.rows(
        EvidenceRow,
        f"""SELECT b.seq, b.id AS blob_id, b.size_bytes, b.digest, (
               SELECT coalesce(jsonb_agg(v), '[]') FROM (
                 SELECT document_id, number AS version FROM versions
                 WHERE tenant_id = b.tenant_id AND blob_id = b.id ORDER BY document_id, number LIMIT %(documents)s) v
             ) AS documents,
             coalesce(s.key, t.origin_key) AS source_key,
             coalesce(s.state, CASE WHEN t.origin_key IS NOT NULL THEN 'removed' END) AS source_state,
             t.key AS target_key, t.state AS target_state, t.evidence, t.evidence_at, w.waived_reason, w.waived_at
           FROM blobs b
             LEFT JOIN LATERAL (SELECT key, state FROM replicas WHERE tenant_id = b.tenant_id AND blob_id = b.id
               AND store_id = %(source)s AND state <> 'writing' ORDER BY state = 'retiring', state_at DESC LIMIT 1) s
               ON true
             LEFT JOIN LATERAL (SELECT key, state, evidence, evidence_at,
                 CASE WHEN origin_store_id = %(source)s THEN origin_key END AS origin_key FROM replicas
               WHERE tenant_id = b.tenant_id AND blob_id = b.id AND store_id = %(target)s
               AND state IN ('live', 'suspect', 'missing') LIMIT 1) t ON true
             LEFT JOIN transfers w ON w.tenant_id = b.tenant_id AND w.blob_id = b.id
               AND w.target_store_id = %(target)s AND w.state = 'waived'
           WHERE b.tenant_id = %(tenant)s AND b.seq > %(after)s AND b.seq <= %(upto)s AND b.dead_at IS NULL
             AND ({IS_SELECTED} OR t.origin_key IS NOT NULL) ORDER BY b.seq""",  # noqa: S608
        {
            "tenant": uow.tenant_id,
            "source": row.source_store_id,
            "target": row.target_store_id,
            "after": after_seq,
            "upto": upto_seq,
            "documents": documents,
            **selection_params(row.copying),
        },
    )


async def prove_page(
    uow: UnitOfWork, row: MigrationRow, *, after_seq: int, upto_seq: int | None, limit: int
) -> ProofPage:
    """Walk the next living blobs and name those that are to be moved and have no live replica at the target that is
    proven as the migration asks for, but for what was waived."""
    found = await uow.find(
        ProofPage,
        f"""SELECT max(seq) AS last_seq, coalesce(array_agg(seq) FILTER (WHERE NOT proven), '{{}}') AS unproven
           FROM (SELECT b.seq, EXISTS (
                   SELECT 1 FROM replicas r WHERE r.tenant_id = b.tenant_id AND r.blob_id = b.id
                     AND r.store_id = %(store)s AND r.state = 'live' AND {PROVEN})
                   OR EXISTS (SELECT 1 FROM transfers t WHERE t.tenant_id = b.tenant_id AND t.blob_id = b.id
                     AND t.target_store_id = %(store)s AND t.state = 'waived') OR NOT {IS_SELECTED} AS proven
                 FROM blobs b WHERE b.tenant_id = %(tenant)s AND b.seq > %(after)s
                   AND (%(upto)s::bigint IS NULL OR b.seq <= %(upto)s) AND b.dead_at IS NULL
                 ORDER BY b.seq LIMIT %(limit)s) page""",  # noqa: S608
        {
            "tenant": uow.tenant_id,
            "store": row.target_store_id,
            "after": after_seq,
            "upto": upto_seq,
            "limit": limit,
            **selection_params(row.copying),
            "percent": row.grade.read_back_percent,
        },
    )
    assert found is not None
    return found


async def list_hindrances(
    uow: UnitOfWork, seqs: Collection[int], *, target_store_id: UUID, limit: int
) -> list[Hindrance]:
    """What the target has of these blobs (by sequence) that a proof did not find there, oldest first."""
    return await uow.rows(
        Hindrance,
        """SELECT v.document_id, v.number AS version, r.last_error AS error,
             CASE r.state WHEN 'live' THEN 'unverified' ELSE coalesce(r.state, 'absent') END AS state
           FROM blobs b
             LEFT JOIN LATERAL (SELECT state, last_error FROM replicas WHERE tenant_id = b.tenant_id
               AND blob_id = b.id AND store_id = %(target)s AND state <> 'retiring'
               ORDER BY state = 'writing', state_at DESC LIMIT 1) r ON true
             LEFT JOIN LATERAL (SELECT document_id, number FROM versions WHERE tenant_id = b.tenant_id
               AND blob_id = b.id ORDER BY document_id, number LIMIT 1) v ON true
           WHERE b.tenant_id = %(tenant)s AND b.seq = ANY(%(seqs)s) AND b.dead_at IS NULL
           ORDER BY b.seq LIMIT %(limit)s""",
        {"tenant": uow.tenant_id, "target": target_store_id, "seqs": list(seqs), "limit": limit},
    )


async def record_proof(uow: UnitOfWork, row: MigrationRow, *, proven_seq: int, loss_count: int) -> bool:
    """Keep how far the catalogue was proven, and the loss count that this holds for; False, and nothing is kept, if a
    waiver that the proof may have counted was taken back since the row was read."""
    count = await uow.execute(
        """UPDATE migrations SET proven_seq = %s, proof_loss_count = %s
           WHERE tenant_id = %s AND id = %s AND waivers_changed = %s""",
        [proven_seq, loss_count, uow.tenant_id, row.id, row.waivers_changed],
    )
    return count == 1


async def forget_proof(uow: UnitOfWork, row: MigrationRow) -> None:
    """What was proven is in doubt again, as something that was left out of it counts once more."""
    await uow.execute(
        """UPDATE migrations SET proven_seq = NULL, waivers_changed = waivers_changed + 1
           WHERE tenant_id = %s AND id = %s""",
        [uow.tenant_id, row.id],
    )


async def add_progress(uow: UnitOfWork, migration_id: UUID, *, copied_count: int, copied_bytes: int) -> None:
    """Count for the people who watch. Nothing is decided by these numbers."""
    await uow.execute(
        """UPDATE migrations SET copied_count = copied_count + %(count)s, copied_bytes = copied_bytes + %(bytes)s,
             total_count = greatest(total_count, copied_count + %(count)s),
             total_bytes = greatest(total_bytes, copied_bytes + %(bytes)s)
           WHERE tenant_id = %(tenant)s AND id = %(id)s""",
        {"count": copied_count, "bytes": copied_bytes, "tenant": uow.tenant_id, "id": migration_id},
    )


async def list_working(uow: UnitOfWork, *, limit: int) -> list[ActiveMigration]:
    """Migrations that workers have something to do for. For the platform's unit of work."""
    return await uow.rows(
        ActiveMigration,
        """SELECT tenant_id, id FROM migrations WHERE state IN ('copying', 'finalizing', 'rolling_back')
             OR (state = 'ready' AND automatic_cutover) OR (state = 'soaking' AND finalize_at <= now())
           ORDER BY state, id LIMIT %s""",
        [limit],
    )


async def owed_among(uow: UnitOfWork, seqs: Collection[int], *, target_store_id: UUID) -> set[int]:
    """Of these blobs (by sequence), the ones that are on the list of transfers towards the store."""
    found = await uow.scalars(
        """SELECT b.seq FROM blobs b JOIN transfers t ON t.tenant_id = b.tenant_id AND t.blob_id = b.id
             AND t.target_store_id = %s WHERE b.tenant_id = %s AND b.seq = ANY(%s)""",
        [target_store_id, uow.tenant_id, list(seqs)],
    )
    return set(found)
