"""SQL of transfers: the durable list of single copies that are owed, and the deficit at a store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.blobs import repository as blobs_repository
from simples3dms.storage.blobs.proofs import READ_BACK, Proof, parse
from simples3dms.storage.blobs.values import Blob, Replica, WriteTicket
from simples3dms.storage.placement.repository import IS_SELECTED, selection_params
from simples3dms.storage.placement.selections import Selection
from simples3dms.storage.transfers.values import (
    Backlog,
    Debt,
    Deficit,
    DueTransfer,
    GrantedStore,
    TransferFailure,
    TransferRow,
)


async def list_deficits(
    uow: UnitOfWork, blob_ids: Sequence[UUID], *, target_store_id: UUID, proof: Proof
) -> list[Deficit]:
    """Of these blobs, the living ones without a live replica at the target that is proven as is asked for."""
    blobs = await uow.rows(
        Blob,
        # One after the other by its key: while the statistics know nothing yet of a tenant that grows quickly, a join
        # or NOT EXISTS becomes a scan of all that it has, and so does a condition on the store within the WHERE.
        f"""SELECT b.id, b.seq, b.digest, b.size_bytes FROM unnest(%(ids)s::uuid[]) AS i (id) CROSS JOIN LATERAL (
             SELECT id, seq, digest, size_bytes FROM blobs
             WHERE tenant_id = %(tenant)s AND id = i.id AND dead_at IS NULL LIMIT 1) b
           WHERE (SELECT bool_or(r.store_id = %(target)s AND r.state = 'live' AND {blobs_repository.PROVEN})
             FROM replicas r WHERE r.tenant_id = %(tenant)s AND r.blob_id = i.id) IS NOT TRUE
           ORDER BY b.seq""",  # noqa: S608
        {
            "tenant": uow.tenant_id,
            "ids": list(blob_ids),
            "target": target_store_id,
            "percent": proof.read_back_percent,
        },
    )
    replicas: dict[UUID, list[Replica]] = {}
    for replica in await blobs_repository.list_replicas(uow, [blob.id for blob in blobs]):
        replicas.setdefault(replica.blob_id, []).append(replica)
    return [_deficit(blob, replicas.get(blob.id, []), target_store_id) for blob in blobs]


def _deficit(blob: Blob, replicas: list[Replica], target_store_id: UUID) -> Deficit:
    live = [replica for replica in replicas if replica.state == "live"]
    # Doubtful copies are read last: their bytes are compared like any other's, and they may be all there is.
    doubtful = [r for state in ("suspect", "missing") for r in replicas if r.state == state]
    at_target = next((replica for replica in live if replica.store_id == target_store_id), None)
    sources = [replica for replica in (*live, *doubtful) if replica is not at_target]
    return Deficit(blob, sources, at_target)


async def owe(
    uow: UnitOfWork, blob_id: UUID, *, transfer_id: UUID, target_store_id: UUID, migration_id: UUID | None
) -> bool:
    """Record that the blob is owed a copy at the target; False if that is recorded already."""
    count = await uow.execute(
        """INSERT INTO transfers (tenant_id, id, blob_id, target_store_id, migration_id, state)
           VALUES (%s, %s, %s, %s, %s, 'pending') ON CONFLICT DO NOTHING""",
        [uow.tenant_id, transfer_id, blob_id, target_store_id, migration_id],
    )
    return count == 1


async def record_failures(
    uow: UnitOfWork,
    failures: Sequence[tuple[UUID, UUID, str, str, bool]],
    *,
    target_store_id: UUID,
    migration_id: UUID | None,
    delay_seconds: float,
) -> None:
    """Put the items that failed in a chunk on the list: (transfer id, blob id, error kind, message, final)."""
    await uow.execute(
        """INSERT INTO transfers (tenant_id, id, blob_id, target_store_id, migration_id, state, attempt,
             error_kind, error_message, due_at)
           SELECT %(tenant)s, i.id, i.blob_id, %(target)s, %(migration)s,
             CASE WHEN i.final THEN 'failed' ELSE 'pending' END, 1, i.kind, i.message,
             now() + make_interval(secs => %(delay)s::float8)
           FROM unnest(%(ids)s::uuid[], %(blobs)s::uuid[], %(kinds)s::text[], %(messages)s::text[],
             %(finals)s::boolean[]) AS i (id, blob_id, kind, message, final)
           WHERE EXISTS (SELECT 1 FROM blobs b
                         WHERE b.tenant_id = %(tenant)s AND b.id = i.blob_id AND b.dead_at IS NULL)
           ON CONFLICT (tenant_id, blob_id, target_store_id) DO UPDATE SET
             migration_id = EXCLUDED.migration_id,
             state = CASE WHEN transfers.state IN ('failed', 'waived') THEN transfers.state ELSE EXCLUDED.state END,
             error_kind = EXCLUDED.error_kind, error_message = EXCLUDED.error_message,
             attempt = transfers.attempt + 1, due_at = EXCLUDED.due_at
             WHERE transfers.lease_until IS NULL OR transfers.lease_until < now()""",
        {
            "tenant": uow.tenant_id,
            "target": target_store_id,
            "migration": migration_id,
            "delay": delay_seconds,
            "ids": [item[0] for item in failures],
            "blobs": [item[1] for item in failures],
            "kinds": [item[2] for item in failures],
            "messages": [item[3] for item in failures],
            "finals": [item[4] for item in failures],
        },
    )


async def claim(uow: UnitOfWork, transfer_id: UUID, *, limit: int, lease_seconds: float) -> list[TransferRow]:
    """Take a due transfer over, and with it others towards the same store that nobody holds.

    The fence of each rises, so that an earlier claimant's word no longer counts. An array is made once; `IN` may run
    the query again for each row, and each time it would lock others.
    """
    return await uow.rows(
        TransferRow,
        """UPDATE transfers SET fence = fence + 1, attempt = attempt + 1,
             lease_until = now() + make_interval(secs => %(lease)s::float8)
           WHERE tenant_id = %(tenant)s AND id = ANY(ARRAY(
             SELECT t.id FROM transfers t WHERE t.tenant_id = %(tenant)s AND t.state = 'pending' AND t.due_at <= now()
               AND (t.lease_until IS NULL OR t.lease_until < now())
               AND t.target_store_id = (SELECT target_store_id FROM transfers
                                        WHERE tenant_id = %(tenant)s AND id = %(id)s)
             ORDER BY t.id = %(id)s DESC, t.id LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
           RETURNING id, blob_id, target_store_id, migration_id, fence, attempt""",
        {"tenant": uow.tenant_id, "id": transfer_id, "limit": limit, "lease": lease_seconds},
    )


async def list_owed(uow: UnitOfWork, rows: Sequence[TransferRow]) -> list[UUID]:
    """The blobs of those claims that have not been struck, or taken over, since."""
    return await uow.scalars(
        """SELECT t.blob_id FROM unnest(%(ids)s::uuid[], %(fences)s::bigint[]) AS i (id, fence)
             CROSS JOIN LATERAL (SELECT blob_id FROM transfers
               WHERE tenant_id = %(tenant)s AND id = i.id AND fence = i.fence AND state = 'pending' LIMIT 1) t""",
        {"tenant": uow.tenant_id, **_claims(rows)},
    )


async def find_target(uow: UnitOfWork, transfer_id: UUID) -> UUID | None:
    """The store of a transfer that is pending."""
    found: UUID | None = await uow.scalar(
        "SELECT target_store_id FROM transfers WHERE tenant_id = %s AND id = %s AND state = 'pending'",
        [uow.tenant_id, transfer_id],
    )
    return found


async def list_due_at(uow: UnitOfWork, *, target_store_id: UUID, limit: int) -> list[UUID]:
    """Transfers towards a store that are due and that nobody holds."""
    return await uow.scalars(
        """SELECT id FROM transfers WHERE tenant_id = %s AND target_store_id = %s AND state = 'pending'
             AND due_at <= now() AND (lease_until IS NULL OR lease_until < now()) ORDER BY due_at, id LIMIT %s""",
        [uow.tenant_id, target_store_id, limit],
    )


async def find_proof(uow: UnitOfWork, migration_id: UUID) -> Proof:
    """How well the copies of a migration are to be proven."""
    found = await uow.scalar(
        "SELECT proof FROM migrations WHERE tenant_id = %s AND id = %s", [uow.tenant_id, migration_id]
    )
    return READ_BACK if found is None else parse(found)


async def extend(uow: UnitOfWork, rows: Sequence[TransferRow], *, lease_seconds: float) -> None:
    await uow.execute(
        """UPDATE transfers t SET lease_until = now() + make_interval(secs => %(lease)s::float8)
           FROM unnest(%(ids)s::uuid[], %(fences)s::bigint[]) AS i (id, fence)
           WHERE t.tenant_id = %(tenant)s AND t.id = i.id AND t.fence = i.fence""",
        {"lease": lease_seconds, "tenant": uow.tenant_id, **_claims(rows)},
    )


async def put_back(uow: UnitOfWork, rows: Sequence[TransferRow]) -> None:
    """Leave these to others at once. That was no attempt: nothing has failed."""
    await uow.execute(
        """UPDATE transfers t SET lease_until = NULL, attempt = greatest(t.attempt - 1, 0)
           FROM unnest(%(ids)s::uuid[], %(fences)s::bigint[]) AS i (id, fence)
           WHERE t.tenant_id = %(tenant)s AND t.id = i.id AND t.fence = i.fence""",
        {"tenant": uow.tenant_id, **_claims(rows)},
    )


async def settle(uow: UnitOfWork, rows: Sequence[TransferRow]) -> None:
    """The copies are there and proven (or no longer wanted): strike the debts."""
    await uow.execute(
        """DELETE FROM transfers t USING unnest(%(ids)s::uuid[], %(fences)s::bigint[]) AS i (id, fence)
           WHERE t.tenant_id = %(tenant)s AND t.id = i.id AND t.fence = i.fence""",
        {"tenant": uow.tenant_id, **_claims(rows)},
    )


def _claims(rows: Sequence[TransferRow]) -> dict[str, list[object]]:
    return {"ids": [row.id for row in rows], "fences": [row.fence for row in rows]}


async def postpone(
    uow: UnitOfWork, row: TransferRow, *, kind: str, message: str, delay_seconds: float, final: bool
) -> bool:
    """Note why the attempt failed, and when to try again, or that a person must look at it."""
    count = await uow.execute(
        """UPDATE transfers SET error_kind = %s, error_message = %s, lease_until = NULL,
             due_at = now() + make_interval(secs => %s::float8), state = CASE WHEN %s THEN 'failed' ELSE 'pending' END
           WHERE tenant_id = %s AND id = %s AND fence = %s""",
        [kind, message, delay_seconds, final, uow.tenant_id, row.id, row.fence],
    )
    return count == 1


async def hasten(
    uow: UnitOfWork, target_store_id: UUID, kinds: Collection[str], *, beyond_seconds: float, limit: int
) -> list[UUID]:
    """Let what waits that long yet for a store, as it failed, begin anew at once; which transfers these are."""
    return await uow.scalars(
        """UPDATE transfers SET due_at = now(), attempt = 0 WHERE tenant_id = %(tenant)s AND id = ANY(ARRAY(
             SELECT id FROM transfers WHERE tenant_id = %(tenant)s AND target_store_id = %(target)s
               AND state = 'pending' AND due_at > now() + make_interval(secs => %(beyond)s::float8)
               AND error_kind = ANY(%(kinds)s) ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
           RETURNING id""",
        {
            "tenant": uow.tenant_id,
            "target": target_store_id,
            "kinds": list(kinds),
            "beyond": beyond_seconds,
            "limit": limit,
        },
    )


async def settle_blobs(uow: UnitOfWork, blob_ids: Sequence[UUID], *, target_store_id: UUID) -> None:
    """Strike the unclaimed debts of blobs that a chunk has just brought to the target."""
    await uow.execute(
        """DELETE FROM transfers WHERE tenant_id = %s AND blob_id = ANY(%s) AND target_store_id = %s
             AND (lease_until IS NULL OR lease_until < now())""",
        [uow.tenant_id, list(blob_ids), target_store_id],
    )


async def drop(uow: UnitOfWork, selection: Selection, *, target_store_id: UUID, only_waived: bool = False) -> None:
    """Strike the debts of the part's blobs towards a store: all, or what an earlier migration had left behind."""
    await uow.execute(
        f"""DELETE FROM transfers t USING blobs b WHERE t.tenant_id = %(tenant)s AND t.target_store_id = %(target)s
              AND (t.state = 'waived' OR NOT %(waived)s) AND b.tenant_id = t.tenant_id AND b.id = t.blob_id
              AND {IS_SELECTED}""",  # noqa: S608
        {"tenant": uow.tenant_id, "target": target_store_id, "waived": only_waived, **selection_params(selection)},
    )


async def list_due(uow: UnitOfWork, *, limit: int) -> list[DueTransfer]:
    """Due transfers whose job may be lost. For the platform's unit of work."""
    return await uow.rows(
        DueTransfer,
        """SELECT tenant_id, id FROM transfers WHERE state = 'pending' AND due_at <= now()
             AND (lease_until IS NULL OR lease_until < now()) ORDER BY due_at LIMIT %s""",
        [limit],
    )


async def list_failures(
    uow: UnitOfWork, *, migration_id: UUID | None, store_ids: Sequence[UUID], after: UUID | None, limit: int
) -> list[TransferFailure]:
    """Failures of the migration itself, and all others towards its stores: they hold it up just the same, until they
    are waived. None: towards these stores, whatever they are of."""
    return await uow.rows(
        TransferFailure,
        """SELECT t.id, t.blob_id, v.document_id, d.name AS document_name, t.error_kind, t.error_message, t.attempt,
             t.state, t.waived_reason, t.waived_at
           FROM transfers t
           LEFT JOIN LATERAL (SELECT document_id FROM versions v WHERE v.tenant_id = t.tenant_id
             AND v.blob_id = t.blob_id LIMIT 1) v ON true
           LEFT JOIN documents d ON d.tenant_id = t.tenant_id AND d.id = v.document_id
           WHERE t.tenant_id = %(tenant)s AND t.state IN ('failed', 'waived')
             AND (t.migration_id = %(migration)s OR t.target_store_id = ANY(%(stores)s))
             AND (%(after)s::uuid IS NULL OR t.id > %(after)s) ORDER BY t.id LIMIT %(limit)s""",
        {"tenant": uow.tenant_id, "migration": migration_id, "stores": list(store_ids), "after": after, "limit": limit},
    )


async def revive(
    uow: UnitOfWork, *, migration_id: UUID | None, store_ids: Sequence[UUID], ids: Sequence[UUID] | None, limit: int
) -> list[UUID]:
    """Make failed transfers pending again, with fresh attempts, and waived ones that are named; their ids."""
    return await uow.scalars(
        """UPDATE transfers SET state = 'pending', attempt = 0, due_at = now(), lease_until = NULL,
             waived_reason = NULL, waived_at = NULL
           WHERE tenant_id = %(tenant)s AND id IN (
             SELECT id FROM transfers WHERE tenant_id = %(tenant)s AND (migration_id = %(migration)s
                 OR target_store_id = ANY(%(stores)s))
               AND (state = 'failed' AND %(ids)s::uuid[] IS NULL
                 OR state IN ('failed', 'waived') AND id = ANY(%(ids)s)) LIMIT %(limit)s)
           RETURNING id""",
        {
            "tenant": uow.tenant_id,
            "migration": migration_id,
            "stores": list(store_ids),
            "ids": list(ids) if ids is not None else None,
            "limit": limit,
        },
    )


async def list_debts(uow: UnitOfWork, blob_id: UUID) -> list[Debt]:
    """What one blob is owed: a row for each store at most."""
    return await uow.rows(
        Debt,
        """SELECT target_store_id AS store_id, state, error_message, waived_reason FROM transfers
           WHERE tenant_id = %s AND blob_id = %s ORDER BY id LIMIT 1000""",
        [uow.tenant_id, blob_id],
    )


async def find_granted(uow: UnitOfWork, name: str) -> GrantedStore | None:
    return await uow.find(
        GrantedStore,
        """SELECT s.id, s.untrusted_reason FROM store_grants g JOIN stores s ON s.id = g.store_id
           WHERE g.tenant_id = %s AND s.name = %s AND g.revoked_at IS NULL""",
        [uow.tenant_id, name],
    )


async def revive_blobs(uow: UnitOfWork, blob_ids: Sequence[UUID]) -> list[UUID]:
    """Make what was given up of these blobs pending again, with fresh attempts; the transfers' ids.

    What was waived too, unless a migration is under way, which counts on it.
    """
    return await uow.scalars(
        """UPDATE transfers SET state = 'pending', attempt = 0, due_at = now(), lease_until = NULL,
             waived_reason = NULL, waived_at = NULL
           WHERE tenant_id = %(tenant)s AND blob_id = ANY(%(blobs)s) AND (state = 'failed'
             OR state = 'waived' AND NOT EXISTS (SELECT 1 FROM migrations m WHERE m.tenant_id = %(tenant)s
               AND m.state NOT IN ('planned', 'done', 'rolled_back', 'cancelled'))) RETURNING id""",
        {"tenant": uow.tenant_id, "blobs": list(blob_ids)},
    )


async def waive(
    uow: UnitOfWork, *, migration_id: UUID, store_ids: Sequence[UUID], ids: Sequence[UUID], reason: str
) -> list[UUID]:
    """Let these failed transfers stand as they are; the ids of those that had failed."""
    return await uow.scalars(
        """UPDATE transfers SET state = 'waived', waived_reason = %(reason)s, waived_at = now()
           WHERE tenant_id = %(tenant)s AND id = ANY(%(ids)s) AND state = 'failed'
             AND (migration_id = %(migration)s OR target_store_id = ANY(%(stores)s)) RETURNING id""",
        {
            "tenant": uow.tenant_id,
            "migration": migration_id,
            "stores": list(store_ids),
            "ids": list(ids),
            "reason": reason,
        },
    )


async def count_backlog(uow: UnitOfWork, *, target_store_id: UUID) -> Backlog:
    """Counted among the rows, up to a thousand each: for decisions. What is shown comes from the counters."""
    found = await uow.find(
        Backlog,
        """SELECT
             (SELECT count(*) FROM (SELECT 1 FROM transfers WHERE tenant_id = %(tenant)s
               AND target_store_id = %(store)s AND state = 'pending' LIMIT 1000) p) AS pending,
             (SELECT count(*) FROM (SELECT 1 FROM transfers WHERE tenant_id = %(tenant)s
               AND target_store_id = %(store)s AND state = 'failed' LIMIT 1000) f) AS failed,
             (SELECT count(*) FROM (SELECT 1 FROM transfers WHERE tenant_id = %(tenant)s
               AND target_store_id = %(store)s AND state = 'waived' LIMIT 1000) w) AS waived""",
        {"tenant": uow.tenant_id, "store": target_store_id},
    )
    assert found is not None
    return found


async def release_writes(uow: UnitOfWork, tickets: Sequence[WriteTicket]) -> set[UUID]:
    """Leave copies in parts to whoever takes them up next; the replica ids of those that can be."""
    released = await uow.scalars(
        f"""UPDATE replicas r SET lease_until = now() FROM {blobs_repository.HELD}
              AND EXISTS (SELECT 1 FROM part_uploads u WHERE u.tenant_id = r.tenant_id AND u.replica_id = r.id)
            RETURNING r.id""",  # noqa: S608
        blobs_repository.tickets_of(uow, tickets),
    )
    return set(released)


@dataclass(frozen=True, slots=True)
class _Abandoned:
    id: UUID
    blob_id: UUID
    store_id: UUID
    key: str
    fence: int


async def take_over(
    uow: UnitOfWork, blob_ids: Sequence[UUID], *, store_id: UUID, lease_seconds: float
) -> dict[UUID, WriteTicket]:
    """Claim copies in parts whose writers are gone, by blob. The fence rises: what they still do counts no more."""
    rows = await uow.rows(
        _Abandoned,
        """UPDATE replicas r SET fence = r.fence + 1, lease_until = now() + make_interval(secs => %(lease)s::float8)
           FROM part_uploads u WHERE r.tenant_id = %(tenant)s AND r.blob_id = ANY(%(blobs)s)
             AND r.store_id = %(store)s AND r.state = 'writing' AND r.lease_until <= now()
             AND u.tenant_id = r.tenant_id AND u.replica_id = r.id
           RETURNING r.id, r.blob_id, r.store_id, r.key, r.fence""",
        {"tenant": uow.tenant_id, "blobs": list(blob_ids), "store": store_id, "lease": lease_seconds},
    )
    return {row.blob_id: WriteTicket(row.id, row.store_id, row.key, row.fence) for row in rows}


async def list_in_use(uow: UnitOfWork, tickets: Sequence[WriteTicket]) -> set[UUID]:
    """Of these replicas, those that others write, or have written, under their own claim."""
    return set(
        await uow.scalars(
            "SELECT id FROM replicas WHERE tenant_id = %s AND id = ANY(%s) AND state <> 'retiring'",
            [uow.tenant_id, [ticket.replica_id for ticket in tickets]],
        )
    )
