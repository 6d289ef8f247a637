"""SQL of users, members and tokens, for the platform's unit of work."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from simples3dms.db.session import Database, UnitOfWork
from simples3dms.identity.values import Account, Member, Recognised, Token, User
from simples3dms.kit.ids import new_id

_USER: Final = "id, email, is_operator, is_auditor, created_at, disabled_at"
_TOKEN_ROW: Final = "id, name, created_at, expires_at, last_used_at, revoked_at, scopes, only_tenant_id AS tenant_id"  # noqa: S105
#: A service has no password, and is no account that anybody signs in to.
_ACCOUNT: Final = "SELECT id, email, password_hash, is_operator, is_auditor FROM users"
_FIRST_OPERATOR_LOCK: Final = 0x53_33_44_4D_55

#: By the database's clock: not expired, not revoked, its user not disabled. Its use is noted once a minute, unless
#: somebody else is just doing so.
_BY_PROGRAM: Final = """
WITH came AS (
  SELECT u.id AS user_id, u.email, u.is_operator, u.is_auditor, u.is_service, t.scopes, t.only_tenant_id,
    t.id AS token_id, NULL::uuid AS session_id, t.expires_at
  FROM api_tokens t JOIN users u ON u.id = t.user_id
  WHERE t.token_hash = %(hash)s AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now())
    AND u.disabled_at IS NULL),
noted AS (
  UPDATE api_tokens SET last_used_at = now() WHERE id IN (
    SELECT t.id FROM api_tokens t JOIN came ON came.token_id = t.id
    WHERE coalesce(t.last_used_at <= now() - interval '1 minute', true) FOR UPDATE OF t SKIP LOCKED))"""
#: Not ended, not too old, not idle for too long, its user not disabled.
_BY_BROWSER: Final = """
WITH came AS (
  SELECT u.id AS user_id, u.email, u.is_operator, u.is_auditor, false AS is_service, NULL::text[] AS scopes,
    s.only_tenant_id, NULL::uuid AS token_id, s.id AS session_id, NULL::timestamptz AS expires_at
  FROM sessions s JOIN users u ON u.id = s.user_id
  WHERE s.secret_hash = %(hash)s AND s.ended_at IS NULL AND s.expires_at > now()
    AND s.last_seen_at > now() - make_interval(secs => %(idle)s) AND u.disabled_at IS NULL),
noted AS (
  UPDATE sessions SET last_seen_at = now() WHERE id IN (
    SELECT s.id FROM sessions s JOIN came ON came.session_id = s.id
    WHERE s.last_seen_at <= now() - make_interval(secs => LEAST(60, %(idle)s / 10.0)) FOR UPDATE OF s SKIP LOCKED))"""
_IN_TENANT: Final = """
SELECT came.*, n.id AS tenant_id, n.slug, n.name, n.created_at, n.suspended_at, n.suspension_reason, n.deleting_at,
  m.role
FROM came
  LEFT JOIN tenants n ON (n.slug = %(slug)s OR n.id = %(tenant)s) AND n.deleted_at IS NULL
  LEFT JOIN members m ON m.tenant_id = n.id AND m.user_id = came.user_id"""


async def insert_user(
    uow: UnitOfWork, user_id: UUID, email: str, password_hash: str, *, is_operator: bool, is_auditor: bool
) -> User | None:
    """The new user, or None if the address is taken."""
    return await uow.find(
        User,
        f"""INSERT INTO users (id, email, password_hash, is_operator, is_auditor) VALUES (%s, %s, %s, %s, %s)
            ON CONFLICT (email) DO NOTHING RETURNING {_USER}""",  # noqa: S608
        [user_id, email, password_hash, is_operator, is_auditor],
    )


async def has_operator(uow: UnitOfWork) -> bool:
    return await uow.scalar("SELECT 1 FROM users WHERE is_operator LIMIT 1") is not None


async def lock_first_operator(uow: UnitOfWork) -> None:
    """Wait for whoever else makes the first operator."""
    await uow.execute("SELECT pg_advisory_xact_lock(%s)", [_FIRST_OPERATOR_LOCK])


async def find_account(uow: UnitOfWork, email: str) -> Account | None:
    return await uow.find(
        Account,
        f"{_ACCOUNT} WHERE email = %s AND NOT is_service AND disabled_at IS NULL",
        [email],
    )


async def find_account_by_id(uow: UnitOfWork, user_id: UUID) -> Account | None:
    return await uow.find(
        Account,
        f"{_ACCOUNT} WHERE id = %s AND NOT is_service AND disabled_at IS NULL",
        [user_id],
    )


async def hold_account(uow: UnitOfWork, account: Account) -> bool:
    """Whether the account is still what was read; it stays so until this unit of work ends."""
    found = await uow.scalar(
        "SELECT 1 FROM users WHERE id = %s AND password_hash = %s AND disabled_at IS NULL FOR SHARE",
        [account.id, account.password_hash],
    )
    return found is not None


async def hold_users(uow: UnitOfWork, user_ids: list[UUID]) -> bool:
    """Whether all of these are there and not disabled; they stay so, with their passwords, until the end of this unit
    of work."""
    held = await uow.scalars(
        "SELECT id FROM users WHERE id = ANY (%s) AND disabled_at IS NULL ORDER BY id FOR SHARE", [user_ids]
    )
    return set(held) == set(user_ids)


async def is_in_force(uow: UnitOfWork, *, token_id: UUID | None, session_id: UUID | None) -> bool:
    """Whether neither the token nor the session by which somebody asks has been ended since they were let in."""
    ended = await uow.scalar(
        """SELECT 1 FROM api_tokens WHERE id = %s AND revoked_at IS NOT NULL
           UNION ALL SELECT 1 FROM sessions WHERE id = %s AND ended_at IS NOT NULL""",
        [token_id, session_id],
    )
    return ended is None


async def set_password(uow: UnitOfWork, account: Account, password_hash: str) -> bool:
    """Replace the password, unless somebody else just did."""
    count = await uow.execute(
        "UPDATE users SET password_hash = %s WHERE id = %s AND password_hash = %s AND disabled_at IS NULL",
        [password_hash, account.id, account.password_hash],
    )
    return count == 1


async def find_user(uow: UnitOfWork, user_id: UUID) -> User | None:
    """A person, not a service."""
    return await uow.find(User, f"SELECT {_USER} FROM users WHERE id = %s AND NOT is_service", [user_id])  # noqa: S608


async def set_disabled(uow: UnitOfWork, user_id: UUID, is_disabled: bool) -> User | None:
    """The user or service, if this changed it."""
    return await uow.find(
        User,
        f"""UPDATE users SET disabled_at = CASE WHEN %(is_disabled)s THEN now() END
            WHERE id = %(id)s AND (disabled_at IS NOT NULL) <> %(is_disabled)s RETURNING {_USER}""",  # noqa: S608
        {"id": user_id, "is_disabled": is_disabled},
    )


async def set_platform_role(uow: UnitOfWork, user_id: UUID, *, is_operator: bool, is_auditor: bool) -> User | None:
    """The person, if this changed what they are on the platform."""
    return await uow.find(
        User,
        f"""UPDATE users SET is_operator = %(operator)s, is_auditor = %(auditor)s
            WHERE id = %(id)s AND NOT is_service AND (is_operator, is_auditor) <> (%(operator)s, %(auditor)s)
            RETURNING {_USER}""",  # noqa: S608
        {"id": user_id, "operator": is_operator, "auditor": is_auditor},
    )


async def lock_operators(uow: UnitOfWork) -> list[UUID]:
    """The people who can act as operators: they stay that until this unit of work ends."""
    return await uow.scalars(
        """SELECT id FROM users WHERE is_operator AND NOT is_service AND disabled_at IS NULL
           ORDER BY id LIMIT 10000 FOR UPDATE"""
    )


async def list_users(uow: UnitOfWork, *, after: UUID | None, limit: int) -> list[User]:
    return await uow.rows(
        User,
        f"""SELECT {_USER} FROM users WHERE NOT is_service AND (%(after)s::uuid IS NULL OR id > %(after)s)
            ORDER BY id LIMIT %(limit)s""",  # noqa: S608
        {"after": after, "limit": limit},
    )


async def insert_token(
    uow: UnitOfWork,
    user_id: UUID,
    name: str,
    token_hash: bytes,
    *,
    expires_in_days: float | None,
    not_after: datetime | None = None,
    scopes: list[str] | None = None,
    tenant_id: UUID | None = None,
) -> Token:
    """The new token; the database's clock says when it expires, `not_after` at the latest."""
    token = await uow.find(
        Token,
        f"""INSERT INTO api_tokens (id, user_id, name, token_hash, expires_at, scopes, only_tenant_id)
            VALUES (%s, %s, %s, %s, LEAST(now() + make_interval(secs => %s::float8 * 86400), %s::timestamptz), %s, %s)
            RETURNING {_TOKEN_ROW}""",  # noqa: S608
        [new_id(), user_id, name, token_hash, expires_in_days, not_after, scopes, tenant_id],
    )
    assert token is not None
    return token


async def get_time_in_days(uow: UnitOfWork, days: float) -> datetime:
    """By the database's clock."""
    found: datetime = await uow.scalar("SELECT now() + make_interval(secs => %s::float8 * 86400)", [days])
    return found


async def find_by_token(
    database: Database, token_hash: bytes, slug: str | None, tenant_id: UUID | None
) -> Recognised | None:
    """Whose token it is, if it is good, and their place in the tenant. A unit of work of its own: each request asks."""
    params = {"hash": token_hash, "slug": slug, "tenant": tenant_id}
    return await database.find_at_once(Recognised, _BY_PROGRAM + _IN_TENANT, params)


async def find_by_session(
    database: Database, secret_hash: bytes, slug: str | None, tenant_id: UUID | None, *, idle_seconds: float
) -> Recognised | None:
    """As `find_by_token`, of a browser's session."""
    params = {"hash": secret_hash, "idle": idle_seconds, "slug": slug, "tenant": tenant_id}
    return await database.find_at_once(Recognised, _BY_BROWSER + _IN_TENANT, params)


async def list_tokens(uow: UnitOfWork, user_id: UUID, *, only_tenant_id: UUID | None = None) -> list[Token]:
    """All of a user's, or those that are bounded to a tenant."""
    return await uow.rows(
        Token,
        f"""SELECT {_TOKEN_ROW} FROM api_tokens WHERE user_id = %(user)s
              AND (%(tenant)s::uuid IS NULL OR only_tenant_id = %(tenant)s) ORDER BY id DESC LIMIT 1000""",  # noqa: S608
        {"user": user_id, "tenant": only_tenant_id},
    )


async def revoke_token(uow: UnitOfWork, user_id: UUID, token_id: UUID, *, only_tenant_id: UUID | None = None) -> bool:
    count = await uow.execute(
        """UPDATE api_tokens SET revoked_at = coalesce(revoked_at, now()) WHERE id = %(id)s AND user_id = %(user)s
             AND (%(tenant)s::uuid IS NULL OR only_tenant_id = %(tenant)s)""",
        {"id": token_id, "user": user_id, "tenant": only_tenant_id},
    )
    return count == 1


async def revoke_tokens(uow: UnitOfWork, user_id: UUID) -> int:
    """Revoke all tokens of a user; how many were in force."""
    return await uow.execute(
        "UPDATE api_tokens SET revoked_at = now() WHERE user_id = %s AND revoked_at IS NULL", [user_id]
    )


async def put_member(uow: UnitOfWork, tenant_id: UUID, email: str, role: str) -> Member | None:
    """Make the user a member, or give the member this role; None if there is no such user."""
    return await uow.find(
        Member,
        """WITH put AS (
             INSERT INTO members (tenant_id, user_id, role) SELECT %s, id, %s FROM users WHERE email = %s
               AND (NOT is_service OR of_tenant_id = %s)
             ON CONFLICT (tenant_id, user_id) DO UPDATE SET role = EXCLUDED.role
             RETURNING user_id, role, created_at)
           SELECT put.user_id, u.email, put.role, put.created_at FROM put JOIN users u ON u.id = put.user_id""",
        [tenant_id, role, email, tenant_id],
    )


async def delete_member(uow: UnitOfWork, tenant_id: UUID, email: str) -> UUID | None:
    """The id of the user who was a member, or None."""
    found: UUID | None = await uow.scalar(
        """DELETE FROM members m USING users u WHERE u.id = m.user_id AND m.tenant_id = %s AND u.email = %s
           RETURNING m.user_id""",
        [tenant_id, email],
    )
    return found


async def list_members(uow: UnitOfWork, tenant_id: UUID) -> list[Member]:
    return await uow.rows(
        Member,
        """SELECT m.user_id, u.email, m.role, m.created_at FROM members m JOIN users u ON u.id = m.user_id
           WHERE m.tenant_id = %s ORDER BY u.email LIMIT 1000""",
        [tenant_id],
    )


async def lock_owners(uow: UnitOfWork, tenant_id: UUID) -> list[UUID]:
    """The tenant's owners, who stay so until this unit of work ends."""
    return await uow.scalars(
        "SELECT user_id FROM members WHERE tenant_id = %s AND role = 'owner' ORDER BY user_id FOR UPDATE", [tenant_id]
    )


async def find_user_id(uow: UnitOfWork, email: str) -> UUID | None:
    found: UUID | None = await uow.scalar("SELECT id FROM users WHERE email = %s", [email])
    return found


async def find_role_of(uow: UnitOfWork, tenant_id: UUID, email: str) -> str | None:
    found: str | None = await uow.scalar(
        "SELECT m.role FROM members m JOIN users u ON u.id = m.user_id WHERE m.tenant_id = %s AND u.email = %s",
        [tenant_id, email],
    )
    return found


async def find_role(uow: UnitOfWork, tenant_id: UUID, user_id: UUID) -> str | None:
    found: str | None = await uow.scalar(
        "SELECT role FROM members WHERE tenant_id = %s AND user_id = %s", [tenant_id, user_id]
    )
    return found
