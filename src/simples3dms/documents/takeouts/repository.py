"""SQL of takeouts: the manifest, page by page."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.documents.takeouts.values import Entry, Takeout

_TAKEOUT: Final = "id, upto_seq, created_at, created_by"


async def insert(uow: UnitOfWork, takeout_id: UUID, *, upto_seq: int, by: str) -> Takeout:
    takeout = await uow.find(
        Takeout,
        f"INSERT INTO takeouts (tenant_id, id, upto_seq, created_by) VALUES (%s, %s, %s, %s) RETURNING {_TAKEOUT}",  # noqa: S608
        [uow.tenant_id, takeout_id, upto_seq, by],
    )
    assert takeout is not None
    return takeout


async def find(uow: UnitOfWork, takeout_id: UUID) -> Takeout | None:
    return await uow.find(
        Takeout,
        f"SELECT {_TAKEOUT} FROM takeouts WHERE tenant_id = %s AND id = %s",  # noqa: S608
        [uow.tenant_id, takeout_id],
    )


async def list_page(uow: UnitOfWork, *, after: UUID | None, limit: int) -> list[Takeout]:
    """Newest first."""
    return await uow.rows(
        Takeout,
        f"""SELECT {_TAKEOUT} FROM takeouts WHERE tenant_id = %(tenant)s
              AND (%(after)s::uuid IS NULL OR id < %(after)s) ORDER BY id DESC LIMIT %(limit)s""",  # noqa: S608
        {"tenant": uow.tenant_id, "after": after, "limit": limit},
    )


async def list_entries(uow: UnitOfWork, takeout: Takeout, *, after: tuple[UUID, int], limit: int) -> list[Entry]:
    """Versions of the snapshot that are still there and not in the trash, after this one."""
    return await uow.rows(
        Entry,
        """SELECT v.document_id AS document, v.number AS version, d.name, v.content_type, b.size_bytes,
             encode(b.digest, 'hex') AS sha256,
             d.created_at AS document_created_at, coalesce(v.original_created_at, v.created_at) AS created_at,
             d.retain_until, d.retention_mode
           FROM versions v
           JOIN documents d ON d.tenant_id = v.tenant_id AND d.id = v.document_id AND d.deleted_at IS NULL
           JOIN blobs b ON b.tenant_id = v.tenant_id AND b.id = v.blob_id AND b.seq <= %(seq)s
           WHERE v.tenant_id = %(tenant)s AND (v.document_id, v.number) > (%(document)s, %(number)s)
           ORDER BY v.document_id, v.number LIMIT %(limit)s""",
        {
            "seq": takeout.upto_seq,
            "tenant": uow.tenant_id,
            "document": after[0],
            "number": after[1],
            "limit": limit,
        },
    )
