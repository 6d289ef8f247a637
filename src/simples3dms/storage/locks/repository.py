"""SQL of locks at stores. What is wanted is read from holds and retentions each time, never kept a second time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.providers.base import ObjectLock
from simples3dms.storage.locks.values import DueLock

#: Of a replica `r` in a store `s`: whether a document with a version of its blob is under a hold.
HOLD: Final = """EXISTS (SELECT 1 FROM versions v
    JOIN holds h ON h.tenant_id = v.tenant_id AND h.document_id = v.document_id AND h.released_at IS NULL
    WHERE v.tenant_id = r.tenant_id AND v.blob_id = r.blob_id)"""
#: And the retention that counts for it: the hardest, and of these the longest; no harder than the store is used for.
#: In whole seconds, never too short: stores keep no more.
RETENTION: Final = """LEFT JOIN LATERAL (
    SELECT CASE WHEN s.settings ->> 'object_lock' = 'compliance' THEN d.retention_mode ELSE 'governance' END AS mode,
      date_trunc('second', d.retain_until + interval '999999 microseconds') AS until
    FROM versions v JOIN documents d ON d.tenant_id = v.tenant_id AND d.id = v.document_id
    WHERE v.tenant_id = r.tenant_id AND v.blob_id = r.blob_id AND d.retain_until > now()
      AND s.settings ->> 'object_lock' IS NOT NULL
    ORDER BY d.retention_mode = 'compliance' DESC, d.retain_until DESC LIMIT 1) t ON true"""
#: What is wanted of such a replica, what its store last said, and whether that is enough and not too much.
LOCK_VIEW: Final = f"""LEFT JOIN object_locks l ON l.tenant_id = r.tenant_id AND l.replica_id = r.id
  {RETENTION} CROSS JOIN LATERAL (
    SELECT s.settings ->> 'object_lock' IS NOT NULL AS uses, {HOLD} AS hold) u
  CROSS JOIN LATERAL (SELECT l.last_error,
    CASE WHEN NOT u.uses AND l.due_at IS NULL THEN 'not_used'
      WHEN l.due_at IS NOT NULL OR (u.uses AND (u.hold AND l.set_hold IS NOT TRUE
        OR t.until IS NOT NULL AND (l.set_until >= t.until AND l.set_mode IN (t.mode, 'compliance')) IS NOT TRUE))
        THEN 'waiting'
      WHEN u.uses AND (u.hold OR t.until IS NOT NULL) THEN 'set'
      ELSE 'none' END AS lock,
    u.uses AND u.hold AS lock_wanted_hold, t.mode AS lock_wanted_mode, t.until AS lock_wanted_until,
    coalesce(l.set_hold, false) AS lock_set_hold, l.set_mode AS lock_set_mode,
    l.set_until AS lock_set_until, l.set_at AS lock_set_at) k"""
#: Whether a retention that was found is, or holds, one of ours: of what ends no later than what was there, nothing is.
_OURS: Final = """(asked_until IS NOT NULL AND %(until)s::timestamptz > now()
  AND %(until)s::timestamptz > coalesce(kept_until, '-infinity'))"""
#: Whether a call that outlived its claim may still be on its way.
_DOUBT: Final = "coalesce(doubt_until > now(), false)"
_LOCKING: Final = "s.settings ->> 'object_lock' IS NOT NULL"
_MARK: Final = """INSERT INTO object_locks (tenant_id, replica_id, store_id, due_at)
  SELECT DISTINCT r.tenant_id, r.id, r.store_id, {due} FROM {found} JOIN stores s ON s.id = r.store_id
  LEFT JOIN object_locks l ON l.tenant_id = r.tenant_id AND l.replica_id = r.id
  WHERE {which} AND (l.due_at IS NOT NULL OR l.asked_hold OR l.asked_until > now()
    OR r.state IN ('live', 'suspect', 'missing') AND {locking} AND {kept})
  ORDER BY r.id
  ON CONFLICT (tenant_id, replica_id) DO UPDATE SET due_at = EXCLUDED.due_at, fence = object_locks.fence + 1,
    attempt = 0, last_error = NULL"""
_KEPT: Final = f"""({HOLD} OR EXISTS (SELECT 1 FROM versions v
    JOIN documents d ON d.tenant_id = v.tenant_id AND d.id = v.document_id AND d.retain_until > now()
    WHERE v.tenant_id = r.tenant_id AND v.blob_id = r.blob_id))"""  # noqa: S608
_MARK_DOCUMENTS: Final = _MARK.format(
    found="versions w JOIN replicas r ON r.tenant_id = w.tenant_id AND r.blob_id = w.blob_id",
    which="w.tenant_id = %s AND w.document_id = ANY(%s)",
    locking=_LOCKING,
    kept=_KEPT,
    due="now()",
)
_MARK_REPLICAS: Final = _MARK.format(
    found="replicas r", which="r.tenant_id = %s AND r.id = ANY(%s)", locking=_LOCKING, kept=_KEPT, due="now()"
)
_MARK_LATER: Final = _MARK.format(
    found="replicas r",
    which="r.tenant_id = %s AND r.id = ANY(%s)",
    locking=_LOCKING,
    kept="true",
    due="now() + interval '1 minute'",
)
_MARK_BLOBS: Final = _MARK.format(
    found="replicas r", which="r.tenant_id = %s AND r.blob_id = ANY(%s)", locking=_LOCKING, kept=_KEPT, due="now()"
)


async def mark_documents(uow: UnitOfWork, document_ids: Sequence[UUID]) -> int:
    """Have the locks of all replicas of these documents looked at; how many there are. None where no store locks."""
    return await uow.execute(_MARK_DOCUMENTS, [uow.tenant_id, list(document_ids)])


async def share_documents(uow: UnitOfWork, replica_ids: Sequence[UUID]) -> None:
    """Of replicas that are about to count at stores that lock: what keeps their documents stays as it is meanwhile.

    Without it a hold that is placed at the same moment would see no replica yet, and the replica no hold.
    """
    await uow.execute(
        # By keys, whatever the statistics say.
        f"""SELECT 1 FROM (SELECT DISTINCT v.document_id FROM unnest(%(ids)s::uuid[]) AS i (id)
              CROSS JOIN LATERAL (SELECT r.blob_id FROM replicas r JOIN stores s ON s.id = r.store_id AND {_LOCKING}
                WHERE r.tenant_id = %(tenant)s AND r.id = i.id LIMIT 1) r
              CROSS JOIN LATERAL (SELECT document_id FROM versions
                WHERE tenant_id = %(tenant)s AND blob_id = r.blob_id OFFSET 0) v
              WHERE EXISTS (SELECT 1 FROM stores s WHERE {_LOCKING})
              ORDER BY v.document_id) w
            CROSS JOIN LATERAL (SELECT 1 FROM documents
              WHERE tenant_id = %(tenant)s AND id = w.document_id FOR SHARE) d""",  # noqa: S608
        {"tenant": uow.tenant_id, "ids": list(replica_ids)},
    )


async def mark_later(uow: UnitOfWork, replica_ids: Sequence[UUID]) -> None:
    """Have replicas looked at in a minute, kept or not: by then whoever places a hold now has seen to it or can be
    seen."""
    await uow.execute(_MARK_LATER, [uow.tenant_id, list(replica_ids)])


async def mark_replicas(uow: UnitOfWork, replica_ids: Sequence[UUID]) -> int:
    return await uow.execute(_MARK_REPLICAS, [uow.tenant_id, list(replica_ids)])


async def mark_blobs(uow: UnitOfWork, blob_ids: Sequence[UUID]) -> int:
    return await uow.execute(_MARK_BLOBS, [uow.tenant_id, list(blob_ids)])


@dataclass(frozen=True, slots=True)
class Survey:
    """A look at every document of a tenant: where it is, as long as the fence stands."""

    after: UUID | None
    fence: int


async def list_due_surveys(uow: UnitOfWork, *, limit: int) -> list[UUID]:
    """Tenants of which every document is to be looked at. For the platform's unit of work."""
    return await uow.scalars(
        "SELECT tenant_id FROM lock_surveys WHERE due_at <= now() ORDER BY due_at LIMIT %s", [limit]
    )


async def claim_survey(uow: UnitOfWork, *, lease_seconds: float) -> Survey | None:
    return await uow.find(
        Survey,
        """UPDATE lock_surveys SET due_at = now() + make_interval(secs => %s::float8), fence = fence + 1
           WHERE tenant_id = %s AND due_at <= now() RETURNING after, fence""",
        [lease_seconds, uow.tenant_id],
    )


async def advance_survey(uow: UnitOfWork, survey: Survey, *, limit: int, lease_seconds: float) -> Survey | None:
    """Mark what the next documents need; where to go on, or None at the end, or if another worker has taken over."""
    ids: list[UUID] = await uow.scalars(
        """SELECT id FROM documents WHERE tenant_id = %(tenant)s AND (%(after)s::uuid IS NULL OR id > %(after)s)
           ORDER BY id LIMIT %(limit)s FOR SHARE""",
        {"tenant": uow.tenant_id, "after": survey.after, "limit": limit},
    )
    await mark_documents(uow, ids)
    is_over = len(ids) < limit
    count = await uow.execute(
        """UPDATE lock_surveys SET after = %(after)s,
             due_at = CASE WHEN NOT %(over)s THEN now() + make_interval(secs => %(lease)s::float8) END
           WHERE tenant_id = %(tenant)s AND fence = %(fence)s""",
        {
            "after": None if is_over else ids[-1],
            "over": is_over,
            "lease": lease_seconds,
            "tenant": uow.tenant_id,
            "fence": survey.fence,
        },
    )
    return None if is_over or count != 1 else Survey(ids[-1], survey.fence)


async def list_due_tenants(uow: UnitOfWork, *, limit: int) -> list[UUID]:
    """For the platform's unit of work. The rows that are looked at are those that are due."""
    return await uow.scalars(
        """SELECT DISTINCT tenant_id FROM (
             SELECT tenant_id FROM object_locks WHERE due_at <= now() ORDER BY due_at LIMIT %s) due""",
        [limit],
    )


async def claim(uow: UnitOfWork, *, lease_seconds: float, limit: int) -> list[DueLock]:
    """Take due locks that nobody holds. A mark makes a lock that is held due again, and leaves it to its holder: two
    who ask one store at once could come there in any order."""
    taken = await uow.scalars(
        """UPDATE object_locks l SET due_at = now() + make_interval(secs => %(lease)s::float8),
             lease_until = now() + make_interval(secs => %(lease)s::float8), fence = fence + 1, attempt = attempt + 1,
             claim = claim + 1, doubt_until = CASE WHEN l.lease_until IS NULL THEN l.doubt_until
               ELSE now() + make_interval(secs => %(lease)s::float8) END
           FROM (SELECT replica_id FROM object_locks WHERE tenant_id = %(tenant)s AND due_at <= now()
                   AND (lease_until IS NULL OR lease_until < now())
                 ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED) due
           WHERE l.tenant_id = %(tenant)s AND l.replica_id = due.replica_id RETURNING l.replica_id""",
        {"tenant": uow.tenant_id, "lease": lease_seconds, "limit": limit},
    )
    return await uow.rows(
        DueLock,
        f"""SELECT l.replica_id, l.store_id, r.key, r.version_id, l.fence, now() AS at, {_LOCKING} AND {HOLD} AS hold,
              t.mode, t.until, l.asked_hold, l.asked_until, l.kept_until, l.claim
            FROM object_locks l JOIN replicas r ON r.tenant_id = l.tenant_id AND r.id = l.replica_id
            JOIN stores s ON s.id = r.store_id {RETENTION}
            WHERE l.tenant_id = %(tenant)s AND l.replica_id = ANY(%(ids)s)""",  # noqa: S608
        {"tenant": uow.tenant_id, "ids": taken},
    )


async def extend(uow: UnitOfWork, claimed: Sequence[DueLock], *, lease_seconds: float) -> int:
    """Keep claims alive; how many are still ours. What was marked meanwhile stays due."""
    return await uow.execute(
        """UPDATE object_locks l SET lease_until = now() + make_interval(secs => %(lease)s::float8),
             due_at = CASE WHEN l.due_at > now() THEN now() + make_interval(secs => %(lease)s::float8) ELSE l.due_at END
           FROM unnest(%(ids)s::uuid[], %(claims)s::bigint[]) AS i (id, claim)
           WHERE l.tenant_id = %(tenant)s AND l.replica_id = i.id AND l.claim = i.claim
             AND l.lease_until IS NOT NULL""",
        {
            "lease": lease_seconds,
            "tenant": uow.tenant_id,
            "ids": [one.replica_id for one in claimed],
            "claims": [one.claim for one in claimed],
        },
    )


async def note_asking(
    uow: UnitOfWork, due: DueLock, *, hold: bool, until: datetime | None, kept_until: datetime | None
) -> bool:
    """Note what the store is about to be asked, so that a crash leaves no lock unknown; False if something changed
    since the claim, and it is not to be asked that any more."""
    count = await uow.execute(
        """UPDATE object_locks SET asked_hold = asked_hold OR %(hold)s,
             asked_until = greatest(asked_until, %(until)s::timestamptz), kept_until = %(kept)s
           WHERE tenant_id = %(tenant)s AND replica_id = %(replica)s AND fence = %(fence)s""",
        {
            "hold": hold,
            "until": until,
            "kept": kept_until,
            "tenant": uow.tenant_id,
            "replica": due.replica_id,
            "fence": due.fence,
        },
    )
    return count == 1


async def hold_replica(uow: UnitOfWork, due: DueLock) -> None:
    """The replica's row first, as whoever removes it takes it before its lock's."""
    await uow.execute(
        "SELECT 1 FROM replicas WHERE tenant_id = %s AND id = %s FOR UPDATE", [uow.tenant_id, due.replica_id]
    )


async def let_go(uow: UnitOfWork, due: DueLock) -> None:
    """End a claim whose lock was marked meanwhile: it is due, and now anybody may take it."""
    await uow.execute(
        "UPDATE object_locks SET lease_until = NULL WHERE tenant_id = %s AND replica_id = %s AND claim = %s",
        [uow.tenant_id, due.replica_id, due.claim],
    )


async def settle(uow: UnitOfWork, due: DueLock, found: ObjectLock) -> bool:
    """Record what the store says; False if something changed meanwhile, which has the lock looked at anew.

    Of what is not locked any more nothing is asked, so that a lock of somebody else's is told from ours again. Where
    a claim was left lately, what it asked may still come: nothing is forgotten yet, and it is looked at once more.
    """
    count = await uow.execute(
        f"""UPDATE object_locks SET set_hold = %(held)s, set_mode = %(mode)s, set_until = %(until)s, set_at = now(),
              asked_hold = asked_hold AND (%(held)s OR {_DOUBT}),
              asked_until = CASE WHEN {_DOUBT} THEN asked_until WHEN {_OURS} THEN least(asked_until, %(until)s) END,
              kept_until = CASE WHEN {_DOUBT} OR {_OURS} THEN kept_until END,
              due_at = CASE WHEN {_DOUBT} THEN doubt_until END, doubt_until = CASE WHEN {_DOUBT} THEN doubt_until END,
              lease_until = NULL, attempt = 0, last_error = NULL
            WHERE tenant_id = %(tenant)s AND replica_id = %(replica)s AND fence = %(fence)s""",  # noqa: S608
        {
            "held": found.held,
            "mode": found.mode,
            "until": found.until,
            "tenant": uow.tenant_id,
            "replica": due.replica_id,
            "fence": due.fence,
        },
    )
    return count == 1


async def rest(uow: UnitOfWork, due: DueLock) -> bool:
    """Nothing is wanted and nothing was asked: there is nothing to look at. False if something changed meanwhile."""
    count = await uow.execute(
        """UPDATE object_locks SET due_at = NULL, lease_until = NULL, attempt = 0, last_error = NULL
           WHERE tenant_id = %s AND replica_id = %s AND fence = %s""",
        [uow.tenant_id, due.replica_id, due.fence],
    )
    return count == 1


async def postpone(uow: UnitOfWork, due: DueLock, found: ObjectLock | None, *, error: str, base_seconds: float) -> bool:
    """Try again later: after twice as long each time, hourly in the end; False if something changed meanwhile.

    `found`: what the store said, if it did.
    """
    count = await uow.execute(
        """UPDATE object_locks SET last_error = %(error)s, lease_until = NULL,
             set_hold = CASE WHEN %(told)s THEN %(held)s ELSE set_hold END,
             set_mode = CASE WHEN %(told)s THEN %(mode)s::text ELSE set_mode END,
             set_until = CASE WHEN %(told)s THEN %(until)s::timestamptz ELSE set_until END,
             set_at = CASE WHEN %(told)s THEN now() ELSE set_at END,
             due_at = now() + make_interval(
               secs => least(3600, %(base)s::float8 * power(2, least(attempt, 20) - 1)))
           WHERE tenant_id = %(tenant)s AND replica_id = %(replica)s AND fence = %(fence)s""",
        {
            "error": error,
            "told": found is not None,
            "held": found is not None and found.held,
            "mode": found and found.mode,
            "until": found and found.until,
            "base": base_seconds,
            "tenant": uow.tenant_id,
            "replica": due.replica_id,
            "fence": due.fence,
        },
    )
    return count == 1


async def free_retiring(uow: UnitOfWork, replica_ids: Sequence[UUID]) -> int:
    """Have the replicas whose removal a lock kept up removed now; how many there are."""
    return await uow.execute(
        """UPDATE replicas SET lease_until = NULL, attempt = 0 WHERE tenant_id = %s AND id = ANY(%s)
             AND state = 'retiring' AND last_error = 'object_locked'""",
        [uow.tenant_id, list(replica_ids)],
    )
