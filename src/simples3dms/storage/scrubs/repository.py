"""SQL of scrubs, and of stores' trust. Pages of replicas are found by the index of their store, whatever is in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, LiteralString
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.scrubs.values import Copy, DoubtfulCopy, DuePlace, DueScrub, Found, Level, Page, Scrub

_COLUMNS: Final = """c.id, c.store_id, s.name AS store, c.level, c.state, c.is_scheduled, c.seed, c.low_id, c.high_id,
  c.part_count, c.done_parts, c.after_id, c.created_at, c.finished_at, c.checked_count, c.checked_bytes,
  c.suspect_count, c.missing_count, c.lost_count, c.forgiven_checked, c.forgiven_bad, c.error_code, c.error_message,
  c.fence, c.attempt"""
_SCRUB: Final = f"SELECT {_COLUMNS} FROM scrubs c JOIN stores s ON s.id = c.store_id"  # noqa: S608

_BEGUN: Final[dict[Level, LiteralString]] = {"light": "light_scrub_at", "deep": "deep_scrub_at"}


async def find_store(uow: UnitOfWork, name: str) -> UUID | None:
    """The store of this name that is granted to the tenant, disabled or not: what it holds is still to be good."""
    found: UUID | None = await uow.scalar(
        """SELECT g.store_id FROM store_grants g JOIN stores s ON s.id = g.store_id
           WHERE g.tenant_id = %s AND s.name = %s AND g.revoked_at IS NULL""",
        [uow.tenant_id, name],
    )
    return found


async def insert(
    uow: UnitOfWork, scrub_id: UUID, store_id: UUID, level: Level, *, seed: int, is_scheduled: bool
) -> bool:
    """False while one of the tenant's is running or paused there."""
    count = await uow.execute(
        """INSERT INTO scrubs (tenant_id, id, store_id, level, state, is_scheduled, seed)
           VALUES (%s, %s, %s, %s, 'running', %s, %s) ON CONFLICT DO NOTHING""",
        [uow.tenant_id, scrub_id, store_id, level, is_scheduled, seed],
    )
    return count == 1


async def note_begun(uow: UnitOfWork, store_id: UUID, level: Level) -> None:
    """The next one by itself is due when as long has passed again. For the platform; a deep one is a light one too."""
    await uow.execute(
        """UPDATE store_grants SET light_scrub_at = now(),
             deep_scrub_at = CASE WHEN %s = 'deep' THEN now() ELSE deep_scrub_at END
           WHERE tenant_id = %s AND store_id = %s""",
        [level, uow.tenant_id, store_id],
    )


async def list_due_places(uow: UnitOfWork, level: Level, *, days: float, limit: int) -> list[DuePlace]:
    """Where the last scrub of a level is that old. For the platform."""
    column = _BEGUN[level]
    return await uow.rows(
        DuePlace,
        f"""SELECT tenant_id, store_id FROM store_grants WHERE {column} < now() - make_interval(secs => %s)
            ORDER BY {column} LIMIT %s""",  # noqa: S608
        [days * 86_400, limit],
    )


async def claim_place(uow: UnitOfWork, store_id: UUID, level: Level, *, days: float) -> bool:
    """Whether this worker is the one to begin there now, and whether there is anything to begin with.

    The time is moved on in any case: what is revoked, not trusted, or about to be deleted waits as long anew.
    """
    column = _BEGUN[level]
    wanted = await uow.scalar(
        f"""UPDATE store_grants g SET {column} = now() FROM stores s, tenants t
            WHERE g.tenant_id = %s AND g.store_id = %s AND s.id = g.store_id AND t.id = g.tenant_id
              AND g.{column} < now() - make_interval(secs => %s)
            RETURNING g.revoked_at IS NULL AND s.untrusted_at IS NULL AND t.deleting_at IS NULL""",  # noqa: S608
        [uow.tenant_id, store_id, days * 86_400],
    )
    return bool(wanted)


async def find(uow: UnitOfWork, scrub_id: UUID) -> Scrub | None:
    return await uow.find(Scrub, f"{_SCRUB} WHERE c.tenant_id = %s AND c.id = %s", [uow.tenant_id, scrub_id])


async def lock(uow: UnitOfWork, scrub_id: UUID) -> Scrub | None:
    """The same, held against changes until this unit of work ends."""
    return await uow.find(
        Scrub, f"{_SCRUB} WHERE c.tenant_id = %s AND c.id = %s FOR UPDATE OF c", [uow.tenant_id, scrub_id]
    )


async def list_page(uow: UnitOfWork, *, after: UUID | None, limit: int) -> list[Scrub]:
    """Newest first."""
    return await uow.rows(
        Scrub,
        f"""{_SCRUB} WHERE c.tenant_id = %(tenant)s AND (%(after)s::uuid IS NULL OR c.id < %(after)s)
            ORDER BY c.id DESC LIMIT %(limit)s""",
        {"tenant": uow.tenant_id, "after": after, "limit": limit},
    )


async def pause(uow: UnitOfWork, scrub_id: UUID, *, code: str | None = None, message: str | None = None) -> None:
    """Whoever is at it finds that its claim counts no more."""
    await uow.execute(
        """UPDATE scrubs SET state = 'paused', fence = fence + 1, lease_until = NULL, error_code = %s,
             error_message = %s WHERE tenant_id = %s AND id = %s AND state = 'running'""",
        [code, message, uow.tenant_id, scrub_id],
    )


async def resume(uow: UnitOfWork, scrub_id: UUID) -> None:
    """Go on. What was bad so far no longer counts against the store: somebody has looked at it."""
    await uow.execute(
        """UPDATE scrubs SET state = 'running', due_at = now(), attempt = 0, error_code = NULL, error_message = NULL,
             forgiven_checked = checked_count, forgiven_bad = suspect_count + missing_count
           WHERE tenant_id = %s AND id = %s AND state = 'paused'""",
        [uow.tenant_id, scrub_id],
    )


async def list_due(uow: UnitOfWork, *, limit: int) -> list[DueScrub]:
    """For the platform's unit of work."""
    return await uow.rows(
        DueScrub,
        """SELECT tenant_id, id FROM scrubs WHERE state = 'running' AND due_at <= now()
             AND (lease_until IS NULL OR lease_until < now()) ORDER BY due_at LIMIT %s""",
        [limit],
    )


async def claim(uow: UnitOfWork, scrub_id: UUID, *, lease_seconds: float) -> Scrub | None:
    """Take a due scrub over; the fence rises, so that an earlier claimant's word no longer counts."""
    return await uow.find(
        Scrub,
        f"""UPDATE scrubs c SET fence = c.fence + 1, attempt = c.attempt + 1,
              lease_until = now() + make_interval(secs => %s::float8)
            FROM stores s WHERE s.id = c.store_id AND c.tenant_id = %s AND c.id = %s AND c.state = 'running'
              AND c.due_at <= now() AND (c.lease_until IS NULL OR c.lease_until < now()) RETURNING {_COLUMNS}""",  # noqa: S608
        [lease_seconds, uow.tenant_id, scrub_id],
    )


async def extend(uow: UnitOfWork, scrub: Scrub, *, lease_seconds: float) -> bool:
    """Whether the claim still stands; it does for that long."""
    count = await uow.execute(
        """UPDATE scrubs SET lease_until = now() + make_interval(secs => %s::float8)
           WHERE tenant_id = %s AND id = %s AND fence = %s AND state = 'running'""",
        [lease_seconds, uow.tenant_id, scrub.id, scrub.fence],
    )
    return count == 1


async def release(
    uow: UnitOfWork, scrub: Scrub, *, delay_seconds: float = 0, code: str | None = None, message: str | None = None
) -> None:
    """Let go of the claim until later, and say why if something stands in the way."""
    await uow.execute(
        """UPDATE scrubs SET lease_until = NULL, error_code = %s, error_message = %s,
             due_at = now() + make_interval(secs => %s::float8)
           WHERE tenant_id = %s AND id = %s AND fence = %s""",
        [code, message, delay_seconds, uow.tenant_id, scrub.id, scrub.fence],
    )


async def find_bounds(uow: UnitOfWork, store_id: UUID, *, counted: int) -> tuple[UUID, UUID, int] | None:
    """The first and the last replica's id there, and how many there are, counted so far; None where there are none."""
    cursor = await uow.connection.execute(
        """SELECT (SELECT id FROM replicas WHERE tenant_id = %(tenant)s AND store_id = %(store)s ORDER BY id LIMIT 1),
             (SELECT id FROM replicas WHERE tenant_id = %(tenant)s AND store_id = %(store)s ORDER BY id DESC LIMIT 1),
             (SELECT count(*) FROM (SELECT 1 FROM replicas WHERE tenant_id = %(tenant)s AND store_id = %(store)s
                LIMIT %(counted)s) x)""",
        {"tenant": uow.tenant_id, "store": store_id, "counted": counted},
    )
    low, high, count = await cursor.fetchone() or (None, None, 0)
    return None if low is None or high is None else (low, high, count)


async def set_bounds(uow: UnitOfWork, scrub: Scrub, low: UUID, high: UUID, part_count: int) -> Scrub | None:
    return await uow.find(
        Scrub,
        f"""UPDATE scrubs c SET low_id = %s, high_id = %s, part_count = %s FROM stores s WHERE s.id = c.store_id
              AND c.tenant_id = %s AND c.id = %s AND c.fence = %s AND c.state = 'running' RETURNING {_COLUMNS}""",  # noqa: S608
        [low, high, part_count, uow.tenant_id, scrub.id, scrub.fence],
    )


async def list_copies(uow: UnitOfWork, store_id: UUID, *, begin: UUID, end: UUID, limit: int) -> list[Copy]:
    """The replicas of a store from one id to another, whatever their state: so many rows are read, and no more."""
    return await uow.rows(
        Copy,
        """SELECT r.id, r.blob_id, r.state, r.key, r.version_id, b.digest, b.size_bytes FROM replicas r
           LEFT JOIN blobs b ON b.tenant_id = r.tenant_id AND b.id = r.blob_id
           WHERE r.tenant_id = %s AND r.store_id = %s AND r.id >= %s AND r.id <= %s ORDER BY r.id LIMIT %s""",
        [uow.tenant_id, store_id, begin, end, limit],
    )


async def save_page(uow: UnitOfWork, scrub: Scrub, page: Page, found: Sequence[Found], *, lost: int) -> Scrub | None:
    """Count a page and go on after it; None if the claim is lost, and then nothing of it counts."""
    return await uow.find(
        Scrub,
        f"""UPDATE scrubs c SET done_parts = %(done)s, after_id = %(after)s, attempt = 0,
              error_code = NULL, error_message = NULL,
              checked_count = c.checked_count + %(checked)s, checked_bytes = c.checked_bytes + %(bytes)s,
              suspect_count = c.suspect_count + %(suspect)s, missing_count = c.missing_count + %(missing)s,
              lost_count = c.lost_count + %(lost)s
            FROM stores s WHERE s.id = c.store_id AND c.tenant_id = %(tenant)s AND c.id = %(id)s
              AND c.fence = %(fence)s AND c.state = 'running' RETURNING {_COLUMNS}""",  # noqa: S608
        {
            "done": page.done_parts,
            "after": page.after_id,
            "checked": len(found),
            "bytes": sum(one.copy.size_bytes or 0 for one in found) if scrub.level == "deep" else 0,
            "suspect": sum(one.state == "suspect" for one in found),
            "missing": sum(one.state == "missing" for one in found),
            "lost": lost,
            "tenant": uow.tenant_id,
            "id": scrub.id,
            "fence": scrub.fence,
        },
    )


async def finish(uow: UnitOfWork, scrub: Scrub) -> bool:
    count = await uow.execute(
        """UPDATE scrubs SET state = 'done', finished_at = now(), lease_until = NULL, done_parts = part_count
           WHERE tenant_id = %s AND id = %s AND fence = %s AND state = 'running'""",
        [uow.tenant_id, scrub.id, scrub.fence],
    )
    return count == 1


async def list_lost(uow: UnitOfWork, blob_ids: Sequence[UUID]) -> list[UUID]:
    """Of these, the living blobs that have no live replica, and none that is just being written."""
    return await uow.scalars(
        """SELECT b.id FROM blobs b WHERE b.tenant_id = %s AND b.id = ANY(%s) AND b.dead_at IS NULL AND NOT EXISTS (
             SELECT 1 FROM replicas r WHERE r.tenant_id = b.tenant_id AND r.blob_id = b.id
               AND r.state IN ('live', 'writing'))""",
        [uow.tenant_id, list(blob_ids)],
    )


async def distrust(uow: UnitOfWork, store_id: UUID, reason: str) -> bool:
    """For the platform. False where it is not trusted already."""
    count = await uow.execute(
        "UPDATE stores SET untrusted_at = now(), untrusted_reason = %s WHERE id = %s AND untrusted_at IS NULL",
        [reason, store_id],
    )
    return count == 1


async def find_owner(uow: UnitOfWork, store_id: UUID) -> UUID | None:
    """The tenant that brought the store. For the platform."""
    found: UUID | None = await uow.scalar("SELECT owner_tenant_id FROM stores WHERE id = %s", [store_id])
    return found


async def trust(uow: UnitOfWork, store_id: UUID) -> bool:
    """For the platform. False where it is trusted already."""
    count = await uow.execute(
        "UPDATE stores SET untrusted_at = NULL, untrusted_reason = NULL WHERE id = %s AND untrusted_at IS NOT NULL",
        [store_id],
    )
    return count == 1


async def list_doubtful(uow: UnitOfWork, *, after: UUID | None, limit: int) -> list[DoubtfulCopy]:
    """A page of the tenant's replicas that were found wrong or gone, with a document each that needs them."""
    return await uow.rows(
        DoubtfulCopy,
        """SELECT r.id, r.blob_id, v.document_id, d.name AS document_name, s.name AS store, r.state,
             r.last_error AS error, r.state_at AS since, NOT EXISTS (
               SELECT 1 FROM replicas o WHERE o.tenant_id = r.tenant_id AND o.blob_id = r.blob_id
                 AND o.state = 'live') AS is_lost
           FROM replicas r JOIN stores s ON s.id = r.store_id
           LEFT JOIN LATERAL (SELECT document_id FROM versions v WHERE v.tenant_id = r.tenant_id
             AND v.blob_id = r.blob_id LIMIT 1) v ON true
           LEFT JOIN documents d ON d.tenant_id = r.tenant_id AND d.id = v.document_id
           WHERE r.tenant_id = %(tenant)s AND r.state IN ('suspect', 'missing')
             AND (%(after)s::uuid IS NULL OR r.id > %(after)s) ORDER BY r.id LIMIT %(limit)s""",
        {"tenant": uow.tenant_id, "after": after, "limit": limit},
    )
