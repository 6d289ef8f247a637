"""SQL of reconciles. The records' side is read by key, in pages: keys are compared by their bytes (collation "C")."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from psycopg.types.json import Jsonb

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.prices.values import OwnPrices
from simples3dms.storage.reconciles.values import (
    DuePlace,
    DueReconcile,
    Finding,
    Known,
    Places,
    Reconcile,
    Result,
    Schedule,
    StoreFound,
)

_COLUMNS: Final = """c.id, c.store_id, s.name AS store, g.prefix, c.state, c.is_scheduled,
  c.older_than_days::float8 AS older_than_days,
  c.position, c.is_sorted, c.created_at, c.finished_at, c.listed_count, c.listed_bytes, c.unexplained_count,
  c.unexplained_bytes, c.hidden_count, c.hidden_bytes, c.unfinished_count, c.compared_count, c.missing_count,
  c.lost_count, c.removed_count, c.kept_count, c.error_code, c.error_message, s.price_per_gib_month, c.fence,
  c.attempt"""
_JOINED: Final = """stores s, store_grants g WHERE s.id = c.store_id AND g.tenant_id = c.tenant_id
  AND g.store_id = c.store_id AND c.tenant_id = %(tenant)s"""
#: Places in a store that is on a schedule. What waits for its store holds up no other.
_PLACE: Final = """store_grants g JOIN tenants t ON t.id = g.tenant_id AND t.deleting_at IS NULL
  WHERE g.store_id = r.store_id AND g.revoked_at IS NULL"""
_DUE: Final = "g.reconcile_at <= now() - make_interval(secs => r.every_seconds)"
_ACTIVE: Final = """SELECT 1 FROM reconciles c WHERE c.store_id = r.store_id AND c.state IN ('running', 'removing')
  AND c.error_code IS NULL"""
_RECONCILE: Final = f"SELECT {_COLUMNS} FROM reconciles c, {_JOINED}"  # noqa: S608


async def insert(
    uow: UnitOfWork, reconcile_id: UUID, store_id: UUID, *, older_than_days: float, is_scheduled: bool
) -> bool:
    """False while another one is under way there. The next one by itself is due when as long has passed again.

    For the platform's unit of work.
    """
    count = await uow.execute(
        """INSERT INTO reconciles (tenant_id, id, store_id, state, older_than_days, is_scheduled)
           VALUES (%s, %s, %s, 'running', %s, %s) ON CONFLICT DO NOTHING""",
        [uow.tenant_id, reconcile_id, store_id, older_than_days, is_scheduled],
    )
    await uow.execute(
        "UPDATE store_grants SET reconcile_at = now() WHERE tenant_id = %s AND store_id = %s", [uow.tenant_id, store_id]
    )
    return count == 1


async def find(uow: UnitOfWork, reconcile_id: UUID) -> Reconcile | None:
    return await uow.find(Reconcile, f"{_RECONCILE} AND c.id = %(id)s", {"tenant": uow.tenant_id, "id": reconcile_id})


async def lock(uow: UnitOfWork, reconcile_id: UUID) -> Reconcile | None:
    """The same, held against changes until this unit of work ends."""
    return await uow.find(
        Reconcile, f"{_RECONCILE} AND c.id = %(id)s FOR UPDATE OF c", {"tenant": uow.tenant_id, "id": reconcile_id}
    )


async def list_page(uow: UnitOfWork, *, after: UUID | None, limit: int) -> list[Reconcile]:
    """Newest first."""
    return await uow.rows(
        Reconcile,
        f"{_RECONCILE} AND (%(after)s::uuid IS NULL OR c.id < %(after)s) ORDER BY c.id DESC LIMIT %(limit)s",
        {"tenant": uow.tenant_id, "after": after, "limit": limit},
    )


async def list_due(uow: UnitOfWork, *, limit: int) -> list[DueReconcile]:
    """For the platform's unit of work."""
    return await uow.rows(
        DueReconcile,
        """SELECT tenant_id, id FROM reconciles WHERE state IN ('running', 'removing') AND due_at <= now()
             AND (lease_until IS NULL OR lease_until < now()) ORDER BY due_at LIMIT %s""",
        [limit],
    )


async def claim(uow: UnitOfWork, reconcile_id: UUID, *, lease_seconds: float, base_seconds: float) -> Reconcile | None:
    """Take one over that is due; the fence rises, so that an earlier claimant's word no longer counts.

    Should its worker die of it, it is due again later each time, until a step is counted.
    """
    return await uow.find(
        Reconcile,
        f"""UPDATE reconciles c SET fence = c.fence + 1, attempt = c.attempt + 1,
              lease_until = now() + make_interval(secs => %(lease)s::float8),
              due_at = now() + make_interval(secs => least(3600, %(base)s::float8 * power(2, least(c.attempt, 20))))
            FROM {_JOINED} AND c.id = %(id)s AND c.state IN ('running', 'removing') AND c.due_at <= now()
              AND (c.lease_until IS NULL OR c.lease_until < now()) RETURNING {_COLUMNS}""",  # noqa: S608
        {"tenant": uow.tenant_id, "id": reconcile_id, "lease": lease_seconds, "base": base_seconds},
    )


async def extend(uow: UnitOfWork, row: Reconcile, *, lease_seconds: float) -> bool:
    """Whether the claim still stands; it does for that long."""
    count = await uow.execute(
        """UPDATE reconciles SET lease_until = now() + make_interval(secs => %s::float8)
           WHERE tenant_id = %s AND id = %s AND fence = %s""",
        [lease_seconds, uow.tenant_id, row.id, row.fence],
    )
    return count == 1


async def release(
    uow: UnitOfWork, row: Reconcile, *, delay_seconds: float = 0, code: str | None = None, message: str | None = None
) -> None:
    """Let go of the claim until later, and say why if something stands in the way."""
    await uow.execute(
        """UPDATE reconciles SET lease_until = NULL, error_code = %s, error_message = %s,
             due_at = now() + make_interval(secs => %s::float8)
           WHERE tenant_id = %s AND id = %s AND fence = %s""",
        [code, message, delay_seconds, uow.tenant_id, row.id, row.fence],
    )


async def list_known(uow: UnitOfWork, store_id: UUID, keys: Sequence[str]) -> list[Known]:
    """What the records know of these keys: replicas and entries of caches in any state, and copies of the audit's."""
    return await uow.rows(
        Known,
        """SELECT r.key, r.version_id, r.state, r.id AS replica_id, r.blob_id, b.digest, b.size_bytes FROM replicas r
             LEFT JOIN blobs b ON b.tenant_id = r.tenant_id AND b.id = r.blob_id
             WHERE r.tenant_id = %(tenant)s AND r.store_id = %(store)s AND r.key = ANY(%(keys)s)
           UNION ALL
           SELECT key, NULL, state, NULL, NULL, NULL, NULL FROM cache_entries
             WHERE tenant_id = %(tenant)s AND store_id = %(store)s AND key = ANY(%(keys)s)
           UNION ALL
           SELECT key, NULL, state, NULL, NULL, NULL, NULL FROM audit_copies
             WHERE tenant_id = %(tenant)s AND store_id = %(store)s AND key = ANY(%(keys)s)""",
        {"tenant": uow.tenant_id, "store": store_id, "keys": list(keys)},
    )


async def list_recorded(uow: UnitOfWork, store_id: UUID, *, after: str, upto: str | None, limit: int) -> list[Known]:
    """The next replicas at a store by key, up to and with one (None: to the last), whatever their state."""
    return await uow.rows(
        Known,
        """SELECT r.key, r.version_id, r.state, r.id AS replica_id, r.blob_id, b.digest, b.size_bytes FROM replicas r
           LEFT JOIN blobs b ON b.tenant_id = r.tenant_id AND b.id = r.blob_id
           WHERE r.tenant_id = %(tenant)s AND r.store_id = %(store)s AND r.key > %(after)s
             AND (%(upto)s::text IS NULL OR r.key <= %(upto)s) ORDER BY r.key LIMIT %(limit)s""",
        {"tenant": uow.tenant_id, "store": store_id, "after": after, "upto": upto, "limit": limit},
    )


async def save_step(uow: UnitOfWork, row: Reconcile, counts: dict[str, int], *, position: str) -> Reconcile | None:
    """Count a step and go on after it; None if the claim is lost, and then nothing of it counts."""
    return await uow.find(
        Reconcile,
        f"""UPDATE reconciles c SET position = %(position)s, attempt = 0, due_at = now(),
              error_code = NULL, error_message = NULL,
              is_sorted = c.is_sorted AND %(unsorted)s = 0,
              listed_count = c.listed_count + %(listed)s, listed_bytes = c.listed_bytes + %(listed_bytes)s,
              unexplained_count = c.unexplained_count + %(unexplained)s,
              unexplained_bytes = c.unexplained_bytes + %(unexplained_bytes)s,
              hidden_count = c.hidden_count + %(hidden)s, hidden_bytes = c.hidden_bytes + %(hidden_bytes)s,
              compared_count = c.compared_count + %(compared)s, missing_count = c.missing_count + %(missing)s,
              lost_count = c.lost_count + %(lost)s
            FROM {_JOINED} AND c.id = %(id)s AND c.fence = %(fence)s AND c.state = 'running'
            RETURNING {_COLUMNS}""",  # noqa: S608
        {"tenant": uow.tenant_id, "id": row.id, "fence": row.fence, "position": position, **counts},
    )


async def insert_findings(uow: UnitOfWork, reconcile_id: UUID, findings: Sequence[Finding]) -> None:
    await uow.execute(
        """INSERT INTO reconcile_findings (tenant_id, reconcile_id, kind, key, version_id, size_bytes, modified_at)
           SELECT %(tenant)s, %(id)s, f.* FROM unnest(%(kinds)s::text[], %(keys)s::text[], %(versions)s::text[],
             %(sizes)s::bigint[], %(times)s::timestamptz[]) AS f (kind, key, version_id, size_bytes, modified_at)
           ON CONFLICT DO NOTHING""",
        {
            "tenant": uow.tenant_id,
            "id": reconcile_id,
            "kinds": [one.kind for one in findings],
            "keys": [one.key for one in findings],
            "versions": [one.version_id for one in findings],
            "sizes": [one.size_bytes for one in findings],
            "times": [one.modified_at for one in findings],
        },
    )


async def finish(uow: UnitOfWork, row: Reconcile, *, unfinished: int) -> bool:
    count = await uow.execute(
        """UPDATE reconciles SET state = 'done', finished_at = now(), lease_until = NULL, unfinished_count = %s,
             error_code = NULL, error_message = NULL
           WHERE tenant_id = %s AND id = %s AND fence = %s AND state = 'running'""",
        [unfinished, uow.tenant_id, row.id, row.fence],
    )
    return count == 1


async def list_findings(uow: UnitOfWork, reconcile_id: UUID, *, after: tuple[str, str], limit: int) -> list[Finding]:
    """By key and version."""
    return await uow.rows(
        Finding,
        """SELECT kind, key, version_id, size_bytes, modified_at, state, error FROM reconcile_findings
           WHERE tenant_id = %s AND reconcile_id = %s AND (key, version_id) > (%s, %s)
           ORDER BY key, version_id LIMIT %s""",
        [uow.tenant_id, reconcile_id, *after, limit],
    )


async def list_to_remove(uow: UnitOfWork, reconcile_id: UUID, *, limit: int) -> list[Finding]:
    return await uow.rows(
        Finding,
        """SELECT kind, key, version_id, size_bytes, modified_at, state, error FROM reconcile_findings
           WHERE tenant_id = %s AND reconcile_id = %s AND state = 'found' ORDER BY key, version_id LIMIT %s""",
        [uow.tenant_id, reconcile_id, limit],
    )


async def begin_removal(uow: UnitOfWork, reconcile_id: UUID) -> None:
    await uow.execute(
        """UPDATE reconciles SET state = 'removing', due_at = now(), attempt = 0, finished_at = NULL
           WHERE tenant_id = %s AND id = %s AND state = 'done'""",
        [uow.tenant_id, reconcile_id],
    )


async def save_removal(uow: UnitOfWork, row: Reconcile, outcomes: Sequence[Finding]) -> bool:
    """Note what became of findings; False if the claim is lost."""
    removed = sum(one.state == "removed" for one in outcomes)
    count = await uow.execute(
        """UPDATE reconciles SET removed_count = removed_count + %s, kept_count = kept_count + %s, attempt = 0,
             due_at = now(),
             error_code = NULL, error_message = NULL
           WHERE tenant_id = %s AND id = %s AND fence = %s AND state = 'removing'""",
        [removed, len(outcomes) - removed, uow.tenant_id, row.id, row.fence],
    )
    await uow.execute(
        """UPDATE reconcile_findings f SET state = i.state, error = i.error
           FROM unnest(%(kinds)s::text[], %(keys)s::text[], %(versions)s::text[], %(states)s::text[],
             %(errors)s::text[]) AS i (kind, key, version_id, state, error)
           WHERE f.tenant_id = %(tenant)s AND f.reconcile_id = %(id)s AND f.kind = i.kind AND f.key = i.key
             AND f.version_id = i.version_id""",
        {
            "tenant": uow.tenant_id,
            "id": row.id,
            "kinds": [one.kind for one in outcomes],
            "keys": [one.key for one in outcomes],
            "versions": [one.version_id for one in outcomes],
            "states": [one.state for one in outcomes],
            "errors": [one.error for one in outcomes],
        },
    )
    return count == 1


async def finish_removal(uow: UnitOfWork, row: Reconcile) -> bool:
    count = await uow.execute(
        """UPDATE reconciles SET state = 'removed', finished_at = now(), lease_until = NULL
           WHERE tenant_id = %s AND id = %s AND fence = %s AND state = 'removing'""",
        [uow.tenant_id, row.id, row.fence],
    )
    return count == 1


async def set_price(uow: UnitOfWork, store_id: UUID, own: OwnPrices) -> None:
    """For the platform's unit of work."""
    await uow.execute(
        "UPDATE stores SET price_per_gib_month = %s, prices = %s WHERE id = %s",
        [own.storage_per_gib_month, Jsonb(own.document()), store_id],
    )


async def has_active(uow: UnitOfWork, store_id: UUID) -> bool:
    found = await uow.scalar(
        """SELECT 1 FROM reconciles WHERE tenant_id = %s AND store_id = %s AND state IN ('running', 'removing')""",
        [uow.tenant_id, store_id],
    )
    return found is not None


async def get_time(uow: UnitOfWork, *, days_ago: float) -> datetime:
    """So long before now, by the database's clock."""
    found: datetime = await uow.scalar("SELECT now() - make_interval(secs => %s::float8)", [days_ago * 86_400])
    return found


async def save_schedule(uow: UnitOfWork, store_id: UUID, *, every_days: float, older_than_days: float) -> None:
    await uow.execute(
        """INSERT INTO reconcile_schedules (store_id, every_seconds, older_than_days)
           VALUES (%(store)s, %(every)s, %(older)s)
           ON CONFLICT (store_id) DO UPDATE SET every_seconds = %(every)s, older_than_days = %(older)s,
             next_at = now(), updated_at = now()""",
        {"store": store_id, "every": every_days * 86_400, "older": older_than_days},
    )


async def drop_schedule(uow: UnitOfWork, store_id: UUID) -> None:
    await uow.execute("DELETE FROM reconcile_schedules WHERE store_id = %s", [store_id])


async def find_schedule(uow: UnitOfWork, store_id: UUID) -> Schedule | None:
    return await uow.find(
        Schedule,
        """SELECT every_seconds / 86400 AS every_days, older_than_days, next_at FROM reconcile_schedules
           WHERE store_id = %s""",
        [store_id],
    )


async def count_places(uow: UnitOfWork, store_id: UUID) -> Places:
    """Without a schedule none is due."""
    found = await uow.find(
        Places,
        f"""SELECT count(*) AS place_count, count(*) FILTER (WHERE {_DUE}) AS due_count,
              (SELECT count(*) FROM reconciles c WHERE c.store_id = %(store)s AND c.state IN ('running', 'removing'))
                AS running_count
            FROM (SELECT s.id AS store_id, x.every_seconds FROM stores s
                LEFT JOIN reconcile_schedules x ON x.store_id = s.id WHERE s.id = %(store)s) r,
              {_PLACE}""",  # noqa: S608
        {"store": store_id},
    )
    assert found is not None
    return found


async def list_due_places(uow: UnitOfWork, *, limit: int) -> list[DuePlace]:
    """One place at each store where one may begin: that which has waited longest. For the platform."""
    return await uow.rows(
        DuePlace,
        f"""SELECT p.tenant_id, r.store_id FROM reconcile_schedules r
            JOIN stores s ON s.id = r.store_id AND s.untrusted_at IS NULL AND s.disabled_at IS NULL
            CROSS JOIN LATERAL (SELECT g.tenant_id FROM {_PLACE} AND {_DUE} ORDER BY g.reconcile_at LIMIT 1) p
            WHERE r.next_at <= now() AND NOT EXISTS ({_ACTIVE}) ORDER BY r.next_at LIMIT %s""",  # noqa: S608
        [limit],
    )


async def claim_schedule(uow: UnitOfWork, store_id: UUID) -> Schedule | None:
    """The schedule, if this worker is the one to begin the next one at the store now.

    The one after it is not before its share of the interval, less a tenth: so all places have their turn in time, and
    are spread over it, however they fell due.
    """
    return await uow.find(
        Schedule,
        f"""UPDATE reconcile_schedules r SET next_at = now() + make_interval(secs => 0.9 * r.every_seconds /
              greatest(1, (SELECT count(*) FROM {_PLACE})))
            WHERE r.store_id = %s AND r.next_at <= now() AND NOT EXISTS ({_ACTIVE})
            RETURNING r.every_seconds / 86400 AS every_days, r.older_than_days, r.next_at""",  # noqa: S608
        [store_id],
    )


async def forget_old(uow: UnitOfWork, store_id: UUID, *, keep: int) -> None:
    """Forget what began by itself at the tenant's place, but for the newest ones. For the platform."""
    await uow.execute(
        """DELETE FROM reconciles WHERE tenant_id = %(tenant)s AND store_id = %(store)s AND is_scheduled
             AND state IN ('done', 'removed') AND id <> ALL(ARRAY(
               SELECT id FROM reconciles WHERE tenant_id = %(tenant)s AND store_id = %(store)s
               ORDER BY id DESC LIMIT %(keep)s))""",
        {"tenant": uow.tenant_id, "store": store_id, "keep": keep},
    )


async def list_results(uow: UnitOfWork, store_id: UUID, *, limit: int) -> list[Result]:
    """Of each place at a store the newest result; those that found something first. For the platform."""
    return await uow.rows(
        Result,
        """SELECT n.* FROM store_grants g JOIN tenants t ON t.id = g.tenant_id
           CROSS JOIN LATERAL (SELECT t.id AS tenant_id, t.slug AS tenant, c.id AS reconcile_id, c.is_scheduled,
               c.state, c.finished_at, c.unexplained_count, c.unexplained_bytes, c.hidden_count, c.unfinished_count,
               c.missing_count, c.lost_count FROM reconciles c WHERE c.store_id = g.store_id
                 AND c.tenant_id = g.tenant_id AND c.finished_at IS NOT NULL ORDER BY c.id DESC LIMIT 1) n
           WHERE g.store_id = %s
           ORDER BY n.unexplained_count + n.hidden_count + n.unfinished_count + n.missing_count > 0 DESC,
             n.finished_at DESC LIMIT %s""",
        [store_id, limit],
    )


async def list_found(uow: UnitOfWork) -> list[StoreFound]:
    """Stores at which the newest result of some place has something that nobody has removed. For the platform."""
    return await uow.rows(
        StoreFound,
        """SELECT s.id AS store_id, s.name AS store, s.owner_tenant_id IS NOT NULL AS is_brought,
             count(*) AS place_count,
             sum(c.unexplained_count + c.hidden_count + c.unfinished_count)::bigint AS unexplained_count,
             sum(c.unexplained_bytes + c.hidden_bytes)::bigint AS unexplained_bytes, min(c.finished_at) AS since
           FROM reconciles c JOIN stores s ON s.id = c.store_id
           WHERE c.state = 'done' AND c.unexplained_count + c.hidden_count + c.unfinished_count > 0
             AND NOT EXISTS (SELECT 1 FROM reconciles n WHERE n.store_id = c.store_id AND n.tenant_id = c.tenant_id
               AND n.id > c.id AND n.finished_at IS NOT NULL)
           GROUP BY s.id ORDER BY s.name LIMIT 10000""",
    )
