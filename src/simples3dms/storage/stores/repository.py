"""SQL of stores and grants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.stores.values import GrantedStore, Place, PricedStore, ProbeResult, Sample, Store

_STORE: Final = """id, name, kind, settings, created_at, disabled_at, tuning, probe_verdict, probed_at,
  owner_tenant_id, jurisdiction, jurisdiction_source, untrusted_at, untrusted_reason,
  price_per_gib_month, cache_max_bytes, prices"""
_GRANTED: Final = """SELECT s.id, s.name, s.kind, g.prefix, s.jurisdiction, s.owner_tenant_id IS NOT NULL AS is_own,
    s.cache_max_bytes IS NOT NULL AS is_cache
  FROM store_grants g JOIN stores s ON s.id = g.store_id"""
#: Held while it is decided whether a place, or a prefix in it, is free.
_PLACES_LOCK: Final = 0x53_33_44_4D_50_4C


@dataclass(frozen=True, slots=True)
class NewStore:
    """A store that is about to be recorded."""

    id: UUID
    name: str
    kind: str
    settings: dict[str, Any]
    tuning: dict[str, Any]
    owner: UUID | None
    jurisdiction: str | None
    cache_max_bytes: int | None = None


async def lock_places(uow: UnitOfWork) -> None:
    await uow.execute("SELECT pg_advisory_xact_lock(%s)", [_PLACES_LOCK])


async def insert(uow: UnitOfWork, new: NewStore) -> Store | None:
    """The new store, or None if its owner has one of this name."""
    return await uow.find(
        Store,
        f"""INSERT INTO stores (id, name, kind, settings, tuning, owner_tenant_id, jurisdiction, jurisdiction_source,
              cache_max_bytes)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
            ON CONFLICT (owner_tenant_id, name) DO NOTHING RETURNING {_STORE}""",  # noqa: S608
        [
            new.id,
            new.name,
            new.kind,
            Jsonb(new.settings),
            Jsonb(new.tuning),
            new.owner,
            new.jurisdiction,
            "provider" if new.jurisdiction else None,
            new.cache_max_bytes,
        ],
    )


async def set_settings(uow: UnitOfWork, store_id: UUID, settings: dict[str, Any]) -> None:
    await uow.execute("UPDATE stores SET settings = %s WHERE id = %s", [Jsonb(settings), store_id])


async def has_locks(uow: UnitOfWork, store_id: UUID) -> bool:
    """Whether the store keeps anything by a lock that we set, or is about to."""
    found = await uow.scalar(
        """SELECT 1 FROM object_locks
           WHERE store_id = %s AND (asked_hold OR asked_until > now() OR due_at IS NOT NULL) LIMIT 1""",
        [store_id],
    )
    return found is not None


async def survey_locks(uow: UnitOfWork, store_id: UUID) -> None:
    """Have every tenant of the store looked at, for what it is to lock now."""
    await uow.execute(
        """INSERT INTO lock_surveys (tenant_id, due_at)
           SELECT g.tenant_id, now() FROM store_grants g WHERE g.store_id = %s
           ON CONFLICT (tenant_id) DO UPDATE SET after = NULL, due_at = now(), fence = lock_surveys.fence + 1""",
        [store_id],
    )


async def list_samples(uow: UnitOfWork, store_id: UUID, *, of_each: int, limit: int) -> list[Sample]:
    """Some of the live replicas of a store: the newest few of each tenant."""
    return await uow.rows(
        Sample,
        """SELECT r.key, r.version_id, b.size_bytes FROM store_grants g
           CROSS JOIN LATERAL (SELECT * FROM replicas WHERE tenant_id = g.tenant_id AND store_id = g.store_id
             AND state = 'live' ORDER BY id DESC LIMIT %(each)s) r
           JOIN blobs b ON b.tenant_id = r.tenant_id AND b.id = r.blob_id
           WHERE g.store_id = %(store)s LIMIT %(limit)s""",
        {"store": store_id, "each": of_each, "limit": limit},
    )


async def set_jurisdiction(uow: UnitOfWork, store_id: UUID, code: str | None) -> None:
    await uow.execute(
        "UPDATE stores SET jurisdiction = %s, jurisdiction_source = %s WHERE id = %s",
        [code, "operator" if code else None, store_id],
    )


async def count_of_owner(uow: UnitOfWork, owner: UUID, kind: str) -> int:
    return int(await uow.scalar("SELECT count(*) FROM stores WHERE owner_tenant_id = %s AND kind = %s", [owner, kind]))


async def set_tuning(uow: UnitOfWork, store_id: UUID, tuning: dict[str, Any]) -> None:
    await uow.execute("UPDATE stores SET tuning = %s WHERE id = %s", [Jsonb(tuning), store_id])


async def save_probe(uow: UnitOfWork, store_id: UUID, verdict: str, findings: list[dict[str, str]]) -> None:
    await uow.execute(
        "UPDATE stores SET probe = %s, probe_verdict = %s, probed_at = now() WHERE id = %s",
        [Jsonb(findings), verdict, store_id],
    )


async def list_priced(uow: UnitOfWork, store_ids: Sequence[UUID]) -> list[PricedStore]:
    """What tells the cost of these stores. In a tenant's unit of work: of those that it was granted."""
    return await uow.rows(
        PricedStore,
        """SELECT id, name, kind, settings, tuning, price_per_gib_month, prices, probe_verdict, probed_at
           FROM stores WHERE id = ANY(%s) ORDER BY name""",
        [list(store_ids)],
    )


async def find_probe(uow: UnitOfWork, store_id: UUID) -> ProbeResult | None:
    """What the last probe found; None before the first."""
    return await uow.find(
        ProbeResult,
        "SELECT probe_verdict AS verdict, probe AS findings, probed_at FROM stores WHERE id = %s AND probe IS NOT NULL",
        [store_id],
    )


async def list_due_probes(uow: UnitOfWork, *, hours: float, limit: int) -> list[UUID]:
    """Stores in use whose last probe is that old; the oldest first."""
    return await uow.scalars(
        """SELECT id FROM stores
           WHERE disabled_at IS NULL AND coalesce(probed_at, created_at) < now() - make_interval(secs => %s)
           ORDER BY coalesce(probed_at, created_at) LIMIT %s""",
        [hours * 3600, limit],
    )


async def claim_probe(uow: UnitOfWork, store_id: UUID, *, hours: float) -> bool:
    """Whether this worker is the one to probe now: the time is moved on first, so that no other one does too."""
    found = await uow.scalar(
        """UPDATE stores SET probed_at = now()
           WHERE id = %s AND disabled_at IS NULL
             AND coalesce(probed_at, created_at) < now() - make_interval(secs => %s) RETURNING 1""",
        [store_id, hours * 3600],
    )
    return found is not None


async def find(
    uow: UnitOfWork, *, owner: UUID | None, name: str | None = None, store_id: UUID | None = None
) -> Store | None:
    """Among the owner's stores; None: the platform's."""
    return await uow.find(
        Store,
        f"""SELECT {_STORE} FROM stores WHERE owner_tenant_id IS NOT DISTINCT FROM %s::uuid
            AND (name = %s OR id = %s)""",  # noqa: S608
        [owner, name, store_id],
    )


async def find_anyones(uow: UnitOfWork, store_id: UUID) -> Store | None:
    return await uow.find(Store, f"SELECT {_STORE} FROM stores WHERE id = %s", [store_id])  # noqa: S608


async def lock(uow: UnitOfWork, store_id: UUID) -> Store | None:
    """The store, held against changes until this unit of work ends."""
    return await uow.find(Store, f"SELECT {_STORE} FROM stores WHERE id = %s FOR UPDATE", [store_id])  # noqa: S608


async def list_page(uow: UnitOfWork, *, owner: UUID | None, after: str, limit: int) -> list[Store]:
    """The owner's (None: the platform's) by name."""
    return await uow.rows(
        Store,
        f"""SELECT {_STORE} FROM stores WHERE owner_tenant_id IS NOT DISTINCT FROM %s::uuid AND name > %s
            ORDER BY name LIMIT %s""",  # noqa: S608
        [owner, after, limit],
    )


async def list_neighbours(uow: UnitOfWork, kind: str, bucket: str) -> list[Store]:
    """All stores of a kind whose settings name this bucket, anyone's: as many as share one bucket."""
    return await uow.rows(
        Store,
        f"""SELECT {_STORE} FROM stores WHERE kind = %s AND coalesce(settings ->> 'bucket', '') = %s
            ORDER BY name""",  # noqa: S608
        [kind, bucket],
    )


async def is_in_use(uow: UnitOfWork, store_id: UUID) -> bool:
    """Whether a placement writes to the store, or a migration that has not ended names it."""
    found = await uow.scalar(
        """SELECT 1 FROM placements WHERE write_store_id = %(store)s OR %(store)s = ANY (copy_store_ids || store_ids)
             OR write_weights ? (%(store)s::uuid)::text
           UNION ALL
           SELECT 1 FROM migrations WHERE %(store)s IN (source_store_id, target_store_id)
             AND state NOT IN ('done', 'rolled_back', 'cancelled')
           LIMIT 1""",
        {"store": store_id},
    )
    return found is not None


async def disable(uow: UnitOfWork, store_id: UUID) -> None:
    await uow.execute("UPDATE stores SET disabled_at = coalesce(disabled_at, now()) WHERE id = %s", [store_id])


async def list_granted(uow: UnitOfWork) -> list[GrantedStore]:
    """Those that are not disabled. For the tenant's unit of work."""
    return await uow.rows(
        GrantedStore,
        f"""{_GRANTED} WHERE g.tenant_id = %s AND s.disabled_at IS NULL AND g.revoked_at IS NULL
            ORDER BY s.name LIMIT 1000""",
        [uow.tenant_id],
    )


async def find_grant(uow: UnitOfWork, tenant_id: UUID, store_id: UUID, *, revoked: bool = False) -> GrantedStore | None:
    """A grant in force, or (`revoked`) one that was taken back."""
    return await uow.find(
        GrantedStore,
        f"{_GRANTED} WHERE g.tenant_id = %s AND g.store_id = %s AND (g.revoked_at IS NOT NULL) = %s",
        [tenant_id, store_id, revoked],
    )


async def lock_grant(uow: UnitOfWork, tenant_id: UUID, store_id: UUID) -> GrantedStore | None:
    """A grant in force, held with the tenant's placement: nobody begins to use the store until this ends.

    Lock order: the placement, then the grant, as whoever sets a placement does.
    """
    await uow.execute("SELECT 1 FROM placements WHERE tenant_id = %s FOR UPDATE", [tenant_id])
    await uow.execute(
        "SELECT 1 FROM store_grants WHERE tenant_id = %s AND store_id = %s FOR UPDATE", [tenant_id, store_id]
    )
    return await find_grant(uow, tenant_id, store_id)


async def is_draining(uow: UnitOfWork, store_id: UUID) -> bool:
    """Whether the store is being emptied of all its tenants. The caller holds its row."""
    found = await uow.scalar(
        "SELECT 1 FROM drains WHERE store_id = %s AND state NOT IN ('done', 'cancelled')", [store_id]
    )
    return found is not None


async def list_needs(uow: UnitOfWork, tenant_id: UUID, store_id: UUID) -> list[str]:
    """What of a tenant still needs a store. Each is a look for one row."""
    return await uow.scalars(
        """SELECT 'documents lie there' WHERE EXISTS (
             SELECT 1 FROM replicas WHERE tenant_id = %(tenant)s AND store_id = %(store)s)
           UNION ALL SELECT 'copies are owed to it' WHERE EXISTS (
             SELECT 1 FROM transfers WHERE tenant_id = %(tenant)s AND target_store_id = %(store)s)
           UNION ALL SELECT 'its placement names it' WHERE EXISTS (
             SELECT 1 FROM placements WHERE tenant_id = %(tenant)s AND (write_store_id = %(store)s
               OR %(store)s = ANY (copy_store_ids || store_ids) OR %(store)s = ANY (read_store_ids)
               OR write_weights ? (%(store)s::uuid)::text))
           UNION ALL SELECT 'a migration names it' WHERE EXISTS (
             SELECT 1 FROM migrations WHERE tenant_id = %(tenant)s AND %(store)s IN (source_store_id, target_store_id)
               AND state NOT IN ('done', 'rolled_back', 'cancelled'))""",
        {"tenant": tenant_id, "store": store_id},
    )


async def set_revoked(uow: UnitOfWork, tenant_id: UUID, store_id: UUID, *, revoked: bool) -> None:
    """The row stays, since ended migrations refer to it, and so that its prefix never becomes another's."""
    await uow.execute(
        """UPDATE store_grants SET revoked_at = CASE WHEN %s THEN now() END
           WHERE tenant_id = %s AND store_id = %s""",
        [revoked, tenant_id, store_id],
    )


async def has_granted_name(uow: UnitOfWork, tenant_id: UUID, name: str) -> bool:
    """Whether a store of this name is granted to the tenant, or was, its own included."""
    found = await uow.scalar(
        """SELECT 1 FROM store_grants g JOIN stores s ON s.id = g.store_id WHERE g.tenant_id = %s AND s.name = %s
           LIMIT 1""",
        [tenant_id, name],
    )
    return found is not None


async def find_allowed_jurisdictions(uow: UnitOfWork, tenant_id: UUID) -> list[str] | None:
    """Where a tenant's documents may lie; None: anywhere."""
    found: list[str] | None = await uow.scalar("SELECT allowed_jurisdictions FROM tenants WHERE id = %s", [tenant_id])
    return found


async def is_prefix_taken(uow: UnitOfWork, stores: Mapping[UUID, Place], prefix: str) -> bool:
    """Whether `prefix`, or one above or below it, is granted in any of these stores of one root."""
    found = await uow.scalar(
        """SELECT 1 FROM store_grants g JOIN unnest(%(ids)s::uuid[], %(prefixes)s::text[]) AS p (id, prefix)
             ON p.id = g.store_id
           WHERE starts_with(p.prefix || g.prefix, %(wanted)s) OR starts_with(%(wanted)s, p.prefix || g.prefix)
           LIMIT 1""",
        {"ids": list(stores), "prefixes": [place.prefix for place in stores.values()], "wanted": prefix},
    )
    return found is not None


async def insert_grant(uow: UnitOfWork, tenant_id: UUID, store_id: UUID, prefix: str) -> None:
    await uow.execute(
        "INSERT INTO store_grants (tenant_id, store_id, prefix) VALUES (%s, %s, %s)", [tenant_id, store_id, prefix]
    )


async def note_users(uow: UnitOfWork, process_id: UUID, store_ids: Sequence[UUID]) -> None:
    """Note that a process uses these stores now, and forget processes that have not been heard of for long."""
    await uow.execute(
        """INSERT INTO store_users (store_id, process_id) SELECT s.id, %s FROM stores s WHERE s.id = ANY(%s)
           ON CONFLICT (store_id, process_id) DO UPDATE SET seen_at = now()""",
        [process_id, list(store_ids)],
    )
    await uow.execute("DELETE FROM store_users WHERE seen_at < now() - interval '1 hour'")


async def count_other_users(
    uow: UnitOfWork, process_id: UUID, store_ids: Sequence[UUID], *, seconds: float
) -> dict[UUID, int]:
    """How many other processes have used each of these stores lately."""
    cursor = await uow.connection.execute(
        """SELECT store_id, count(*) FROM store_users WHERE store_id = ANY(%s) AND process_id <> %s
             AND seen_at > now() - make_interval(secs => %s::float8) GROUP BY store_id""",
        [list(store_ids), process_id, seconds],
    )
    return dict(await cursor.fetchall())


async def forget_user(uow: UnitOfWork, process_id: UUID) -> None:
    await uow.execute("DELETE FROM store_users WHERE process_id = %s", [process_id])
