"""`fsck`: are the promises kept? Over the records and the stores' listings, and on demand over every byte."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from uuid import UUID

from simples3dms.audit.service import Audit
from simples3dms.context import PLATFORM
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.errors import Failure
from simples3dms.providers.base import Expected, ObjectInfo
from simples3dms.providers.errors import ProviderError
from simples3dms.storage.counters import repository as counters
from simples3dms.storage.placement import repository as placements
from simples3dms.storage.placement.router import owed_stores
from simples3dms.storage.restores.service import RestoreGuard
from simples3dms.storage.stores.service import Stores
from simples3dms.storage.upkeep import repository
from simples3dms.storage.upkeep.values import Copy, Finding, FsckReport, Granted

_PAGE = 1000
_READERS = 8
_MOST_FINDINGS = 1000


class Upkeep:
    """Checks over all tenants. Changes nothing."""

    def __init__(self, database: Database, stores: Stores, audit: Audit, restores: RestoreGuard) -> None:
        self._database = database
        self._stores = stores
        self._audit = audit
        self._restores = restores

    async def fsck(self, *, read_data: bool = False, share: float = 1.0, tenant_id: UUID | None = None) -> FsckReport:
        """Check every tenant, or one; with `read_data`, read every live replica back and compare it with its record.

        `share`: of the replicas, from 0 to 1; which of them is another matter of chance each time.
        """
        report = FsckReport()
        guard = await self._restores.get()
        if guard.held_at is not None:
            _add(report, "restore_unconfirmed", PLATFORM, "removals", guard.held_reason or "")
        seen: set[UUID] = set()
        async for grant in self._iter_grants(tenant_id):
            if grant.tenant_id not in seen:
                seen.add(grant.tenant_id)
                await self._check_records(grant.tenant_id, report)
                await self._check_placement(grant.tenant_id, report)
                if read_data:
                    await self._read_back(grant.tenant_id, report, share)
            await self._check_listing(grant, report)
        report.counts["tenants"] = len(seen)
        if tenant_id is None:
            await self._check_chains(report)
        else:
            await self._check_chain(tenant_id, report)
        return report

    async def _check_chains(self, report: FsckReport) -> None:
        after: UUID | None = None
        while True:
            page = await self._audit.list_chains(after=after, limit=_PAGE)
            for chain_id in page:
                await self._check_chain(chain_id, report)
            if len(page) < _PAGE:
                return
            after = page[-1]

    async def _check_chain(self, chain_id: UUID, report: FsckReport) -> None:
        """Gap-free, unbroken, and every signed checkpoint a prefix of it."""
        try:
            verdict = await self._audit.verify(None if chain_id == PLATFORM else chain_id)
        except Failure as failure:
            _add(report, "audit_unverified", chain_id, "audit", failure.message)
            return
        report.counts["audit_events"] += verdict.event_count
        if verdict.breach is not None:
            target = str(verdict.breach.seq or "audit")
            _add(report, f"audit_{verdict.breach.code}", chain_id, target, verdict.breach.message)

    async def _iter_grants(self, tenant_id: UUID | None) -> AsyncIterator[Granted]:
        after = None if tenant_id is None else (tenant_id, UUID(int=0))
        while True:
            async with self._database.platform() as uow:
                page = await repository.list_grants(uow, after=after, limit=_PAGE)
            for grant in page:
                if tenant_id not in (None, grant.tenant_id):
                    return
                yield grant
            if len(page) < _PAGE:
                return
            after = (page[-1].tenant_id, page[-1].store_id)

    async def _check_records(self, tenant_id: UUID, report: FsckReport) -> None:
        after = (UUID(int=0), 0)
        while True:
            async with self._database.tenant(tenant_id) as uow:
                page = await repository.list_versions(uow, after=after, limit=_PAGE)
            report.counts["versions"] += len(page)
            for version in page:
                if version.is_bare:
                    target = f"{version.document_id}/{version.number}"
                    _add(report, "version_without_replica", tenant_id, target, "no live replica holds its bytes")
            if len(page) < _PAGE:
                break
            after = (page[-1].document_id, page[-1].number)
        async with self._database.tenant(tenant_id) as uow:
            for blob_id in await repository.list_orphan_blobs(uow, limit=_PAGE):
                _add(report, "orphan_blob", tenant_id, str(blob_id), "no version refers to it and it is not retired")
            await _check_counters(uow, tenant_id, report)
            for blob_id in await repository.list_cached_dead(uow, limit=_PAGE):
                _add(report, "cached_dead_blob", tenant_id, str(blob_id), "it is dead, and a cache still serves it")
            pending = await repository.count_pending(uow)
        report.counts["pending_writes"] += pending.writing
        report.counts["pending_removals"] += pending.retiring
        report.counts["locked_removals"] += pending.locked
        report.counts["pending_locks"] += pending.locks
        report.counts["pending_transfers"] += pending.transfers
        report.counts["pending_uploads"] += pending.uploads
        if pending.failed:
            _add(report, "failed_transfers", tenant_id, str(pending.failed), "copies were given up; see failures")

    async def _check_placement(self, tenant_id: UUID, report: FsckReport) -> None:
        """Every blob meets its placement, or is owed what it lacks. Not while copies are still to be owed: after a
        change of the placement, and while a migration copies by the catalogue."""
        after = 0
        while True:
            async with self._database.tenant(tenant_id) as uow:
                # Shared, so that it does not turn, and no migration begins, within a page.
                placement = await placements.share(uow)
                if placement is None or await placements.is_migrating(uow) or await placements.is_surveyed(uow):
                    return
                page = await repository.list_placed(uow, after_seq=after, limit=_PAGE)
            for blob in page:
                for store_id in owed_stores(placement.policy, blob.subject, blob.store_ids):
                    message = f"its placement wants a copy at store {store_id}, which is neither there nor owed"
                    _add(report, "copy_not_owed", tenant_id, str(blob.blob_id), message)
            if len(page) < _PAGE:
                return
            after = page[-1].seq

    async def _read_back(self, tenant_id: UUID, report: FsckReport, share: float) -> None:
        after: UUID | None = None
        slots = asyncio.Semaphore(_READERS)
        while True:
            async with self._database.tenant(tenant_id) as uow:
                page = await repository.list_live(uow, after=after, limit=_PAGE)
            chosen = [copy for copy in page if random.random() < share]  # noqa: S311 a sample
            if len(chosen) < len(page):
                report.counts["replicas_passed_over"] += len(page) - len(chosen)
            await asyncio.gather(*(self._read_one(tenant_id, copy, slots, report) for copy in chosen))
            if len(page) < _PAGE:
                return
            after = page[-1].id

    async def _read_one(self, tenant_id: UUID, copy: Copy, slots: asyncio.Semaphore, report: FsckReport) -> None:
        async with slots:
            expected = Expected(copy.size_bytes, copy.digest)
            try:
                provider = await self._stores.provider(copy.store_id)
                async with provider.open(copy.key, version_id=copy.version_id, expected=expected) as reader:
                    async for _ in reader:
                        pass
                report.counts["replicas_read"] += 1
                report.counts["bytes_read"] += copy.size_bytes
            except Failure as failure:
                _add(report, "store_unusable", tenant_id, copy.store_name, failure.message)
            except ProviderError as error:
                target = f"{copy.store_name}:{copy.key}"
                _add(report, f"replica_{error.kind}", tenant_id, target, f"a live replica can't be read: {error.kind}")

    async def _check_listing(self, grant: Granted, report: FsckReport) -> None:
        """Everything that a store lists under the tenant's prefix must be explained by a record."""
        try:
            provider = await self._stores.provider(grant.store_id)
            page: list[ObjectInfo] = []
            async for info in provider.list(grant.prefix):
                page.append(info)
                if len(page) >= _PAGE:
                    await self._explain(grant, page, report)
                    page = []
            await self._explain(grant, page, report)
            unfinished = [info async for info in provider.list_unfinished(grant.prefix)]
            await self._explain_unfinished(grant, unfinished, report)
        except Failure as failure:
            _add(report, "store_unusable", grant.tenant_id, grant.store_name, failure.message)
        except ProviderError as error:
            _add(report, f"store_{error.kind}", grant.tenant_id, grant.store_name, "the store could not be listed")

    async def _explain(self, grant: Granted, page: list[ObjectInfo], report: FsckReport) -> None:
        async with self._database.tenant(grant.tenant_id) as uow:
            known = await repository.list_known(uow, grant.store_id, [info.key for info in page])
        by_key = {item.key: item for item in known}
        report.counts["objects_listed"] += len(page)
        for info in page:
            record = by_key.get(info.key)
            other_version = record is not None and record.version_id not in (None, info.version_id)
            if record is None or (other_version and record.state == "live"):
                target = f"{grant.store_name}:{info.key}"
                message = f"an object of {info.size_bytes} bytes that no record explains"
                _add(report, "unexplained_object", grant.tenant_id, target, message)

    async def _explain_unfinished(self, grant: Granted, page: list[ObjectInfo], report: FsckReport) -> None:
        async with self._database.tenant(grant.tenant_id) as uow:
            known = await repository.list_known(uow, grant.store_id, [info.key for info in page])
        pending = {item.key for item in known if item.state in ("writing", "retiring")}
        for info in page:
            if info.key not in pending:
                target = f"{grant.store_name}:{info.key}"
                _add(report, "unexplained_upload", grant.tenant_id, target, "an unfinished upload without a record")


async def _check_counters(uow: UnitOfWork, tenant_id: UUID, report: FsckReport) -> None:
    lacking = [
        (str(drift.store_id or "all"), f"{drift.blob_count} blobs, {drift.size_bytes} bytes")
        for drift in await counters.list_drift(uow)
    ]
    lacking += [
        (str(owed.store_id), f"{owed.transfer_count} {owed.state} transfers, {owed.size_bytes} bytes")
        for owed in await counters.list_owed_drift(uow)
    ]
    for target, what in lacking:
        _add(report, "counters_wrong", tenant_id, target, f"counters lack {what}: `simples3dms db recount`")


def _add(report: FsckReport, kind: str, tenant_id: UUID, target: str, message: str) -> None:
    report.counts["findings"] += 1
    if len(report.findings) < _MOST_FINDINGS:
        report.findings.append(Finding(kind, tenant_id, target, message))
