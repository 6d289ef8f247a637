"""Sign in with a browser: begin sessions, recognise, list and end them."""

from __future__ import annotations

import secrets
from typing import Final
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.crypto.tokens import hash_token
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.identity import errors
from simples3dms.identity import repository as identity_repository
from simples3dms.identity.factors.values import Proof
from simples3dms.identity.sessions import repository
from simples3dms.identity.sessions.values import NewSession, Session, Visitor
from simples3dms.identity.signing_in import SignIn, principal_of
from simples3dms.identity.standing import Standing, find_of_session
from simples3dms.identity.values import Account
from simples3dms.kit.ids import new_id
from simples3dms.kit.secret import Secret

_LONGEST_SECRET: Final = 200
_LONGEST_AGENT: Final = 300


class Sessions:
    """Each ends `lifetime_seconds` after it began, and sooner if nothing came in it for `idle_seconds`."""

    def __init__(
        self, database: Database, sign_in: SignIn, *, idle_seconds: float = 7200, lifetime_seconds: float = 86_400
    ) -> None:
        self._database, self._sign_in = database, sign_in
        self._idle_seconds, self._lifetime_seconds = idle_seconds, lifetime_seconds

    async def sign_in(
        self,
        email: str,
        password: Secret,
        visitor: Visitor,
        *,
        proof: Proof | None = None,
        replaces: Secret | None = None,
    ) -> NewSession:
        """A session for the right password and second factor.

        What the browser had before (`replaces`) is ended, never taken over. Raises as `SignIn.check` does.
        """
        account = await self._sign_in.check(email, password, address=visitor.address, proof=proof)
        async with self._database.platform() as uow:
            # The password may have been changed meanwhile: that ended all sessions, and this must not be one more.
            if not await identity_repository.hold_account(uow, account):
                raise errors.credentials_wrong()
            if replaces is not None:
                await repository.end_by_secret(uow, hash_token(replaces))
            return await self.begin(uow, account, visitor, method=account.method)

    async def begin(
        self,
        uow: UnitOfWork,
        account: Account,
        visitor: Visitor,
        *,
        method: str,
        tenant_id: UUID | None = None,
        provider_id: UUID | None = None,
    ) -> NewSession:
        """A session of an account that the caller holds in this unit of work.

        With `tenant_id` it is good for nothing outside of that tenant; with the provider it ends.
        """
        secret, session_id = _new_secret(), new_id()
        await repository.prune(uow, account.id)
        await repository.insert(
            uow,
            session_id,
            account.id,
            hash_token(secret),
            visitor=_shortened(visitor),
            method=method,
            lifetime_seconds=self._lifetime_seconds,
            tenant_id=tenant_id,
            provider_id=provider_id,
        )
        await _record(uow, principal_of(account), "session.started", session_id, method=method)
        return NewSession(session_id, secret, int(self._lifetime_seconds))

    async def recognise(self, secret: Secret, *, tenant: str | None = None) -> Standing:
        """Whose session it is, and what they may do in a tenant. Raises Unauthenticated (`session_invalid`) if it is
        unknown, over or ended."""
        if not 0 < len(secret.reveal()) <= _LONGEST_SECRET:
            raise errors.session_invalid()
        found = await find_of_session(self._database, hash_token(secret), tenant, idle_seconds=self._idle_seconds)
        if found is None:
            raise errors.session_invalid()
        return found

    async def authenticate(self, secret: Secret) -> Principal:
        """Whose session it is. Raises as `recognise` does."""
        return (await self.recognise(secret)).principal

    async def list_sessions(self, principal: Principal) -> list[Session]:
        """The principal's own that are in force, newest first."""
        if principal.id is None:
            return []
        async with self._database.platform() as uow:
            return await repository.list_valid(uow, principal.id, idle_seconds=self._idle_seconds)

    async def end_session(self, principal: Principal, session_id: UUID) -> None:
        """End one of the principal's own; again is no error. Raises NotFound (`session_not_found`)."""
        if principal.id is None:
            raise errors.session_not_found()
        async with self._database.platform() as uow:
            if not await repository.end(uow, principal.id, session_id):
                raise errors.session_not_found()
            await _record(uow, principal, "session.ended", session_id)

    async def end_others(self, principal: Principal) -> int:
        """End all of the principal's own but the one that asks; how many there were."""
        if principal.id is None:
            return 0
        async with self._database.platform() as uow:
            count = await repository.end_all(uow, principal.id, but=principal.session_id)
            await record(
                uow,
                principal,
                "sessions.ended",
                target_type="user",
                target_id=str(principal.id),
                details={"count": count},
            )
            return count

    async def sign_out(self, principal: Principal) -> None:
        """End the session that asks. Raises NotFound (`session_not_found`) where none does."""
        if principal.session_id is None:
            raise errors.session_not_found()
        await self.end_session(principal, principal.session_id)


async def renew(uow: UnitOfWork, principal: Principal) -> NewSession | None:
    """Put the session that asks under a new secret, in the unit of work that changes what it may do. None where no
    session asks."""
    if principal.session_id is None:
        return None
    secret = _new_secret()
    seconds = await repository.set_secret(uow, principal.session_id, hash_token(secret))
    return NewSession(principal.session_id, secret, int(seconds)) if seconds is not None and seconds > 0 else None


def _new_secret() -> Secret:
    return Secret(secrets.token_urlsafe(32))


def _shortened(visitor: Visitor) -> Visitor:
    """What a browser calls itself, as much of it as is worth keeping."""
    agent = "".join(character for character in visitor.agent[:_LONGEST_AGENT] if character.isprintable())
    return Visitor(visitor.address[:100], agent)


async def _record(uow: UnitOfWork, principal: Principal, action: str, session_id: UUID, **details: str) -> None:
    await record(uow, principal, action, target_type="session", target_id=str(session_id), details=details)
