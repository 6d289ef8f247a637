"""SQL about one person, for the platform's unit of work."""

from __future__ import annotations

from typing import Any, Final, LiteralString
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from simples3dms.compliance.persons.values import Act, Erasure, Membership, Person, Reference, Uploaded
from simples3dms.db.session import UnitOfWork

_ERASURE: Final = """id, user_id, state, reason, requested_at, requested_by_name, account, documents, finished_at,
  certificate"""
_ACT: Final = """SELECT id, tenant_id, at, principal_id, principal_name, action, target_type, target_id, outcome,
    details
  FROM audit_events"""


async def find_person(uow: UnitOfWork, *, user_id: UUID | None, email: str | None, lock: bool = False) -> Person | None:
    return await uow.find(
        Person,
        f"""SELECT id, email, is_operator, is_auditor, created_at, disabled_at FROM users
            WHERE id = %s OR email = %s {"FOR UPDATE" if lock else ""}""",  # noqa: S608
        [user_id, email],
    )


async def list_references(uow: UnitOfWork) -> list[Reference]:
    """Tables that refer to users, by the catalogue: one that is added later is found without a change here."""
    return await uow.rows(
        Reference,
        """SELECT c.relname::text AS table, a.attname::text AS column, NOT a.attnotnull AS is_optional,
             ARRAY(SELECT s.attname::text FROM pg_attribute s WHERE s.attrelid = c.oid AND s.attnum > 0
               AND NOT s.attisdropped AND s.atttypid <> 'bytea'::regtype
               AND s.attname !~ '(hash|secret|sealed|token|password|wrapped|key)' ORDER BY s.attnum) AS shown
           FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
           JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
           WHERE k.contype = 'f' AND k.confrelid = 'users'::regclass AND cardinality(k.conkey) = 1
             AND NOT starts_with(c.relname::text, 'audit_') AND has_table_privilege(c.oid, 'DELETE')
           ORDER BY 1, 2""",
    )


async def remove_rows(uow: UnitOfWork, reference: Reference, user_id: UUID) -> int:
    """Remove what belongs to the user; where a row only names them, take the name out. How many rows."""
    statement = (
        "UPDATE {table} SET {column} = NULL WHERE {column} = %s"
        if reference.is_optional
        else ("DELETE FROM {table} WHERE {column} = %s")
    )
    names = {"table": sql.Identifier(reference.table), "column": sql.Identifier(reference.column)}
    return await uow.execute(sql.SQL(statement).format(**names), [user_id])


async def list_invitations(uow: UnitOfWork, email: str, *, limit: int) -> list[dict[str, Any]]:
    """Invitations to an address, without their secrets."""
    return await uow.scalars(
        """SELECT to_jsonb(x) FROM (
             SELECT tenant_id, id, email, role, invited_by, created_at, expires_at, accepted_at, revoked_at
             FROM invitations WHERE email = %s ORDER BY id LIMIT %s) x""",
        [email, limit],
    )


async def list_rows(uow: UnitOfWork, reference: Reference, user_id: UUID, *, limit: int) -> list[dict[str, Any]]:
    """What a table holds of the user, without what is secret."""
    statement = sql.SQL("SELECT to_jsonb(x) FROM (SELECT {shown} FROM {table} WHERE {column} = %s LIMIT %s) x").format(
        shown=sql.SQL(", ").join(map(sql.Identifier, reference.shown)),
        table=sql.Identifier(reference.table),
        column=sql.Identifier(reference.column),
    )
    return await uow.scalars(statement, [user_id, limit])


async def list_ownerless(uow: UnitOfWork, user_id: UUID) -> list[str]:
    """The short names of tenants whose only owner the user is."""
    return await uow.scalars(
        """SELECT t.slug FROM members m JOIN tenants t ON t.id = m.tenant_id WHERE m.user_id = %s AND m.role = 'owner'
             AND NOT EXISTS (SELECT 1 FROM members o WHERE o.tenant_id = m.tenant_id AND o.role = 'owner'
               AND o.user_id <> m.user_id) ORDER BY t.slug LIMIT 1000""",
        [user_id],
    )


async def remove_address(uow: UnitOfWork, email: str) -> dict[str, int]:
    """Remove rows that hold a person's address without being tied to the account; how many, by table."""
    statements: tuple[tuple[str, LiteralString], ...] = (
        ("invitations", "DELETE FROM invitations WHERE email = %s"),
        ("password_resets", "DELETE FROM password_resets WHERE email = %s"),
    )
    counts = {table: await uow.execute(statement, [email]) for table, statement in statements}
    return {table: count for table, count in counts.items() if count}


async def bury_account(uow: UnitOfWork, user_id: UUID) -> None:
    """Leave an id that nobody can sign in as, and no address."""
    await uow.execute(
        """UPDATE users SET email = 'erased-' || replace(id::text, '-', '') || '@erased.invalid', password_hash = '!',
             is_operator = false, is_auditor = false, disabled_at = coalesce(disabled_at, now()) WHERE id = %s""",
        [user_id],
    )


async def insert(
    uow: UnitOfWork,
    erasure_id: UUID,
    user_id: UUID,
    *,
    reason: str,
    by: str,
    account: dict[str, Any],
    documents: list[dict[str, Any]],
) -> Erasure:
    erasure = await uow.find(
        Erasure,
        f"""INSERT INTO erasures (id, user_id, state, reason, requested_by_name, account, documents)
            VALUES (%s, %s, 'open', %s, %s, %s, %s) RETURNING {_ERASURE}""",  # noqa: S608
        [erasure_id, user_id, reason, by, Jsonb(account), Jsonb(documents)],
    )
    assert erasure is not None
    return erasure


async def find(uow: UnitOfWork, erasure_id: UUID) -> Erasure | None:
    return await uow.find(Erasure, f"SELECT {_ERASURE} FROM erasures WHERE id = %s", [erasure_id])  # noqa: S608


async def list_page(uow: UnitOfWork, *, after: UUID | None, limit: int) -> list[Erasure]:
    """Newest first."""
    return await uow.rows(
        Erasure,
        f"""SELECT {_ERASURE} FROM erasures WHERE (%(after)s::uuid IS NULL OR id < %(after)s)
            ORDER BY id DESC LIMIT %(limit)s""",  # noqa: S608
        {"after": after, "limit": limit},
    )


async def claim(uow: UnitOfWork, erasure_id: UUID, *, lease_seconds: float) -> Erasure | None:
    """An erasure with work to do, left alone by others for a while. Doing it twice does no harm."""
    return await uow.find(
        Erasure,
        f"""UPDATE erasures SET due_at = now() + make_interval(secs => %s::float8)
            WHERE id = %s AND state = 'open' AND due_at <= now() RETURNING {_ERASURE}""",  # noqa: S608
        [lease_seconds, erasure_id],
    )


async def list_due(uow: UnitOfWork, *, limit: int) -> list[UUID]:
    return await uow.scalars(
        "SELECT id FROM erasures WHERE state = 'open' AND due_at <= now() ORDER BY due_at LIMIT %s", [limit]
    )


async def finish(uow: UnitOfWork, erasure_id: UUID, certificate: dict[str, Any]) -> bool:
    """Write the certificate, once."""
    count = await uow.execute(
        """UPDATE erasures SET state = 'done', finished_at = now(),
             certificate = %s::jsonb || jsonb_build_object('finished_at', now()) WHERE id = %s AND state = 'open'""",
        [Jsonb(certificate), erasure_id],
    )
    return count == 1


async def list_memberships(uow: UnitOfWork, user_id: UUID, *, limit: int) -> list[Membership]:
    return await uow.rows(
        Membership,
        """SELECT m.tenant_id, t.slug AS tenant, m.role, m.created_at
           FROM members m JOIN tenants t ON t.id = m.tenant_id
           WHERE m.user_id = %s ORDER BY m.tenant_id LIMIT %s""",
        [user_id, limit],
    )


async def list_acts(uow: UnitOfWork, user_id: UUID, *, by: bool, after: UUID | None, limit: int) -> list[Act]:
    """Audit events by the user, or about them, of the platform and of all tenants; oldest first."""
    whose = "principal_id = %(user)s" if by else "target_type = 'user' AND target_id = %(user)s::text"
    return await uow.rows(
        Act,
        f"{_ACT} WHERE {whose} AND (%(after)s::uuid IS NULL OR id > %(after)s) ORDER BY id LIMIT %(limit)s",
        {"user": user_id, "after": after, "limit": limit},
    )


async def list_uploads(uow: UnitOfWork, user_id: UUID, *, after: tuple[UUID, UUID, int], limit: int) -> list[Uploaded]:
    """Versions that the user uploaded, in all tenants."""
    return await uow.rows(
        Uploaded,
        """SELECT v.tenant_id, v.document_id, v.number, d.name, v.content_type, b.size_bytes, v.created_at
           FROM versions v JOIN documents d ON d.tenant_id = v.tenant_id AND d.id = v.document_id
           JOIN blobs b ON b.tenant_id = v.tenant_id AND b.id = v.blob_id
           WHERE v.created_by = %s AND (v.tenant_id, v.document_id, v.number) > (%s, %s, %s)
           ORDER BY v.tenant_id, v.document_id, v.number LIMIT %s""",
        [user_id, *after, limit],
    )
