"""SQL of upkeep: pages over the records, each bounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.placement.repository import SUBJECT
from simples3dms.storage.placement.values import Seen
from simples3dms.storage.upkeep.values import Copy, Granted, KnownKey


@dataclass(frozen=True, slots=True)
class BareVersion:
    """A page's last key, and whether the version has no live replica."""

    document_id: UUID
    number: int
    is_bare: bool


@dataclass(frozen=True, slots=True)
class Pending:
    """Work that is under way or due in a tenant."""

    writing: int
    retiring: int
    locked: int
    locks: int
    transfers: int
    failed: int
    uploads: int


async def list_grants(uow: UnitOfWork, *, after: tuple[UUID, UUID] | None, limit: int) -> list[Granted]:
    """All tenants' places in stores, by keyset. For the platform's unit of work."""
    tenant_id, store_id = after or (UUID(int=0), UUID(int=0))
    return await uow.rows(
        Granted,
        """SELECT g.tenant_id, g.store_id, s.name AS store_name, g.prefix FROM store_grants g
           JOIN stores s ON s.id = g.store_id WHERE (g.tenant_id, g.store_id) > (%s, %s)
           ORDER BY g.tenant_id, g.store_id LIMIT %s""",
        [tenant_id, store_id, limit],
    )


async def list_versions(uow: UnitOfWork, *, after: tuple[UUID, int], limit: int) -> list[BareVersion]:
    return await uow.rows(
        BareVersion,
        """SELECT v.document_id, v.number, NOT EXISTS (
             SELECT 1 FROM replicas r JOIN blobs b ON b.tenant_id = r.tenant_id AND b.id = r.blob_id
             WHERE r.tenant_id = v.tenant_id AND r.blob_id = v.blob_id AND r.state = 'live'
               AND b.dead_at IS NULL) AS is_bare
           FROM versions v WHERE v.tenant_id = %s AND (v.document_id, v.number) > (%s, %s)
           ORDER BY v.document_id, v.number LIMIT %s""",
        [uow.tenant_id, after[0], after[1], limit],
    )


async def list_orphan_blobs(uow: UnitOfWork, *, limit: int) -> list[UUID]:
    """Living blobs that no version refers to."""
    return await uow.scalars(
        """SELECT b.id FROM blobs b WHERE b.tenant_id = %s AND b.dead_at IS NULL AND NOT EXISTS (
             SELECT 1 FROM versions v WHERE v.tenant_id = b.tenant_id AND v.blob_id = b.id) LIMIT %s""",
        [uow.tenant_id, limit],
    )


async def list_cached_dead(uow: UnitOfWork, *, limit: int) -> list[UUID]:
    """Blobs that are dead or forgotten, and that a cache still serves."""
    return await uow.scalars(
        """SELECT e.blob_id FROM cache_entries e WHERE e.tenant_id = %s AND e.state = 'live' AND NOT EXISTS (
             SELECT 1 FROM blobs b WHERE b.tenant_id = e.tenant_id AND b.id = e.blob_id AND b.dead_at IS NULL)
           LIMIT %s""",
        [uow.tenant_id, limit],
    )


async def list_placed(uow: UnitOfWork, *, after_seq: int, limit: int) -> list[Seen]:
    """The next living blobs, with the stores that hold them, are to, or are owed them: in one look, as a copy that is
    made meanwhile is no debt any more."""
    return await uow.rows(
        Seen,
        f"""SELECT b.seq, {SUBJECT}, ARRAY(SELECT r.store_id FROM replicas r WHERE r.tenant_id = b.tenant_id
                AND r.blob_id = b.id AND r.state <> 'retiring'
              UNION SELECT t.target_store_id FROM transfers t WHERE t.tenant_id = b.tenant_id AND t.blob_id = b.id)
              AS store_ids
            FROM blobs b WHERE b.tenant_id = %s AND b.seq > %s AND b.dead_at IS NULL ORDER BY b.seq LIMIT %s""",  # noqa: S608
        [uow.tenant_id, after_seq, limit],
    )


async def list_live(uow: UnitOfWork, *, after: UUID | None, limit: int) -> list[Copy]:
    return await uow.rows(
        Copy,
        """SELECT r.id, r.store_id, s.name AS store_name, r.key, r.version_id, b.digest, b.size_bytes FROM replicas r
           JOIN blobs b ON b.tenant_id = r.tenant_id AND b.id = r.blob_id JOIN stores s ON s.id = r.store_id
           WHERE r.tenant_id = %(tenant)s AND r.state = 'live' AND (%(after)s::uuid IS NULL OR r.id > %(after)s)
           ORDER BY r.id LIMIT %(limit)s""",
        {"tenant": uow.tenant_id, "after": after, "limit": limit},
    )


async def list_known(uow: UnitOfWork, store_id: UUID, keys: Sequence[str]) -> list[KnownKey]:
    return await uow.rows(
        KnownKey,
        """SELECT key, version_id, state FROM replicas
             WHERE tenant_id = %(tenant)s AND store_id = %(store)s AND key = ANY(%(keys)s)
           UNION ALL
           SELECT key, NULL, state FROM cache_entries
             WHERE tenant_id = %(tenant)s AND store_id = %(store)s AND key = ANY(%(keys)s)
           UNION ALL
           SELECT key, NULL, state FROM audit_copies
             WHERE tenant_id = %(tenant)s AND store_id = %(store)s AND key = ANY(%(keys)s)""",
        {"tenant": uow.tenant_id, "store": store_id, "keys": list(keys)},
    )


async def count_pending(uow: UnitOfWork) -> Pending:
    """Counted up to 1,000 each."""
    found = await uow.find(
        Pending,
        """SELECT
             (SELECT count(*) FROM (SELECT 1 FROM replicas WHERE tenant_id = %(t)s AND state = 'writing'
               UNION ALL SELECT 1 FROM cache_entries WHERE tenant_id = %(t)s AND state = 'writing'
               LIMIT 1000) x) AS writing,
             (SELECT count(*) FROM (SELECT 1 FROM replicas WHERE tenant_id = %(t)s AND state = 'retiring'
               AND last_error IS DISTINCT FROM 'object_locked'
               UNION ALL SELECT 1 FROM cache_entries WHERE tenant_id = %(t)s AND state = 'retiring'
               LIMIT 1000) x) AS retiring,
             (SELECT count(*) FROM (SELECT 1 FROM replicas WHERE tenant_id = %(t)s AND state = 'retiring'
               AND last_error = 'object_locked' LIMIT 1000) x) AS locked,
             (SELECT count(*) FROM (SELECT 1 FROM object_locks WHERE tenant_id = %(t)s AND due_at IS NOT NULL
               LIMIT 1000) x) AS locks,
             (SELECT count(*) FROM (SELECT 1 FROM transfers WHERE tenant_id = %(t)s AND state = 'pending'
               LIMIT 1000) x) AS transfers,
             (SELECT count(*) FROM (SELECT 1 FROM transfers WHERE tenant_id = %(t)s AND state = 'failed'
               LIMIT 1000) x) AS failed,
             (SELECT count(*) FROM (SELECT 1 FROM uploads WHERE tenant_id = %(t)s AND state = 'open'
               LIMIT 1000) x) AS uploads""",
        {"t": uow.tenant_id},
    )
    assert found is not None
    return found
