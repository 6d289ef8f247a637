"""Set up identity providers; sign in through one: begin, come back, be somebody."""

from __future__ import annotations

import hmac
import re
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.crypto.keyring import Keyring
from simples3dms.crypto.oidc import Flow, Subject, check_id_token, flow_of, new_flow
from simples3dms.crypto.passwords import NO_PASSWORD
from simples3dms.crypto.sealing import SealContext, Sealed, seal_apart, unseal_apart
from simples3dms.crypto.tokens import hash_token
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.identity import errors
from simples3dms.identity import repository as identity_repository
from simples3dms.identity.federation import repository
from simples3dms.identity.federation.engine import Issuers, is_usable_url
from simples3dms.identity.federation.values import Answer, Begun, IdentityProvider, NewProvider
from simples3dms.identity.limits.service import Limits
from simples3dms.identity.limits.values import Door
from simples3dms.identity.permissions import PLATFORM_ROLES, TENANT_ROLES, rights_of
from simples3dms.identity.service import SERVICE_DOMAIN, require_held, rights_in
from simples3dms.identity.sessions.service import Sessions
from simples3dms.identity.sessions.values import NewSession, Visitor
from simples3dms.identity.signing_in import EMAIL, SignIn
from simples3dms.identity.values import Account, PlatformRole, Role
from simples3dms.keys.service import hold_key
from simples3dms.kit.ids import new_id
from simples3dms.kit.secret import Secret

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_CALLBACK: Final = "/api/v1/oidc/callback"
_WRONG: Final = {
    "sign_in_failed": "identity provider's answer",
    "sign_in_unlinked": "no account of this subject",
}


class Federation:
    """A tenant's provider speaks for that tenant only: who comes in by it can do nothing outside of it."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        issuers: Issuers,
        sign_in: SignIn,
        sessions: Sessions,
        limits: Limits,
        *,
        public_url: str | None,
    ) -> None:
        self._database, self._keyring, self._issuers = database, keyring, issuers
        self._sign_in, self._sessions, self._limits = sign_in, sessions, limits
        self._public_url = public_url.rstrip("/") if public_url is not None else None

    # set-up

    async def add_provider(self, principal: Principal, tenant_id: UUID | None, given: NewProvider) -> IdentityProvider:
        """Add one, of a tenant or of the platform (None), once its issuer has said what it is.

        Whoever chooses who vouches for people could become each of them: they need all that an owner, or an operator,
        may do. Raises Invalid (`provider_invalid`, `role_invalid`, `endpoint_refused`), Conflict (`provider_exists`,
        `public_url_missing`), Forbidden (`rights_exceed_own`), IssuerFailed.
        """
        self._redirect_uri()
        _check(given, is_tenants=tenant_id is not None)
        async with self._database.platform() as uow:
            await _require_all(uow, principal, tenant_id)
        await self._issuers.check(given.issuer, is_tenants=tenant_id is not None)
        provider_id, sealed = new_id(), None
        if given.client_secret is not None:
            plaintext = given.client_secret.reveal().encode()
            sealed = await seal_apart(self._keyring, plaintext, context=_context(provider_id))
        async with self._database.platform() as uow:
            await _require_all(uow, principal, tenant_id)
            if sealed is not None:
                await hold_key(uow, self._keyring, sealed.key_id)
            made = await repository.insert(uow, provider_id, tenant_id, given, sealed)
            if made is None:
                raise errors.provider_exists()
            await _record(uow, principal, "identity_provider.added", made)
            return made

    async def list_providers(self, tenant_id: UUID | None) -> list[IdentityProvider]:
        async with self._database.platform() as uow:
            return await repository.list_of(uow, tenant_id)

    async def remove_provider(self, principal: Principal, tenant_id: UUID | None, provider_id: UUID) -> None:
        """Nobody comes in by it any more, and whoever did is out. Raises NotFound (`provider_not_found`)."""
        async with self._database.platform() as uow:
            found = await repository.find(uow, provider_id)
            if found is None or not await repository.delete(uow, tenant_id, provider_id):
                raise errors.provider_not_found()
            await _record(uow, principal, "identity_provider.removed", found)

    # signing in

    async def begin(self, provider_id: UUID, *, address: str) -> Begun:
        """Where the browser is to go. Raises NotFound (`provider_not_found`), IssuerFailed, TooMany."""
        await self._limits.take(Door.FEDERATION, address)
        async with self._database.platform() as uow:
            provider = await repository.find(uow, provider_id)
        if provider is None:
            raise errors.provider_not_found()
        endpoints = await self._issuers.discover(provider.issuer, is_tenants=provider.of_tenant_id is not None)
        flow = new_flow()
        async with self._database.platform() as uow:
            await repository.insert_flow(uow, hash_token(Secret(flow.state)), provider.id)
        query = {
            "response_type": "code",
            "client_id": provider.client_id,
            "redirect_uri": self._redirect_uri(),
            "scope": "openid email profile",
            "state": flow.state,
            "nonce": flow.nonce,
            "code_challenge": flow.challenge,
            "code_challenge_method": "S256",
        }
        joined = "&" if "?" in endpoints.authorization else "?"
        return Begun(f"{endpoints.authorization}{joined}{urlencode(query)}", flow.browser)

    async def finish(self, browser: Secret | None, answer: Answer, visitor: Visitor) -> NewSession:
        """A session for whom the provider names, in the browser that began.

        Raises Unauthenticated (`sign_in_failed`, `sign_in_unlinked`), Conflict, IssuerFailed.
        """
        async with self._sign_in.telling(visitor.address, _WRONG):
            begun = await self._finish(browser, answer, visitor)
        await self._limits.refund(Door.FEDERATION, visitor.address)
        return begun

    async def _finish(self, browser: Secret | None, answer: Answer, visitor: Visitor) -> NewSession:
        flow = flow_of(browser) if browser is not None else None
        if flow is None or not hmac.compare_digest(flow.state.encode(), answer.state.encode(errors="replace")):
            raise errors.sign_in_failed()
        async with self._database.platform() as uow:
            provider_id = await repository.take_flow(uow, hash_token(Secret(flow.state)))
            provider = await repository.find(uow, provider_id) if provider_id is not None else None
        if provider is None or answer.code is None or answer.error is not None:
            raise errors.sign_in_failed()
        subject = await self._redeem(provider, flow, answer)
        if subject is None:
            raise errors.sign_in_failed()
        async with self._database.platform() as uow:
            account = await self._account(uow, provider, subject)
            if account is None:
                begun = None
            else:
                tenant_id, provider_id = provider.of_tenant_id, provider.id
                begun = await self._sessions.begin(
                    uow, account, visitor, method="oidc", tenant_id=tenant_id, provider_id=provider_id
                )
        if begun is None:
            raise errors.sign_in_unlinked()
        return begun

    async def _redeem(self, provider: IdentityProvider, flow: Flow, answer: Answer) -> Subject | None:
        is_tenants = provider.of_tenant_id is not None
        endpoints = await self._issuers.discover(provider.issuer, is_tenants=is_tenants)
        if answer.issuer != provider.issuer and (answer.issuer is not None or endpoints.names_issuer_in_answer):
            return None
        secret = await self._open_secret(provider.id)
        assert answer.code is not None
        id_token = await self._issuers.redeem(
            provider,
            endpoints,
            flow,
            code=answer.code,
            client_secret=secret,
            redirect_uri=self._redirect_uri(),
        )
        keys = await self._issuers.get_keys(endpoints, id_token, is_tenants=is_tenants)
        async with self._database.platform() as uow:
            now_seconds = await repository.get_now_seconds(uow)
        return check_id_token(
            id_token,
            keys,
            issuer=provider.issuer,
            client_id=provider.client_id,
            nonce=flow.nonce,
            now_seconds=now_seconds,
        )

    async def _open_secret(self, provider_id: UUID) -> Secret | None:
        async with self._database.platform() as uow:
            row = await repository.find_secret(uow, provider_id)
        if row is None or row.key_id is None or row.wrapped_key is None or row.sealed is None:
            return None
        sealed = Sealed(row.key_id, row.wrapped_key, row.sealed)
        opened = await unseal_apart(self._keyring, sealed, context=_context(provider_id))
        return Secret(opened.decode())

    async def _account(self, uow: UnitOfWork, provider: IdentityProvider, subject: Subject) -> Account | None:
        """The user whom the subject is: linked before, by a verified address, or made now, as the provider says."""
        found = await repository.hold_linked(uow, provider.id, subject.subject)
        if found is not None:
            return found
        email = subject.email
        if email is None or not EMAIL.fullmatch(email) or email.endswith(SERVICE_DOMAIN):
            return None
        if await repository.is_linked(uow, provider.id, subject.subject):
            return None  # Disabled: an address does not let them in again.
        account, tenant_id = await identity_repository.find_account(uow, email), provider.of_tenant_id
        if account is not None:
            # A tenant's provider links the tenant's own members, and nobody else's users.
            is_member = tenant_id is None or await identity_repository.find_role(uow, tenant_id, account.id) is not None
            if not provider.links_by_email or not is_member or not await identity_repository.hold_account(uow, account):
                return None
        else:
            account = await self._create(uow, provider, email)
            if account is None:
                return None
        if not await repository.link(uow, provider.id, subject.subject, account.id):
            return None
        await _record_link(uow, account, provider)
        return account

    async def _create(self, uow: UnitOfWork, provider: IdentityProvider, email: str) -> Account | None:
        if not provider.creates_users:
            return None
        user = await identity_repository.insert_user(
            uow, new_id(), email, NO_PASSWORD, is_operator=False, is_auditor=False
        )
        if user is None:
            return None
        if provider.of_tenant_id is not None and provider.default_role is not None:
            await identity_repository.put_member(uow, provider.of_tenant_id, email, provider.default_role)
        return Account(user.id, user.email, NO_PASSWORD, False, False)

    def _redirect_uri(self) -> str:
        if self._public_url is None:
            raise errors.public_url_missing()
        return f"{self._public_url}{_CALLBACK}"


def _check(given: NewProvider, *, is_tenants: bool) -> None:
    if not _NAME.fullmatch(given.name) or not is_usable_url(given.issuer) or len(given.issuer) > 500:
        raise errors.provider_invalid()
    texts = (given.client_id, given.client_secret.reveal() if given.client_secret is not None else "x")
    if not all(0 < len(text) <= 500 and text.isprintable() for text in texts):
        raise errors.provider_invalid()
    if given.default_role is not None and (not is_tenants or given.default_role not in set(Role)):
        raise errors.role_invalid(Role)


async def _require_all(uow: UnitOfWork, principal: Principal, tenant_id: UUID | None) -> None:
    if tenant_id is None:
        require_held(rights_of(principal), PLATFORM_ROLES[PlatformRole.OPERATOR])
    else:
        require_held(await rights_in(uow, principal, tenant_id), TENANT_ROLES[Role.OWNER])


def _context(provider_id: UUID) -> SealContext:
    return SealContext("platform", "identity_providers", "sealed", str(provider_id), 1)


async def _record(uow: UnitOfWork, principal: Principal, action: str, provider: IdentityProvider) -> None:
    await record(
        uow,
        principal,
        action,
        target_type="identity_provider",
        target_id=str(provider.id),
        tenant_id=provider.of_tenant_id,
        details={"name": provider.name, "issuer": provider.issuer, "default_role": provider.default_role},
    )


async def _record_link(uow: UnitOfWork, account: Account, provider: IdentityProvider) -> None:
    await record(
        uow,
        Principal(account.id, account.email),
        "identity.linked",
        target_type="user",
        target_id=str(account.id),
        tenant_id=provider.of_tenant_id,
        details={"provider": provider.name},
    )
