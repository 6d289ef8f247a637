"""Ask for a second factor, and say whether what is given is one; each proof counts once."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from typing import Final
from uuid import UUID

from simples3dms.crypto.keyring import Keyring
from simples3dms.crypto.passkeys import (
    RelyingParty,
    authentication_options,
    check_authentication,
    credential_id_of,
)
from simples3dms.crypto.sealing import SealContext, Sealed, unseal_apart
from simples3dms.crypto.totp import find_step
from simples3dms.db.session import Database
from simples3dms.identity.factors import repository
from simples3dms.identity.factors.values import Challenge, Held, PasskeyAnswer, Proof, TotpRow
from simples3dms.kit.ids import new_id
from simples3dms.kit.secret import Secret

_LONGEST_CODE: Final = 100


class FactorChecks:
    """`party` is None where no public address is known: passkeys are bound to one, and can't be used then. Without a
    key ring no secret can be opened, and no code is right."""

    def __init__(self, database: Database, keyring: Keyring | None, party: RelyingParty | None) -> None:
        self._database, self._keyring, self._party = database, keyring, party

    async def get_held(self, user_id: UUID) -> Held:
        async with self._database.platform() as uow:
            return await repository.get_held(uow, user_id)

    async def challenge(self, user_id: UUID) -> Challenge | None:
        """A challenge for one of the user's passkeys; None where there is none that could answer."""
        if self._party is None:
            return None
        challenge, challenge_id = secrets.token_bytes(32), new_id()
        async with self._database.platform() as uow:
            existing = await repository.list_credential_ids(uow, user_id)
            if not existing:
                return None
            await repository.insert_challenge(uow, challenge_id, user_id, "sign_in", challenge)
        return Challenge(challenge_id, authentication_options(self._party, challenge, existing=existing))

    async def is_proven(self, user_id: UUID, proof: Proof) -> bool:
        """Whether the proof is one of this user's, and was not given before."""
        if proof.passkey is not None:
            return await self._has_signed(user_id, proof.passkey)
        code = proof.code.reveal().strip() if proof.code is not None else ""
        if not code or len(code) > _LONGEST_CODE:
            return False
        async with self._database.platform() as uow:
            row = await repository.find_totp(uow, user_id)
            now_seconds = await repository.get_now_seconds(uow)
        step = None
        if row is not None and row.confirmed_at is not None and self._keyring is not None:
            step = find_step(await self.open_totp(user_id, row), code, now_seconds=now_seconds)
        async with self._database.platform() as uow:
            if row is not None and step is not None:
                return await repository.use_step(uow, user_id, row.version, step)
            return await repository.use_recovery_code(uow, user_id, hash_recovery_code(code))

    async def open_totp(self, user_id: UUID, row: TotpRow) -> Secret:
        """Never inside a transaction: a service may keep the key."""
        assert self._keyring is not None
        sealed = Sealed(row.key_id, row.wrapped_key, row.sealed)
        opened = await unseal_apart(self._keyring, sealed, context=totp_context(user_id, row.version))
        return Secret(opened.decode())

    async def _has_signed(self, user_id: UUID, answer: PasskeyAnswer) -> bool:
        credential_id = credential_id_of(answer.credential)
        async with self._database.platform() as uow:
            challenge = await repository.take_challenge(uow, answer.challenge_id, user_id, "sign_in")
            passkey = await repository.find_passkey(uow, user_id, credential_id) if credential_id else None
        if challenge is None or passkey is None or self._party is None:
            return False
        count = await asyncio.to_thread(
            check_authentication,
            self._party,
            challenge,
            answer.credential,
            public_key=passkey.public_key,
            sign_count=passkey.sign_count,
        )
        if count is None:
            return False
        async with self._database.platform() as uow:
            return await repository.count_signature(uow, passkey, count)


def hash_recovery_code(code: str) -> bytes:
    """What is stored; however the code is typed."""
    plain = code.lower().replace("-", "").replace(" ", "")
    return hashlib.sha256(plain.encode(errors="replace")).digest()


def totp_context(user_id: UUID, version: int) -> SealContext:
    return SealContext("platform", "totp_factors", "sealed", str(user_id), version)
