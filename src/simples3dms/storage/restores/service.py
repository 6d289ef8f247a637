"""Tell that the database was restored, hold removals back, and let them go on when an operator says so.

Two things give it away. The guard's row tells by itself that it was copied (`repository`). Where files or a machine
were put back whole, the row is as it was; but copies of signed checkpoints lie in the tenants' stores, and one that is
ahead of the records was made by records that are gone. What neither tells (a restore within the hour in which nothing
was signed), a person says: `simples3dms db restored`.
"""

from __future__ import annotations

import json
import time
from typing import Final
from uuid import UUID

import structlog

from simples3dms.audit import chain
from simples3dms.audit.service import Audit, record
from simples3dms.audit.values import Checkpoint
from simples3dms.context import WORKER, Principal
from simples3dms.crypto.signing import is_signed
from simples3dms.db.session import Database
from simples3dms.identity.service import require_operator
from simples3dms.kit.texts import is_line
from simples3dms.providers.base import StorageProvider
from simples3dms.providers.errors import ObjectNotFound
from simples3dms.storage.restores import errors, repository
from simples3dms.storage.restores.values import Guard, Mark

log = structlog.get_logger(__name__)

_RESTORED: Final = (
    "The database was restored from a backup, or moved: its records may be older than what lies in stores."
)
#: For how long a place without a later checkpoint is taken for that.
_SEEN_SECONDS: Final = 600.0
_MOST_SEEN: Final = 10_000
_MOST_LISTED: Final = 1000
_LONGEST_CHECKPOINT: Final = 10_000


class RestoreGuard:
    """Asked by whoever is about to remove something from a store, right before."""

    def __init__(self, database: Database, audit: Audit) -> None:
        self._database = database
        self._audit = audit
        self._seen_until: dict[tuple[UUID, UUID], float] = {}

    async def get(self) -> Guard:
        """What holds removals back, if anything does; a restore that nobody has noticed yet is noted by this."""
        guard = await repository.find(self._database)
        if guard is None:
            async with self._database.platform() as uow:
                await repository.insert(uow)
        elif guard.is_same:
            return guard
        else:
            await self._hold(WORKER, "restore.found", _RESTORED, unless_same=True)
        found = await repository.find(self._database)
        assert found is not None
        return found

    async def is_held(self) -> bool:
        guard = await self.get()
        return guard.held_at is not None or not guard.is_same

    async def refuse(self) -> None:
        """Raise Unavailable (`restore_unconfirmed`) while removals are held back."""
        if await self.is_held():
            raise errors.unconfirmed()

    async def declare(self, principal: Principal, reason: str) -> Guard:
        """Somebody says that the database was restored. Raises Invalid (`reason_invalid`)."""
        require_operator(principal)
        if not is_line(reason):
            raise errors.reason_invalid()
        await self.get()
        await self._hold(principal, "restore.declared", reason)
        return await self.get()

    async def confirm(self, principal: Principal) -> Guard:
        """Let removals go on: by these records, whatever they are older than. Raises Conflict (`restore_not_held`)."""
        require_operator(principal)
        await self.get()
        async with self._database.platform() as uow:
            guard = await repository.lock(uow)
            if guard is None or guard.held_at is None:
                raise errors.not_held()
            await repository.confirm(uow, name=principal.name)
            details = {"held_at": guard.held_at.isoformat(), "reason": guard.held_reason}
            await record(
                uow, principal, "restore.confirmed", target_type="platform", target_id="restore", details=details
            )
        self._seen_until.clear()
        return await self.get()

    async def _hold(self, principal: Principal, action: str, reason: str, *, unless_same: bool = False) -> None:
        async with self._database.platform() as uow:
            guard = await repository.lock(uow)
            if guard is None or (unless_same and guard.is_same):
                return
            await repository.hold(uow, reason)
            await record(
                uow, principal, action, target_type="platform", target_id="restore", details={"reason": reason}
            )
        log.error("restore.held", reason=reason)

    async def is_behind(self, provider: StorageProvider, tenant_id: UUID, store_id: UUID) -> bool:
        """Whether a tenant's place in a store shows that the records were further once. Raises ProviderError.

        One that is signed by a key of ours holds all removals back; one that anybody may have put there, in this place.
        """
        place = (tenant_id, store_id)
        if time.monotonic() < self._seen_until.get(place, 0.0):
            return False
        async with self._database.platform() as uow:
            mark = await repository.find_mark(uow, tenant_id, store_id)
        later = None if mark is None else await self._find_later(provider, mark)
        if later is None:
            if len(self._seen_until) > _MOST_SEEN:
                self._seen_until.clear()
            self._seen_until[place] = time.monotonic() + _SEEN_SECONDS
            return False
        log.error("restore.later_checkpoint", tenant=str(tenant_id), store=str(store_id), seq=later.seq)
        await self._hold_by(later)
        return True

    async def is_contradicted(self, provider: StorageProvider, key: str, checkpoint: Checkpoint) -> bool:
        """Whether another checkpoint of this number was copied to a store by records that are gone.

        To be asked before it is written over, which is right once a restore was confirmed. Raises ProviderError.
        """
        try:
            there = await _read(provider, key)
        except ObjectNotFound:
            return False
        is_other = there is not None and there.tenant_id == checkpoint.tenant_id and there.seq == checkpoint.seq
        if there is None or not is_other or there.hash == checkpoint.hash or await self._is_confirmed(there):
            return False
        return await self._hold_by(there)

    async def _hold_by(self, later: Checkpoint) -> bool:
        """Hold all removals back if a key of ours has signed it; whether one has."""
        keys = {key.key_id: key.public_key for key in await self._audit.list_keys()}
        public = keys.get(later.key_id)
        if public is None or not is_signed(public, chain.checkpoint_message(later), later.signature):
            return False
        reason = f"A store holds checkpoint {later.seq} of a tenant's audit as the records don't: they are older."
        await self._hold(WORKER, "restore.found", reason)
        return True

    async def _is_confirmed(self, later: Checkpoint) -> bool:
        guard = await self.get()
        return guard.confirmed_at is not None and later.at <= guard.confirmed_at

    async def _find_later(self, provider: StorageProvider, mark: Mark) -> Checkpoint | None:
        """The copy of a checkpoint that is ahead of the records, and was not there when a restore was confirmed."""
        # What is listed comes in the store's own order: the greatest of them is looked for.
        last, listed = "", 0
        async for info in provider.list(f"{mark.prefix}audit/", start_after=key_of(mark.prefix, mark.seq)):
            listed += 1
            if info.key > key_of(mark.prefix, mark.seq):
                last = max(last, info.key)
            if listed >= _MOST_LISTED:
                break
        if not last:
            return None
        later = await _read(provider, last)
        if later is None or later.tenant_id != mark.tenant_id or later.seq <= mark.seq:
            return None
        return None if await self._is_confirmed(later) else later


async def _read(provider: StorageProvider, key: str) -> Checkpoint | None:
    """The checkpoint at a key; None for anything else. Raises ObjectNotFound."""
    body = bytearray()
    async with provider.open(key, length=_LONGEST_CHECKPOINT) as reader:
        async for chunk in reader:
            body += chunk
    try:
        return chain.parse_checkpoint(json.loads(body))
    except (ValueError, RecursionError):
        return None


def key_of(prefix: str, seq: int) -> str:
    """Where the copy of a checkpoint lies: below the tenant's prefix, in the order of the numbers."""
    return f"{prefix}audit/checkpoint-{seq:020d}.json"
