"""Takes a rotation from stage to stage. Killed anywhere, the next worker goes on from what the rows say.

At each instant the store's current credential is one that worked: the old one until the new one has passed the probe,
and then the new one, while the old one is kept for a grace. A key made at the provider has its row first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final
from uuid import UUID

import structlog

from simples3dms.audit.service import record
from simples3dms.context import WORKER
from simples3dms.crypto.sealing import SealContext
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.errors import Failure
from simples3dms.keys.service import notify
from simples3dms.kit.failpoints import fp
from simples3dms.kit.leases import LeaseLost, require_lease
from simples3dms.kit.secret import Secret
from simples3dms.kit.streams import heartbeat
from simples3dms.providers.errors import ProviderError
from simples3dms.providers.keys import HeldKey, KeyManagement
from simples3dms.storage.credentials import repository as credentials_repository
from simples3dms.storage.credentials.service import Credentials
from simples3dms.storage.rotations import errors, repository
from simples3dms.storage.rotations.values import Rotation
from simples3dms.storage.stores.errors import explain
from simples3dms.storage.stores.service import Stores
from simples3dms.storage.stores.values import Store

log = structlog.get_logger(__name__)

#: Attempts at one stage before the new credential is given up.
_ATTEMPTS: Final = 8
#: Attempts at taking a key back before a person is asked.
_CLEANING_ATTEMPTS: Final = 20
_PAUSE_SECONDS: Final = 2.0
_LONGEST_PAUSE_SECONDS: Final = 3600.0
_SOON_SECONDS: Final = 86_400.0
#: A provider may need a moment before a key that it has just made is known everywhere.
_NOT_YET_KNOWN: Final = frozenset({"store_credential_refused", "store_access_denied", "store_clock_skew"})


class _ClaimLost(Exception):
    """Somebody else decides about the rotation now."""


class RotationEngine:
    """Any number of workers may be asked to advance the same rotation: one does, under a lease and a fence."""

    def __init__(self, database: Database, credentials: Credentials, stores: Stores, *, lease_seconds: float) -> None:
        self._database = database
        self._credentials = credentials
        self._stores = stores
        self._lease_seconds = lease_seconds
        self._steps: dict[str, Callable[[Rotation, Store], Awaitable[None]]] = {
            "making": self._make,
            "staged": self._try_and_switch,
            "switched": self._end_grace,
            "retiring": self._retire,
            "undoing": self._undo,
        }

    async def advance(self, rotation_id: UUID) -> None:
        """Go on as far as it goes now. What is left is due later, and the watchdog asks again."""
        while True:
            async with self._database.platform() as uow:
                claimed = await repository.claim(uow, rotation_id, lease_seconds=self._lease_seconds)
            if claimed is None:
                return
            await fp("rotate.claimed")
            store = await self._stores.find_anyones(str(claimed.store_id))
            try:
                async with self._kept(claimed):
                    await self._steps[claimed.state](claimed, store)
            except (_ClaimLost, LeaseLost):
                return
            except ProviderError as error:
                await self._failed(claimed, explain(error))
            except Failure as failure:
                await self._failed(claimed, failure)

    @asynccontextmanager
    async def _kept(self, rotation: Rotation) -> AsyncIterator[None]:
        async def beat() -> bool:
            async with self._database.platform() as uow:
                return await repository.prolong(uow, rotation, lease_seconds=self._lease_seconds)

        async with heartbeat(beat, lease_seconds=self._lease_seconds):
            yield

    async def _failed(self, rotation: Rotation, failure: Failure) -> None:
        """Try again later, or take the new credential back; what is to be cleaned is tried for long."""
        log.warning("rotation.waits", store=str(rotation.store_id), state=rotation.state, code=failure.problem_code)
        error = (failure.problem_code, failure.message)
        cleans = rotation.state in ("retiring", "undoing", "switched")
        again = failure.retryable or cleans or (rotation.is_made and failure.problem_code in _NOT_YET_KNOWN)
        pause = min(_PAUSE_SECONDS * 2 ** min(rotation.attempt, 20), _LONGEST_PAUSE_SECONDS)
        async with self._database.platform() as uow:
            if again and rotation.attempt < (_CLEANING_ATTEMPTS if cleans else _ATTEMPTS):
                # Why it is being undone stays: it says whether it failed or was taken back.
                why = None if rotation.state == "undoing" else error
                await repository.postpone(uow, rotation, seconds=pause, error=why)
            elif cleans:
                await repository.move(uow, rotation, "needs_attention", error=error)
            else:
                await repository.move(uow, rotation, "undoing", error=error)

    # --- making: a key at the provider ------------------------------------------------------------------------------

    async def _make(self, rotation: Rotation, store: Store) -> None:
        async with self._management(store) as keys:
            held = await keys.list_keys()
            await self._remove_leftovers(keys, rotation, held)
            async with self._database.platform() as uow:
                if not await repository.intend(uow, rotation, [key.key_id for key in held]):
                    raise _ClaimLost
            await fp("rotate.intended")
            require_lease()
            made = await keys.make_key(rotation.key_name)
            await fp("rotate.made")
            sealed = await self._credentials.seal(
                store.id, made.credential, version=rotation.to_version, state="staged"
            )
            row = replace(sealed, provider_key_id=made.key_id, expires_at=made.expires_at)
            try:
                async with self._database.platform() as uow:
                    if not await repository.move(uow, rotation, "staged"):
                        raise _ClaimLost
                    await self._credentials.insert(uow, store.id, row)
                    await fp("rotate.in_stage_txn")
            except _ClaimLost:
                await keys.delete_key(made.key_id)
                raise
        await fp("rotate.staged")

    async def _remove_leftovers(self, keys: KeyManagement, rotation: Rotation, held: list[HeldKey]) -> None:
        """Keys that an attempt before made, and nobody wrote down: by their name, or because they are new."""
        for key in held:
            is_ours = key.name == rotation.key_name
            if key.name is None and rotation.known_key_ids is not None:
                is_ours = key.key_id not in rotation.known_key_ids
            if is_ours:
                require_lease()
                await keys.disable_key(key.key_id)
                await keys.delete_key(key.key_id)
                log.info("rotation.leftover_removed", store=str(rotation.store_id))

    # --- staged: does the new one work? then switch -----------------------------------------------------------------

    async def _try_and_switch(self, rotation: Rotation, store: Store) -> None:
        fields = await self._open(rotation.store_id, rotation.to_version)
        await self._stores.prove(store, fields)
        await fp("rotate.probed")
        async with self._database.platform() as uow:
            await credentials_repository.lock_store(uow, store.id)
            if not await repository.set_switched(uow, rotation):
                raise _ClaimLost
            switched = await credentials_repository.switch(
                uow, store.id, leave=rotation.from_version, take=rotation.to_version
            )
            if not switched:
                raise errors.too_late()
            await notify(uow)
            await self._record(uow, "credential.switched", rotation, store)
            await fp("rotate.in_switch_txn")
        await fp("rotate.switched")
        self._stores.expire(store.id)

    # --- switched: the grace is over --------------------------------------------------------------------------------

    async def _end_grace(self, rotation: Rotation, _store: Store) -> None:
        async with self._database.platform() as uow:
            if not await repository.move(uow, rotation, "retiring"):
                raise _ClaimLost
        await fp("rotate.retiring")

    # --- retiring: the old one goes, there and here -----------------------------------------------------------------

    async def _retire(self, rotation: Rotation, store: Store) -> None:
        if rotation.deletes_old:
            key_id = await self._provider_key_id(store, rotation.from_version)
            # The same key may have been given once more, with another secret beside it.
            if key_id not in (None, await self._provider_key_id(store, rotation.to_version)):
                assert key_id is not None
                async with self._management(store) as keys:
                    require_lease()
                    await keys.disable_key(key_id)
                    await fp("rotate.old_disabled")
                    require_lease()
                    await keys.delete_key(key_id)
        await fp("rotate.old_gone")
        async with self._database.platform() as uow:
            if not await repository.move(uow, rotation, "done"):
                raise _ClaimLost
            await credentials_repository.delete_unused(uow, store.id, rotation.from_version)
            await self._record(uow, "credential.retired", rotation, store)
            await fp("rotate.in_retire_txn")
        await fp("rotate.done")

    # --- undoing: the new one goes, and the old one stays -----------------------------------------------------------

    async def _undo(self, rotation: Rotation, store: Store) -> None:
        await fp("rotate.undoing")
        if rotation.is_made:
            async with self._management(store) as keys:
                key_id = await self._provider_key_id(store, rotation.to_version)
                if key_id is not None:
                    require_lease()
                    await keys.disable_key(key_id)
                    await keys.delete_key(key_id)
                else:
                    await self._remove_leftovers(keys, rotation, await keys.list_keys())
        await fp("rotate.new_gone")
        async with self._database.platform() as uow:
            state = "rolled_back" if rotation.error_code is None else "failed"
            if not await repository.move(uow, rotation, state):
                raise _ClaimLost
            await credentials_repository.delete_unused(uow, store.id, rotation.to_version)
            await repository.hasten_schedule(uow, store.id, seconds=_SOON_SECONDS)
            await self._record(uow, f"rotation.{state}", rotation, store)

    # --- the rest ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _management(self, store: Store) -> AsyncIterator[KeyManagement]:
        """Signed by the credential that was given for it, else by the store's own. Raises Invalid."""
        own = await self._open(store.id, None)
        async with self._database.platform() as uow:
            manager = await repository.find_manager(uow, store.id)
        signing = own
        if manager is not None:
            context = manager_context(store.id, manager.manager_version)
            signing = _revealed(await self._credentials.unseal_row(manager, context))
        keys = await self._stores.key_management(store, signing, own)
        if keys is None:
            raise errors.no_api(store.kind)
        try:
            yield keys
        finally:
            await keys.close()

    async def _open(self, store_id: UUID, version: int | None) -> dict[str, str]:
        _, fields = await self._credentials.open(store_id, version)
        return _revealed(fields)

    async def _provider_key_id(self, store: Store, version: int) -> str | None:
        async with self._database.platform() as uow:
            row = await credentials_repository.find(uow, store.id, version)
        if row is None:
            return None
        return row.provider_key_id or self._stores.key_id_of(store, await self._open(store.id, version))

    async def _record(self, uow: UnitOfWork, action: str, rotation: Rotation, store: Store) -> None:
        details = {"from_version": rotation.from_version, "to_version": rotation.to_version}
        if rotation.error_code is not None:
            details["error_code"] = rotation.error_code  # type: ignore[assignment]
        await record(
            uow,
            WORKER,
            action,
            target_type="store",
            target_id=str(store.id),
            tenant_id=store.owner_tenant_id,
            details=details,
        )


def manager_context(store_id: UUID, version: int) -> SealContext:
    """Where the credential that signs key management is sealed."""
    return SealContext("platform", "rotation_schedules", "sealed", str(store_id), version)


def _revealed(fields: dict[str, Secret]) -> dict[str, str]:
    return {name: value.reveal() for name, value in fields.items()}
