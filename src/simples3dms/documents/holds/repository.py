"""SQL of holds and retention."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.documents.holds.values import Hold, Retention

_HOLD: Final = """id, document_id, name, reason, placed_at, placed_by, released_at, released_by, release_reason"""


async def insert(uow: UnitOfWork, hold_id: UUID, document_id: UUID, name: str, reason: str, *, by: str) -> Hold | None:
    """The new hold, or None if one of that name is in force. The database locks the document for it."""
    return await uow.find(
        Hold,
        f"""INSERT INTO holds (tenant_id, id, document_id, name, reason, placed_by) VALUES (%s, %s, %s, %s, %s, %s)
            ON CONFLICT (tenant_id, document_id, name) WHERE released_at IS NULL DO NOTHING RETURNING {_HOLD}""",  # noqa: S608
        [uow.tenant_id, hold_id, document_id, name, reason, by],
    )


async def find(uow: UnitOfWork, document_id: UUID, hold_id: UUID) -> Hold | None:
    return await uow.find(
        Hold,
        f"SELECT {_HOLD} FROM holds WHERE tenant_id = %s AND document_id = %s AND id = %s",  # noqa: S608
        [uow.tenant_id, document_id, hold_id],
    )


async def release(uow: UnitOfWork, hold_id: UUID, reason: str, *, by: str) -> Hold | None:
    """The hold as released; None if it was released before."""
    return await uow.find(
        Hold,
        f"""UPDATE holds SET released_at = now(), released_by = %s, release_reason = %s
            WHERE tenant_id = %s AND id = %s AND released_at IS NULL RETURNING {_HOLD}""",  # noqa: S608
        [by, reason, uow.tenant_id, hold_id],
    )


async def list_of_document(uow: UnitOfWork, document_id: UUID, *, limit: int) -> list[Hold]:
    """Oldest first, released ones too."""
    return await uow.rows(
        Hold,
        f"SELECT {_HOLD} FROM holds WHERE tenant_id = %s AND document_id = %s ORDER BY id LIMIT %s",  # noqa: S608
        [uow.tenant_id, document_id, limit],
    )


async def list_page(uow: UnitOfWork, *, after: UUID | None, limit: int) -> list[Hold]:
    """Those in force in the tenant, oldest first."""
    return await uow.rows(
        Hold,
        f"""SELECT {_HOLD} FROM holds WHERE tenant_id = %(tenant)s AND released_at IS NULL
              AND (%(after)s::uuid IS NULL OR id > %(after)s) ORDER BY id LIMIT %(limit)s""",  # noqa: S608
        {"tenant": uow.tenant_id, "after": after, "limit": limit},
    )


async def find_retention(uow: UnitOfWork, document_id: UUID) -> Retention | None:
    """What keeps a document that was not purged. To be asked after the document was locked, where it matters."""
    return await uow.find(
        Retention,
        """SELECT d.id AS document_id, d.retain_until, d.retention_mode AS mode,
             coalesce(d.retain_until > now(), false) AS is_retained,
             (SELECT count(*) FROM (SELECT 1 FROM holds h WHERE h.tenant_id = d.tenant_id AND h.document_id = d.id
               AND h.released_at IS NULL LIMIT 1000) x) AS hold_count
           FROM documents d WHERE d.tenant_id = %s AND d.id = %s AND d.purged_at IS NULL""",
        [uow.tenant_id, document_id],
    )


async def set_retention(uow: UnitOfWork, document_id: UUID, until: datetime | None, mode: str | None) -> None:
    await uow.execute(
        """UPDATE documents SET retain_until = %s, retention_mode = %s, kept_at = NULL
           WHERE tenant_id = %s AND id = %s""",
        [until, mode, uow.tenant_id, document_id],
    )


async def is_future(uow: UnitOfWork, moment: datetime) -> bool:
    """By the database's clock."""
    return bool(await uow.scalar("SELECT %s::timestamptz > now()", [moment]))


async def forget_passing(uow: UnitOfWork, document_id: UUID) -> None:
    """The document is looked at anew: were it passed over again, that would be told again."""
    await uow.execute(
        "UPDATE documents SET kept_at = NULL WHERE tenant_id = %s AND id = %s AND kept_at IS NOT NULL",
        [uow.tenant_id, document_id],
    )


async def note_passing(uow: UnitOfWork, document_id: UUID) -> bool:
    """Note that the trash's expiry passed the document over; False if that is noted already."""
    count = await uow.execute(
        """UPDATE documents SET kept_at = now() WHERE tenant_id = %s AND id = %s
             AND (kept_at IS NULL OR kept_at < retain_until AND retain_until <= now())""",
        [uow.tenant_id, document_id],
    )
    return count == 1


async def find_kept(uow: UnitOfWork) -> UUID | None:
    """A document of the tenant that is held or retained, if there is one."""
    found: UUID | None = await uow.scalar(
        """(SELECT document_id FROM holds WHERE tenant_id = %(tenant)s AND released_at IS NULL LIMIT 1)
           UNION ALL
           (SELECT id FROM documents WHERE tenant_id = %(tenant)s AND retain_until > now() AND purged_at IS NULL
            LIMIT 1)
           LIMIT 1""",
        {"tenant": uow.tenant_id},
    )
    return found
