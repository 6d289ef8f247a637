"""Run scrubs: page by page, each looked at outside any transaction and counted in one unit of work under the fence.

Crash windows: a page that was looked at and not counted is looked at again, by whoever claims the scrub when its lease
has run out; what was counted is marked, and its repair owed, in the same unit of work.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final
from uuid import UUID

import structlog

from simples3dms.audit.service import record
from simples3dms.context import WORKER
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.jobqueue.app import JobQueue
from simples3dms.kit.failpoints import fp
from simples3dms.kit.streams import LeaseLost, heartbeat
from simples3dms.providers.base import StorageProvider
from simples3dms.providers.errors import (
    ObjectNotFound,
    ProviderError,
    StoreResting,
    StoreTimedOut,
    StoreUnavailable,
)
from simples3dms.providers.layers.ratelimit import share_as
from simples3dms.storage.blobs import repository as blobs_repository
from simples3dms.storage.blobs.looking import Pace, Target, confirm_place, find_fault
from simples3dms.storage.blobs.service import Blobs
from simples3dms.storage.scrubs import repository
from simples3dms.storage.scrubs.judging import Finder, answer, mark
from simples3dms.storage.scrubs.values import (
    COUNTED,
    Copy,
    Found,
    Page,
    Scrub,
    bounds_of,
    order_of_parts,
    plan_parts,
    shuffled,
)
from simples3dms.storage.stores.errors import explain
from simples3dms.storage.throttle.service import Throttle

log = structlog.get_logger(__name__)

_PAGE: Final = 100
#: What a crash makes a deep scrub read again, at most, but for one larger object.
_PAGE_BYTES: Final = 256 * 1024 * 1024
_PARALLEL: Final = 8
#: How long one job goes on before others get their turn.
_TURN_SECONDS: Final = 20.0
_LONGEST_DELAY_SECONDS: Final = 3600.0
#: Claims in a row that came to no page and told no reason: their workers died of it.
_MOST_ATTEMPTS: Final = 10
#: So many objects of one page that can't be read say something of the store, not of themselves.
_FEW: Final = 4
_LAST: Final = UUID(int=2**128 - 1)


class ScrubEngine:
    """What workers do for scrubs, of all tenants."""

    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        blobs: Blobs,
        throttle: Throttle,
        *,
        lease_seconds: float,
        retry_base_seconds: float,
        bytes_per_second: float,
    ) -> None:
        self._database = database
        self._queue = queue
        self._blobs = blobs
        self._throttle = throttle
        self._lease_seconds = lease_seconds
        self._retry_base_seconds = retry_base_seconds
        self._bytes_per_second = bytes_per_second

    async def defer(self, uow: UnitOfWork, scrub_id: UUID) -> None:
        assert uow.tenant_id is not None
        await self._queue.defer(uow, "scrub.run", once=f"scrub:{scrub_id}", tenant_id=uow.tenant_id, scrub_id=scrub_id)

    async def run(self, tenant_id: UUID, scrub_id: UUID) -> None:
        """A turn of a scrub that is due and that nobody holds. Another one is queued unless it ends or is paused."""
        share_as(str(tenant_id))
        async with self._database.tenant(tenant_id) as uow:
            scrub = await repository.claim(uow, scrub_id, lease_seconds=self._lease_seconds)
            if scrub is None:
                return
            if scrub.attempt > _MOST_ATTEMPTS and scrub.error_code is None:
                message = "Its workers died at this place again and again: see their logs, then resume it."
                await repository.pause(uow, scrub_id, code="scrub_stuck", message=message)
                return
        await fp("scrub.claimed")
        try:
            async with heartbeat(lambda: self._beat(tenant_id, scrub), lease_seconds=self._lease_seconds):
                await self._turn(tenant_id, scrub)
        except LeaseLost:
            log.info("scrub.lease_lost", scrub=str(scrub_id))
        except ProviderError as error:
            await self._postpone(tenant_id, scrub, error)

    async def _beat(self, tenant_id: UUID, scrub: Scrub) -> bool:
        async with self._database.tenant(tenant_id) as uow:
            return await repository.extend(uow, scrub, lease_seconds=self._lease_seconds)

    async def _postpone(self, tenant_id: UUID, scrub: Scrub, error: ProviderError) -> None:
        """The store is at fault: nothing is known of what it holds, and nothing is marked."""
        failure = explain(error)
        delay = min(_LONGEST_DELAY_SECONDS, self._retry_base_seconds * 2 ** min(scrub.attempt, 20))
        log.info("scrub.postponed", scrub=str(scrub.id), store=scrub.store, error=error.kind)
        async with self._database.tenant(tenant_id) as uow:
            await repository.release(
                uow, scrub, delay_seconds=delay, code=failure.problem_code, message=failure.message
            )

    async def _turn(self, tenant_id: UUID, scrub: Scrub) -> None:
        until, pace = time.monotonic() + _TURN_SECONDS, Pace(self._bytes_per_second)
        while True:
            begun = scrub if scrub.low_id is not None else await self._begin(tenant_id, scrub)
            step = None if begun is None else await self._next_page(tenant_id, begun)
            if begun is None or step is None:
                await self._finish(tenant_id, scrub)
                return
            page, copies = step
            provider = await self._blobs.provider(scrub.store_id)
            found = await self._examine(tenant_id, begun, provider, copies, pace)
            await fp("scrub.page_read")
            scrub = await self._settle(tenant_id, begun, page, found)
            await fp("scrub.settled")
            if scrub.state != "running":
                return
            if time.monotonic() >= until:
                break
        async with self._database.tenant(tenant_id) as uow:
            await repository.release(uow, scrub)
            await self.defer(uow, scrub.id)

    async def _begin(self, tenant_id: UUID, scrub: Scrub) -> Scrub | None:
        """Cut what is there now into parts; None where nothing is. What is written later, the next scrub looks at."""
        async with self._database.tenant(tenant_id) as uow:
            bounds = await repository.find_bounds(uow, scrub.store_id, counted=COUNTED)
            if bounds is None:
                return None
            low, high, count = bounds
            begun = await repository.set_bounds(uow, scrub, low, high, plan_parts(count))
        if begun is None:
            raise LeaseLost
        return begun

    async def _next_page(self, tenant_id: UUID, scrub: Scrub) -> tuple[Page, list[Copy]] | None:
        """The next live replicas and where the scrub is after them; None when all parts are done."""
        assert scrub.low_id is not None
        assert scrub.high_id is not None
        order = order_of_parts(scrub.seed, scrub.part_count)
        done, after = scrub.done_parts, scrub.after_id
        while done < scrub.part_count:
            begin, end = bounds_of(order[done], scrub.part_count, scrub.low_id, scrub.high_id)
            if after is not None:
                begin = UUID(int=after.int + 1)
            async with self._database.tenant(tenant_id) as uow:
                rows = await repository.list_copies(uow, scrub.store_id, begin=begin, end=end, limit=_PAGE)
            taken = _up_to(rows, _PAGE_BYTES if scrub.level == "deep" else None)
            if len(taken) == len(rows) < _PAGE:
                done, after = done + 1, None
            else:
                after = taken[-1].id
            live = [copy for copy in taken if copy.state == "live"]
            if live:
                return Page(done, after), shuffled(scrub.seed, live)
        return None

    async def _examine(
        self, tenant_id: UUID, scrub: Scrub, provider: StorageProvider, copies: list[Copy], pace: Pace
    ) -> list[Found]:
        """What there is of each. Raises ProviderError where the store is at fault."""
        found: list[Found] = []
        unclear: list[Copy] = []
        faults: list[ProviderError] = []
        slots = asyncio.Semaphore(_PARALLEL)

        async def one(copy: Copy) -> None:
            async with slots:
                if faults:
                    return
                try:
                    async with self._throttle.turn():
                        found.append(await _look(provider, copy, scrub, pace))
                except StoreResting as error:
                    faults.append(error)
                except (StoreUnavailable, StoreTimedOut) as error:
                    unclear.append(copy)
                    if len(unclear) > _FEW:
                        faults.append(error)
                except ProviderError as error:
                    faults.append(error)

        async with asyncio.TaskGroup() as group:
            for copy in copies:
                group.create_task(one(copy))
        if faults:
            raise faults[0]
        for copy in unclear:
            found.append(await self._look_again(tenant_id, scrub, provider, copy, found, pace))
        return found

    async def _look_again(
        self,
        tenant_id: UUID,
        scrub: Scrub,
        provider: StorageProvider,
        copy: Copy,
        found: list[Found],
        pace: Pace,
    ) -> Found:
        """A store may fail for one object for ever, when its own check of the bytes fails: others are read then."""
        try:
            return await _look(provider, copy, scrub, pace)
        except StoreResting:
            raise
        except (StoreUnavailable, StoreTimedOut) as error:
            kind = error.kind
        other = next((one.copy for one in found if one.state is None), None)
        if other is None:
            async with self._database.tenant(tenant_id) as uow:
                rows = await repository.list_copies(uow, scrub.store_id, begin=UUID(int=0), end=_LAST, limit=_PAGE)
            other = next((row for row in rows if row.state == "live" and row.id != copy.id), None)
        if other is None:
            await confirm_place(provider)
        else:
            await _look(provider, other, scrub, pace)
        return Found(copy, "suspect", kind)

    async def _settle(self, tenant_id: UUID, scrub: Scrub, page: Page, found: list[Found]) -> Scrub:
        """Count the page, mark what is bad, and have it repaired unless that is too much. Raises LeaseLost."""
        # As the platform: whether the store is still trusted is decided in the same unit of work.
        async with self._database.platform(acting_for=tenant_id) as uow:
            counted = await mark(uow, found)
            bad = [one for one in counted if one.state is not None]
            lost = await repository.list_lost(uow, [one.copy.blob_id for one in bad if one.copy.blob_id])
            saved = await repository.save_page(uow, scrub, page, counted, lost=len(lost))
            if saved is None:
                raise LeaseLost
            if scrub.level == "deep":
                good = [one.copy.id for one in counted if one.state is None]
                await blobs_repository.record_read_back(uow, good)
            if bad:
                await self._answer(uow, saved, bad, lost)
            await fp("scrub.in_settle_txn")
            paused = await repository.find(uow, scrub.id)
        assert paused is not None
        return paused

    async def _answer(self, uow: UnitOfWork, scrub: Scrub, bad: list[Found], lost: list[UUID]) -> None:
        """What follows from what was found bad on a page: repairs, or a pause when that is too much."""
        bad_count = scrub.suspect_count + scrub.missing_count - scrub.forgiven_bad
        checked_count = scrub.checked_count - scrub.forgiven_checked
        by = Finder("scrub", scrub.id, scrub.store_id, scrub.store)
        reason = await answer(self._blobs, uow, by, bad, lost, checked_count=checked_count, bad_count=bad_count)
        if reason is not None:
            message = f"{reason} Find out why; `store trust` lets repairs go on, `scrub resume` this scrub."
            await repository.pause(uow, scrub.id, code="store_untrusted", message=message)

    async def _finish(self, tenant_id: UUID, scrub: Scrub) -> None:
        async with self._database.tenant(tenant_id) as uow:
            if not await repository.finish(uow, scrub):
                raise LeaseLost
            counts = {
                "store": scrub.store,
                "level": scrub.level,
                "checked": scrub.checked_count,
                "suspect": scrub.suspect_count,
                "missing": scrub.missing_count,
                "lost": scrub.lost_count,
            }
            await self._record(uow, "scrub.finished", scrub, counts)

    async def _record(self, uow: UnitOfWork, action: str, scrub: Scrub, details: dict[str, object]) -> None:
        await record(
            uow,
            WORKER,
            action,
            target_type="scrub",
            target_id=str(scrub.id),
            tenant_id=uow.tenant_id,
            details=details,
        )


async def _look(provider: StorageProvider, copy: Copy, scrub: Scrub, pace: Pace) -> Found:
    assert copy.digest is not None
    assert copy.size_bytes is not None
    target = Target(copy.key, copy.version_id, copy.size_bytes, copy.digest)
    error = await find_fault(provider, target, deep=scrub.level == "deep", pace=pace)
    if error is None:
        return Found(copy)
    return Found(copy, "missing" if isinstance(error, ObjectNotFound) else "suspect", error.kind)


def _up_to(rows: list[Copy], most_bytes: int | None) -> list[Copy]:
    """As many from the beginning as have that many bytes; one in any case."""
    total = 0
    for index, row in enumerate(rows):
        total += row.size_bytes or 0
        if most_bytes is not None and index and total > most_bytes:
            return rows[:index]
    return rows
