"""SQL of rollouts and of the rules for stores that tenants bring. For the platform's unit of work."""

from __future__ import annotations

from typing import Any, Final, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.rollout.values import Change, OwnStoreRule, Preview, Rollout

_ROLLOUT: Final = "kind, version, reach, percent, tenant_ids, attach, updated_at"
_RULE: Final = "kind, hosts, regions, most_per_tenant, bounds, updated_at"
#: Held while a kind's rollout changes: a first one has no row to lock.
_ROLLOUT_LOCK: Final = 0x53_33_44_4D_52_4F


def _reaches(rollout: LiteralString, tenant: LiteralString) -> LiteralString:
    """Whether a rollout reaches a tenant. Where a tenant stands, from 0 to 9,999, is a hash of the kind and its id: it
    never changes, so a greater share holds a smaller one, and each kind begins with other tenants."""
    return f"""CASE {rollout}.reach WHEN 'everyone' THEN true WHEN 'off' THEN false
      ELSE {tenant} = ANY ({rollout}.tenant_ids) OR ({rollout}.reach = 'percent'
        AND ('x' || substr(encode(sha256(convert_to({rollout}.kind || ':' || {tenant}::text, 'UTF8')), 'hex'), 1, 8)
             )::bit(32)::bigint %% 10000 < {rollout}.percent * 100) END"""


async def find(uow: UnitOfWork, kind: str) -> Rollout | None:
    return await uow.find(Rollout, f"SELECT {_ROLLOUT} FROM kind_rollouts WHERE kind = %s", [kind])  # noqa: S608


async def list_all(uow: UnitOfWork) -> list[Rollout]:
    """As many as there are kinds."""
    return await uow.rows(Rollout, f"SELECT {_ROLLOUT} FROM kind_rollouts ORDER BY kind LIMIT 1000")  # noqa: S608


async def lock(uow: UnitOfWork) -> None:
    await uow.execute("SELECT pg_advisory_xact_lock(%s)", [_ROLLOUT_LOCK])


async def save(uow: UnitOfWork, kind: str, change: Change, *, version: int) -> None:
    """The caller holds the lock."""
    await uow.execute(
        """INSERT INTO kind_rollouts (kind, version, reach, percent, tenant_ids, attach)
           VALUES (%(kind)s, %(version)s, %(reach)s, %(percent)s, %(tenant_ids)s::uuid[], %(attach)s)
           ON CONFLICT (kind) DO UPDATE SET version = EXCLUDED.version, reach = EXCLUDED.reach,
             percent = EXCLUDED.percent, tenant_ids = EXCLUDED.tenant_ids, attach = EXCLUDED.attach,
             updated_at = now()""",
        {"kind": kind, "version": version, **_values(change)},
    )


async def preview(uow: UnitOfWork, kind: str, change: Change) -> Preview:
    """Counted by the database: one pass over the tenants, and a look at the placement of each that would lose."""
    found = await uow.find(
        Preview,
        f"""SELECT (SELECT coalesce(max(version), 0) FROM kind_rollouts WHERE kind = %(kind)s) AS version,
              count(*) FILTER (WHERE c.after AND NOT c.before) AS gained,
              count(*) FILTER (WHERE c.before AND NOT c.after) AS lost,
              count(*) FILTER (WHERE c.before AND NOT c.after AND EXISTS (
                SELECT 1 FROM placements p JOIN stores s ON s.id = p.write_store_id
                  OR s.id = ANY (p.copy_store_ids || p.store_ids)
                  OR p.write_weights ? s.id::text
                WHERE p.tenant_id = c.id AND s.kind = %(kind)s)) AS kept,
              count(*) FILTER (WHERE c.after) AS reached, count(*) AS tenants
            FROM (SELECT t.id, {_reaches("n", "t.id")} AS after, coalesce({_reaches("r", "t.id")}, true) AS before
                  FROM tenants t LEFT JOIN kind_rollouts r ON r.kind = %(kind)s
                  CROSS JOIN (SELECT %(kind)s::text AS kind, %(reach)s::text AS reach, %(percent)s::float8 AS percent,
                                %(tenant_ids)s::uuid[] AS tenant_ids) n) c""",  # noqa: S608
        {"kind": kind, **_values(change)},
    )
    assert found is not None
    return found


def _values(change: Change) -> dict[str, Any]:
    return {
        "reach": str(change.reach),
        "percent": change.percent,
        "tenant_ids": list(change.tenant_ids),
        "attach": str(change.attach),
    }


async def list_closed(uow: UnitOfWork, tenant_id: UUID) -> list[str]:
    """The kinds that are not there for a tenant."""
    return await uow.scalars(
        f"SELECT r.kind FROM kind_rollouts r WHERE NOT {_reaches('r', '%(tenant)s::uuid')} LIMIT 1000",  # noqa: S608
        {"tenant": tenant_id},
    )


async def list_reached(uow: UnitOfWork, kind: str, *, after: UUID, limit: int) -> list[UUID]:
    """The tenants that a kind's rollout reaches, by id."""
    return await uow.scalars(
        f"""SELECT t.id FROM tenants t LEFT JOIN kind_rollouts r ON r.kind = %(kind)s
            WHERE t.id > %(after)s AND coalesce({_reaches("r", "t.id")}, true) ORDER BY t.id LIMIT %(limit)s""",  # noqa: S608
        {"kind": kind, "after": after, "limit": limit},
    )


async def list_missing_tenants(uow: UnitOfWork, tenant_ids: list[UUID]) -> list[UUID]:
    return await uow.scalars(
        "SELECT id FROM unnest(%s::uuid[]) AS g (id) WHERE NOT EXISTS (SELECT 1 FROM tenants t WHERE t.id = g.id)",
        [tenant_ids],
    )


async def find_rule(uow: UnitOfWork, kind: str) -> OwnStoreRule | None:
    return await uow.find(OwnStoreRule, f"SELECT {_RULE} FROM own_store_rules WHERE kind = %s", [kind])  # noqa: S608


async def list_rules(uow: UnitOfWork) -> list[OwnStoreRule]:
    return await uow.rows(OwnStoreRule, f"SELECT {_RULE} FROM own_store_rules ORDER BY kind LIMIT 1000")  # noqa: S608


async def save_rule(uow: UnitOfWork, rule: OwnStoreRule) -> None:
    await uow.execute(
        """INSERT INTO own_store_rules (kind, hosts, regions, most_per_tenant, bounds) VALUES (%s, %s, %s, %s, %s)
           ON CONFLICT (kind) DO UPDATE SET hosts = EXCLUDED.hosts, regions = EXCLUDED.regions,
             most_per_tenant = EXCLUDED.most_per_tenant, bounds = EXCLUDED.bounds, updated_at = now()""",
        [rule.kind, rule.hosts, rule.regions, rule.most_per_tenant, Jsonb(dict(rule.bounds))],
    )


async def delete_rule(uow: UnitOfWork, kind: str) -> bool:
    return await uow.execute("DELETE FROM own_store_rules WHERE kind = %s", [kind]) == 1
