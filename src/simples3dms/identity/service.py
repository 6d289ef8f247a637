"""Users, members and tokens: make them, recognise them, say what they may do."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final
from uuid import UUID

from simples3dms.audit.refusals import Refusals
from simples3dms.audit.service import record
from simples3dms.context import HOST, Principal
from simples3dms.crypto.passwords import Passwords, new_password
from simples3dms.crypto.tokens import hash_token
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.identity import errors, repository
from simples3dms.identity.factors.service import FactorChecks
from simples3dms.identity.factors.values import Proof
from simples3dms.identity.limits.repository import forget_known
from simples3dms.identity.limits.service import Limits
from simples3dms.identity.limits.values import Door
from simples3dms.identity.minting import Bounds, check_token_name, mint, plan_bounds
from simples3dms.identity.permissions import (
    PLATFORM_ROLES,
    TENANT_ROLES,
    Permission,
    require,
    rights_of,
)
from simples3dms.identity.sessions.repository import end_all
from simples3dms.identity.sessions.service import renew
from simples3dms.identity.sessions.values import NewSession
from simples3dms.identity.signing_in import EMAIL, SignIn, principal_of
from simples3dms.identity.standing import Standing, find_of_token, rights_within
from simples3dms.identity.values import Account, Member, NewPassword, NewToken, PlatformRole, Ranked, Role, Token, User
from simples3dms.kit.ids import new_id
from simples3dms.kit.secret import Secret
from simples3dms.tenants import repository as tenants_repository
from simples3dms.tenants.service import not_found as tenant_not_found
from simples3dms.tenants.service import require_operator

__all__ = ["FIRST_OPERATOR", "Identity", "require_operator"]

FIRST_OPERATOR: Final = "admin@localhost"
#: Where services have what users have as their address; nobody gets mail there, and no user is made there.
SERVICE_DOMAIN: Final = "service.internal"
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_PASSWORD_LENGTHS: Final = (12, 1024)
_LONGEST_TOKEN: Final = 200
_LOG_IN_DAYS: Final = 30


class Identity:
    """Everybody who may ask for anything."""

    def __init__(
        self,
        database: Database,
        limits: Limits | None = None,
        factors: FactorChecks | None = None,
        refusals: Refusals | None = None,
    ) -> None:
        """Without `factors` an account that has some is not let in."""
        self._database = database
        self._passwords = Passwords()
        self.limits = limits or Limits(database)
        checks = factors or FactorChecks(database, None, None)
        self.sign_in = SignIn(database, self._passwords, self.limits, checks, refusals or Refusals(database))

    async def ensure_first_operator(self, email: str = FIRST_OPERATOR) -> NewPassword | None:
        """Make the first operator of a fresh installation; their password, to be shown once. None if there is one.

        Of any number of processes that start at once, one makes the operator.
        """
        async with self._database.platform() as uow:
            if await repository.has_operator(uow):
                return None
        password = new_password()
        hashed = await self._passwords.hash(password)
        async with self._database.platform() as uow:
            await repository.lock_first_operator(uow)
            if await repository.has_operator(uow):
                return None
            await self._insert_user(uow, HOST, email, hashed, is_operator=True)
        return NewPassword(email, password)

    async def log_in(
        self, email: str, password: Secret, *, token_name: str, address: str = "", proof: Proof | None = None
    ) -> NewToken:
        """A token for the right password and second factor, good for 30 days. `address`: where the caller is.

        Raises Unauthenticated (`credentials_wrong`), after the same work for anybody, and as `SignIn.check` does.
        """
        check_token_name(token_name)
        account = await self.sign_in.check(email, password, address=address, proof=proof)
        async with self._database.platform() as uow:
            # The password may have been changed meanwhile: its tokens are revoked, and this must not be one more.
            if not await repository.hold_account(uow, account):
                raise errors.credentials_wrong()
            bounds = Bounds(expires_in_days=_LOG_IN_DAYS)
            return await mint(uow, principal_of(account), account.id, token_name, bounds, by=account.method)

    async def recognise(self, token: Secret, *, tenant: str | None = None) -> Standing:
        """Whose token it is, and what they may do in a tenant (a short name or id).

        Raises Unauthenticated (`token_invalid`) if it is unknown, expired or revoked.
        """
        if not 0 < len(token.reveal()) <= _LONGEST_TOKEN:
            raise errors.token_invalid()
        found = await find_of_token(self._database, hash_token(token), tenant)
        if found is None:
            raise errors.token_invalid()
        return found

    async def authenticate(self, token: Secret) -> Principal:
        """Whose token it is. Raises as `recognise` does."""
        return (await self.recognise(token)).principal

    async def create_user(
        self,
        principal: Principal,
        email: str,
        password: Secret | None = None,
        *,
        is_operator: bool = False,
        is_auditor: bool = False,
    ) -> tuple[User, NewPassword | None]:
        """Make a user; without a password one is generated, to be shown once. For operators.

        Raises Invalid (`email_invalid`, `password_invalid`), Conflict (`user_exists`).
        """
        require_operator(principal)
        roles = [PlatformRole.OPERATOR] * is_operator + [PlatformRole.AUDITOR] * is_auditor
        require_held(rights_of(principal), *(PLATFORM_ROLES[role] for role in roles))
        address = email.strip().lower()
        if not EMAIL.fullmatch(address) or address.endswith(SERVICE_DOMAIN):
            raise errors.email_invalid()
        chosen = new_password() if password is None else password
        _check_password(chosen)
        hashed = await self._passwords.hash(chosen)
        async with self._database.platform() as uow:
            user = await self._insert_user(
                uow, principal, address, hashed, is_operator=is_operator, is_auditor=is_auditor
            )
        return user, NewPassword(address, chosen) if password is None else None

    async def _insert_user(
        self,
        uow: UnitOfWork,
        principal: Principal,
        email: str,
        hashed: str,
        *,
        is_operator: bool,
        is_auditor: bool = False,
    ) -> User:
        user = await repository.insert_user(
            uow, new_id(), email, hashed, is_operator=is_operator, is_auditor=is_auditor
        )
        if user is None:
            raise errors.user_exists(email)
        details = {"email": email, "is_operator": is_operator, "is_auditor": is_auditor}
        await record(uow, principal, "user.created", target_type="user", target_id=str(user.id), details=details)
        return user

    async def change_password(self, principal: Principal, old: Secret, new: Secret) -> NewSession | None:
        """Replace the principal's own password, revoke all of their tokens and end all of their sessions.

        The session that asks goes on under the new secret that is returned. Raises Invalid (`password_invalid`,
        `password_wrong`), Forbidden (`user_required`), TooMany (`too_many_attempts`).
        """
        _check_password(new)
        account = await self.confirm(principal, old)
        hashed = await self._passwords.hash(new)
        async with self._database.platform() as uow:
            if not await repository.set_password(uow, account, hashed):
                raise errors.password_wrong()
            await forget_known(uow, account.id)
            details = {
                "revoked_tokens": await repository.revoke_tokens(uow, account.id),
                "ended_sessions": await end_all(uow, account.id, but=principal.session_id),
            }
            await record(
                uow, principal, "password.changed", target_type="user", target_id=str(account.id), details=details
            )
            return await renew(uow, principal)

    async def hash_password(self, password: Secret) -> str:
        """For doors that set a password. Raises Invalid (`password_invalid`)."""
        _check_password(password)
        return await self._passwords.hash(password)

    async def confirm(self, principal: Principal, password: Secret) -> Account:
        """The principal's own account, if this is its password: asked before an act that a thief would like to do.

        Raises Invalid (`password_wrong`), Forbidden (`user_required`), TooMany (`too_many_attempts`).
        """
        if principal.id is None:
            raise errors.user_required()
        attempt = await self.limits.take(Door.CONFIRM, "", str(principal.id))
        async with self._database.platform() as uow:
            account = await repository.find_account_by_id(uow, principal.id)
        if not await self._passwords.verify(password, account.password_hash if account else None) or account is None:
            await self.sign_in.refuse("password, asked again", "", principal.id, tried=str(principal.id))
            raise errors.password_wrong()
        await self.limits.give_back(attempt)
        return account

    async def set_disabled(self, principal: Principal, user_id: UUID, is_disabled: bool) -> User:
        """Keep a user out, at once and everywhere, or let them in again; no error if they are. For operators.

        What they held is over for good: they sign in anew. Raises NotFound (`user_not_found`), Conflict
        (`own_account`, `last_operator`), Forbidden (`rights_exceed_own`).
        """
        require_operator(principal)
        if user_id == principal.id and is_disabled:
            raise errors.own_account()
        async with self._database.platform() as uow:
            if is_disabled:
                await keep_an_operator(uow, user_id)
            found = await repository.find_user(uow, user_id)
            if found is None:
                raise errors.user_not_found()
            require_held_of(principal, found)
            changed = await repository.set_disabled(uow, user_id, is_disabled)
            if changed is None:
                return found
            await repository.revoke_tokens(uow, user_id)
            await end_all(uow, user_id)
            action = "user.disabled" if is_disabled else "user.enabled"
            await record(uow, principal, action, target_type="user", target_id=str(user_id))
            return changed

    async def set_platform_role(
        self, principal: Principal, user_id: UUID, role: str | None
    ) -> tuple[User, NewSession | None]:
        """Make a person an operator or an auditor of the platform, or neither; no error if they are. For operators.

        Their tokens and sessions are over, but for the session that asks: whoever stole one is not to gain what its
        owner gains. Where that is the person's own, it is put under a new secret.

        Raises Invalid (`role_invalid`), NotFound (`user_not_found`), Conflict (`last_operator`),
        Forbidden (`rights_exceed_own`).
        """
        require_operator(principal)
        if role is not None and role not in set(PlatformRole):
            raise errors.role_invalid(PlatformRole)
        if role is not None:
            require_held(rights_of(principal), PLATFORM_ROLES[PlatformRole(role)])
        async with self._database.platform() as uow:
            if role != PlatformRole.OPERATOR:
                await keep_an_operator(uow, user_id)
            found = await repository.find_user(uow, user_id)
            if found is None:
                raise errors.user_not_found()
            require_held_of(principal, found)
            changed = await repository.set_platform_role(
                uow, user_id, is_operator=role == PlatformRole.OPERATOR, is_auditor=role == PlatformRole.AUDITOR
            )
            if changed is None:
                return found, None
            await repository.revoke_tokens(uow, user_id)
            renewed = await _end_sessions(uow, principal, user_id)
            details = {"role": role or "none"}
            await record(uow, principal, "user.role_set", target_type="user", target_id=str(user_id), details=details)
            return changed, renewed

    async def get_user(self, email: str) -> User:
        """By address. Raises NotFound (`user_not_found`)."""
        async with self._database.platform() as uow:
            user_id = await repository.find_user_id(uow, _address(email))
            found = await repository.find_user(uow, user_id) if user_id is not None else None
        if found is None:
            raise errors.user_not_found()
        return found

    async def list_users(self, *, after: UUID | None = None, limit: int = 100) -> list[User]:
        """A page, oldest first. The door asks `require_operator` first."""
        async with self._database.platform() as uow:
            return await repository.list_users(uow, after=after, limit=limit)

    async def set_member(
        self, principal: Principal, tenant_id: UUID, email: str, role: str
    ) -> tuple[Member, NewSession | None]:
        """Give a user a place in a tenant, or another role in it. Owners are made and changed by owners.

        Who changes what he is himself goes on in his session under a new secret, and in no other.
        Raises Invalid (`role_invalid`), NotFound (`tenant_not_found`, `user_not_found`), Forbidden
        (`permission_required`), Conflict (`last_owner`).
        """
        if role not in set(Role):
            raise errors.role_invalid(Role)
        address = _address(email)
        async with self._database.platform() as uow:
            await require_change(uow, principal, tenant_id, address, becomes=Role(role))
            before = await repository.find_role_of(uow, tenant_id, address)
            member = await repository.put_member(uow, tenant_id, address, role)
            if member is None:
                raise errors.user_not_found()
            renewed = await _end_sessions(uow, principal, member.user_id) if before != role else None
            await _record_member(uow, principal, "member.set", tenant_id, member.user_id, role=str(role))
            return member, renewed

    async def remove_member(self, principal: Principal, tenant_id: UUID, email: str) -> NewSession | None:
        """Take a user's place in a tenant away; who leaves himself goes on under a new secret, as in `set_member`.

        Raises NotFound (`member_not_found`) and as `set_member` does.
        """
        address = _address(email)
        async with self._database.platform() as uow:
            await require_change(uow, principal, tenant_id, address, becomes=None)
            user_id = await repository.delete_member(uow, tenant_id, address)
            if user_id is None:
                raise errors.member_not_found()
            renewed = await _end_sessions(uow, principal, user_id)
            await _record_member(uow, principal, "member.removed", tenant_id, user_id)
            return renewed

    async def list_members(self, tenant_id: UUID) -> list[Member]:
        async with self._database.platform() as uow:
            return await repository.list_members(uow, tenant_id)

    async def get_rights(self, principal: Principal, tenant_id: UUID) -> frozenset[Permission]:
        """What the principal may do in the tenant. Whoever may do nothing of it is not to learn that it exists."""
        async with self._database.platform() as uow:
            return await rights_in(uow, principal, tenant_id)

    async def create_token(
        self,
        principal: Principal,
        name: str,
        expires_in_days: float | None = None,
        *,
        scopes: Collection[str] | None = None,
        tenant_id: UUID | None = None,
        password: Secret | None = None,
    ) -> NewToken:
        """A new token of the principal's own, which can do what they can, or less: within scopes and one tenant.

        One that a token makes ends with it, unless the user's password says otherwise. Raises Invalid
        (`token_name_invalid`, `token_expiry_invalid`, `scope_unknown`, `password_wrong`), NotFound
        (`tenant_not_found`), Forbidden (`user_required`, `token_exceeds`), TooMany (`too_many_attempts`).
        """
        check_token_name(name)
        bounds = plan_bounds(principal, Bounds(scopes, tenant_id, expires_in_days))
        if principal.id is None:
            raise errors.user_required()
        if password is not None:
            await self.confirm(principal, password)
        async with self._database.platform() as uow:
            if tenant_id is not None and not await rights_in(uow, principal, tenant_id):
                raise tenant_not_found()
            return await mint(uow, principal, principal.id, name, bounds, by="token", may_outlive=password is not None)

    async def list_tokens(self, principal: Principal) -> list[Token]:
        """The principal's own, newest first, revoked ones too."""
        if principal.id is None:
            return []
        async with self._database.platform() as uow:
            return await repository.list_tokens(uow, principal.id, only_tenant_id=principal.tenant_id)

    async def revoke_token(self, principal: Principal, token_id: UUID) -> None:
        """End one of the principal's own tokens; again is no error. Raises NotFound (`token_not_found`)."""
        if principal.id is None:
            raise errors.token_not_found()
        async with self._database.platform() as uow:
            within = principal.tenant_id
            if not await repository.revoke_token(uow, principal.id, token_id, only_tenant_id=within):
                raise errors.token_not_found()
            await record(uow, principal, "token.revoked", target_type="token", target_id=str(token_id))


def require_held(rights: frozenset[Permission], *given: frozenset[Permission]) -> None:
    """Raise Forbidden (`rights_exceed_own`) unless who gives these rights has them: a bounded token gives no more."""
    if not frozenset().union(*given) <= rights:
        raise errors.exceeds_own()


def require_held_of(principal: Principal, user: Ranked) -> None:
    """Raise Forbidden unless the principal has what the user has on the platform."""
    roles = [PlatformRole.OPERATOR] * user.is_operator + [PlatformRole.AUDITOR] * user.is_auditor
    require_held(rights_of(principal), *(PLATFORM_ROLES[role] for role in roles))


async def keep_an_operator(uow: UnitOfWork, user_id: UUID) -> None:
    """Raise Conflict (`last_operator`) if there would be no operator without this person.

    Two who take each other's place at once would leave none: each waits for the other here.
    """
    if await repository.lock_operators(uow) == [user_id]:
        raise errors.last_operator()


async def rights_in(uow: UnitOfWork, principal: Principal, tenant_id: UUID) -> frozenset[Permission]:
    role = await repository.find_role(uow, tenant_id, principal.id) if principal.id else None
    return rights_within(principal, tenant_id, role)


async def require_change(
    uow: UnitOfWork, principal: Principal, tenant_id: UUID, email: str, *, becomes: Role | None
) -> None:
    """Raise unless the principal may give this address this place (None: take it) in the tenant."""
    rights = await rights_in(uow, principal, tenant_id)
    if not rights or await tenants_repository.find(uow, tenant_id=tenant_id) is None:
        raise tenant_not_found()
    require(rights, Permission.MEMBERS_WRITE)
    if becomes is not None and principal.scopes is not None:
        require_held(rights, TENANT_ROLES[becomes])
    # Two owners who take each other's place at once would leave none: each waits for the other here.
    owners = await repository.lock_owners(uow, tenant_id)
    was_owner = await repository.find_user_id(uow, email) in owners
    if was_owner or becomes is Role.OWNER:
        require(rights, Permission.OWNERS_WRITE)
    if was_owner and becomes is not Role.OWNER and len(owners) == 1 and not principal.is_operator:
        raise errors.last_owner()


async def _end_sessions(uow: UnitOfWork, principal: Principal, user_id: UUID) -> NewSession | None:
    """Rights never change within a session: whoever stole one is not to gain what its owner gains. One's own session
    that asks for the change goes on, under a new secret."""
    await end_all(uow, user_id, but=principal.session_id)
    return await renew(uow, principal) if user_id == principal.id else None


async def _record_member(
    uow: UnitOfWork, principal: Principal, action: str, tenant_id: UUID, user_id: UUID, **details: str
) -> None:
    await record(
        uow, principal, action, target_type="user", target_id=str(user_id), tenant_id=tenant_id, details=details
    )


def _address(email: str) -> str:
    """The address as it is stored. What can't be one names no user."""
    address = email.strip().lower()
    if not EMAIL.fullmatch(address):
        raise errors.user_not_found()
    return address


def _check_password(password: Secret) -> None:
    shortest, longest = _PASSWORD_LENGTHS
    text = password.reveal()
    # Lone surrogates, which JSON can spell, are no text.
    if not shortest <= len(text) <= longest or _SURROGATE.search(text):
        raise errors.password_invalid(shortest, longest)
