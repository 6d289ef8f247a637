"""SQL of caches. What one holds is counted in the transaction that adds or forgets a row: never more than it may."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.caches.values import CachePlace, Entry, Overfull, Unusable

_ENTRY: Final = "e.tenant_id, e.id, e.store_id, e.key, e.size_bytes, e.fence"


async def list_places(uow: UnitOfWork, blob_id: UUID, *, use_seconds: float) -> list[CachePlace]:
    """The caches in front of the tenant's stores, and what they have of the blob: a handful, as operators grant them.

    The use of an entry is old if it was noted that long ago.
    """
    return await uow.rows(
        CachePlace,
        """SELECT g.store_id, g.prefix, s.jurisdiction, s.cache_max_bytes AS max_bytes,
             t.allowed_jurisdictions AS allowed, e.id AS entry_id, e.key,
             e.used_at < now() - make_interval(secs => %(use)s::float8) AS is_use_old
           FROM store_grants g
           JOIN stores s ON s.id = g.store_id AND s.cache_max_bytes IS NOT NULL AND s.disabled_at IS NULL
           JOIN tenants t ON t.id = g.tenant_id
           LEFT JOIN cache_entries e ON e.tenant_id = g.tenant_id AND e.store_id = g.store_id
             AND e.blob_id = %(blob)s AND e.state = 'live'
           WHERE g.tenant_id = %(tenant)s AND g.revoked_at IS NULL ORDER BY s.name LIMIT 10""",
        {"tenant": uow.tenant_id, "blob": blob_id, "use": use_seconds},
    )


async def insert(uow: UnitOfWork, entry: Entry, blob_id: UUID, *, lease_seconds: float) -> bool:
    """Record the intent to write an entry; False if the cache has the blob, or somebody is at it. For the platform."""
    count = await uow.execute(
        """INSERT INTO cache_entries (tenant_id, id, blob_id, store_id, key, size_bytes, state, fence, lease_until)
           VALUES (%s, %s, %s, %s, %s, %s, 'writing', %s, now() + make_interval(secs => %s::float8))
           ON CONFLICT DO NOTHING""",
        [
            entry.tenant_id,
            entry.id,
            blob_id,
            entry.store_id,
            entry.key,
            entry.size_bytes,
            entry.fence,
            lease_seconds,
        ],
    )
    return count == 1


async def reserve(uow: UnitOfWork, store_id: UUID, size_bytes: int) -> int:
    """Count the bytes as the cache's if it has room for them; how many bytes it lacks. For the platform."""
    await uow.execute("INSERT INTO cache_sizes (store_id) VALUES (%s) ON CONFLICT DO NOTHING", [store_id])
    lacking = await uow.scalar(
        """SELECT c.used_bytes + %(size)s - s.cache_max_bytes FROM cache_sizes c JOIN stores s ON s.id = c.store_id
           WHERE c.store_id = %(store)s FOR UPDATE OF c""",
        {"store": store_id, "size": size_bytes},
    )
    if lacking is None:
        return size_bytes
    if lacking <= 0:
        await uow.execute(
            "UPDATE cache_sizes SET used_bytes = used_bytes + %s WHERE store_id = %s", [size_bytes, store_id]
        )
    return max(0, int(lacking))


async def forget_unreserved(uow: UnitOfWork, entry: Entry) -> None:
    """Take an intent back that nothing was counted for."""
    await uow.execute("DELETE FROM cache_entries WHERE tenant_id = %s AND id = %s", [entry.tenant_id, entry.id])


async def resize(uow: UnitOfWork, store_id: UUID, max_bytes: int) -> int | None:
    """Say how much a cache may hold; how much it was before, or None where the store is no cache. For the platform."""
    before: int | None = await uow.scalar(
        "SELECT cache_max_bytes FROM stores WHERE id = %s AND cache_max_bytes IS NOT NULL FOR UPDATE", [store_id]
    )
    if before is not None:
        await uow.execute("UPDATE stores SET cache_max_bytes = %s WHERE id = %s", [max_bytes, store_id])
    return before


async def list_overfull(uow: UnitOfWork) -> list[Overfull]:
    """Caches that hold more than they may, as they were made smaller, and how much more than is already going: of a
    thousand entries at most, which are more than are retired at a time. For the platform."""
    return await uow.rows(
        Overfull,
        """SELECT c.store_id, (c.used_bytes - s.cache_max_bytes - (SELECT coalesce(sum(size_bytes), 0) FROM (
             SELECT size_bytes FROM cache_entries e WHERE e.store_id = c.store_id AND e.state = 'retiring'
             LIMIT 1000) going))::bigint AS surplus_bytes
           FROM cache_sizes c JOIN stores s ON s.id = c.store_id WHERE c.used_bytes > s.cache_max_bytes""",
    )


async def retire_oldest(uow: UnitOfWork, store_id: UUID, *, lacking_bytes: int, limit: int) -> int:
    """Retire entries that were not used for longest until so many bytes are to become free; how many entries.

    Whoever's they are: the tenants of a cache share its room. For the platform.
    """
    return await uow.execute(
        """UPDATE cache_entries e SET state = 'retiring', lease_until = NULL, fence = e.fence + 1
           FROM (SELECT tenant_id, id, sum(size_bytes) OVER (ORDER BY used_at, id) - size_bytes AS before FROM (
               SELECT tenant_id, id, size_bytes, used_at FROM cache_entries
               WHERE store_id = %(store)s AND state = 'live' ORDER BY used_at, id LIMIT %(limit)s) page) oldest
           WHERE e.tenant_id = oldest.tenant_id AND e.id = oldest.id AND e.state = 'live'
             AND oldest.before < %(lacking)s""",
        {"store": store_id, "lacking": lacking_bytes, "limit": limit},
    )


async def extend(uow: UnitOfWork, entry: Entry, *, lease_seconds: float) -> bool:
    count = await uow.execute(
        """UPDATE cache_entries SET lease_until = now() + make_interval(secs => %s::float8)
           WHERE tenant_id = %s AND id = %s AND fence = %s AND state = 'writing'""",
        [lease_seconds, entry.tenant_id, entry.id, entry.fence],
    )
    return count == 1


async def confirm(uow: UnitOfWork, entry: Entry, blob_id: UUID) -> bool:
    """Turn a written entry live; False where it is to go: its blob died meanwhile, or the claim on it was lost."""
    # Against a purge that decides at the same time: it takes this row for itself, we share it.
    alive = await uow.scalar(
        "SELECT 1 FROM blobs WHERE tenant_id = %s AND id = %s AND dead_at IS NULL FOR SHARE",
        [entry.tenant_id, blob_id],
    )
    state = await uow.scalar(
        """UPDATE cache_entries SET state = %s, used_at = now(), lease_until = NULL
           WHERE tenant_id = %s AND id = %s AND fence = %s AND state = 'writing' RETURNING state""",
        ["live" if alive else "retiring", entry.tenant_id, entry.id, entry.fence],
    )
    return bool(state == "live")


async def give_up(uow: UnitOfWork, entry: Entry, *, grace_seconds: float) -> None:
    """A write that failed: cleaned away after a grace in which a request may still be landing."""
    await uow.execute(
        """UPDATE cache_entries SET state = 'retiring', fence = fence + 1,
             lease_until = now() + make_interval(secs => %s::float8)
           WHERE tenant_id = %s AND id = %s AND fence = %s AND state = 'writing'""",
        [grace_seconds, entry.tenant_id, entry.id, entry.fence],
    )


async def drop(uow: UnitOfWork, entry_id: UUID) -> bool:
    """An entry that was found wrong or gone serves no more."""
    count = await uow.execute(
        """UPDATE cache_entries SET state = 'retiring', lease_until = NULL, fence = fence + 1
           WHERE tenant_id = %s AND id = %s AND state = 'live'""",
        [uow.tenant_id, entry_id],
    )
    return count == 1


async def drop_blobs(uow: UnitOfWork, blob_ids: Sequence[UUID]) -> None:
    """These blobs are dead: no cache keeps them. One still being written is found dead by its writer, or expires."""
    await uow.execute(
        """UPDATE cache_entries SET state = 'retiring', lease_until = NULL, fence = fence + 1
           WHERE tenant_id = %s AND blob_id = ANY(%s) AND state = 'live'""",
        [uow.tenant_id, list(blob_ids)],
    )


async def retire_at(uow: UnitOfWork, store_id: UUID, *, limit: int) -> int:
    """Retire some of what the tenant has in a cache that it may use no more."""
    return await uow.execute(
        """UPDATE cache_entries SET state = 'retiring', lease_until = NULL, fence = fence + 1
           WHERE tenant_id = %(tenant)s AND id IN (SELECT id FROM cache_entries
             WHERE tenant_id = %(tenant)s AND store_id = %(store)s AND state = 'live' LIMIT %(limit)s)""",
        {"tenant": uow.tenant_id, "store": store_id, "limit": limit},
    )


async def note_use(uow: UnitOfWork, entry_id: UUID) -> None:
    await uow.execute(
        "UPDATE cache_entries SET used_at = now() WHERE tenant_id = %s AND id = %s AND state = 'live'",
        [uow.tenant_id, entry_id],
    )


async def claim_retiring(
    uow: UnitOfWork, *, tenant_id: UUID | None = None, store_id: UUID | None = None, limit: int, lease_seconds: float
) -> list[Entry]:
    """Claim what is to be removed, of one tenant or in one cache; writes whose lease ran out too. For the platform."""
    return await uow.rows(
        Entry,
        f"""WITH due AS MATERIALIZED (SELECT tenant_id AS tenant, id AS entry FROM cache_entries
             WHERE state IN ('writing', 'retiring') AND (lease_until IS NULL OR lease_until < now())
               AND (%(tenant)s::uuid IS NULL OR tenant_id = %(tenant)s)
               AND (%(store)s::uuid IS NULL OR store_id = %(store)s)
             LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
           UPDATE cache_entries e SET state = 'retiring', fence = e.fence + 1, attempt = e.attempt + 1,
             lease_until = now() + make_interval(secs => %(lease)s::float8)
           FROM due WHERE e.tenant_id = due.tenant AND e.id = due.entry RETURNING {_ENTRY}""",  # noqa: S608
        {"tenant": tenant_id, "store": store_id, "limit": limit, "lease": lease_seconds},
    )


async def remove(uow: UnitOfWork, gone: Sequence[Entry]) -> int:
    """Forget entries whose bytes are gone, and count them no more. For the platform."""
    return await uow.execute(
        """WITH removed AS (
             DELETE FROM cache_entries e
             USING unnest(%(tenants)s::uuid[], %(ids)s::uuid[], %(fences)s::bigint[]) AS i (tenant_id, id, fence)
             WHERE e.tenant_id = i.tenant_id AND e.id = i.id AND e.fence = i.fence AND e.state = 'retiring'
             RETURNING e.store_id, e.size_bytes)
           UPDATE cache_sizes c SET used_bytes = c.used_bytes - r.size_bytes
           FROM (SELECT store_id, sum(size_bytes) AS size_bytes FROM removed GROUP BY store_id) r
           WHERE c.store_id = r.store_id""",
        {
            "tenants": [entry.tenant_id for entry in gone],
            "ids": [entry.id for entry in gone],
            "fences": [entry.fence for entry in gone],
        },
    )


async def keep_for_later(uow: UnitOfWork, kept: Sequence[Entry], *, base_seconds: float) -> None:
    """Leave what could not be removed for a later attempt, each time later (at most an hour). For the platform."""
    await uow.execute(
        """UPDATE cache_entries e SET lease_until = now()
             + make_interval(secs => least(3600, %(base)s::float8 * power(2, least(e.attempt, 20))))
           FROM unnest(%(tenants)s::uuid[], %(ids)s::uuid[], %(fences)s::bigint[]) AS i (tenant_id, id, fence)
           WHERE e.tenant_id = i.tenant_id AND e.id = i.id AND e.fence = i.fence AND e.state = 'retiring'""",
        {
            "base": base_seconds,
            "tenants": [entry.tenant_id for entry in kept],
            "ids": [entry.id for entry in kept],
            "fences": [entry.fence for entry in kept],
        },
    )


async def list_tenants_to_clean(uow: UnitOfWork, *, limit: int) -> list[UUID]:
    """Tenants with entries to remove now. For the platform."""
    return await uow.scalars(
        """SELECT DISTINCT tenant_id FROM cache_entries WHERE state IN ('writing', 'retiring')
             AND (lease_until IS NULL OR lease_until < now()) LIMIT %s""",
        [limit],
    )


async def list_doubtful_places(
    uow: UnitOfWork, *, tenant_id: UUID | None, after: tuple[UUID, UUID] | None = None, limit: int
) -> list[Unusable]:
    """Caches that may hold what they may no more: closed ones, and those of tenants with a residency. For the platform.

    By tenant and store, those after one: as many rows as such caches are granted to tenants with something there.
    """
    return await uow.rows(
        Unusable,
        """SELECT g.tenant_id, g.store_id, s.jurisdiction, t.allowed_jurisdictions AS allowed,
             s.disabled_at IS NOT NULL OR g.revoked_at IS NOT NULL AS is_closed
           FROM stores s JOIN store_grants g ON g.store_id = s.id JOIN tenants t ON t.id = g.tenant_id
           WHERE s.cache_max_bytes IS NOT NULL AND (%(tenant)s::uuid IS NULL OR g.tenant_id = %(tenant)s)
             AND (s.disabled_at IS NOT NULL OR g.revoked_at IS NOT NULL OR t.allowed_jurisdictions IS NOT NULL)
             AND EXISTS (SELECT 1 FROM cache_entries e
               WHERE e.tenant_id = g.tenant_id AND e.store_id = g.store_id AND e.state = 'live')
             AND (%(after_tenant)s::uuid IS NULL
               OR (g.tenant_id, g.store_id) > (%(after_tenant)s::uuid, %(after_store)s::uuid))
           ORDER BY g.tenant_id, g.store_id LIMIT %(limit)s""",
        {
            "tenant": tenant_id,
            "after_tenant": after and after[0],
            "after_store": after and after[1],
            "limit": limit,
        },
    )
