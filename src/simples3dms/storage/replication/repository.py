"""SQL of replication lag: numbers from the counters, ages from the first entry of an index. It looks at no transfer."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.replication.values import StoreLag, TenantLag

#: In one statement, so that a fold beside it is seen whole or not at all.
_COUNTED: Final = """SELECT tenant_id, store_id, state, transfer_count, size_bytes FROM transfer_counts
  UNION ALL SELECT tenant_id, store_id, state, transfer_count, size_bytes FROM transfer_deltas"""
_SUMS: Final = """coalesce(sum(transfer_count) FILTER (WHERE state = 'pending'), 0)::bigint AS pending_count,
  coalesce(sum(size_bytes) FILTER (WHERE state = 'pending'), 0)::bigint AS pending_bytes,
  coalesce(sum(transfer_count) FILTER (WHERE state = 'failed'), 0)::bigint AS failed_count,
  coalesce(sum(size_bytes) FILTER (WHERE state = 'failed'), 0)::bigint AS failed_bytes,
  coalesce(sum(transfer_count) FILTER (WHERE state = 'waived'), 0)::bigint AS waived_count"""
_NUMBERS: Final = """coalesce(o.pending_count, 0) AS pending_count, coalesce(o.pending_bytes, 0) AS pending_bytes,
  coalesce(o.failed_count, 0) AS failed_count, coalesce(o.failed_bytes, 0) AS failed_bytes,
  coalesce(o.waived_count, 0) AS waived_count, w.oldest_at,
  coalesce(greatest(0, extract(epoch FROM now() - w.oldest_at)), 0)::float8 AS lag_seconds"""
_ORDER: Final = "ORDER BY w.oldest_at NULLS LAST"
_STORE: Final = "s.id AS store_id, s.name AS store, s.owner_tenant_id IS NOT NULL AS is_brought"
_OF_TENANT: Final = f"""SELECT {_STORE}, {_NUMBERS}
  FROM store_grants g JOIN stores s ON s.id = g.store_id AND s.cache_max_bytes IS NULL
    LEFT JOIN (SELECT store_id, {_SUMS} FROM ({_COUNTED}) counted WHERE tenant_id = %(tenant)s GROUP BY store_id) o
      ON o.store_id = g.store_id
    CROSS JOIN LATERAL (SELECT min(created_at) AS oldest_at FROM transfers t WHERE t.tenant_id = %(tenant)s
      AND t.target_store_id = g.store_id AND t.state = 'pending') w
  WHERE g.tenant_id = %(tenant)s AND (g.revoked_at IS NULL OR o.pending_count + o.failed_count > 0)
  {_ORDER}, s.name LIMIT 500"""  # noqa: S608
_OF_ALL: Final = f"""SELECT {_STORE}, {_NUMBERS}
  FROM stores s LEFT JOIN (SELECT store_id, {_SUMS} FROM ({_COUNTED}) counted GROUP BY store_id) o ON o.store_id = s.id
    CROSS JOIN LATERAL (SELECT min(created_at) AS oldest_at FROM transfers t
      WHERE t.target_store_id = s.id AND t.state = 'pending') w
  WHERE s.id = %(store)s OR %(store)s::uuid IS NULL AND (o.pending_count + o.failed_count > 0
    OR s.owner_tenant_id IS NULL AND s.disabled_at IS NULL AND s.cache_max_bytes IS NULL)
  {_ORDER}, s.name LIMIT 10000"""  # noqa: S608
_OF_STORE: Final = f"""SELECT n.id AS tenant_id, n.slug AS tenant, {_NUMBERS}
  FROM (SELECT tenant_id, {_SUMS} FROM ({_COUNTED}) counted WHERE store_id = %(store)s GROUP BY tenant_id) o
    JOIN tenants n ON n.id = o.tenant_id
    CROSS JOIN LATERAL (SELECT min(created_at) AS oldest_at FROM transfers t WHERE t.tenant_id = o.tenant_id
      AND t.target_store_id = %(store)s AND t.state = 'pending') w
  WHERE o.pending_count + o.failed_count > 0 {_ORDER}, n.slug LIMIT %(limit)s"""  # noqa: S608


async def list_of_tenant(uow: UnitOfWork) -> list[StoreLag]:
    """Each of the tenant's stores, the one that is most behind first."""
    return await uow.rows(StoreLag, _OF_TENANT, {"tenant": uow.tenant_id})


async def list_of_all(uow: UnitOfWork) -> list[StoreLag]:
    """Each store of the platform, and those that tenants brought and that are owed something. For the platform."""
    return await uow.rows(StoreLag, _OF_ALL, {"store": None})


async def get_of_store(uow: UnitOfWork, store_id: UUID) -> StoreLag:
    (found,) = await uow.rows(StoreLag, _OF_ALL, {"store": store_id})
    return found


async def list_of_store(uow: UnitOfWork, store_id: UUID, *, limit: int) -> list[TenantLag]:
    """Tenants whose blobs a store is owed, the one that is most behind first. For the platform."""
    return await uow.rows(TenantLag, _OF_STORE, {"store": store_id, "limit": limit})


async def is_surveying(uow: UnitOfWork) -> bool:
    """Whether it is being looked at, or about to be, what the placement wants of the blobs that are there already."""
    found = await uow.scalar(
        """SELECT 1 FROM placement_surveys WHERE tenant_id = %s AND due_at IS NOT NULL
             AND (after_seq > 0 OR due_at < now() + interval '5 minutes')""",
        [uow.tenant_id],
    )
    return found is not None


async def find_granted_id(uow: UnitOfWork, name_or_id: str) -> UUID | None:
    """A store that the tenant may use or that it is still owed something at, by its name or id."""
    found: UUID | None = await uow.scalar(
        """SELECT s.id FROM store_grants g JOIN stores s ON s.id = g.store_id
           WHERE g.tenant_id = %s AND (s.name = %s OR s.id::text = %s) ORDER BY g.revoked_at IS NOT NULL LIMIT 1""",
        [uow.tenant_id, name_or_id, name_or_id],
    )
    return found
