"""SQL of documents, versions and uploads."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.documents.values import Document, ReplicaView, UploadRequest, UploadRow, Usage, Version
from simples3dms.storage.blobs.values import Blob
from simples3dms.storage.locks.repository import LOCK_VIEW

_DOCUMENT: Final = """SELECT d.id, d.name, v.content_type, b.size_bytes, encode(b.digest, 'hex') AS sha256,
    v.number AS version, d.created_at, d.updated_at, d.deleted_at
  FROM documents d
  JOIN versions v ON v.tenant_id = d.tenant_id AND v.document_id = d.id AND v.number = d.version_number
  JOIN blobs b ON b.tenant_id = v.tenant_id AND b.id = v.blob_id"""
_VERSION: Final = """SELECT v.number, b.size_bytes, encode(b.digest, 'hex') AS sha256, v.content_type, v.created_at,
    v.original_created_at
  FROM versions v JOIN blobs b ON b.tenant_id = v.tenant_id AND b.id = v.blob_id"""

_SHARDS: Final = 16
#: What nothing keeps. The database's triggers say the same: neither relies on the other.
_FREE: Final = """(d.retain_until IS NULL OR d.retain_until <= now()) AND NOT EXISTS (SELECT 1 FROM holds h
    WHERE h.tenant_id = d.tenant_id AND h.document_id = d.id AND h.released_at IS NULL)"""
#: Not passed over by the trash's expiry, or its retention has ended since.
_DUE: Final = "(d.kept_at IS NULL OR d.kept_at < d.retain_until AND d.retain_until <= now())"


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
    """What a cache has is among them, as `cached`: it is no copy."""
    return await uow.rows(
        ReplicaView,
        f"""SELECT v.number AS version_number, s.name AS store, r.state, r.evidence, r.evidence_at, r.created_at,
             coalesce(k.last_error, CASE WHEN r.state = 'retiring' THEN r.last_error END) AS error, k.lock,
             k.lock_wanted_hold, k.lock_wanted_mode, k.lock_wanted_until, k.lock_set_hold, k.lock_set_mode,
             k.lock_set_until, k.lock_set_at
           FROM versions v JOIN replicas r ON r.tenant_id = v.tenant_id AND r.blob_id = v.blob_id
           JOIN stores s ON s.id = r.store_id {LOCK_VIEW}
           WHERE v.tenant_id = %(tenant)s AND v.document_id = %(document)s
           UNION ALL
           SELECT v.number, s.name, 'cached', NULL, NULL, e.created_at, NULL, 'not_used', false, NULL, NULL, false,
             NULL, NULL, NULL
           FROM versions v JOIN cache_entries e ON e.tenant_id = v.tenant_id AND e.blob_id = v.blob_id
             AND e.state = 'live' JOIN stores s ON s.id = e.store_id
           WHERE v.tenant_id = %(tenant)s AND v.document_id = %(document)s
           ORDER BY version_number DESC, created_at LIMIT %(limit)s""",  # noqa: S608
        {"tenant": uow.tenant_id, "document": document_id, "limit": limit},
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
    """Whether the document has been in the trash that long; a tenant's own days count before `trash_days`."""
    found = await uow.scalar(
        """SELECT 1 FROM documents d LEFT JOIN tenant_settings s ON s.tenant_id = d.tenant_id
           WHERE d.tenant_id = %s AND d.id = %s
             AND d.deleted_at < now() - make_interval(secs => coalesce(s.trash_days, %s::float8) * 86400)""",
        [uow.tenant_id, document_id, trash_days],
    )
    return found is not None


async def insert(uow: UnitOfWork, document_id: UUID, name: str) -> None:
    """A new document, retained as the tenant's settings say."""
    await uow.execute(
        """INSERT INTO documents (tenant_id, id, name, version_number, retain_until, retention_mode)
           SELECT i.tenant_id, i.id, i.name, 1, now() + make_interval(hours => 24 * s.retention_days), s.retention_mode
           FROM (VALUES (%s::uuid, %s::uuid, %s::text)) AS i (tenant_id, id, name)
           LEFT JOIN tenant_settings s ON s.tenant_id = i.tenant_id""",
        [uow.tenant_id, document_id, name],
    )


async def add_version(
    uow: UnitOfWork,
    document_id: UUID,
    number: int,
    *,
    blob_id: UUID,
    content_type: str,
    created_by: UUID | None,
    original_created_at: datetime | None = None,
) -> None:
    """Add a version. The tenant's retention begins anew with it: the time only grows, the mode only hardens."""
    await uow.execute(
        """INSERT INTO versions (tenant_id, document_id, number, blob_id, content_type, created_by, original_created_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s)""",
        [uow.tenant_id, document_id, number, blob_id, content_type, created_by, original_created_at],
    )
    await uow.execute(
        """UPDATE documents d SET version_number = %(number)s, updated_at = now(),
             retain_until = greatest(d.retain_until, now() + make_interval(hours => 24 * s.retention_days)),
             retention_mode = CASE WHEN 'compliance' IN (d.retention_mode, s.retention_mode) THEN 'compliance'
               ELSE coalesce(d.retention_mode, s.retention_mode) END
           FROM (VALUES (%(tenant)s::uuid)) AS i (tenant_id) LEFT JOIN tenant_settings s ON s.tenant_id = i.tenant_id
           WHERE d.tenant_id = i.tenant_id AND d.id = %(id)s AND d.version_number < %(number)s""",
        {"number": number, "tenant": uow.tenant_id, "id": document_id},
    )


async def set_deleted(uow: UnitOfWork, document_id: UUID, *, deleted: bool) -> None:
    await uow.execute(
        """UPDATE documents SET deleted_at = CASE WHEN %s THEN now() END, updated_at = now(), kept_at = NULL
           WHERE tenant_id = %s AND id = %s""",
        [deleted, uow.tenant_id, document_id],
    )


async def purge(uow: UnitOfWork, document_id: UUID) -> list[UUID] | None:
    """Leave only the tombstone of a locked document; the blobs that nobody refers to any more. None if it is kept.

    This is the one place where documents are removed: whatever is held or retained passes here unharmed.
    """
    purged = await uow.execute(
        f"""UPDATE documents d SET purged_at = now(), name = '' WHERE d.tenant_id = %s AND d.id = %s AND {_FREE}""",  # noqa: S608
        [uow.tenant_id, document_id],
    )
    if purged != 1:
        return None
    size_bytes = await uow.scalar(
        """SELECT coalesce(sum(b.size_bytes), 0) FROM versions v
           JOIN blobs b ON b.tenant_id = v.tenant_id AND b.id = v.blob_id
           WHERE v.tenant_id = %s AND v.document_id = %s""",
        [uow.tenant_id, document_id],
    )
    await count_usage(uow, documents=-1, size_bytes=-int(size_bytes))
    return await uow.scalars(
        """WITH gone AS (DELETE FROM versions WHERE tenant_id = %(tenant)s AND document_id = %(id)s RETURNING blob_id)
           SELECT DISTINCT g.blob_id FROM gone g WHERE NOT EXISTS (
             SELECT 1 FROM versions v WHERE v.tenant_id = %(tenant)s AND v.blob_id = g.blob_id
               AND v.document_id <> %(id)s)""",
        {"tenant": uow.tenant_id, "id": document_id},
    )


async def count_usage(uow: UnitOfWork, *, documents: int, size_bytes: int) -> None:
    """Count documents and bytes that come or go, in one of several rows, so that uploads do not queue for one."""
    await uow.execute(
        """INSERT INTO usage_shards (tenant_id, shard, document_count, size_bytes) VALUES (%s, %s, %s, %s)
           ON CONFLICT (tenant_id, shard) DO UPDATE SET
             document_count = usage_shards.document_count + EXCLUDED.document_count,
             size_bytes = usage_shards.size_bytes + EXCLUDED.size_bytes""",
        [uow.tenant_id, random.randrange(_SHARDS), documents, size_bytes],  # noqa: S311 no secret
    )


async def lock_usage(uow: UnitOfWork) -> None:
    """Wait for whoever else reserves in this tenant: for tenants with a limit only."""
    await uow.execute("SELECT pg_advisory_xact_lock(hashtextextended('usage:' || %s, 0))", [str(uow.tenant_id)])


async def find_usage(uow: UnitOfWork, *, apart_from: UUID | None = None) -> Usage:
    """What the tenant's documents take, versions and trash included, and what open uploads have reserved."""
    found = await uow.find(
        Usage,
        """SELECT (coalesce(sum(s.document_count), 0) + (SELECT count(*) FROM uploads u WHERE u.tenant_id = %(tenant)s
               AND u.state = 'open' AND u.document_id IS NULL
               AND u.id IS DISTINCT FROM %(apart)s))::bigint AS documents,
             (coalesce(sum(s.size_bytes), 0) + (SELECT coalesce(sum(u.reserved_bytes), 0) FROM uploads u
               WHERE u.tenant_id = %(tenant)s AND u.state = 'open'
                 AND u.id IS DISTINCT FROM %(apart)s))::bigint AS size_bytes
           FROM usage_shards s WHERE s.tenant_id = %(tenant)s""",
        {"tenant": uow.tenant_id, "apart": apart_from},
    )
    assert found is not None
    return found


async def list_to_purge(uow: UnitOfWork, *, trash_days: float, limit: int) -> list[DueDocument]:
    """Documents that have been in the trash long enough, by their tenant's own days or else by `trash_days`.

    What something keeps is left out once it was passed over. For the platform's unit of work.
    """
    return await uow.rows(
        DueDocument,
        f"""(SELECT d.tenant_id, d.id FROM documents d WHERE d.deleted_at IS NOT NULL AND d.purged_at IS NULL
              AND {_DUE} AND d.deleted_at < now() - make_interval(secs => %(days)s::float8 * 86400)
              AND NOT EXISTS (SELECT 1 FROM tenant_settings s WHERE s.tenant_id = d.tenant_id
                AND s.trash_days IS NOT NULL)
            ORDER BY d.deleted_at LIMIT %(limit)s)
           UNION ALL
           (SELECT o.tenant_id, o.id FROM tenant_settings s CROSS JOIN LATERAL (
              SELECT d.tenant_id, d.id FROM documents d WHERE d.tenant_id = s.tenant_id AND d.deleted_at IS NOT NULL
                AND d.purged_at IS NULL AND {_DUE}
                AND d.deleted_at < now() - make_interval(secs => s.trash_days * 86400)
              ORDER BY d.deleted_at LIMIT %(limit)s) o
            WHERE s.trash_days IS NOT NULL LIMIT %(limit)s)""",  # noqa: S608
        {"days": trash_days, "limit": limit},
    )


_UPLOAD: Final = """SELECT id, fingerprint, document_id, replica_id, state, result_document_id, result_version, fence,
  lease_until > now() AS is_leased FROM uploads"""


async def find_upload(uow: UnitOfWork, principal_id: UUID, idempotency_key: str) -> UploadRow | None:
    """The upload that a principal began with this key, locked."""
    return await uow.find(
        UploadRow,
        f"{_UPLOAD} WHERE tenant_id = %s AND principal_id = %s AND idempotency_key = %s FOR UPDATE",
        [uow.tenant_id, principal_id, idempotency_key],
    )


async def find_completed(uow: UnitOfWork, upload_id: UUID, fence: int) -> UploadRow | None:
    """The upload, if it was completed under this very claim."""
    return await uow.find(
        UploadRow,
        f"{_UPLOAD} WHERE tenant_id = %s AND id = %s AND fence = %s AND state = 'completed'",
        [uow.tenant_id, upload_id, fence],
    )


async def insert_upload(
    uow: UnitOfWork,
    upload_id: UUID,
    request: UploadRequest,
    *,
    principal_id: UUID,
    fingerprint: bytes,
    replica_id: UUID,
    reserved_bytes: int,
    lease_seconds: float,
) -> bool:
    """Open an upload; False if the same principal has just opened one with the same key."""
    count = await uow.execute(
        """INSERT INTO uploads (tenant_id, id, principal_id, idempotency_key, fingerprint, document_id, name,
             content_type, replica_id, reserved_bytes, state, lease_until)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'open', now() + make_interval(secs => %s::float8))
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
            reserved_bytes,
            lease_seconds,
        ],
    )
    return count == 1


async def reopen_upload(
    uow: UnitOfWork, upload_id: UUID, *, replica_id: UUID, reserved_bytes: int, lease_seconds: float
) -> int:
    """Take a failed or abandoned upload up again with a new replica; the new fence."""
    return int(
        await uow.scalar(
            """UPDATE uploads SET state = 'open', replica_id = %s, reserved_bytes = %s, fence = fence + 1,
                 attempt = attempt + 1, lease_until = now() + make_interval(secs => %s::float8)
               WHERE tenant_id = %s AND id = %s RETURNING fence""",
            [replica_id, reserved_bytes, lease_seconds, uow.tenant_id, upload_id],
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
    """Close the upload with its result; False if it was taken over or given up meanwhile.

    The name is the document's from now on, and goes with it.
    """
    count = await uow.execute(
        """UPDATE uploads SET state = 'completed', name = '', result_document_id = %s, result_version = %s
           WHERE tenant_id = %s AND id = %s AND fence = %s AND state = 'open'""",
        [document_id, version, uow.tenant_id, upload_id, fence],
    )
    return count == 1


async def fail_upload(uow: UnitOfWork, upload_id: UUID, fence: int) -> bool:
    count = await uow.execute(
        """UPDATE uploads SET state = 'failed', name = ''
           WHERE tenant_id = %s AND id = %s AND fence = %s AND state = 'open'""",
        [uow.tenant_id, upload_id, fence],
    )
    return count == 1


async def expire_uploads(uow: UnitOfWork, *, limit: int) -> int:
    """Give up uploads whose server is gone. For the platform's unit of work."""
    return await uow.execute(
        """UPDATE uploads SET state = 'failed', name = '', fence = fence + 1 WHERE (tenant_id, id) IN (
             SELECT tenant_id, id FROM uploads WHERE state = 'open' AND lease_until < now()
             ORDER BY lease_until LIMIT %s FOR UPDATE SKIP LOCKED)""",
        [limit],
    )
