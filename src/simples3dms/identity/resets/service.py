"""Reset a forgotten password: by mail, with one answer for everybody, or by a link that an operator hands over."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import SOMEBODY, Principal
from simples3dms.crypto.tokens import hash_token, new_token
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.identity import errors
from simples3dms.identity import repository as identity_repository
from simples3dms.identity.invitations.values import HandOver
from simples3dms.identity.letters.service import Letters
from simples3dms.identity.letters.values import LetterKind
from simples3dms.identity.limits.repository import forget_known
from simples3dms.identity.limits.values import Door, network_of
from simples3dms.identity.resets import repository
from simples3dms.identity.service import Identity, require_held_of, require_operator
from simples3dms.identity.sessions.repository import end_all
from simples3dms.identity.signing_in import EMAIL, principal_of
from simples3dms.kit.ids import new_id
from simples3dms.kit.secret import Secret
from simples3dms.mail import Message

_HOURS_BY_HAND: Final = 24.0
_PREFIX: Final = "s3dmsr"


class Resets:
    """A reset sets a password and signs nobody in: second factors are asked for as ever."""

    def __init__(self, database: Database, identity: Identity, letters: Letters, *, public_url: str | None) -> None:
        self._database, self._identity, self._letters = database, identity, letters
        self._public_url = public_url
        letters.register(LetterKind.RESET, self._write)

    async def request(self, email: str, *, address: str) -> None:
        """Have a link sent to the address, if it is a user's. The same work and answer for all addresses.

        Without mail nothing happens: operators hand links over. Raises TooMany (`too_many_attempts`).
        """
        await self._identity.limits.take(Door.RESET, address, email)
        if not self._letters.can_send:
            return
        asked = email.strip().lower()
        reset_id = new_id()
        async with self._database.platform() as uow:
            await repository.prune(uow)
            await repository.request(uow, reset_id, asked if EMAIL.fullmatch(asked) else "")
            await self._letters.owe(uow, LetterKind.RESET, reset_id)
            await record(
                uow,
                SOMEBODY,
                "password_reset.requested",
                target_type="password_reset",
                target_id=str(reset_id),
                details={"network": network_of(address)},
            )

    async def _write(self, uow: UnitOfWork, reset_id: UUID) -> Message | None:
        email = await repository.find_email(uow, reset_id)
        account = await identity_repository.find_account(uow, email) if email else None
        token = new_token(_PREFIX)
        link = self._link(token)
        if account is None or link is None:
            await repository.delete(uow, reset_id)
            return None
        await repository.set_hash(uow, reset_id, account.id, hash_token(token))
        text = (
            "Somebody, you we hope, has asked for a new password for your account.\n\n"
            f"Choose it within an hour:\n{link.reveal()}\n\nIf it was not you, do nothing: your password stays.\n"
        )
        return Message(account.email, "A new password", Secret(text))

    def _link(self, token: Secret) -> Secret | None:
        """After the `#`, so that the secret is in no server's log and in no Referer."""
        if self._public_url is None:
            return None
        return Secret(f"{self._public_url.rstrip('/')}/reset-password#{token.reveal()}")

    async def create(self, principal: Principal, user_id: UUID) -> HandOver:
        """A link that an operator hands over, good for a day.

        Raises NotFound (`user_not_found`), Forbidden (`operator_required`, `rights_exceed_own`).
        """
        require_operator(principal)
        token, reset_id = new_token(_PREFIX), new_id()
        async with self._database.platform() as uow:
            user = await identity_repository.find_user(uow, user_id)
            if user is None:
                raise errors.user_not_found()
            require_held_of(principal, user)
            expires_at = await repository.insert(uow, reset_id, user_id, hash_token(token), hours=_HOURS_BY_HAND)
            await record(uow, principal, "password_reset.created", target_type="user", target_id=str(user_id))
        return HandOver(token, self._link(token), expires_at)

    async def use(self, token: Secret, password: Secret, *, address: str) -> None:
        """Set the password; all of the user's tokens, sessions and other resets end.

        Raises NotFound (`reset_invalid`), Invalid (`password_invalid`), TooMany (`too_many_attempts`).
        """
        attempt = await self._identity.limits.take(Door.RESET, address)
        async with self._identity.sign_in.telling(address, {"reset_invalid": "reset link"}):
            await self._use(token, password)
        await self._identity.limits.give_back(attempt)

    async def _use(self, token: Secret, password: Secret) -> None:
        async with self._database.platform() as uow:
            if await repository.hold_account(uow, hash_token(token)) is None:
                raise errors.reset_invalid()
        hashed = await self._identity.hash_password(password)
        async with self._database.platform() as uow:
            account = await repository.hold_account(uow, hash_token(token))
            if account is None or not await identity_repository.set_password(uow, account, hashed):
                raise errors.reset_invalid()
            await repository.end_all(uow, account.id)
            await forget_known(uow, account.id)
            details = {
                "revoked_tokens": await identity_repository.revoke_tokens(uow, account.id),
                "ended_sessions": await end_all(uow, account.id),
            }
            await record(
                uow,
                principal_of(account),
                "password.reset",
                target_type="user",
                target_id=str(account.id),
                details=details,
            )
