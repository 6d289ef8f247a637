"""SQL of the counters. Triggers keep them: the database adds a delta with each statement that changes the catalogue."""

from __future__ import annotations

from typing import Final

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.counters.values import Drift, Total

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


async def list_totals(uow: UnitOfWork) -> list[Total]:
    """Of the tenant, and of it in each store. Exact as of this statement."""
    return await uow.rows(Total, _COUNTED, {"tenant": uow.tenant_id})


async def find_total(uow: UnitOfWork) -> Total:
    """The tenant's living blobs."""
    found = [total for total in await list_totals(uow) if total.store_id is None]
    return found[0] if found else Total(None, 0, 0)


async def fold(uow: UnitOfWork, *, limit: int) -> int:
    """Add deltas to the counts; how many there were. For the platform's unit of work."""
    return await uow.execute(
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


async def list_drift(uow: UnitOfWork) -> list[Drift]:
    """Which numbers are wrong. It looks at every row of the tenant: for checks, not for views."""
    return await uow.rows(Drift, _DRIFT, {"tenant": uow.tenant_id})


async def correct(uow: UnitOfWork) -> int:
    """Put the numbers right; how many were wrong. Exact beside whatever else is being written: rows and numbers are
    compared as of one moment, and what differs is added."""
    return await uow.execute(
        f"""INSERT INTO catalogue_deltas (tenant_id, store_id, blob_count, size_bytes)
            SELECT %(tenant)s, store_id, blob_count, size_bytes FROM ({_DRIFT}) drift""",  # noqa: S608
        {"tenant": uow.tenant_id},
    )
