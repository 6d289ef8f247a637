"""The key that signs checkpoints and cuts: made when it is first needed, sealed by the key ring, rotated on demand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from simples3dms.audit import chain, repository
from simples3dms.audit.values import Checkpoint, Cut, SealedKey, SigningKey
from simples3dms.crypto.errors import KeyringFailed
from simples3dms.crypto.keyring import Keyring
from simples3dms.crypto.sealing import SealContext, Sealed, seal_apart, unseal_apart
from simples3dms.crypto.signing import key_id_of, new_key_pair, sign
from simples3dms.db.session import Database, UnitOfWork

Told = Callable[[UnitOfWork, str | None, str], Awaitable[None]]


@dataclass(frozen=True, slots=True, repr=False)
class Signer:
    """An open key. Kept for one signature, and no longer."""

    key_id: str
    _private: bytes

    def sign_checkpoint(self, unsigned: Checkpoint) -> Checkpoint:
        return replace(unsigned, signature=sign(self._private, chain.checkpoint_message(unsigned)))

    def sign_document(self, unsigned: Mapping[str, Any]) -> dict[str, Any]:
        """The document with the key's id and its signature, over the canonical JSON of the rest. Its `format` says what
        it is, so that it can stand for nothing else."""
        named = {**unsigned, "key_id": self.key_id}
        return named | {"signature": sign(self._private, chain.canonical(named).encode("ascii")).hex()}

    def sign_cut(self, unsigned: Cut) -> Cut:
        return replace(unsigned, signature=sign(self._private, chain.cut_message(unsigned)))


class Signers:
    """The installation's signing keys: one signs, the others have signed."""

    def __init__(self, database: Database, keyring: Keyring | None) -> None:
        self._database = database
        self._keyring = keyring

    async def get(self) -> Signer:
        """The key that signs now. Raises SealKeyUnknown, SealBroken."""
        async with self._database.platform() as uow:
            row = await repository.find_signer(uow)
        if row is None:
            fresh = await self._new()
            async with self._database.platform() as uow:
                # Of those who make the first one at once, one does.
                await repository.insert_signer(uow, fresh)
            async with self._database.platform() as uow:
                row = await repository.find_signer(uow)
        assert row is not None
        return Signer(row.key_id, await self._open(row))

    async def rotate(self, tell: Told) -> SigningKey:
        """A fresh key signs from now on. `tell` is called in the unit of work that changes it."""
        fresh = await self._new()
        async with self._database.platform() as uow:
            retired = await repository.retire_signer(uow)
            if await repository.insert_signer(uow, fresh):
                await tell(uow, retired, fresh.key_id)
        return (await self.list_keys())[0]

    async def list_keys(self) -> list[SigningKey]:
        async with self._database.platform() as uow:
            return await repository.list_keys(uow)

    async def _new(self) -> SealedKey:
        pair = new_key_pair()
        key_id = key_id_of(pair.public)
        sealed = await seal_apart(self._ring(), pair.private, context=_context(key_id))
        return SealedKey(key_id, pair.public, sealed.key_id, sealed.wrapped_key, sealed.sealed)

    def _ring(self) -> Keyring:
        if self._keyring is None:
            raise KeyringFailed("This process holds no key ring, and can't sign.", code="keyring_missing")
        return self._keyring

    async def _open(self, row: SealedKey) -> bytes:
        sealed = Sealed(row.seal_key_id, row.wrapped_key, row.sealed)
        return await unseal_apart(self._ring(), sealed, context=_context(row.key_id))


def _context(key_id: str) -> SealContext:
    return SealContext("platform", "audit_signing_keys", "sealed", key_id, 1)
