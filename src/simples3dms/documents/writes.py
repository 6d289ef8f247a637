"""The bytes of an upload on their way to one store or several, and to another one where a store can't take them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from simples3dms.db.session import Database
from simples3dms.documents import errors
from simples3dms.documents.values import UploadRequest
from simples3dms.errors import Failure
from simples3dms.kit.streams import Tee, gather_small
from simples3dms.storage.blobs.service import Blobs
from simples3dms.storage.blobs.values import SMALL_BYTES, WriteTicket, Written
from simples3dms.storage.placement import repository as placement_repository
from simples3dms.storage.placement.values import Grant
from simples3dms.storage.transfers.engine import STORE_FAULTS, UNSENT_FAULTS

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Targets:
    """Where an upload writes. `tickets` are its claims; `spare` the stores that can stand in, in this order."""

    tickets: list[WriteTicket]
    spare: list[Grant] = field(default_factory=list)


class Writes:
    """Writes to as many stores as the placement waits for, or to none."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs

    async def write(
        self, tenant_id: UUID, targets: Targets, request: UploadRequest, body: AsyncIterable[bytes]
    ) -> list[Written]:
        """Bring the body to each target, at the same time. `targets.tickets` are afterwards those that count.

        A small body whose size is announced is held, so that another store can take it when one fails; of a stream,
        as long as nothing of it was read. Raises Failure: the store's where there was one, `too_few_stores` where
        several were asked for; then nothing counts, and the caller gives the tickets up.
        """
        wanted = len(targets.tickets)
        source = _Watched(body)
        held: bytes | None = None
        # Kept alive while a small body comes in, and while one that is done early waits for the others.
        claims = list(targets.tickets)
        async with self._blobs.keep_alive(tenant_id, claims):
            if (wanted > 1 or targets.spare) and request.size_bytes is not None and request.size_bytes <= SMALL_BYTES:
                held = await gather_small(body, request.size_bytes)
            done: list[Written] = []
            waiting = list(targets.tickets)
            while True:
                outcomes = await self._all(tenant_id, waiting, request, source if held is None else held)
                done += [outcome for outcome in outcomes if isinstance(outcome, Written)]
                failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
                if not failures:
                    return sorted(done, key=lambda written: targets.tickets.index(written.ticket))
                for failure in failures:
                    if not isinstance(failure.__cause__, STORE_FAULTS):
                        raise failure
                lost = {ticket: out for ticket, out in zip(waiting, outcomes, strict=True) if isinstance(out, Failure)}
                waiting = []
                if held is not None or not source.is_read:
                    waiting = await self._replace(tenant_id, targets, lost, claims)
                if len(waiting) < len(lost):
                    raise failures[0] if wanted == 1 else errors.too_few_stores(wanted, failures[0])

    async def _all(
        self, tenant_id: UUID, tickets: Sequence[WriteTicket], request: UploadRequest, body: bytes | _Watched
    ) -> list[Written | Failure]:
        """One outcome for each. Of a stream, one that fails ends them all: it can't be read again."""
        if len(tickets) == 1:
            return [await self._one(tenant_id, tickets[0], request, body)]
        tee = None if isinstance(body, bytes) else Tee(body, len(tickets))
        running = [
            asyncio.create_task(self._one(tenant_id, ticket, request, tee.read(number) if tee else body))
            for number, ticket in enumerate(tickets)
        ]
        beside = [asyncio.create_task(tee.pump())] if tee else []
        try:
            for first in asyncio.as_completed(running):
                outcome = await first
                if tee and isinstance(outcome, Failure):
                    return [outcome] * len(tickets)
            return [task.result() for task in running]
        finally:
            for task in (*beside, *running):
                task.cancel()
            await asyncio.gather(*beside, *running, return_exceptions=True)

    async def _one(
        self, tenant_id: UUID, ticket: WriteTicket, request: UploadRequest, body: bytes | AsyncIterable[bytes]
    ) -> Written | Failure:
        try:
            return await self._blobs.write(
                tenant_id,
                ticket,
                body,
                size_bytes=request.size_bytes,
                sha256=request.sha256,
                content_type=request.content_type,
            )
        except Failure as failure:
            return failure

    async def _replace(
        self, tenant_id: UUID, targets: Targets, lost: Mapping[WriteTicket, Failure], claims: list[WriteTicket]
    ) -> list[WriteTicket]:
        """New tickets at the next stores, in place of those that are given up; fewer where there are no more stores."""
        fresh: list[WriteTicket] = []
        if len(targets.spare) < len(lost):
            return fresh
        async with self._database.tenant(tenant_id) as uow:
            # Shared, so that no write starts towards a store after the placement has turned away from it.
            placement = await placement_repository.share(uow)
            for ticket in lost:
                while targets.spare and placement is not None:
                    grant = targets.spare.pop(0)
                    if grant.store_id in placement.policy.wanted_store_ids:
                        fresh.append(await self._blobs.begin_write(uow, grant))
                        targets.tickets[targets.tickets.index(ticket)] = fresh[-1]
                        break
        # From here on these are kept alive: once the others are given up, nothing else would be.
        claims[:] = targets.tickets
        for ticket, instead in zip(lost, fresh, strict=False):
            log.info("upload.store_replaced", store=str(ticket.store_id), by=str(instead.store_id))
            # A store that is left alone got nothing: many uploads leave it nothing to clean when it is back.
            is_unsent = isinstance(lost[ticket].__cause__, UNSENT_FAULTS)
            await self._blobs.give_up(tenant_id, ticket, is_unsent=is_unsent)
        return fresh


class _Watched:
    """A stream that tells whether anything of it was asked for."""

    def __init__(self, source: AsyncIterable[bytes]) -> None:
        self._source = aiter(source)
        self.is_read = False

    def __aiter__(self) -> _Watched:
        return self

    async def __anext__(self) -> bytes:
        self.is_read = True
        return await anext(self._source)
