"""Run reconciles: walk a store's listing and the records side by side, and remove, when asked to, what nobody explains.

Both sides are read in pages by key, and a step compares what both have up to one key: memory is bounded, whichever side
is longer. A listing is a claim: what it lacks is asked for by name before it counts as missing, and what it has is
asked for before it counts as unexplained, since a sweep may just have removed it.

Crash windows: a step that was not counted is taken again from its first key. An object that was removed and not noted
is removed once more, which does no harm.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final
from uuid import UUID

import structlog

from simples3dms.audit.service import record
from simples3dms.context import WORKER
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.errors import Failure
from simples3dms.jobqueue.app import JobQueue
from simples3dms.kit.failpoints import fp
from simples3dms.kit.streams import LeaseLost, heartbeat
from simples3dms.providers.base import ObjectInfo, ObjectRef, PartsUpload, StorageProvider
from simples3dms.providers.errors import ObjectNotFound, ProviderError
from simples3dms.providers.layers.ratelimit import share_as
from simples3dms.storage.blobs.looking import Pace, Target, find_fault
from simples3dms.storage.blobs.service import Blobs
from simples3dms.storage.reconciles import repository
from simples3dms.storage.reconciles.moving import Batch, batches, explain_away
from simples3dms.storage.reconciles.values import MOST_FINDINGS, Finding, Known, Reconcile
from simples3dms.storage.scrubs import repository as scrubs_repository
from simples3dms.storage.scrubs.judging import Finder, answer, mark
from simples3dms.storage.scrubs.values import Copy, Found
from simples3dms.storage.stores.errors import explain
from simples3dms.storage.stores.service import Stores

log = structlog.get_logger(__name__)

_PAGE: Final = 1000
_REMOVALS: Final = 100
_PARALLEL: Final = 8
_TURN_SECONDS: Final = 20.0
_LONGEST_DELAY_SECONDS: Final = 3600.0


class ReconcileEngine:
    """What workers do for reconciles, of all tenants."""

    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        stores: Stores,
        blobs: Blobs,
        *,
        lease_seconds: float,
        retry_base_seconds: float,
    ) -> None:
        self._database = database
        self._queue = queue
        self._stores = stores
        self._blobs = blobs
        self._lease_seconds = lease_seconds
        self._retry_base_seconds = retry_base_seconds

    async def defer(self, uow: UnitOfWork, reconcile_id: UUID) -> None:
        assert uow.tenant_id is not None
        await self._queue.defer(
            uow,
            "reconcile.run",
            once=f"reconcile:{reconcile_id}",
            tenant_id=uow.tenant_id,
            reconcile_id=reconcile_id,
        )

    async def refuse_held(self) -> None:
        """Raise Unavailable (`restore_unconfirmed`) while a restore waits to be confirmed."""
        await self._blobs.restores.refuse()

    async def run(self, tenant_id: UUID, reconcile_id: UUID) -> None:
        """A turn of one that is due and that nobody holds. Another one is queued unless it ends."""
        share_as(str(tenant_id))
        async with self._database.tenant(tenant_id) as uow:
            row = await repository.claim(
                uow, reconcile_id, lease_seconds=self._lease_seconds, base_seconds=self._retry_base_seconds
            )
        if row is None:
            return
        await fp("reconcile.claimed")
        turn = self._compare if row.state == "running" else self._remove
        try:
            async with heartbeat(lambda: self._beat(tenant_id, row), lease_seconds=self._lease_seconds):
                is_over = await turn(tenant_id, row)
        except LeaseLost:
            log.info("reconcile.lease_lost", reconcile=str(reconcile_id))
        except ProviderError as error:
            await self._postpone(tenant_id, row, explain(error))
        except Failure as failure:
            await self._postpone(tenant_id, row, failure)
        else:
            if not is_over:
                async with self._database.tenant(tenant_id) as uow:
                    await repository.release(uow, row)
                    await self.defer(uow, row.id)

    async def _beat(self, tenant_id: UUID, row: Reconcile) -> bool:
        async with self._database.tenant(tenant_id) as uow:
            return await repository.extend(uow, row, lease_seconds=self._lease_seconds)

    async def _postpone(self, tenant_id: UUID, row: Reconcile, failure: Failure) -> None:
        delay = min(_LONGEST_DELAY_SECONDS, self._retry_base_seconds * 2 ** min(row.attempt, 20))
        log.info("reconcile.postponed", reconcile=str(row.id), store=row.store, code=failure.problem_code)
        async with self._database.tenant(tenant_id) as uow:
            await repository.release(uow, row, delay_seconds=delay, code=failure.problem_code, message=failure.message)

    async def _compare(self, tenant_id: UUID, row: Reconcile) -> bool:
        """Whether it came to its end."""
        until = time.monotonic() + _TURN_SECONDS
        provider = await self._blobs.provider(row.store_id)
        listing = provider.list(row.prefix, start_after=row.position or None)
        async for batch in batches(listing, row.position or "", _PAGE):
            async for step in self._steps(tenant_id, row, batch):
                row = await self._step(tenant_id, row, provider, *step)
                if time.monotonic() >= until and not batch.is_last:
                    return False
        await self._finish(tenant_id, row, provider)
        return True

    async def _steps(self, tenant_id: UUID, row: Reconcile, batch: Batch) -> AsyncIterator[tuple[Batch, list[Known]]]:
        """A batch of the listing with the records of the same keys; in several steps where these are many."""
        rest, after = batch, row.position or ""
        while True:
            upto = None if rest.is_last else rest.end
            recorded: list[Known] = []
            if batch.is_sorted:
                async with self._database.tenant(tenant_id) as uow:
                    recorded = await repository.list_recorded(uow, row.store_id, after=after, upto=upto, limit=_PAGE)
            if len(recorded) < _PAGE:
                yield rest, recorded
                return
            after = recorded[-1].key
            first, rest = rest.split(after)
            yield first, recorded

    async def _step(
        self, tenant_id: UUID, row: Reconcile, provider: StorageProvider, batch: Batch, recorded: list[Known]
    ) -> Reconcile:
        """Compare the two, and count what was found. Raises LeaseLost, ProviderError."""
        listed = {info.key for info in batch.items}
        absent = [known for known in recorded if known.state == "live" and known.key not in listed]
        missing = [found for found in await self._look(provider, absent) if found.state is not None]
        async with self._database.tenant(tenant_id) as uow:
            known = await repository.list_known(uow, row.store_id, sorted(listed))
            before = await repository.get_time(uow, days_ago=row.older_than_days)
        findings = await self._confirm(provider, explain_away(batch.items, known, before))
        await fp("reconcile.compared")
        saved = await self._settle(tenant_id, row, batch, recorded, missing, findings)
        await fp("reconcile.settled")
        return saved

    async def _look(self, provider: StorageProvider, absent: Sequence[Known]) -> list[Found]:
        slots, pace = asyncio.Semaphore(_PARALLEL), Pace(0)

        async def one(known: Known) -> Found | ProviderError:
            assert known.replica_id is not None
            target = Target(known.key, known.version_id, known.size_bytes or 0, known.digest or b"")
            copy = Copy(
                known.replica_id,
                known.blob_id,
                known.state,
                known.key,
                known.version_id,
                known.digest,
                known.size_bytes,
            )
            async with slots:
                try:
                    error = await find_fault(provider, target, deep=False, pace=pace)
                except ProviderError as fault:
                    return fault
            if error is None:
                return Found(copy)
            return Found(copy, "missing" if isinstance(error, ObjectNotFound) else "suspect", error.kind)

        outcomes = await asyncio.gather(*(one(known) for known in absent))
        for outcome in outcomes:
            if isinstance(outcome, ProviderError):
                raise outcome
        return [outcome for outcome in outcomes if isinstance(outcome, Found)]

    async def _confirm(self, provider: StorageProvider, findings: Sequence[Finding]) -> list[Finding]:
        """Those of them that are there still."""
        slots = asyncio.Semaphore(_PARALLEL)

        async def is_there(finding: Finding) -> bool | ProviderError:
            async with slots:
                try:
                    await provider.head(finding.key, version_id=finding.version_id or None)
                except ObjectNotFound:
                    # A marker of a deletion can't be asked for, and hides what is billed.
                    return finding.kind == "version"
                except ProviderError as fault:
                    return fault
            return True

        outcomes = await asyncio.gather(*(is_there(finding) for finding in findings))
        for outcome in outcomes:
            if isinstance(outcome, ProviderError):
                raise outcome
        return [finding for finding, outcome in zip(findings, outcomes, strict=True) if outcome]

    async def _settle(
        self,
        tenant_id: UUID,
        row: Reconcile,
        batch: Batch,
        recorded: list[Known],
        missing: list[Found],
        findings: list[Finding],
    ) -> Reconcile:
        # As the platform: whether the store is still trusted is decided in the same unit of work.
        async with self._database.platform(acting_for=tenant_id) as uow:
            marked = await mark(uow, missing)
            lost = await scrubs_repository.list_lost(uow, [one.copy.blob_id for one in marked if one.copy.blob_id])
            hidden = [one for one in findings if one.kind == "version"]
            others = [one for one in findings if one.kind == "object"]
            counts = {
                "unsorted": int(not batch.is_sorted),
                "listed": len(batch.items),
                "listed_bytes": sum(info.size_bytes for info in batch.items),
                "unexplained": len(others),
                "unexplained_bytes": sum(one.size_bytes for one in others),
                "hidden": len(hidden),
                "hidden_bytes": sum(one.size_bytes for one in hidden),
                "compared": sum(known.state == "live" for known in recorded),
                "missing": len(marked),
                "lost": len(lost),
            }
            end = recorded[-1].key if batch.is_last and recorded else batch.end
            saved = await repository.save_step(uow, row, counts, position=max(end, row.position or ""))
            if saved is None:
                raise LeaseLost
            if findings and row.unexplained_count + row.hidden_count < MOST_FINDINGS:
                await repository.insert_findings(uow, row.id, findings)
            if marked:
                by = Finder("reconcile", row.id, row.store_id, row.store)
                await answer(
                    self._blobs,
                    uow,
                    by,
                    marked,
                    lost,
                    checked_count=saved.compared_count,
                    bad_count=saved.missing_count,
                )
            await fp("reconcile.in_settle_txn")
        return saved

    async def _finish(self, tenant_id: UUID, row: Reconcile, provider: StorageProvider) -> None:
        """Count unfinished uploads that no record explains, and end."""
        count = 0
        page: list[ObjectInfo] = []
        async for info in provider.list_unfinished(row.prefix):
            page.append(info)
            if len(page) >= _PAGE:
                count += await self._note_unfinished(tenant_id, row, page, count)
                page = []
        count += await self._note_unfinished(tenant_id, row, page, count)
        async with self._database.tenant(tenant_id) as uow:
            if not await repository.finish(uow, row, unfinished=count):
                raise LeaseLost
            details: dict[str, object] = {
                "store": row.store,
                "listed": row.listed_count,
                "unexplained": row.unexplained_count,
                "hidden": row.hidden_count,
                "unfinished": count,
                "missing": row.missing_count,
            }
            await _record(uow, "reconcile.finished", row, details)
        if row.unexplained_count or row.hidden_count or count or row.missing_count:
            log.warning("reconcile.found", tenant_id=str(tenant_id), reconcile=str(row.id), **details)

    async def _note_unfinished(self, tenant_id: UUID, row: Reconcile, page: list[ObjectInfo], before_count: int) -> int:
        async with self._database.tenant(tenant_id) as uow:
            known = await repository.list_known(uow, row.store_id, sorted({info.key for info in page}))
            pending = {one.key for one in known if one.state in ("writing", "retiring")}
            findings = [
                Finding("upload", info.key, info.version_id or "", 0, info.modified_at)
                for info in page
                if info.key not in pending
            ]
            if row.unexplained_count + row.hidden_count + before_count < MOST_FINDINGS:
                await repository.insert_findings(uow, row.id, findings)
        return len(findings)

    async def _remove(self, tenant_id: UUID, row: Reconcile) -> bool:
        """Whether nothing is left that was to be removed."""
        until = time.monotonic() + _TURN_SECONDS
        while True:
            async with self._database.tenant(tenant_id) as uow:
                page = await repository.list_to_remove(uow, row.id, limit=_REMOVALS)
                known = await repository.list_known(uow, row.store_id, sorted({one.key for one in page}))
                if not page:
                    if not await repository.finish_removal(uow, row):
                        raise LeaseLost
                    counts = {"store": row.store, "removed": row.removed_count, "kept": row.kept_count}
                    await _record(uow, "reconcile.removed", row, dict(counts))
                    return True
            provider = await self._blobs.provider(row.store_id)
            outcomes = await self._remove_page(tenant_id, row, provider, page, known)
            await fp("reconcile.after_delete")
            async with self._database.tenant(tenant_id) as uow:
                if not await repository.save_removal(uow, row, outcomes):
                    raise LeaseLost
                await fp("reconcile.in_removal_txn")
                row = await repository.find(uow, row.id) or row
            if time.monotonic() >= until:
                return False

    async def _remove_page(
        self,
        tenant_id: UUID,
        row: Reconcile,
        provider: StorageProvider,
        page: Sequence[Finding],
        known: Sequence[Known],
    ) -> list[Finding]:
        """What became of each. Nothing goes that a record has come to explain, or that is another object by now."""
        await self._blobs.restores.refuse()
        is_ours = await self._stores.is_place_ours(row.store_id)
        if not is_ours or await self._blobs.restores.is_behind(provider, tenant_id, row.store_id):
            return [_became(one, "kept", "place_taken" if not is_ours else "restore_unconfirmed") for one in page]
        by_key = {one.key: one for one in known}
        if not await self._beat(tenant_id, row):
            raise LeaseLost
        slots = asyncio.Semaphore(_PARALLEL)

        async def one(finding: Finding) -> Finding:
            async with slots:
                try:
                    error = await _remove_one(provider, finding, by_key.get(finding.key))
                except ProviderError as failed:
                    error = failed.kind
            return _became(finding, "kept" if error else "removed", error)

        return list(await asyncio.gather(*(one(finding) for finding in page)))


async def _remove_one(provider: StorageProvider, finding: Finding, known: Known | None) -> str | None:
    """Remove it; else why it was kept."""
    if finding.kind == "upload":
        if known is not None and known.state in ("writing", "retiring"):
            return "explained"
        part = provider.capabilities.part_size_bytes
        await provider.abort_parts(PartsUpload(finding.key, finding.version_id, part))
        return None
    if known is not None and (finding.kind == "object" or known.version_id in (None, finding.version_id)):
        return "explained"
    try:
        there = await provider.head(finding.key, version_id=finding.version_id or None)
    except ObjectNotFound:
        if finding.kind == "object":
            return None
    else:
        if there.size_bytes != finding.size_bytes:
            return "changed"
    if finding.kind == "version" and not finding.version_id:
        # Without an id, every version would go, and ours with them.
        return "unsupported"
    (outcome,) = await provider.delete([ObjectRef(finding.key, finding.version_id or None)])
    return outcome.error.kind if outcome.error is not None else None


def _became(finding: Finding, state: str, error: str | None) -> Finding:
    return Finding(finding.kind, finding.key, finding.version_id, finding.size_bytes, finding.modified_at, state, error)


async def _record(uow: UnitOfWork, action: str, row: Reconcile, details: dict[str, object]) -> None:
    await record(
        uow,
        WORKER,
        action,
        target_type="reconcile",
        target_id=str(row.id),
        tenant_id=uow.tenant_id,
        details=details,
    )
