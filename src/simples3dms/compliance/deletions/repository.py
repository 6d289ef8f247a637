"""SQL of deletions of tenants, for the platform's unit of work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from psycopg import errors, sql
from psycopg.types.json import Jsonb

from simples3dms.compliance.deletions.values import Child, Deletion, Doomed, DueDeletion, Place, Trace
from simples3dms.db.session import UnitOfWork

_DELETION: Final = """id, tenant_id, state, reason, requested_at, requested_by, requested_by_name, waits_until,
  waits_until > now() AS is_waiting, confirmed_at, confirmed_by_name, finished_at, kept_document_id, error_code,
  document_count, version_count, size_bytes::bigint AS size_bytes, manifest_digest, certificate, fence, attempt"""
#: What stays of a tenant: that it was there, how it ended, and the audit.
_TOMBSTONES: Final = ("tenants", "tenant_deletions")


async def insert(
    uow: UnitOfWork, deletion_id: UUID, tenant_id: UUID, reason: str, *, by: UUID | None, name: str, wait_days: float
) -> Deletion | None:
    """The new request, or None while there is one that was not cancelled."""
    return await uow.find(
        Deletion,
        f"""INSERT INTO tenant_deletions (tenant_id, id, state, reason, requested_by, requested_by_name, waits_until)
            VALUES (%s, %s, 'requested', %s, %s, %s, now() + make_interval(secs => %s::float8 * 86400))
            ON CONFLICT DO NOTHING RETURNING {_DELETION}""",  # noqa: S608
        [tenant_id, deletion_id, reason, by, name, wait_days],
    )


async def find_current(uow: UnitOfWork, tenant_id: UUID, *, lock: bool = False) -> Deletion | None:
    """The tenant's deletion that was not cancelled."""
    return await uow.find(
        Deletion,
        f"""SELECT {_DELETION} FROM tenant_deletions WHERE tenant_id = %s AND state <> 'cancelled'
            {"FOR UPDATE" if lock else ""}""",  # noqa: S608
        [tenant_id],
    )


async def find(uow: UnitOfWork, deletion_id: UUID) -> Deletion | None:
    return await uow.find(Deletion, f"SELECT {_DELETION} FROM tenant_deletions WHERE id = %s", [deletion_id])  # noqa: S608


async def list_page(uow: UnitOfWork, *, after: UUID | None, limit: int) -> list[Deletion]:
    """Newest first."""
    return await uow.rows(
        Deletion,
        f"""SELECT {_DELETION} FROM tenant_deletions WHERE (%(after)s::uuid IS NULL OR id < %(after)s)
            ORDER BY id DESC LIMIT %(limit)s""",  # noqa: S608
        {"after": after, "limit": limit},
    )


async def cancel(uow: UnitOfWork, deletion: Deletion, *, name: str) -> None:
    await uow.execute(
        """UPDATE tenant_deletions SET state = 'cancelled', cancelled_at = now(), cancelled_by_name = %s
           WHERE tenant_id = %s AND id = %s""",
        [name, deletion.tenant_id, deletion.id],
    )


async def confirm(uow: UnitOfWork, deletion: Deletion, *, by: UUID | None, name: str) -> None:
    """From here on the tenant is suspended and nothing brings it back."""
    await uow.execute(
        """UPDATE tenant_deletions SET state = 'purging', confirmed_at = now(), confirmed_by = %s,
             confirmed_by_name = %s, due_at = now() WHERE tenant_id = %s AND id = %s""",
        [by, name, deletion.tenant_id, deletion.id],
    )
    await uow.execute(
        """UPDATE tenants SET deleting_at = now(), suspended_at = coalesce(suspended_at, now()),
             suspension_reason = coalesce(suspension_reason, 'being deleted') WHERE id = %s""",
        [deletion.tenant_id],
    )


async def claim(uow: UnitOfWork, tenant_id: UUID, deletion_id: UUID, *, lease_seconds: float) -> Deletion | None:
    """Take a due deletion over. The fence rises: an earlier claimant's word counts no more."""
    return await uow.find(
        Deletion,
        f"""UPDATE tenant_deletions SET fence = fence + 1, attempt = attempt + 1,
             lease_until = now() + make_interval(secs => %s::float8)
           WHERE tenant_id = %s AND id = %s AND state IN ('purging', 'removing') AND due_at <= now()
             AND (lease_until IS NULL OR lease_until < now()) RETURNING {_DELETION}""",  # noqa: S608
        [lease_seconds, tenant_id, deletion_id],
    )


async def extend(uow: UnitOfWork, deletion: Deletion, *, lease_seconds: float) -> bool:
    """Whether the claim still stands; it does for that long."""
    count = await uow.execute(
        """UPDATE tenant_deletions SET lease_until = now() + make_interval(secs => %s::float8)
           WHERE tenant_id = %s AND id = %s AND fence = %s AND state IN ('purging', 'removing')""",
        [lease_seconds, deletion.tenant_id, deletion.id, deletion.fence],
    )
    return count == 1


async def release(
    uow: UnitOfWork, deletion: Deletion, *, delay_seconds: float, error: str | None, kept: UUID | None
) -> None:
    """Let go of the claim until later, and say why."""
    await uow.execute(
        """UPDATE tenant_deletions SET lease_until = NULL, error_code = %s, kept_document_id = %s,
             due_at = now() + make_interval(secs => %s::float8)
           WHERE tenant_id = %s AND id = %s AND fence = %s""",
        [error, kept, delay_seconds, deletion.tenant_id, deletion.id, deletion.fence],
    )


async def list_due(uow: UnitOfWork, *, limit: int) -> list[DueDeletion]:
    return await uow.rows(
        DueDeletion,
        """SELECT tenant_id, id FROM tenant_deletions WHERE state IN ('purging', 'removing') AND due_at <= now()
             AND (lease_until IS NULL OR lease_until < now()) ORDER BY due_at LIMIT %s""",
        [limit],
    )


async def close_tenant(uow: UnitOfWork, tenant_id: UUID) -> None:
    """No upload begins or ends any more, no migration goes on. Waits for those that share the placement."""
    await uow.execute("SELECT 1 FROM placements WHERE tenant_id = %s FOR UPDATE", [tenant_id])
    await uow.execute("DELETE FROM placements WHERE tenant_id = %s", [tenant_id])
    await uow.execute(
        "UPDATE uploads SET state = 'failed', fence = fence + 1 WHERE tenant_id = %s AND state = 'open'", [tenant_id]
    )
    await uow.execute(
        """UPDATE migrations SET state = 'cancelled', resume_state = NULL, fence = fence + 1, finished_at = now()
           WHERE tenant_id = %s AND state NOT IN ('done', 'rolled_back', 'cancelled')""",
        [tenant_id],
    )


async def lock_documents(uow: UnitOfWork, *, limit: int) -> list[tuple[UUID, bool]]:
    """The next documents that were not purged yet, by id, locked; and whether each is in the trash."""
    cursor = await uow.connection.execute(
        """SELECT id, deleted_at IS NOT NULL FROM documents WHERE tenant_id = %s AND purged_at IS NULL
           ORDER BY id LIMIT %s FOR UPDATE""",
        [uow.tenant_id, limit],
    )
    return [(row[0], row[1]) for row in await cursor.fetchall()]


async def list_versions(uow: UnitOfWork, document_id: UUID) -> list[Doomed]:
    return await uow.rows(
        Doomed,
        """SELECT v.number, b.digest, b.size_bytes FROM versions v
           JOIN blobs b ON b.tenant_id = v.tenant_id AND b.id = v.blob_id
           WHERE v.tenant_id = %s AND v.document_id = %s ORDER BY v.number""",
        [uow.tenant_id, document_id],
    )


async def find_progress(uow: UnitOfWork, deletion: Deletion) -> bytes:
    """The digest up to here, as recorded: this unit of work may not be the first."""
    found: bytes = await uow.scalar(
        "SELECT manifest_digest FROM tenant_deletions WHERE tenant_id = %s AND id = %s",
        [deletion.tenant_id, deletion.id],
    )
    return bytes(found)


async def add_progress(
    uow: UnitOfWork, deletion: Deletion, *, documents: int, versions: int, size_bytes: int, digest: bytes
) -> None:
    await uow.execute(
        """UPDATE tenant_deletions SET document_count = document_count + %s, version_count = version_count + %s,
             size_bytes = size_bytes + %s, manifest_digest = %s, kept_document_id = NULL, error_code = NULL, attempt = 1
           WHERE tenant_id = %s AND id = %s""",
        [documents, versions, size_bytes, digest, deletion.tenant_id, deletion.id],
    )


async def has_replicas(uow: UnitOfWork, tenant_id: UUID) -> bool:
    """Whether objects are recorded, or a copy of a checkpoint may be on its way to a store this very moment."""
    found = await uow.scalar(
        """SELECT 1 FROM replicas WHERE tenant_id = %(tenant)s
           UNION ALL SELECT 1 FROM cache_entries WHERE tenant_id = %(tenant)s
           UNION ALL SELECT 1 FROM audit_copies WHERE tenant_id = %(tenant)s AND state = 'writing' AND attempt > 0
             AND due_at > now() LIMIT 1""",
        {"tenant": tenant_id},
    )
    return found is not None


async def list_places(uow: UnitOfWork, tenant_id: UUID) -> list[Place]:
    """Bounded by what operators grant."""
    return await uow.rows(Place, "SELECT store_id, prefix FROM store_grants WHERE tenant_id = %s", [tenant_id])


async def begin_removing(uow: UnitOfWork, deletion: Deletion) -> None:
    await uow.execute(
        "UPDATE tenant_deletions SET state = 'removing' WHERE tenant_id = %s AND id = %s",
        [deletion.tenant_id, deletion.id],
    )


async def list_traces(uow: UnitOfWork) -> list[Trace]:
    """Where a tenant's id stands, by the catalogue: a table that is added later is found without a change here.

    Tombstones, the audit (but for where it was copied) and what nobody may remove from are left out.
    """
    return await uow.rows(
        Trace,
        """SELECT DISTINCT c.relname::text AS table, a.attname::text AS column, a.attname = 'tenant_ids' AS is_list
           FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
           LEFT JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'f' AND k.confrelid = 'tenants'::regclass
             AND k.conkey = ARRAY[a.attnum]
           WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND a.attnum > 0
             AND NOT a.attisdropped AND NOT c.relname = ANY (%s)
             AND (c.relname = 'audit_copies' OR NOT starts_with(c.relname::text, 'audit_'))
             AND (a.attname = 'tenant_id' AND a.atttypid = 'uuid'::regtype
               OR a.attname = 'tenant_ids' AND a.atttypid = 'uuid[]'::regtype OR k.oid IS NOT NULL)
             AND has_table_privilege(c.oid, 'DELETE') ORDER BY 1, 2""",
        [list(_TOMBSTONES)],
    )


async def list_children(uow: UnitOfWork, table: str) -> list[Child]:
    """Tables that hang on this one by one column and do not go with it by themselves."""
    return await uow.rows(
        Child,
        """SELECT c.relname::text AS table, a.attname::text AS column, p.attname::text AS parent_column
           FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
           JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
           JOIN pg_attribute p ON p.attrelid = k.confrelid AND p.attnum = k.confkey[1]
           WHERE k.contype = 'f' AND k.confrelid = %s::regclass AND cardinality(k.conkey) = 1 AND k.confdeltype = 'a'
             AND NOT c.relname = ANY (%s) AND has_table_privilege(c.oid, 'DELETE')""",
        [table, list(_TOMBSTONES)],
    )


async def remove_traces(uow: UnitOfWork, trace: Trace, children: Sequence[Child], *, limit: int) -> int:
    """Remove up to that many of the tenant's rows; how many. None where others still hang on them: later."""
    names = {"table": sql.Identifier(trace.table), "column": sql.Identifier(trace.column)}
    given = {"tenant": uow.tenant_id, "limit": limit}
    try:
        async with uow.connection.transaction():
            if trace.is_list:
                query = (
                    "UPDATE {table} SET {column} = array_remove({column}, %(tenant)s) WHERE %(tenant)s = ANY ({column})"
                )
                return await uow.execute(sql.SQL(query).format(**names), given)
            for child in children:
                statement = sql.SQL(
                    "DELETE FROM {child} WHERE {key} IN (SELECT {parent} FROM {table} WHERE {column} = %(tenant)s)"
                ).format(
                    child=sql.Identifier(child.table),
                    key=sql.Identifier(child.column),
                    parent=sql.Identifier(child.parent_column),
                    **names,
                )
                await uow.execute(statement, given)
            statement = sql.SQL(
                """DELETE FROM {table} WHERE ctid = ANY (ARRAY(
                     SELECT ctid FROM {table} WHERE {column} = %(tenant)s LIMIT %(limit)s))"""
            ).format(**names)
            return await uow.execute(statement, given)
    except errors.ForeignKeyViolation:
        return 0


async def has_trace(uow: UnitOfWork, trace: Trace) -> bool:
    # A column of one id is looked up by its index, where it has one.
    one, many = "SELECT 1 FROM {table} WHERE {column} = %s LIMIT 1", "SELECT 1 FROM {table} WHERE %s = ANY ({column})"
    names = {"table": sql.Identifier(trace.table), "column": sql.Identifier(trace.column)}
    query = sql.SQL(many if trace.is_list else one).format(**names)
    return await uow.scalar(query, [uow.tenant_id]) is not None


async def lock_tenant(uow: UnitOfWork, tenant_id: UUID) -> tuple[str, str]:
    """The short name and the name of a tenant, to which nothing is added until this unit of work ends."""
    cursor = await uow.connection.execute("SELECT slug, name FROM tenants WHERE id = %s FOR UPDATE", [tenant_id])
    row = await cursor.fetchone()
    assert row is not None
    return row[0], row[1]


async def bury(uow: UnitOfWork, deletion: Deletion, certificate: dict[str, Any]) -> None:
    """Leave the tombstone: no name, no short name, no setting."""
    await uow.execute(
        """UPDATE tenants SET slug = 'deleted-' || replace(id::text, '-', ''), name = 'deleted', deleted_at = now(),
             suspended_at = NULL, suspension_reason = NULL, allowed_jurisdictions = NULL WHERE id = %s""",
        [deletion.tenant_id],
    )
    await uow.execute(
        """UPDATE tenant_deletions SET state = 'done', finished_at = now(), lease_until = NULL, error_code = NULL,
             certificate = %s::jsonb || jsonb_build_object('finished_at', now()) WHERE tenant_id = %s AND id = %s""",
        [Jsonb(certificate), deletion.tenant_id, deletion.id],
    )
