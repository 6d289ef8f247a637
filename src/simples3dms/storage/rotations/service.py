"""Rotations: begin, look at, finish and take back; a schedule; and what is known of a store's credential."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from simples3dms.audit.service import record
from simples3dms.context import WORKER, Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.errors import NotFound
from simples3dms.identity.service import require_operator
from simples3dms.jobqueue.app import JobQueue
from simples3dms.keys.service import hold_key, notify
from simples3dms.kit.ids import new_id
from simples3dms.kit.secret import Secret
from simples3dms.storage.credentials import repository as credentials_repository
from simples3dms.storage.credentials.service import Credentials, under_way
from simples3dms.storage.credentials.values import CredentialRow
from simples3dms.storage.rotations import errors, repository
from simples3dms.storage.rotations.engine import RotationEngine, manager_context
from simples3dms.storage.rotations.values import CredentialStatus, ManagerRow, Rotation, Schedule, StoreCredential
from simples3dms.storage.stores.probing import permit
from simples3dms.storage.stores.service import Stores
from simples3dms.storage.stores.values import Store

log = structlog.get_logger(__name__)

_TRIES: Final = 20
_WARN_DAYS: Final = 14.0
#: How often it is looked at what a worker makes of a rotation that was just asked for: for half a minute.
_LOOKS: Final = 300
_LOOK_SECONDS: Final = 0.1


class Rotations:
    """The rotations of all stores' credentials.

    `owner`: the tenant that brought the store, whose own members may then ask. None: a store of the platform, for
    operators.
    """

    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        credentials: Credentials,
        stores: Stores,
        *,
        lease_seconds: float,
        grace_seconds: float = 86_400,
        settle_seconds: float = 60,
    ) -> None:
        """`grace_seconds`: how long the old credential is kept after a switch. `settle_seconds`: by when every process
        has turned to another credential, told or not."""
        self._database = database
        self._queue = queue
        self._credentials = credentials
        self._stores = stores
        self._grace_seconds = grace_seconds
        self._settle_seconds = settle_seconds
        self.engine = RotationEngine(database, credentials, stores, lease_seconds=lease_seconds)

    async def start(
        self,
        principal: Principal,
        name: str,
        credential: Mapping[str, Secret | str] | None = None,
        *,
        deletes_old: bool | None = None,
        grace_seconds: float | None = None,
        expires_at: datetime | None = None,
        owner: UUID | None = None,
    ) -> Rotation:
        """Rotate a store's credential: to this one, or to one that is made at the provider.

        It is taken as far as it goes now. The store works with the old one unless and until the new one has passed the
        probe. `deletes_old`: at the provider, too; if not said, only a key that we made there. Raises Invalid
        (`credential_invalid`, `key_management_missing`, `rotation_grace_too_short`), Conflict (`rotation_under_way`),
        NotFound (`store_not_found`). What the probe finds is in the rotation's `error_code`.
        """
        permit(principal, owner)
        store = await self._stores.get_store(name, owner=owner)
        grace = self._grace_seconds if grace_seconds is None else grace_seconds
        if grace < self._settle_seconds:
            raise errors.grace_too_short(self._settle_seconds)
        fields = None if credential is None else self._stores.checked_credential(store, credential)
        if fields is None or deletes_old:
            await self._require_management(store, fields)
        begun = await self._begin(principal, store, fields, deletes_old, grace, expires_at)
        await self.engine.advance(begun)
        return await self._get_settled(name, owner)

    async def _get_settled(self, name: str, owner: UUID | None) -> Rotation:
        """A rotation that was just begun, after its first steps: a worker may have been quicker to begin with them."""
        for _ in range(_LOOKS):
            rotation = await self.get(name, owner=owner)
            if rotation.state not in ("making", "staged") or rotation.error_code is not None:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        return rotation

    async def _begin(
        self,
        principal: Principal,
        store: Store,
        fields: Mapping[str, str] | None,
        deletes_old: bool | None,
        grace: float,
        expires_at: datetime | None,
    ) -> UUID:
        for _ in range(_TRIES):
            sealed: CredentialRow | None = None
            if fields is not None:
                # Outside the transaction: the version that it is bound to is compared again in it.
                sealed = replace(await self._credentials.seal(store.id, fields, state="staged"), expires_at=expires_at)
            async with self._database.platform() as uow:
                await credentials_repository.lock_store(uow, store.id)
                version = await credentials_repository.next_version(uow, store.id)
                if sealed is not None and sealed.version != version:
                    continue
                return await self._insert(uow, principal, store, version, sealed, deletes_old, grace)
        raise under_way()

    async def _insert(
        self,
        uow: UnitOfWork,
        principal: Principal,
        store: Store,
        version: int,
        sealed: CredentialRow | None,
        deletes_old: bool | None,
        grace: float,
    ) -> UUID:
        current = await credentials_repository.find(uow, store.id)
        if current is None:
            raise NotFound("This store has no credential.", code="credential_not_found")
        rotation_id = new_id()
        begun = await repository.insert(
            uow,
            rotation_id,
            store.id,
            versions=(current.version, version),
            is_made=sealed is None,
            key_name=f"simples3dms-{rotation_id}",
            deletes_old=current.provider_key_id is not None if deletes_old is None else deletes_old,
            grace_seconds=grace,
        )
        if not begun:
            raise under_way()
        if sealed is not None:
            await self._credentials.insert(uow, store.id, sealed)
        await self._record(uow, principal, "rotation.started", store, version=version, made=sealed is None)
        await self.defer(uow, rotation_id)
        return rotation_id

    async def _require_management(self, store: Store, fields: Mapping[str, str] | None) -> None:
        _, opened = await self._credentials.open(store.id)
        own = fields or {name: value.reveal() for name, value in opened.items()}
        keys = await self._stores.key_management(store, own, own)
        if keys is None:
            raise errors.no_api(store.kind)
        await keys.close()

    async def defer(self, uow: UnitOfWork, rotation_id: UUID) -> None:
        await self._queue.defer(uow, "rotation.advance", once=f"rotation:{rotation_id}", rotation_id=rotation_id)

    async def get(self, name: str, *, owner: UUID | None = None) -> Rotation:
        """The newest rotation of a store. Raises NotFound (`store_not_found`, `rotation_not_found`)."""
        store = await self._stores.get_store(name, owner=owner)
        async with self._database.platform() as uow:
            found = await repository.find_newest(uow, store.id)
        if found is None:
            raise errors.not_found()
        return found

    async def roll_back(self, principal: Principal, name: str, *, owner: UUID | None = None) -> Rotation:
        """Go back to the old credential while it is there; the new one is taken back a little later.

        Raises Conflict (`rotation_too_late`), NotFound.
        """
        permit(principal, owner)
        store = await self._stores.get_store(name, owner=owner)
        async with self._database.platform() as uow:
            await credentials_repository.lock_store(uow, store.id)
            found = await repository.find_newest(uow, store.id)
            if found is None:
                raise errors.not_found()
            if found.state == "undoing":
                return found
            if found.state not in ("making", "staged", "switched"):
                raise errors.too_late()
            seconds = 0.0
            if found.state == "switched":
                # The new key is left alone until nobody can be signing with it any more.
                seconds = self._settle_seconds
                switch = {"leave": found.to_version, "take": found.from_version}
                if not await credentials_repository.switch(uow, store.id, **switch):
                    raise errors.too_late()
            await repository.undo_by_hand(uow, found, seconds=seconds)
            await notify(uow)
            await self._record(uow, principal, "rotation.taken_back", store, version=found.to_version)
            await self.defer(uow, found.id)
        self._stores.expire(store.id)
        return await self.get(name, owner=owner)

    async def finish(self, principal: Principal, name: str, *, owner: UUID | None = None) -> Rotation:
        """End the grace: the old credential goes as soon as every process has turned.

        Raises Conflict (`rotation_not_switched`), NotFound.
        """
        permit(principal, owner)
        store = await self._stores.get_store(name, owner=owner)
        async with self._database.platform() as uow:
            await credentials_repository.lock_store(uow, store.id)
            found = await repository.find_newest(uow, store.id)
            if found is None:
                raise errors.not_found()
            if found.state != "switched":
                raise errors.not_switched()
            await repository.end_grace(uow, found, least_seconds=self._settle_seconds)
            await self._record(uow, principal, "rotation.grace_ended", store, version=found.to_version)
        return await self.get(name, owner=owner)

    async def set_schedule(
        self,
        principal: Principal,
        name: str,
        *,
        every_days: float | None,
        deletes_old: bool = False,
        manager: Mapping[str, Secret | str] | None = None,
    ) -> Schedule:
        """Rotate a store's credential by itself, every so many days; None: no more. For operators.

        `manager`: a credential that signs key management, where the store's own may not. Raises Invalid
        (`key_management_missing`, `credential_invalid`), NotFound.
        """
        require_operator(principal)
        store = await self._stores.get_store(name)
        await self._require_management(store, None)
        row, mark = None, None
        if manager is not None:
            row, mark = await self._sealed_manager(store, manager)
        async with self._database.platform() as uow:
            await credentials_repository.lock_store(uow, store.id)
            seconds = None if every_days is None else every_days * 86_400
            await repository.save_schedule(uow, store.id, every_seconds=seconds, deletes_old=deletes_old)
            if row is not None:
                await hold_key(uow, self._credentials.keyring, row.key_id)
                await repository.save_manager(uow, store.id, row, mark)
            await self._record(uow, principal, "rotation.scheduled", store, every_days=every_days)
            saved = await repository.find_schedule(uow, store.id)
        assert saved is not None
        return saved

    async def _sealed_manager(self, store: Store, manager: Mapping[str, Secret | str]) -> tuple[ManagerRow, str | None]:
        fields = self._stores.checked_credential(store, manager)
        async with self._database.platform() as uow:
            found = await repository.find_schedule(uow, store.id)
        version = 1 if found is None else found.manager_version + 1
        sealed = await self._credentials.seal(
            store.id, fields, version=version, context=manager_context(store.id, version)
        )
        return ManagerRow(version, sealed.key_id, sealed.wrapped_key, sealed.sealed), sealed.fingerprint

    async def start_due(self, store_id: UUID) -> None:
        """The scheduled rotation of a store. Any number of workers may call it at once."""
        store = await self._stores.get_store(str(store_id))
        async with self._database.platform() as uow:
            await credentials_repository.lock_store(uow, store_id)
            due = await repository.claim_schedule(uow, store_id)
            if due is None or await credentials_repository.is_rotating(uow, store_id):
                return
            version = await credentials_repository.next_version(uow, store_id)
            deletes_old = True if due.deletes_old else None
            rotation_id = await self._insert(uow, WORKER, store, version, None, deletes_old, self._grace_seconds)
        await self.engine.advance(rotation_id)

    async def get_credential(self, name: str) -> StoreCredential:
        """What is known of a store's credential; never itself. Raises NotFound (`store_not_found`)."""
        store = await self._stores.get_store(name)
        async with self._database.platform() as uow:
            rows = await credentials_repository.list_versions(uow, store.id)
            rotation = await repository.find_newest(uow, store.id)
            schedule = await repository.find_schedule(uow, store.id)
        versions = [CredentialStatus(r.version, r.state, r.fingerprint, r.expires_at, r.key_id) for r in rows]
        return StoreCredential(versions, rotation, schedule)

    async def warn_of_expiry(self) -> None:
        """Log each credential that expires soon, once a day."""
        async with self._database.platform() as uow:
            expiring = await credentials_repository.claim_expiry_warnings(uow, days=_WARN_DAYS)
        for one in expiring:
            log.warning("store.key_expires", store=one.store, expires_at=one.expires_at.isoformat())

    async def _record(
        self, uow: UnitOfWork, principal: Principal, action: str, store: Store, **details: object
    ) -> None:
        await record(
            uow,
            principal,
            action,
            target_type="store",
            target_id=str(store.id),
            tenant_id=store.owner_tenant_id,
            details=details,
        )
