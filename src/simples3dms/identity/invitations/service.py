"""Invite somebody to a tenant by e-mail address; accept with a new password, or join as who one is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.crypto.tokens import hash_token, new_token
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.identity import errors
from simples3dms.identity import repository as identity_repository
from simples3dms.identity.invitations import repository
from simples3dms.identity.invitations.values import HandOver, Invitation, OpenInvitation
from simples3dms.identity.letters.service import Letters
from simples3dms.identity.letters.values import LetterKind
from simples3dms.identity.limits.values import Door
from simples3dms.identity.permissions import TENANT_ROLES
from simples3dms.identity.service import SERVICE_DOMAIN, Identity, require_change, rights_in
from simples3dms.identity.sessions.repository import end_all
from simples3dms.identity.sessions.service import renew
from simples3dms.identity.sessions.values import NewSession
from simples3dms.identity.signing_in import EMAIL
from simples3dms.identity.values import Role
from simples3dms.kit.ids import new_id
from simples3dms.kit.secret import Secret
from simples3dms.mail import Message
from simples3dms.tenants import repository as tenants_repository
from simples3dms.tenants.service import suspended
from simples3dms.tenants.values import Tenant

_DAYS: Final = 7.0
_PREFIX: Final = "s3dmsi"
_WRONG: Final = {"invitation_invalid": "invitation"}


class Invitations:
    """`public_url`: where people reach the installation; links are made of it, and of nothing that a request says."""

    def __init__(self, database: Database, identity: Identity, letters: Letters, *, public_url: str | None) -> None:
        self._database, self._identity, self._letters = database, identity, letters
        self._public_url = public_url
        letters.register(LetterKind.INVITATION, self._write)

    async def invite(
        self, principal: Principal, tenant: Tenant, email: str, role: str
    ) -> tuple[Invitation, HandOver | None]:
        """Invite an address. The secret goes there by mail; where no mail is sent, the inviter hands it over.

        The same whether the address has an account or not. Raises Invalid (`email_invalid`, `role_invalid`), Conflict
        (`member_exists`), Forbidden (`permission_required`, `rights_exceed_own`).
        """
        if role not in set(Role):
            raise errors.role_invalid(Role)
        address = email.strip().lower()
        if not EMAIL.fullmatch(address) or address.endswith(SERVICE_DOMAIN):
            raise errors.email_invalid()
        token = None if self._letters.can_send else new_token(_PREFIX)
        async with self._database.platform() as uow:
            if await identity_repository.find_role_of(uow, tenant.id, address) is not None:
                raise errors.member_exists()
            await require_change(uow, principal, tenant.id, address, becomes=Role(role))
            made = await repository.insert(
                uow,
                tenant.id,
                new_id(),
                address,
                role,
                token_hash=None if token is None else hash_token(token),
                invited_by=principal.id,
                days=_DAYS,
            )
            if token is None:
                await self._letters.owe(uow, LetterKind.INVITATION, made.id)
            details = {"email": address, "role": str(role), "by_mail": token is None}
            await _record(uow, principal, "invitation.created", tenant.id, made.id, details)
        return made, None if token is None else HandOver(token, self._link(token), made.expires_at)

    def _link(self, token: Secret) -> Secret | None:
        """After the `#`, so that the secret is in no server's log and in no Referer."""
        if self._public_url is None:
            return None
        return Secret(f"{self._public_url.rstrip('/')}/accept-invitation#{token.reveal()}")

    async def _write(self, uow: UnitOfWork, invitation_id: UUID) -> Message | None:
        token = new_token(_PREFIX)
        invitation = await repository.set_hash(uow, invitation_id, hash_token(token))
        link = self._link(token)
        if invitation is None or link is None:
            return None
        tenant = await tenants_repository.find(uow, tenant_id=invitation.tenant_id)
        name = tenant.name if tenant else ""
        text = (
            f"You are invited to the documents of {name}, as {invitation.role}.\n\n"
            f"Accept within {_DAYS:.0f} days:\n{link.reveal()}\n\n"
            "If you do not know what this is about, do nothing.\n"
        )
        return Message(invitation.email, f"Invitation to {name}", Secret(text))

    async def list_invitations(
        self, tenant_id: UUID, *, after: UUID | None = None, limit: int = 100
    ) -> list[Invitation]:
        """A page, newest first."""
        async with self._database.platform() as uow:
            return await repository.list_page(uow, tenant_id, after=after, limit=limit)

    async def revoke(self, principal: Principal, tenant_id: UUID, invitation_id: UUID) -> None:
        """Make one useless; again is no error. Raises NotFound (`invitation_not_found`), also for an accepted one."""
        async with self._database.platform() as uow:
            if await repository.revoke(uow, tenant_id, invitation_id) is None:
                raise errors.invitation_not_found()
            await _record(uow, principal, "invitation.revoked", tenant_id, invitation_id, {})

    async def accept(self, token: Secret, password: Secret, *, address: str) -> str:
        """Make an account for the invited address, with this password and the place; the address.

        Raises NotFound (`invitation_invalid`), Conflict (`account_exists`), Invalid (`password_invalid`), Forbidden
        (`tenant_suspended`), TooMany (`too_many_attempts`).
        """
        attempt = await self._identity.limits.take(Door.INVITATION, address)
        async with self._identity.sign_in.telling(address, _WRONG):
            email = await self._accept(token, password)
        await self._identity.limits.give_back(attempt)
        return email

    async def _accept(self, token: Secret, password: Secret) -> str:
        async with self._database.platform() as uow:
            await self._hold(uow, token)
        hashed = await self._identity.hash_password(password)
        async with self._database.platform() as uow:
            invitation = await self._hold(uow, token)
            if await identity_repository.find_user_id(uow, invitation.email) is not None:
                raise errors.account_exists()
            user_id = new_id()
            user = await identity_repository.insert_user(
                uow, user_id, invitation.email, hashed, is_operator=False, is_auditor=False
            )
            if user is None:
                raise errors.account_exists()
            await self._give_place(uow, invitation, Principal(user.id, user.email))
        return invitation.email

    async def join(self, principal: Principal, token: Secret, *, address: str) -> tuple[UUID, NewSession | None]:
        """Take the place as who one is already; the tenant. Rights do not grow within a session: the one that asks goes
        on under a new secret, and all others end.

        Raises NotFound (`invitation_invalid`), Conflict (`member_exists`), Forbidden (`invitation_not_yours`).
        """
        attempt = await self._identity.limits.take(Door.INVITATION, address)
        async with (
            self._identity.sign_in.telling(address, _WRONG, principal.id),
            self._database.platform() as uow,
        ):
            invitation = await self._hold(uow, token)
            if principal.id is None or invitation.email != principal.name or principal.tenant_id is not None:
                raise errors.invitation_not_yours()
            if await identity_repository.find_role(uow, invitation.tenant_id, principal.id) is not None:
                raise errors.member_exists()
            await self._give_place(uow, invitation, principal)
            await end_all(uow, principal.id, but=principal.session_id)
            renewed = await renew(uow, principal)
        await self._identity.limits.give_back(attempt)
        return invitation.tenant_id, renewed

    async def _hold(self, uow: UnitOfWork, token: Secret) -> OpenInvitation:
        """The invitation, if it may be used now, and its inviter may still give what it gives."""
        invitation = await repository.hold_open(uow, hash_token(token))
        if invitation is None:
            raise errors.invitation_invalid()
        tenant = await tenants_repository.find(uow, tenant_id=invitation.tenant_id)
        if tenant is None or tenant.suspended_at is not None:
            raise suspended()
        if invitation.invited_by is not None:
            inviter = await repository.find_principal(uow, invitation.invited_by)
            rights = await rights_in(uow, inviter, tenant.id) if inviter is not None else frozenset()
            if not TENANT_ROLES[Role(invitation.role)] <= rights:
                raise errors.invitation_invalid()
        return invitation

    async def _give_place(self, uow: UnitOfWork, invitation: OpenInvitation, principal: Principal) -> None:
        assert principal.id is not None
        await identity_repository.put_member(uow, invitation.tenant_id, invitation.email, invitation.role)
        await repository.set_accepted(uow, invitation, principal.id)
        details = {"email": invitation.email, "role": invitation.role, "user_id": str(principal.id)}
        await _record(uow, principal, "invitation.accepted", invitation.tenant_id, invitation.id, details)


async def _record(
    uow: UnitOfWork,
    principal: Principal,
    action: str,
    tenant_id: UUID,
    invitation_id: UUID,
    details: Mapping[str, object],
) -> None:
    await record(
        uow,
        principal,
        action,
        target_type="invitation",
        target_id=str(invitation_id),
        tenant_id=tenant_id,
        details=details,
    )
