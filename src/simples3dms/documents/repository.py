"""SQL of documents, versions and uploads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.documents.values import Document, ReplicaView, UploadRequest, UploadRow, Version
from simples3dms.storage.blobs.values import Blob

_DOCUMENT: Final = """SELECT d.id, d.name, v.content_type, b.size_bytes, encode(b.digest, 'hex') AS sha256,
    v.number AS version, d.created_at, d.updated_at, d.deleted_at
  FROM documents d
  JOIN versions v ON v.tenant_id = d.tenant_id AND v.document_id = d.id AND v.number = d.version_number
  JOIN blobs b ON b.tenant_id = v.tenant_id AND b.id = v.blob_id"""
_VERSION: Final = """SELECT v.number, b.size_bytes, encode(b.digest, 'hex') AS sha256, v.content_type, v.created_at
  FROM versions v JOIN blobs b ON b.tenant_id = v.tenant_id AND b.id = v.blob_id"""


@dataclass(frozen=True, slots=True)
class DueDocument:
    """A document in the trash whose time is over, for the watchdog."""

    tenant_id: UUID
    id: UUID


@dataclass(frozen=True, slots=True)
class DocumentState:
    """The parts of a document's row that decide what may happen to it."""

    id: UUID
    is_deleted: bool
    version_number: int


async def find(uow: UnitOfWork, document_id: UUID) -> Document | None:
    """A document that was not purged, in the trash or not."""
    return await uow.find(
        Document,
        f"{_DOCUMENT} WHERE d.tenant_id = %s AND d.id = %s AND d.purged_at IS NULL",
        [uow.tenant_id, document_id],
    )


async def list_page(uow: UnitOfWork, *, after: UUID | None, limit: int, trash: bool) -> list[Document]:
    """By id, which is by age, oldest first."""
    where = "d.deleted_at IS NOT NULL AND d.purged_at IS NULL" if trash else "d.deleted_at IS NULL"
    return await uow.rows(
        Document,
        f"""{_DOCUMENT} WHERE d.tenant_id = %(tenant)s AND {where}
            AND (%(after)s::uuid IS NULL OR d.id > %(after)s) ORDER BY d.id LIMIT %(limit)s""",
        {"tenant": uow.tenant_id, "after": after, "limit": limit},
    )


async def find_version(uow: UnitOfWork, document_id: UUID, number: int) -> Version | None:
    return await uow.find(
        Version,
        f"{_VERSION} WHERE v.tenant_id = %s AND v.document_id = %s AND v.number = %s",
        [uow.tenant_id, document_id, number],
    )


async def list_versions(uow: UnitOfWork, document_id: UUID, *, limit: int) -> list[Version]:
    """Newest first."""
    return await uow.rows(
        Version,
        f"{_VERSION} WHERE v.tenant_id = %s AND v.document_id = %s ORDER BY v.number DESC LIMIT %s",
        [uow.tenant_id, document_id, limit],
    )


async def find_version_blob(uow: UnitOfWork, document_id: UUID, number: int) -> Blob | None:
    return await uow.find(
        Blob,
        """SELECT b.id, b.seq, b.digest, b.size_bytes FROM versions v
           JOIN blobs b ON b.tenant_id = v.tenant_id AND b.id = v.blob_id
           WHERE v.tenant_id = %s AND v.document_id = %s AND v.number = %s""",
        [uow.tenant_id, document_id, number],
    )


async def list_replicas(uow: UnitOfWork, document_id: UUID, *, limit: int) -> list[ReplicaView]:
    return await uow.rows(
        ReplicaView,
        """SELECT v.number AS version_number, s.name AS store, r.state, r.evidence, r.evidence_at, r.created_at
           FROM versions v JOIN replicas r ON r.tenant_id = v.tenant_id AND r.blob_id = v.blob_id
           JOIN stores s ON s.id = r.store_id
           WHERE v.tenant_id = %s AND v.document_id = %s ORDER BY v.number DESC, r.created_at LIMIT %s""",
        [uow.tenant_id, document_id, limit],
    )


async def lock(uow: UnitOfWork, document_id: UUID) -> DocumentState | None:
    """Read a document that was not purged, for changing it."""
    return await uow.find(
        DocumentState,
        """SELECT id, deleted_at IS NOT NULL AS is_deleted, version_number FROM documents
           WHERE tenant_id = %s AND id = %s AND purged_at IS NULL FOR UPDATE""",
        [uow.tenant_id, document_id],
    )


async def is_due(uow: UnitOfWork, document_id: UUID, *, trash_days: float) -> bool:
    """Whether the document has been in the trash that long."""
    found = await uow.scalar(
        """SELECT 1 FROM documents WHERE tenant_id = %s AND id = %s
             AND deleted_at < now() - make_interval(secs => %s::float8)""",
        [uow.tenant_id, document_id, trash_days * 86_400],
    )
    return found is not None


async def insert(uow: UnitOfWork, document_id: UUID, name: str) -> None:
    await uow.execute(
        "INSERT INTO documents (tenant_id, id, name, version_number) VALUES (%s, %s, %s, 1)",
        [uow.tenant_id, document_id, name],
    )


async def add_version(
    uow: UnitOfWork, document_id: UUID, number: int, *, blob_id: UUID, content_type: str, created_by: UUID | None
) -> None:
    await uow.execute(
        """INSERT INTO versions (tenant_id, document_id, number, blob_id, content_type, created_by)
           VALUES (%s, %s, %s, %s, %s, %s)""",
        [uow.tenant_id, document_id, number, blob_id, content_type, created_by],
    )
    await uow.execute(
        """UPDATE documents SET version_number = %s, updated_at = now()
           WHERE tenant_id = %s AND id = %s AND version_number < %s""",
        [number, uow.tenant_id, document_id, number],
    )


async def set_deleted(uow: UnitOfWork, document_id: UUID, *, deleted: bool) -> None:
    await uow.execute(
        """UPDATE documents SET deleted_at = CASE WHEN %s THEN now() END, updated_at = now()
           WHERE tenant_id = %s AND id = %s""",
        [deleted, uow.tenant_id, document_id],
    )


async def purge(uow: UnitOfWork, document_id: UUID) -> list[UUID]:
    """Leave only the tombstone of a locked document; the blobs that nobody refers to any more."""
    blobs = await uow.scalars(
        """WITH gone AS (DELETE FROM versions WHERE tenant_id = %(tenant)s AND document_id = %(id)s RETURNING blob_id)
           SELECT DISTINCT g.blob_id FROM gone g WHERE NOT EXISTS (
             SELECT 1 FROM versions v WHERE v.tenant_id = %(tenant)s AND v.blob_id = g.blob_id
               AND v.document_id <> %(id)s)""",
        {"tenant": uow.tenant_id, "id": document_id},
    )
    await uow.execute(
        "UPDATE documents SET purged_at = now(), name = '' WHERE tenant_id = %s AND id = %s",
        [uow.tenant_id, document_id],
    )
    return blobs


async def list_to_purge(uow: UnitOfWork, *, trash_days: float, limit: int) -> list[DueDocument]:
    """Documents that have been in the trash long enough. For the platform's unit of work."""
    return await uow.rows(
        DueDocument,
        """SELECT tenant_id, id FROM documents WHERE deleted_at IS NOT NULL AND purged_at IS NULL
             AND deleted_at < now() - make_interval(secs => %s::float8) ORDER BY deleted_at LIMIT %s""",
        [trash_days * 86_400, limit],
    )


async def find_upload(uow: UnitOfWork, principal_id: UUID, idempotency_key: str) -> UploadRow | None:
    """The upload that a principal began with this key, locked."""
    return await uow.find(
        UploadRow,
        """SELECT id, fingerprint, document_id, replica_id, state, result_document_id, result_version, fence,
             lease_until > now() AS is_leased
           FROM uploads WHERE tenant_id = %s AND principal_id = %s AND idempotency_key = %s FOR UPDATE""",
        [uow.tenant_id, principal_id, idempotency_key],
    )


async def insert_upload(
    uow: UnitOfWork,
    upload_id: UUID,
    request: UploadRequest,
    *,
    principal_id: UUID,
    fingerprint: bytes,
    replica_id: UUID,
    lease_seconds: float,
) -> bool:
    """Open an upload; False if the same principal has just opened one with the same key."""
    count = await uow.execute(
        """INSERT INTO uploads (tenant_id, id, principal_id, idempotency_key, fingerprint, document_id, name,
             content_type, replica_id, state, lease_until)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, 'open', now() + make_interval(secs => %s::float8))
           ON CONFLICT DO NOTHING""",
        [
            uow.tenant_id,
            upload_id,
            principal_id,
            request.idempotency_key,
            fingerprint,
            request.document_id,
            request.name,
            request.content_type,
            replica_id,
            lease_seconds,
        ],
    )
    return count == 1


async def reopen_upload(uow: UnitOfWork, upload_id: UUID, *, replica_id: UUID, lease_seconds: float) -> int:
    """Take a failed or abandoned upload up again with a new replica; the new fence."""
    return int(
        await uow.scalar(
            """UPDATE uploads SET state = 'open', replica_id = %s, fence = fence + 1, attempt = attempt + 1,
                 lease_until = now() + make_interval(secs => %s::float8)
               WHERE tenant_id = %s AND id = %s RETURNING fence""",
            [replica_id, lease_seconds, uow.tenant_id, upload_id],
        )
    )


async def extend_upload(uow: UnitOfWork, upload_id: UUID, fence: int, *, lease_seconds: float) -> bool:
    count = await uow.execute(
        """UPDATE uploads SET lease_until = now() + make_interval(secs => %s::float8)
           WHERE tenant_id = %s AND id = %s AND fence = %s AND state = 'open'""",
        [lease_seconds, uow.tenant_id, upload_id, fence],
    )
    return count == 1


async def complete_upload(uow: UnitOfWork, upload_id: UUID, fence: int, *, document_id: UUID, version: int) -> bool:
    """Close the upload with its result; False if it was taken over or given up meanwhile."""
    count = await uow.execute(
        """UPDATE uploads SET state = 'completed', result_document_id = %s, result_version = %s
           WHERE tenant_id = %s AND id = %s AND fence = %s AND state = 'open'""",
        [document_id, version, uow.tenant_id, upload_id, fence],
    )
    return count == 1


async def fail_upload(uow: UnitOfWork, upload_id: UUID, fence: int) -> bool:
    count = await uow.execute(
        """UPDATE uploads SET state = 'failed' WHERE tenant_id = %s AND id = %s AND fence = %s AND state = 'open'""",
        [uow.tenant_id, upload_id, fence],
    )
    return count == 1


async def expire_uploads(uow: UnitOfWork, *, limit: int) -> int:
    """Give up uploads whose server is gone. For the platform's unit of work."""
    return await uow.execute(
        """UPDATE uploads SET state = 'failed', fence = fence + 1 WHERE (tenant_id, id) IN (
             SELECT tenant_id, id FROM uploads WHERE state = 'open' AND lease_until < now()
             ORDER BY lease_until LIMIT %s FOR UPDATE SKIP LOCKED)""",
        [limit],
    )
