"""Keys: are they the right ones, which of them seals, change to another, and let an old one go."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.crypto import keyring_file
from simples3dms.crypto.errors import KeyServiceRefused
from simples3dms.crypto.keyring import Keyring
from simples3dms.crypto.wrapping import KEY_BYTES
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.jobqueue.app import JobQueue
from simples3dms.keys import errors, repository
from simples3dms.keys.engine import RewrapEngine, list_broken
from simples3dms.keys.values import SEALED_COLUMNS, Broken, KeyStatus, Rewrap, SealedColumn
from simples3dms.kit.failpoints import fp
from simples3dms.kit.ids import new_id

#: On which processes are told that what they hold in memory may be out of date.
CHANNEL: Final = repository.CHANNEL
#: Sealed rows are counted up to this many a table.
COUNTED: Final = 100_000


class Keys:
    """The key-encrypting keys of the installation. Their bytes are in the key ring, or with a service."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        queue: JobQueue,
        *,
        file: Path | None,
        lease_seconds: float = 60,
        columns: Sequence[SealedColumn] = SEALED_COLUMNS,
    ) -> None:
        """`file`: the key ring's; None where it comes from the environment and can't be written."""
        self._database = database
        self._keyring = keyring
        self._queue = queue
        self._file = file
        self._columns = columns
        self.engine = RewrapEngine(database, keyring, columns, lease_seconds=lease_seconds)

    async def check_start(self) -> None:
        """Refuse to run with a key ring that can't open everything, or that holds other keys under the same ids.

        Raises Unavailable (`keyring_incomplete`, `keyring_differs`). The first start of all writes down what it has.
        """
        async with self._database.platform() as uow:
            await repository.lock(uow)
            known = {key.key_id: key for key in await repository.list_keys(uow)}
            needed = set(known) | set(await repository.list_named(uow, self._columns))
            missing = sorted(needed - set(self._keyring.ids))
            if missing:
                raise errors.incomplete(missing)
            prints = {key_id: self._keyring.get_key(key_id).fingerprint for key_id in known}
            wrong = sorted(id_ for id_, key in known.items() if key.fingerprint not in (None, prints[id_]))
            if wrong:
                raise errors.differs(wrong)
            for key_id in known:
                await repository.fill_fingerprint(uow, key_id, prints[key_id])
            if not any(key.is_primary for key in known.values()):
                primary = self._keyring.get_key(self._keyring.primary_id)
                await repository.set_primary(uow, primary.key_id, primary.fingerprint)
        await self.refresh()

    async def refresh(self) -> None:
        """Seal under the key that the database calls primary. Raises SealKeyUnknown."""
        async with self._database.platform() as uow:
            primary_id = await repository.find_primary(uow)
        if primary_id is not None:
            self._keyring.choose(primary_id)

    async def list_broken(self) -> list[Broken]:
        """Every sealed row that does not open under the key that it names."""
        return await list_broken(self._database, self._keyring, self._columns)

    async def list_keys(self) -> list[KeyStatus]:
        """The keys of the ring and of the database, by id."""
        self._keyring.refresh()
        async with self._database.platform() as uow:
            known = {key.key_id: key for key in await repository.list_keys(uow)}
            named = set(await repository.list_named(uow, self._columns))
            ids = sorted({*known, *named, *self._keyring.ids})
            counts = await repository.count_sealed(uow, self._columns, ids, limit=COUNTED)
        return [self._status(id_, known[id_].is_primary if id_ in known else False, counts[id_]) for id_ in ids]

    def _status(self, key_id: str, is_primary: bool, count: int) -> KeyStatus:
        held = key_id in self._keyring.ids
        place = self._keyring.get_key(key_id).place if held else "missing"
        return KeyStatus(key_id, place, is_primary, held, bool(is_primary or count), count)

    async def add(self, description: Mapping[str, str] | None = None, *, key_id: str | None = None) -> str:
        """Put a key into the key ring's file, to be carried to all machines before it is used; its id.

        `description`: where a service keeps it (`kind`, `key`, ...); None makes a fresh one. Raises KeyringFailed,
        Invalid (`keyring_read_only`, `key_invalid`), Conflict (`key_exists`).
        """
        if self._file is None:
            raise errors.not_a_file()
        made = await asyncio.to_thread(keyring_file.add_key, self._file, key_id, description)
        self._keyring.refresh()
        return made

    async def rotate(self, principal: Principal, key_id: str | None = None) -> Rewrap:
        """Seal what is new under another key (a fresh one where none is named), and begin to bring all rows under it.

        Processes that run take it up by themselves. Raises NotFound (`key_not_found`), Conflict (`rewrap_running`), and
        what the key's service does: a key that does not wrap and unwrap never becomes the primary one.
        """
        if key_id is None:
            key_id = await self.add()
        self._keyring.refresh()
        if key_id not in self._keyring.ids:
            raise errors.key_unknown(key_id)
        await fp("rewrap.key_known")
        fingerprint = await asyncio.to_thread(self._try, key_id)
        async with self._database.platform() as uow:
            await repository.lock(uow)
            known = {key.key_id: key.fingerprint for key in await repository.list_keys(uow)}
            if known.get(key_id) not in (None, fingerprint):
                raise errors.differs([key_id])
            await repository.set_primary(uow, key_id, fingerprint)
            named = [id_ for id_ in await repository.list_named(uow, self._columns) if id_ != key_id]
            counts = await repository.count_sealed(uow, self._columns, named, limit=COUNTED)
            rewrap_id = new_id()
            if not await repository.insert_rewrap(uow, rewrap_id, key_id, total_count=sum(counts.values())):
                raise errors.running()
            await record(uow, principal, "key.rotated", target_type="key", target_id=key_id)
            await self.defer_rewrap(uow, rewrap_id)
            await repository.notify(uow)
            await fp("rewrap.in_start_txn")
        self._keyring.choose(key_id)
        if self._file is not None:
            await asyncio.to_thread(keyring_file.set_primary, self._file, key_id)
        return await self.get_rewrap(rewrap_id)

    def _try(self, key_id: str) -> bytes:
        """Its fingerprint, once it has been seen to wrap and unwrap. Blocks."""
        wrapper, data_key = self._keyring.get_key(key_id), secrets.token_bytes(KEY_BYTES)
        try:
            works = wrapper.unwrap(wrapper.wrap(data_key, b"trial"), b"trial") == data_key
        except ValueError:
            works = False
        if not works:
            raise KeyServiceRefused(key_id, "what it wrapped does not open")
        return wrapper.fingerprint

    async def defer_rewrap(self, uow: UnitOfWork, rewrap_id: UUID) -> None:
        await self._queue.defer(uow, "key.rewrap", once=f"rewrap:{rewrap_id}", rewrap_id=rewrap_id)

    async def catch_up(self) -> None:
        """Bring rows under the primary key whose writers had sealed them before they heard of a change. For the
        watchdog."""
        async with self._database.platform() as uow:
            # Beside a rotation that is just being asked for there would be two at once.
            await repository.lock(uow)
            newest = await repository.find_rewrap(uow)
            if newest is None or newest.state == "running":
                return
            others = [id_ for id_ in await repository.list_named(uow, self._columns) if id_ != newest.key_id]
            counts = await repository.count_sealed(uow, self._columns, others, limit=COUNTED)
            left = sum(counts.values())
            if left <= newest.broken_count:
                # What was broken may have been entered anew since: a row that comes late then is one too many again.
                await repository.lower_broken(uow, newest.id, left)
                return
            if await repository.reopen_rewrap(uow, newest.id):
                await self.defer_rewrap(uow, newest.id)

    async def get_rewrap(self, rewrap_id: UUID | None = None) -> Rewrap:
        """That one, or the newest. Raises NotFound (`rewrap_not_found`)."""
        async with self._database.platform() as uow:
            found = await repository.find_rewrap(uow, rewrap_id)
        if found is None:
            raise errors.not_started()
        return found

    async def retire(self, principal: Principal, key_id: str) -> None:
        """Forget a key that no sealed row names any more: in the database first, then in the key ring's file.

        Again is no error. Raises Conflict (`key_in_use`, `key_is_primary`), NotFound (`key_not_found`), Invalid
        (`keyring_read_only`).
        """
        if self._file is None:
            raise errors.not_a_file()
        async with self._database.platform() as uow:
            await repository.lock(uow)
            known = {key.key_id: key for key in await repository.list_keys(uow)}
            counts = await repository.count_sealed(uow, self._columns, [key_id], limit=COUNTED)
            if key_id in known and known[key_id].is_primary:
                raise errors.is_primary(key_id)
            if counts[key_id]:
                raise errors.in_use(key_id, counts[key_id])
            if key_id not in known and key_id not in self._keyring.ids:
                raise errors.key_unknown(key_id)
            if key_id in known:
                # A unit of work that is about to name it waits for this one, and is refused then.
                await repository.delete(uow, key_id)
                await record(uow, principal, "key.retired", target_type="key", target_id=key_id)
            await fp("rewrap.in_retire_txn")
        await fp("rewrap.retired")
        await asyncio.to_thread(keyring_file.remove_key, self._file, key_id)
        self._keyring.refresh()


async def notify(uow: UnitOfWork) -> None:
    """Tell all processes, when the unit of work commits, to look at what they hold in memory."""
    await repository.notify(uow)


async def choose_primary(uow: UnitOfWork, keyring: Keyring) -> None:
    """Before something is sealed: have the key ring seal under the key that the database calls primary."""
    primary_id = await repository.find_primary(uow)
    if primary_id is not None:
        keyring.choose(primary_id)


async def hold_key(uow: UnitOfWork, keyring: Keyring, key_id: str) -> None:
    """In the unit of work that writes a sealed value: its key stays until that ends.

    Raises Unavailable (`seal_key_retired`): the value has to be sealed anew.
    """
    await repository.insert_first(uow, key_id, keyring.get_key(key_id).fingerprint)
    if not await repository.hold(uow, key_id):
        raise errors.key_retired()
