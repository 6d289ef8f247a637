"""Blobs: write one, read one from whichever replica is good, remove what the records say should go."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import structlog

from simples3dms.db.session import Database, UnitOfWork
from simples3dms.errors import Failure, Unavailable
from simples3dms.jobqueue.app import JobQueue
from simples3dms.kit.ids import new_id
from simples3dms.kit.streams import LeaseLost, heartbeat
from simples3dms.providers.base import Body, Expected, StorageProvider
from simples3dms.providers.errors import (
    IntegrityError,
    ObjectNotFound,
    ProviderError,
    StoreUnavailable,
)
from simples3dms.providers.layers.ratelimit import share_as
from simples3dms.storage.blobs import repository
from simples3dms.storage.blobs.engine import Reading, ReadPlan, Surroundings
from simples3dms.storage.blobs.hedging import Hedges
from simples3dms.storage.blobs.latencies import Latencies
from simples3dms.storage.blobs.looking import confirm_place
from simples3dms.storage.blobs.removing import Removals
from simples3dms.storage.blobs.values import (
    CACHED,
    Blob,
    ReadReason,
    Replica,
    WriteTicket,
    Written,
    as_replica,
)
from simples3dms.storage.caches.service import Caches
from simples3dms.storage.locks.service import Locks
from simples3dms.storage.placement import repository as placement_repository
from simples3dms.storage.placement.router import order_for_reading
from simples3dms.storage.placement.values import Grant, Policy, ReadPlace, ReadPreference, Standing, Subject
from simples3dms.storage.placement.words import read_reason
from simples3dms.storage.restores.service import RestoreGuard
from simples3dms.storage.stores.errors import explain
from simples3dms.storage.stores.service import Stores
from simples3dms.storage.stores.traits import Whereabouts, distance, egress_price

log = structlog.get_logger(__name__)

#: What `new_ticket` makes.
#: What we name objects below a tenant's prefix: blobs, and the copies of its audit's checkpoints.
_OWN_KEY = re.compile(r"[0-9a-f]{2}/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|audit/checkpoint-[0-9]{20}\.json")


def new_ticket(grant: Grant) -> WriteTicket:
    """A key that was never used and never will be again: the replica's own id under the tenant's prefix."""
    replica_id = new_id()
    # Two random characters fan the objects out over directories (the front of a UUIDv7 is time).
    return WriteTicket(replica_id, grant.store_id, f"{grant.prefix}{replica_id.hex[-2:]}/{replica_id}", fence=1)


class Blobs:
    """Bytes of all tenants, wherever they are."""

    def __init__(
        self,
        database: Database,
        stores: Stores,
        queue: JobQueue,
        locks: Locks,
        restores: RestoreGuard,
        caches: Caches,
        *,
        lease_seconds: float,
        retry_base_seconds: float,
        here: Whereabouts = Whereabouts(),
    ) -> None:
        """`here`: where this server runs, for those who want to read from the nearest store."""
        self._database = database
        self._stores = stores
        self._queue = queue
        self.locks = locks
        self.restores = restores
        self.caches = caches
        self.lease_seconds = lease_seconds
        self.removals = Removals(
            database,
            stores,
            locks,
            restores,
            caches,
            provider=self.provider,
            lease_seconds=lease_seconds,
            retry_base_seconds=retry_base_seconds,
        )
        self._here = here
        self._latencies = Latencies()
        self.hedges = Hedges(self._latencies)

    async def begin_write(self, uow: UnitOfWork, grant: Grant) -> WriteTicket:
        """Record the intent to write a new blob's first replica, before any byte of it."""
        ticket = new_ticket(grant)
        await repository.insert_writing(uow, [(ticket, None)], lease_seconds=self.lease_seconds)
        return ticket

    async def write(
        self,
        tenant_id: UUID,
        ticket: WriteTicket,
        body: Body,
        *,
        size_bytes: int | None,
        sha256: bytes | None,
        content_type: str,
    ) -> Written:
        """Stream the body to the ticket's key, hashing, while its lease is kept alive.

        `size_bytes` and `sha256` are held against what arrives where they are known. Raises Failure, as the store's
        owner would want it explained; whatever the body itself raises comes out as it was.
        """
        share_as(str(tenant_id))
        try:
            provider = await self.provider(ticket.store_id)
            async with self.keep_alive(tenant_id, [ticket]):
                result = await provider.put(
                    ticket.key, body, expected=Expected(size_bytes, sha256), content_type=content_type
                )
            if result.sha256 is None:
                raise IntegrityError("the store's layers did not digest the body", key=ticket.key)
        except ProviderError as error:
            raise explain(error) from error
        return Written(ticket, result.version_id, result.sha256, result.size_bytes)

    @asynccontextmanager
    async def keep_alive(self, tenant_id: UUID, tickets: Sequence[WriteTicket]) -> AsyncIterator[None]:
        """Extend the writes' leases while the block runs; a block whose leases are all lost is cancelled."""

        async def beat() -> bool:
            async with self._database.tenant(tenant_id) as uow:
                return await repository.extend_leases(uow, tickets, lease_seconds=self.lease_seconds) > 0

        try:
            async with heartbeat(beat, lease_seconds=self.lease_seconds):
                yield
        except LeaseLost:
            message = "The write was taken for dead and given up; send it again."
            raise Unavailable(message, code="lease_lost") from None

    async def record_blob(
        self, uow: UnitOfWork, written: Sequence[Written], blob_id: UUID, *, content_type: str
    ) -> None:
        """Make the written bytes a blob with a live replica in each store that has them.

        The caller shares the placement row. The blob's id is older than it: where it is written to depends on it.
        `content_type` is kept for the placement's rules.
        """
        await repository.insert_blob(
            uow, blob_id, digest=written[0].digest, size_bytes=written[0].size_bytes, content_type=content_type
        )
        for one in written:
            if await repository.make_live(uow, one, blob_id):
                continue
            raise Unavailable("The upload took too long and was given up; send it again.", code="lease_lost")

    async def give_up(self, tenant_id: UUID, ticket: WriteTicket, *, is_unsent: bool = False) -> None:
        """Give a write up, and have what it may have left at the store removed, unless it was confirmed after all;
        nothing of one that was never sent."""
        async with self._database.tenant(tenant_id) as uow:
            if is_unsent:
                await repository.forget_unsent(uow, [ticket])
                return
            recorded = await repository.abandon(uow, [ticket], grace_seconds=self.lease_seconds)
            counts = not recorded and await repository.is_counted(uow, ticket.replica_id)
            await self.defer_sweep(uow)
        if not recorded and not counts:
            await self.discard_quietly(ticket)

    async def discard_quietly(self, ticket: WriteTicket) -> None:
        """Remove what a write that does not count may have left: its row may be gone, and nobody else would look."""
        try:
            provider = await self.provider(ticket.store_id)
            await provider.discard(ticket.key)
        except ProviderError as error:
            log.info("write.not_discarded", replica=str(ticket.replica_id), error=error.kind)

    async def defer_sweep(self, uow: UnitOfWork) -> None:
        """Have the tenant's retiring replicas removed soon after this unit of work commits."""
        assert uow.tenant_id is not None
        await self._queue.defer(uow, "replica.sweep", once=f"sweep:{uow.tenant_id}", tenant_id=uow.tenant_id)

    async def plan_read(self, uow: UnitOfWork, blob: Blob) -> ReadPlan:
        """The replicas of a blob in the order that the tenant's placement asks for, those that are doubted last.

        Before them all stands what a cache has of it.
        """
        assert uow.tenant_id is not None
        placement = await placement_repository.find(uow)
        policy = placement.policy if placement else None
        replicas = await repository.list_replicas(uow, [blob.id])
        standings: dict[UUID, Standing] = {}
        subject: Subject | None = None
        if len(replicas) > 1:
            if policy is not None and policy.rules:
                subject = await placement_repository.find_subject(uow, blob.id)
            places = await placement_repository.list_read_places(uow, [replica.store_id for replica in replicas])
            by_time = policy is not None and policy.read_preference is ReadPreference.FASTEST
            standings = self._standings(places, choose=by_time)
        ordered = order_for_reading(policy, replicas, standings, blob=subject)
        caches = [
            place
            for place in await self.caches.list_places(uow, blob.id)
            if not self._stores.is_resting(place.store_id)
        ]
        hit = next((place for place in caches if place.entry_id is not None), None)
        fill = hit or next(iter(caches), None)
        entries = [] if hit is None else [as_replica(hit, blob)]
        return ReadPlan(
            uow.tenant_id,
            blob,
            [*entries, *ordered],
            fill=fill,
            hedge=policy is not None and policy.hedge,
            is_use_old=hit is not None and bool(hit.is_use_old),
        )

    async def explain_read(
        self, uow: UnitOfWork, policy: Policy, replicas: Sequence[Replica], *, blob: Subject
    ) -> list[ReadReason]:
        """The stores in the order that this process would read these replicas in now, with the reasons."""
        places = await placement_repository.list_read_places(uow, [replica.store_id for replica in replicas])
        standings = self._standings(places)
        ordered = order_for_reading(policy, replicas, standings, blob=blob if policy.rules else None)
        return [ReadReason(one.store_id, read_reason(policy, one, standings.get(one.store_id))) for one in ordered]

    def _standings(self, places: Sequence[ReadPlace], *, choose: bool = False) -> dict[UUID, Standing]:
        """`choose`: the first of them is about to be read, so that it may be one that is to be measured again."""
        look = self._latencies.choose if choose else self._latencies.get_all
        measured = look([place.store_id for place in places])
        return {
            place.store_id: Standing(
                place.store_id,
                distance(self._here, place.kind, place.settings, place.jurisdiction),
                egress_price(place.kind, place.settings, place.own_egress),
                measured[place.store_id],
                place.is_disabled or self._stores.is_resting(place.store_id),
            )
            for place in places
        }

    @asynccontextmanager
    async def open(self, plan: ReadPlan, *, start: int = 0, length: int | None = None) -> AsyncIterator[Reading]:
        """Read a blob or a range of it. The first bytes are there on entering, so that a failure can still be told.

        Goes on to the next replica when one fails, also in the middle. A whole read is compared with the digest:
        small blobs before their first byte is handed out, others at the end, where a mismatch raises.
        """
        share_as(str(plan.tenant_id))
        reading = Reading(
            Surroundings(self.provider, self.report_bad, self._plan_again, self._latencies, self.caches, self.hedges),
            plan,
            start,
            plan.blob.size_bytes - start if length is None else length,
        )
        try:
            await reading.begin()
            yield reading
        finally:
            await reading.close()

    async def _plan_again(self, plan: ReadPlan) -> list[Replica]:
        """The replicas as the records have them now: a long read may outlive those that it began with."""
        async with self._database.tenant(plan.tenant_id) as uow:
            return (await self.plan_read(uow, plan.blob)).replicas

    async def provider(self, store_id: UUID) -> StorageProvider:
        """The store's provider. Raises ProviderError, also where this process can't open its credential."""
        try:
            return await self._stores.provider(store_id)
        except Failure as failure:
            raise StoreUnavailable(
                "the store can't be used by this process", vendor_code=failure.problem_code
            ) from failure

    def rest_seconds(self, store_id: UUID) -> float | None:
        """For how long this process leaves the store alone; 0: it is asked once. None: nothing is wrong with it."""
        return self._stores.rest_seconds(store_id)

    async def report_bad(self, tenant_id: UUID, replica: Replica, error: ProviderError) -> None:
        """Take a replica's word back after a read that showed it wrong or gone, and have it copied anew.

        Nothing is taken back where the whole place may be gone: that says nothing of one object. What a cache had wrong
        or has no more is just dropped.
        """
        if replica.state == CACHED:
            async with self._database.tenant(tenant_id) as uow:
                if await self.caches.drop(uow, replica.id):
                    await self.defer_sweep(uow)
            return
        if isinstance(error, ObjectNotFound):
            try:
                await confirm_place(await self.provider(replica.store_id))
            except ProviderError as fault:
                log.warning("store.not_confirmed", store=str(replica.store_id), error=fault.kind)
                return
        state = "missing" if isinstance(error, ObjectNotFound) else "suspect"
        async with self._database.tenant(tenant_id) as uow:
            if not await repository.mark_lost(uow, replica.id, state=state, error=error.kind):
                return
            if await repository.is_trusted(uow, replica.store_id):
                await self.defer_repair(uow, replica.blob_id, replica.store_id)
        log.warning("replica.lost", replica=str(replica.id), store=str(replica.store_id), state=state)

    async def defer_repair(self, uow: UnitOfWork, blob_id: UUID, store_id: UUID) -> None:
        """Have a doubtful replica seen to. The row itself is the record of it: the watchdog asks again until it is."""
        assert uow.tenant_id is not None
        await self._queue.defer(
            uow,
            "blob.repair",
            once=f"repair:{blob_id}:{store_id}",
            tenant_id=uow.tenant_id,
            blob_id=blob_id,
            store_id=store_id,
        )

    async def clear_place(self, tenant_id: UUID, store_id: UUID, prefix: str) -> int:
        """Remove, from the place of a tenant that has no replicas any more, objects that nobody recorded; how many.
        From a place that it brought, its mark goes as well.

        There are none unless a frozen writer woke up late. Only keys of our own making go: what else is there is not
        ours. Raises Failure where the store can't be looked into, and while a restore waits to be confirmed.
        """
        share_as(str(tenant_id))
        await self.restores.refuse()
        try:
            provider = await self.provider(store_id)
            keys = [info.key async for info in provider.list(prefix) if _is_ours(info.key, prefix)]
            keys += [info.key async for info in provider.list_unfinished(prefix) if _is_ours(info.key, prefix)]
            for key in dict.fromkeys(keys):
                await provider.discard(key)
            await self._stores.leave_place(store_id)
        except ProviderError as error:
            raise explain(error) from error
        return len(set(keys))

    async def sweep(self, tenant_id: UUID) -> int:
        """Remove what is retiring from the tenant's stores and caches, and forget it; how many replicas went.

        None of them while a restore waits to be confirmed.
        """
        return await self.removals.sweep(tenant_id)


def _is_ours(key: str, prefix: str) -> bool:
    return _OWN_KEY.fullmatch(key.removeprefix(prefix)) is not None
