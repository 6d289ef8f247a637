"""SQL of leaving a store: what of a migration's blobs is still there, and what may go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.blobs.proofs import Proof
from simples3dms.storage.blobs.repository import PROVEN
from simples3dms.storage.migrations.values import MigrationRow, RemnantPage
from simples3dms.storage.placement.repository import IS_SELECTED, selection_params

#: Whether the copy that replica `r` waits for was waived; %(staying)s is the store that it was for.
_WAIVED: Final = """EXISTS (SELECT 1 FROM transfers t WHERE t.tenant_id = r.tenant_id AND t.blob_id = r.blob_id
  AND t.target_store_id = %(staying)s AND t.state = 'waived')"""


async def list_to_evacuate(
    uow: UnitOfWork, blob_ids: Sequence[UUID], *, leaving_store_id: UUID, staying_store_id: UUID, proof: Proof
) -> list[tuple[UUID, bool]]:
    """Of these blobs, those with a replica in the store that is left; True where no other one is proven well enough.

    What was waived stays where it is.
    """
    cursor = await uow.connection.execute(
        f"""SELECT l.blob_id, bool_and(NOT EXISTS (
               SELECT 1 FROM replicas r WHERE r.tenant_id = l.tenant_id AND r.blob_id = l.blob_id
                 AND r.store_id <> l.store_id AND r.state = 'live' AND {PROVEN}))
           FROM (SELECT r.tenant_id, r.blob_id, r.store_id FROM replicas r
             WHERE r.tenant_id = %(tenant)s AND r.blob_id = ANY(%(blobs)s) AND r.store_id = %(leaving)s
               AND r.state IN ('live', 'suspect', 'missing') AND NOT {_WAIVED}) l GROUP BY l.blob_id""",  # noqa: S608
        {
            "tenant": uow.tenant_id,
            "blobs": list(blob_ids),
            "leaving": leaving_store_id,
            "staying": staying_store_id,
            "percent": proof.read_back_percent,
        },
    )
    return await cursor.fetchall()


async def note_origins(
    uow: UnitOfWork, blob_ids: Sequence[UUID], *, leaving_store_id: UUID, staying_store_id: UUID
) -> None:
    """Keep, with the copies that stay, where those lie that this very unit of work has retired: a report names them."""
    await uow.execute(
        """UPDATE replicas o SET origin_store_id = r.store_id, origin_key = r.key FROM replicas r
           WHERE r.tenant_id = %(tenant)s AND r.blob_id = ANY(%(blobs)s) AND r.store_id = %(leaving)s
             AND r.state = 'retiring' AND r.state_at = now() AND o.tenant_id = r.tenant_id
             AND o.blob_id = r.blob_id AND o.store_id = %(staying)s AND o.state = 'live'""",
        {
            "tenant": uow.tenant_id,
            "blobs": list(blob_ids),
            "leaving": leaving_store_id,
            "staying": staying_store_id,
        },
    )


async def find_remnants(uow: UnitOfWork, row: MigrationRow, *, limit: int) -> list[int]:
    """Blobs (by sequence) that still have a finished replica in the store that is left, and were not waived."""
    return await uow.scalars(
        f"""SELECT b.seq FROM replicas r JOIN blobs b ON b.tenant_id = r.tenant_id AND b.id = r.blob_id
           WHERE r.tenant_id = %(tenant)s AND r.store_id = %(leaving)s AND r.state IN ('live', 'suspect', 'missing')
             AND NOT {_WAIVED} LIMIT %(limit)s""",  # noqa: S608
        {
            "tenant": uow.tenant_id,
            "leaving": row.leaving_store_id,
            "staying": row.staying_store_id,
            "limit": limit,
        },
    )


async def remnant_page(uow: UnitOfWork, row: MigrationRow, *, after_seq: int, limit: int) -> RemnantPage:
    """The same among the next blobs, of which only some are to leave: what stays would be looked at each time."""
    found = await uow.find(
        RemnantPage,
        f"""SELECT max(seq) AS last_seq, coalesce(array_agg(seq) FILTER (WHERE is_there), '{{}}') AS seqs
            FROM (SELECT b.seq, EXISTS (SELECT 1 FROM replicas r WHERE r.tenant_id = b.tenant_id AND r.blob_id = b.id
                    AND r.store_id = %(leaving)s AND r.state IN ('live', 'suspect', 'missing')
                    AND NOT {_WAIVED}) AND {IS_SELECTED} AS is_there
                  FROM blobs b WHERE b.tenant_id = %(tenant)s AND b.seq > %(after)s ORDER BY b.seq LIMIT %(limit)s)
              page""",  # noqa: S608
        {
            "tenant": uow.tenant_id,
            "leaving": row.leaving_store_id,
            "staying": row.staying_store_id,
            "after": after_seq,
            "limit": limit,
            **selection_params(row.leaving),
        },
    )
    assert found is not None
    return found


async def has_replicas(uow: UnitOfWork, row: MigrationRow) -> bool:
    """Whether the tenant has any replica row at all in the store, also one being written or removed; what was waived
    stays there, and what the store itself keeps goes when its lock ends."""
    found = await uow.scalar(
        f"""SELECT 1 FROM replicas r WHERE r.tenant_id = %(tenant)s AND r.store_id = %(leaving)s
             AND NOT (r.state IN ('live', 'suspect', 'missing') AND {_WAIVED})
             AND NOT (r.state = 'retiring' AND r.last_error IS NOT DISTINCT FROM 'object_locked') LIMIT 1""",  # noqa: S608
        {"tenant": uow.tenant_id, "leaving": row.leaving_store_id, "staying": row.staying_store_id},
    )
    return found is not None


async def is_busy(uow: UnitOfWork, row: MigrationRow) -> bool:
    """Whether anything of the part is being written to the store or removed from it, or may come to be.

    An upload that was routed before the turn is of no blob yet, and so of no part: it is waited out.
    """
    found = await uow.scalar(
        f"""SELECT 1 FROM replicas r LEFT JOIN blobs b ON b.tenant_id = r.tenant_id AND b.id = r.blob_id
            WHERE r.tenant_id = %(tenant)s AND r.store_id = %(leaving)s AND r.state IN ('writing', 'retiring')
              AND NOT (r.state = 'retiring' AND r.last_error IS NOT DISTINCT FROM 'object_locked')
              AND (b.id IS NOT NULL AND {IS_SELECTED} OR r.blob_id IS NULL AND r.state = 'writing'
                AND r.created_at <= %(phase)s) LIMIT 1""",  # noqa: S608
        {
            "tenant": uow.tenant_id,
            "leaving": row.leaving_store_id,
            "phase": row.phase_at,
            **selection_params(row.leaving),
        },
    )
    return found is not None


async def count_locked(uow: UnitOfWork, row: MigrationRow) -> int:
    """Replicas that are to be removed from the store and that it keeps by a lock. Counted up to 1,000."""
    return int(
        await uow.scalar(
            f"""SELECT count(*) FROM (SELECT 1 FROM replicas d JOIN blobs b ON b.tenant_id = d.tenant_id
                  AND b.id = d.blob_id WHERE d.tenant_id = %(tenant)s AND d.store_id = %(leaving)s
                  AND d.state = 'retiring' AND d.last_error = 'object_locked' AND {IS_SELECTED} LIMIT 1000) x""",  # noqa: S608
            {"tenant": uow.tenant_id, "leaving": row.leaving_store_id, **selection_params(row.leaving)},
        )
    )
