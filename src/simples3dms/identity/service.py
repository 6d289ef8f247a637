"""Users, members and tokens: make them, recognise them, say what they may do."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from datetime import UTC, datetime, timedelta
from functools import cached_property
from uuid import UUID

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from simples3dms.audit.service import record
from simples3dms.context import HOST, Principal
from simples3dms.db.session import Database
from simples3dms.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from simples3dms.identity import repository
from simples3dms.identity.values import Account, Member, NewPassword, NewToken, Role, Token, User
from simples3dms.kit.ids import new_id
from simples3dms.kit.secret import Secret

FIRST_OPERATOR = "admin@localhost"
_EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]{1,190}")
_SHORTEST_PASSWORD = 12
_TOKEN_PREFIX = "s3dms_"  # noqa: S105 what tokens begin with, so that scanners recognise one
_SESSION_DAYS = 30


def require_operator(principal: Principal) -> None:
    """Raise Forbidden (`operator_required`) unless the principal operates the platform."""
    if not principal.is_operator:
        raise Forbidden("Only an operator of the platform may do this.", code="operator_required")


def require_admin(role: Role | None) -> None:
    """Raise Forbidden (`admin_required`) unless the role is an administrator's."""
    if role is not Role.ADMIN:
        raise Forbidden("Only an administrator of the tenant may do this.", code="admin_required")


class Identity:
    """Everybody who may ask for anything."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._hashes = PasswordHash((Argon2Hasher(),))

    @cached_property
    def _nobodys_hash(self) -> str:
        return self._hashes.hash(secrets.token_urlsafe())

    async def ensure_first_operator(self, email: str = FIRST_OPERATOR) -> NewPassword | None:
        """Make the first administrator of a fresh installation; their password, to be shown once, or None."""
        password = Secret(secrets.token_urlsafe(15))
        async with self._database.platform() as uow:
            if not await repository.lock_first_operator(uow):
                return None
            hashed = await self._hash(password)
            user = await repository.insert_user(uow, new_id(), email, hashed, is_operator=True)
            if user is None:
                raise Conflict(f"{email} exists and is no operator.", code="user_exists")
            await record(uow, HOST, "user.created", target_type="user", target_id=str(user.id))
        return NewPassword(email, password)

    async def log_in(self, email: str, password: Secret, *, token_name: str) -> NewToken:
        """A token for the right password. Raises Unauthenticated (`credentials_wrong`), in the same time for anyone."""
        async with self._database.platform() as uow:
            account = await repository.find_account(uow, email.strip().lower())
        if not await self._verify(account, password) or account is None:
            raise Unauthenticated("The e-mail address or the password is wrong.", code="credentials_wrong")
        principal = Principal(account.id, account.email, account.is_operator)
        return await self.create_token(principal, token_name, expires_in_days=_SESSION_DAYS)

    async def _verify(self, account: Account | None, password: Secret) -> bool:
        def work() -> bool:
            hashed = account.password_hash if account else self._nobodys_hash
            return self._hashes.verify(password.reveal(), hashed)

        return await asyncio.to_thread(work)

    async def _hash(self, password: Secret) -> str:
        return await asyncio.to_thread(self._hashes.hash, password.reveal())

    async def authenticate(self, token: Secret) -> Principal:
        """Whose token it is. Raises Unauthenticated (`token_invalid`) if it is unknown, expired or revoked."""
        async with self._database.platform() as uow:
            owner = await repository.find_token_owner(uow, _digest(token))
            if owner is None:
                raise Unauthenticated("The token is unknown, expired or revoked: sign in.", code="token_invalid")
            if not owner.is_used_lately:
                await repository.touch_token(uow, owner.token_id)
        return Principal(owner.user_id, owner.email, owner.is_operator)

    async def create_user(
        self, principal: Principal, email: str, password: Secret | None = None
    ) -> tuple[User, NewPassword | None]:
        """Make a user; without a password one is generated, to be shown once."""
        require_operator(principal)
        address = email.strip().lower()
        if not _EMAIL.fullmatch(address):
            raise Invalid("This is no e-mail address.", code="email_invalid")
        chosen = password or Secret(secrets.token_urlsafe(15))
        _check_password(chosen)
        hashed = await self._hash(chosen)
        async with self._database.platform() as uow:
            user = await repository.insert_user(uow, new_id(), address, hashed, is_operator=False)
            if user is None:
                raise Conflict(f"There is a user {address} already.", code="user_exists")
            await record(uow, principal, "user.created", target_type="user", target_id=str(user.id))
        return user, None if password else NewPassword(address, chosen)

    async def change_password(self, principal: Principal, old: Secret, new: Secret) -> None:
        """Replace the principal's own password."""
        _check_password(new)
        async with self._database.platform() as uow:
            account = await repository.find_account(uow, principal.name)
        if not await self._verify(account, old) or account is None:
            raise Unauthenticated("The present password is wrong.", code="credentials_wrong")
        hashed = await self._hash(new)
        async with self._database.platform() as uow:
            await repository.set_password(uow, account.id, hashed)
            await record(uow, principal, "user.password_changed", target_type="user", target_id=str(account.id))

    async def list_users(self, *, after: UUID | None = None, limit: int = 100) -> list[User]:
        async with self._database.platform() as uow:
            return await repository.list_users(uow, after=after, limit=limit)

    async def set_member(self, principal: Principal, tenant_id: UUID, email: str, role: str) -> Member:
        """Give a user a place in a tenant, or another role in it."""
        if role not in set(Role):
            raise Invalid("A role is admin or member.", code="role_invalid")
        async with self._database.platform() as uow:
            account = _existing(await repository.find_account(uow, email.strip().lower()))
            await repository.put_member(uow, tenant_id, account.id, role)
            await record(
                uow,
                principal,
                "member.set",
                target_type="user",
                target_id=str(account.id),
                tenant_id=tenant_id,
                details={"role": role},
            )
            members = await repository.list_members(uow, tenant_id)
        return next(member for member in members if member.user_id == account.id)

    async def remove_member(self, principal: Principal, tenant_id: UUID, email: str) -> None:
        async with self._database.platform() as uow:
            account = _existing(await repository.find_account(uow, email.strip().lower()))
            if not await repository.delete_member(uow, tenant_id, account.id):
                raise NotFound("This user is no member of the tenant.", code="member_not_found")
            await record(
                uow, principal, "member.removed", target_type="user", target_id=str(account.id), tenant_id=tenant_id
            )

    async def list_members(self, tenant_id: UUID) -> list[Member]:
        async with self._database.platform() as uow:
            return await repository.list_members(uow, tenant_id)

    async def get_role(self, principal: Principal, tenant_id: UUID) -> Role | None:
        """The principal's role in the tenant; None for no member."""
        if principal.is_operator:
            return Role.ADMIN
        if principal.id is None:
            return None
        async with self._database.platform() as uow:
            role = await repository.find_role(uow, tenant_id, principal.id)
        return Role(role) if role else None

    async def create_token(self, principal: Principal, name: str, expires_in_days: float | None = None) -> NewToken:
        """A new token of the principal's own; it can do what they can."""
        if principal.id is None:
            raise Forbidden("Only a user can have tokens.", code="user_required")
        if not 1 <= len(name) <= 100:
            raise Invalid("A token's name has 1 to 100 characters.", code="token_name_invalid")
        token = Secret(_TOKEN_PREFIX + secrets.token_urlsafe(32))
        expires_at = datetime.now(UTC) + timedelta(days=expires_in_days) if expires_in_days is not None else None
        made = NewToken(new_id(), token, name, expires_at)
        async with self._database.platform() as uow:
            await repository.insert_token(uow, principal.id, made, _digest(token))
            await record(uow, principal, "token.created", target_type="token", target_id=str(made.id))
        return made

    async def list_tokens(self, principal: Principal) -> list[Token]:
        if principal.id is None:
            return []
        async with self._database.platform() as uow:
            return await repository.list_tokens(uow, principal.id)

    async def revoke_token(self, principal: Principal, token_id: UUID) -> None:
        if principal.id is None:
            raise NotFound("There is no such token.", code="token_not_found")
        async with self._database.platform() as uow:
            if not await repository.revoke_token(uow, principal.id, token_id):
                raise NotFound("There is no such token.", code="token_not_found")
            await record(uow, principal, "token.revoked", target_type="token", target_id=str(token_id))


def _existing(account: Account | None) -> Account:
    if account is None:
        raise NotFound("There is no such user.", code="user_not_found")
    return account


def _check_password(password: Secret) -> None:
    if len(password.reveal()) < _SHORTEST_PASSWORD:
        raise Invalid(f"A password has at least {_SHORTEST_PASSWORD} characters.", code="password_too_short")


def _digest(token: Secret) -> bytes:
    """Tokens are 256 random bits, so one fast hash is enough."""
    return hashlib.sha256(token.reveal().encode()).digest()
