"""Turn second factors on and off. Each act asks for the password again; the session that asks gets a new secret."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.crypto.keyring import Keyring
from simples3dms.crypto.passkeys import RelyingParty, check_registration, registration_options
from simples3dms.crypto.passwords import new_password
from simples3dms.crypto.sealing import seal_apart
from simples3dms.crypto.totp import find_step, new_totp_secret, totp_uri
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.identity import errors
from simples3dms.identity import repository as identity_repository
from simples3dms.identity.factors import repository
from simples3dms.identity.factors.service import FactorChecks, hash_recovery_code, totp_context
from simples3dms.identity.factors.values import Challenge, Held, NewTotp, Passkey, TotpRow
from simples3dms.identity.limits.values import Door
from simples3dms.identity.service import Identity, require_held_of, require_operator
from simples3dms.identity.sessions.repository import end_all
from simples3dms.identity.sessions.service import renew
from simples3dms.identity.sessions.values import NewSession
from simples3dms.keys.service import hold_key
from simples3dms.kit.ids import new_id
from simples3dms.kit.secret import Secret

_ISSUER: Final = "SimpleS3DMS"
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,100}")
_WRONG: Final = {"code_wrong": "second factor, set up", "passkey_invalid": "passkey, set up"}
_RECOVERY_CODES: Final = 10
_MOST_PASSKEYS: Final = 20
#: What was turned on, the recovery codes if it is the first factor, and the session's new secret.
Enabled = tuple[list[Secret], NewSession | None]


class Factors:
    """Of one's own account; and, for operators, all of an account whose owner has lost them."""

    def __init__(
        self,
        database: Database,
        identity: Identity,
        checks: FactorChecks,
        keyring: Keyring,
        *,
        party: RelyingParty | None,
    ) -> None:
        self._database, self._identity, self._checks = database, identity, checks
        self._keyring, self._party = keyring, party

    async def get_held(self, principal: Principal) -> Held:
        if principal.id is None:
            raise errors.user_required()
        return await self._checks.get_held(principal.id)

    async def begin_totp(self, principal: Principal, password: Secret) -> NewTotp:
        """A secret for an app, shown once; it counts when `confirm_totp` has seen a code of it.

        Raises Conflict (`totp_exists`), Invalid (`password_wrong`), Forbidden (`user_required`).
        """
        account = await self._identity.confirm(principal, password)
        secret = new_totp_secret()
        async with self._database.platform() as uow:
            version = _next_version(await repository.find_totp(uow, account.id))
        plaintext = secret.reveal().encode()
        sealed = await seal_apart(self._keyring, plaintext, context=totp_context(account.id, version))
        async with self._database.platform() as uow:
            await repository.lock(uow, account.id)
            if _next_version(await repository.find_totp(uow, account.id)) != version:
                raise errors.totp_exists()
            await hold_key(uow, self._keyring, sealed.key_id)
            await repository.put_totp(uow, account.id, version, sealed)
            await _record(uow, principal, "totp.begun", account.id)
        return NewTotp(secret, totp_uri(secret, account=account.email, issuer=_ISSUER))

    async def confirm_totp(self, principal: Principal, code: Secret) -> Enabled:
        """Turn the app on by a code of it. Raises Invalid (`code_wrong`), NotFound (`factor_not_found`), TooMany."""
        user_id = _user(principal)
        attempt = await self._identity.limits.take(Door.FACTOR, "", str(user_id))
        async with self._identity.sign_in.telling("", _WRONG, user_id):
            enabled = await self._confirm_totp(principal, user_id, code)
        await self._identity.limits.give_back(attempt)
        return enabled

    async def _confirm_totp(self, principal: Principal, user_id: UUID, code: Secret) -> Enabled:
        async with self._database.platform() as uow:
            row = await repository.find_totp(uow, user_id)
            now_seconds = await repository.get_now_seconds(uow)
        if row is None or row.confirmed_at is not None:
            raise errors.factor_not_found()
        secret = await self._checks.open_totp(user_id, row)
        step = find_step(secret, code.reveal().strip(), now_seconds=now_seconds)
        if step is None:
            raise errors.code_wrong()
        async with self._database.platform() as uow:
            await repository.lock(uow, user_id)
            codes = await self._first_codes(uow, user_id)
            if not await repository.use_step(uow, user_id, row.version, step, confirm=True):
                raise errors.code_wrong()
            return codes, await self._changed(uow, principal, "totp.enabled", user_id)

    async def remove_totp(self, principal: Principal, password: Secret) -> NewSession | None:
        """Turn the app off. Raises NotFound (`factor_not_found`), Invalid (`password_wrong`)."""
        account = await self._identity.confirm(principal, password)
        async with self._database.platform() as uow:
            await repository.lock(uow, account.id)
            if not await repository.delete_totp(uow, account.id):
                raise errors.factor_not_found()
            await self._drop_codes_of_none(uow, account.id)
            return await self._changed(uow, principal, "totp.removed", account.id)

    async def begin_passkey(self, principal: Principal, password: Secret) -> Challenge:
        """Options for the browser to make a passkey with, good for five minutes.

        Raises Conflict (`passkeys_unavailable`, `passkeys_too_many`), Invalid (`password_wrong`).
        """
        account = await self._identity.confirm(principal, password)
        if self._party is None:
            raise errors.passkeys_unavailable()
        challenge, challenge_id = secrets.token_bytes(32), new_id()
        async with self._database.platform() as uow:
            existing = await repository.list_credential_ids(uow, account.id)
            if len(existing) >= _MOST_PASSKEYS:
                raise errors.passkeys_too_many(_MOST_PASSKEYS)
            await repository.insert_challenge(uow, challenge_id, account.id, "register", challenge)
        options = registration_options(
            self._party, challenge, user_id=account.id.bytes, user_name=account.email, existing=existing
        )
        return Challenge(challenge_id, options)

    async def add_passkey(
        self, principal: Principal, challenge_id: UUID, credential: Mapping[str, Any], name: str
    ) -> tuple[Passkey, Enabled]:
        """Take the passkey that the browser made. Raises Invalid (`passkey_invalid`, `passkey_name_invalid`)."""
        user_id = _user(principal)
        if not name.strip() or not _NAME.fullmatch(name):
            raise errors.passkey_name_invalid()
        async with self._identity.sign_in.telling("", _WRONG, user_id):
            return await self._add_passkey(principal, user_id, challenge_id, credential, name)

    async def _add_passkey(
        self, principal: Principal, user_id: UUID, challenge_id: UUID, credential: Mapping[str, Any], name: str
    ) -> tuple[Passkey, Enabled]:
        async with self._database.platform() as uow:
            challenge = await repository.take_challenge(uow, challenge_id, user_id, "register")
        if challenge is None or self._party is None:
            raise errors.passkey_invalid()
        made = await asyncio.to_thread(check_registration, self._party, challenge, credential)
        if made is None:
            raise errors.passkey_invalid()
        async with self._database.platform() as uow:
            await repository.lock(uow, user_id)
            codes = await self._first_codes(uow, user_id)
            passkey = await repository.insert_passkey(uow, new_id(), user_id, name, made)
            if passkey is None:
                raise errors.passkey_invalid()
            return passkey, (codes, await self._changed(uow, principal, "passkey.added", user_id, name=name))

    async def remove_passkey(self, principal: Principal, passkey_id: UUID, password: Secret) -> NewSession | None:
        """Raises NotFound (`factor_not_found`), Invalid (`password_wrong`)."""
        account = await self._identity.confirm(principal, password)
        async with self._database.platform() as uow:
            await repository.lock(uow, account.id)
            if not await repository.delete_passkey(uow, account.id, passkey_id):
                raise errors.factor_not_found()
            await self._drop_codes_of_none(uow, account.id)
            return await self._changed(uow, principal, "passkey.removed", account.id)

    async def create_recovery_codes(self, principal: Principal, password: Secret) -> list[Secret]:
        """Fresh codes, shown once, in place of the old ones. Raises NotFound (`factor_not_found`) without a factor."""
        account = await self._identity.confirm(principal, password)
        async with self._database.platform() as uow:
            await repository.lock(uow, account.id)
            if not (await repository.get_held(uow, account.id)).kinds:
                raise errors.factor_not_found()
            codes = await _put_codes(uow, account.id)
            await _record(uow, principal, "recovery_codes.created", account.id)
            return codes

    async def remove_all(self, principal: Principal, user_id: UUID) -> None:
        """For a user who has lost them; all of the user's sessions end. For operators.

        Raises NotFound (`user_not_found`), Forbidden (`operator_required`, `rights_exceed_own`).
        """
        require_operator(principal)
        async with self._database.platform() as uow:
            user = await identity_repository.find_user(uow, user_id)
            if user is None:
                raise errors.user_not_found()
            require_held_of(principal, user)
            await repository.lock(uow, user_id)
            details = {"count": await repository.delete_all(uow, user_id)}
            await end_all(uow, user_id)
            await record(uow, principal, "factors.removed", target_type="user", target_id=str(user_id), details=details)

    async def _first_codes(self, uow: UnitOfWork, user_id: UUID) -> list[Secret]:
        """Recovery codes with the first factor; none with further ones."""
        return [] if (await repository.get_held(uow, user_id)).kinds else await _put_codes(uow, user_id)

    async def _drop_codes_of_none(self, uow: UnitOfWork, user_id: UUID) -> None:
        """With the last factor its recovery codes go."""
        if not (await repository.get_held(uow, user_id)).kinds:
            await repository.delete_all(uow, user_id)

    async def _changed(
        self, uow: UnitOfWork, principal: Principal, action: str, user_id: UUID, **details: str
    ) -> NewSession | None:
        """Other sessions end: whoever is in one has not given what is asked for from now on."""
        await end_all(uow, user_id, but=principal.session_id)
        await _record(uow, principal, action, user_id, **details)
        return await renew(uow, principal)


def _user(principal: Principal) -> UUID:
    if principal.id is None:
        raise errors.user_required()
    return principal.id


async def _put_codes(uow: UnitOfWork, user_id: UUID) -> list[Secret]:
    codes = [new_password() for _ in range(_RECOVERY_CODES)]
    await repository.put_recovery_codes(uow, user_id, [hash_recovery_code(code.reveal()) for code in codes])
    return codes


async def _record(uow: UnitOfWork, principal: Principal, action: str, user_id: UUID, **details: str) -> None:
    await record(uow, principal, action, target_type="user", target_id=str(user_id), details=details)


def _next_version(row: TotpRow | None) -> int:
    """The version that a new secret would have. Raises Conflict (`totp_exists`) where one is in use."""
    if row is not None and row.confirmed_at is not None:
        raise errors.totp_exists()
    return 1 if row is None else row.version + 1
