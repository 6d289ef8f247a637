"""SQL of the counters. Triggers keep them: the database adds a delta with each statement that changes the catalogue."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.counters.values import Drift, Owed, Total

#: In one statement, so that a fold beside it is seen whole or not at all.
_COUNTED: Final = """SELECT store_id, sum(blob_count)::bigint AS blob_count, sum(size_bytes)::bigint AS size_bytes
  FROM (SELECT store_id, blob_count, size_bytes FROM catalogue_counts WHERE tenant_id = %(tenant)s
    UNION ALL SELECT store_id, blob_count, size_bytes FROM catalogue_deltas WHERE tenant_id = %(tenant)s) counted
  GROUP BY store_id"""
_DRIFT: Final = f"""SELECT store_id, sum(blob_count)::bigint AS blob_count, sum(size_bytes)::bigint AS size_bytes
  FROM (SELECT store_id, -blob_count AS blob_count, -size_bytes AS size_bytes FROM ({_COUNTED}) counted
    UNION ALL SELECT NULL, 1, size_bytes FROM blobs WHERE tenant_id = %(tenant)s AND dead_at IS NULL
    UNION ALL SELECT r.store_id, 1, b.size_bytes FROM replicas r
      JOIN blobs b ON b.tenant_id = r.tenant_id AND b.id = r.blob_id
      WHERE r.tenant_id = %(tenant)s AND r.state = 'live') compared
  GROUP BY store_id HAVING sum(blob_count) <> 0 OR sum(size_bytes) <> 0"""  # noqa: S608

_OWED: Final = """SELECT store_id, state, sum(transfer_count)::bigint AS transfer_count,
    sum(size_bytes)::bigint AS size_bytes
  FROM (SELECT store_id, state, transfer_count, size_bytes FROM transfer_counts WHERE tenant_id = %(tenant)s
    UNION ALL SELECT store_id, state, transfer_count, size_bytes FROM transfer_deltas WHERE tenant_id = %(tenant)s) owed
  GROUP BY store_id, state"""
_OWED_DRIFT: Final = f"""SELECT store_id, state, sum(transfer_count)::bigint AS transfer_count,
    sum(size_bytes)::bigint AS size_bytes
  FROM (SELECT store_id, state, -transfer_count AS transfer_count, -size_bytes AS size_bytes FROM ({_OWED}) counted
    UNION ALL SELECT target_store_id, state, 1, coalesce(size_bytes, 0) FROM transfers WHERE tenant_id = %(tenant)s
  ) compared
  GROUP BY store_id, state HAVING sum(transfer_count) <> 0 OR sum(size_bytes) <> 0"""  # noqa: S608


async def list_totals(uow: UnitOfWork) -> list[Total]:
    """Of the tenant, and of it in each store. Exact as of this statement."""
    return await uow.rows(Total, _COUNTED, {"tenant": uow.tenant_id})


async def find_total(uow: UnitOfWork) -> Total:
    """The tenant's living blobs."""
    found = [total for total in await list_totals(uow) if total.store_id is None]
    return found[0] if found else Total(None, 0, 0)


async def list_owed(uow: UnitOfWork) -> list[Owed]:
    """The copies that the tenant's stores are owed, by store and state. Exact as of this statement."""
    found = await uow.rows(Owed, _OWED, {"tenant": uow.tenant_id})
    return [owed for owed in found if owed.transfer_count]


async def count_owed(uow: UnitOfWork, store_id: UUID) -> dict[str, int]:
    """How many copies of the tenant's a store is owed, by state. Exact as of this statement."""
    return {owed.state: owed.transfer_count for owed in await list_owed(uow) if owed.store_id == store_id}


async def fold(uow: UnitOfWork, *, limit: int) -> int:
    """Add deltas to the counts; how many rows of counts that changed. For the platform's unit of work."""
    blobs = await uow.execute(
        """WITH taken AS (DELETE FROM catalogue_deltas WHERE (tenant_id, id) IN (
               SELECT tenant_id, id FROM catalogue_deltas LIMIT %s FOR UPDATE SKIP LOCKED)
             RETURNING tenant_id, store_id, blob_count, size_bytes)
           INSERT INTO catalogue_counts (tenant_id, store_id, blob_count, size_bytes)
           SELECT tenant_id, store_id, sum(blob_count), sum(size_bytes) FROM taken
           GROUP BY tenant_id, store_id ORDER BY tenant_id, store_id
           ON CONFLICT (tenant_id, store_id) DO UPDATE SET
             blob_count = catalogue_counts.blob_count + EXCLUDED.blob_count,
             size_bytes = catalogue_counts.size_bytes + EXCLUDED.size_bytes""",
        [limit],
    )
    transfers = await uow.execute(
        """WITH taken AS (DELETE FROM transfer_deltas WHERE (tenant_id, id) IN (
               SELECT tenant_id, id FROM transfer_deltas LIMIT %s FOR UPDATE SKIP LOCKED)
             RETURNING tenant_id, store_id, state, transfer_count, size_bytes)
           INSERT INTO transfer_counts (tenant_id, store_id, state, transfer_count, size_bytes)
           SELECT tenant_id, store_id, state, sum(transfer_count), sum(size_bytes) FROM taken
           GROUP BY tenant_id, store_id, state ORDER BY tenant_id, store_id, state
           ON CONFLICT (tenant_id, store_id, state) DO UPDATE SET
             transfer_count = transfer_counts.transfer_count + EXCLUDED.transfer_count,
             size_bytes = transfer_counts.size_bytes + EXCLUDED.size_bytes""",
        [limit],
    )
    return blobs + transfers


async def list_drift(uow: UnitOfWork) -> list[Drift]:
    """Which numbers are wrong. It looks at every row of the tenant: for checks, not for views."""
    return await uow.rows(Drift, _DRIFT, {"tenant": uow.tenant_id})


async def list_owed_drift(uow: UnitOfWork) -> list[Owed]:
    """The same for copies that are owed: by how much each number is too low."""
    return await uow.rows(Owed, _OWED_DRIFT, {"tenant": uow.tenant_id})


async def correct(uow: UnitOfWork) -> int:
    """Put the numbers right; how many were wrong. Exact beside whatever else is being written: rows and numbers are
    compared as of one moment, and what differs is added."""
    blobs = await uow.execute(
        f"""INSERT INTO catalogue_deltas (tenant_id, store_id, blob_count, size_bytes)
            SELECT %(tenant)s, store_id, blob_count, size_bytes FROM ({_DRIFT}) drift""",  # noqa: S608
        {"tenant": uow.tenant_id},
    )
    transfers = await uow.execute(
        f"""INSERT INTO transfer_deltas (tenant_id, store_id, state, transfer_count, size_bytes)
            SELECT %(tenant)s, store_id, state, transfer_count, size_bytes FROM ({_OWED_DRIFT}) drift""",  # noqa: S608
        {"tenant": uow.tenant_id},
    )
    return blobs + transfers
