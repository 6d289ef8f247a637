"""The deletion engine: what a worker does for a tenant's deletion, one fenced step at a time.

Purge: the tenant is closed, each document goes by the one way that documents go, and the sweep removes the bytes.
Remove: what rows are left go, and a certificate is written in the transaction that leaves the tombstone.
"""

from __future__ import annotations

import hashlib
from typing import Final
from uuid import UUID

import structlog

from simples3dms.audit.service import record
from simples3dms.compliance.deletions import repository
from simples3dms.compliance.deletions.values import Deletion, Doomed, State
from simples3dms.context import WORKER
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.documents import repository as documents_repository
from simples3dms.documents.holds.service import is_free
from simples3dms.errors import Failure, Unavailable
from simples3dms.jobqueue.app import JobQueue
from simples3dms.kit.failpoints import fp
from simples3dms.kit.streams import LeaseLost, heartbeat
from simples3dms.storage.blobs import repository as blobs_repository
from simples3dms.storage.blobs.service import Blobs

log = structlog.get_logger(__name__)

_DOCUMENTS: Final = 50
_ROWS: Final = 1000
_LONGEST_DELAY_SECONDS: Final = 600.0


class _Kept(Exception):
    """A hold or a retention stands: the deletion waits for it."""

    def __init__(self, document_id: UUID) -> None:
        super().__init__(document_id)
        self.document_id = document_id


class DeletionEngine:
    """Takes deletions as far as they can go now."""

    def __init__(self, database: Database, queue: JobQueue, blobs: Blobs, *, retry_base_seconds: float) -> None:
        self._database = database
        self._queue = queue
        self._blobs = blobs
        self._retry_base_seconds = retry_base_seconds
        self._lease_seconds = blobs.lease_seconds

    async def defer(self, uow: UnitOfWork, tenant_id: UUID, deletion_id: UUID) -> None:
        await self._queue.defer(
            uow, "tenant.delete", once=f"tenant-delete:{tenant_id}", tenant_id=tenant_id, deletion_id=deletion_id
        )

    async def run(self, tenant_id: UUID, deletion_id: UUID) -> None:
        """Work a deletion off. Nothing happens if it is not due, or another worker has it."""
        async with self._database.platform() as uow:
            deletion = await repository.claim(uow, tenant_id, deletion_id, lease_seconds=self._lease_seconds)
        if deletion is None:
            return

        async def beat() -> bool:
            async with self._database.platform() as uow:
                return await repository.extend(uow, deletion, lease_seconds=self._lease_seconds)

        delay = min(_LONGEST_DELAY_SECONDS, self._retry_base_seconds * 2 ** min(deletion.attempt, 16))
        try:
            async with heartbeat(beat, lease_seconds=self._lease_seconds):
                if deletion.state == State.PURGING:
                    await self._purge(deletion)
                await self._remove(deletion)
        except LeaseLost:
            log.info("tenant_deletion.taken_over", tenant=str(tenant_id))
        except _Kept as kept:
            await self._let_go(deletion, delay, kept=kept.document_id)
        except Failure as failure:
            await self._let_go(deletion, delay, error=failure.problem_code)

    async def _let_go(
        self, deletion: Deletion, delay: float, *, error: str | None = None, kept: UUID | None = None
    ) -> None:
        async with self._database.platform() as uow:
            await repository.release(uow, deletion, delay_seconds=delay, error=error, kept=kept)
        log.info("tenant_deletion.waits", tenant=str(deletion.tenant_id), error=error, kept=str(kept))

    async def _hold(self, uow: UnitOfWork, deletion: Deletion) -> None:
        """Raise LeaseLost unless the claim stands; the row is ours until this unit of work ends."""
        if not await repository.extend(uow, deletion, lease_seconds=self._lease_seconds):
            raise LeaseLost

    async def _purge(self, deletion: Deletion) -> None:
        tenant_id = deletion.tenant_id
        # A request that these records know may have been cancelled by those that are gone.
        await self._blobs.restores.refuse()
        async with self._database.platform(acting_for=tenant_id) as uow:
            await self._hold(uow, deletion)
            await repository.close_tenant(uow, tenant_id)
        await fp("tenant_delete.closed")
        while await self._purge_some(deletion):
            await fp("tenant_delete.purged_some")
        await self._blobs.sweep(tenant_id)
        await fp("tenant_delete.swept")
        async with self._database.platform() as uow:
            if await repository.has_replicas(uow, tenant_id):
                message = "Some of the tenant's objects are still to be removed from their stores."
                raise Unavailable(message, code="replicas_left")
            places = await repository.list_places(uow, tenant_id)
        for place in places:
            await self._blobs.clear_place(tenant_id, place.store_id, place.prefix)
        async with self._database.platform(acting_for=tenant_id) as uow:
            await self._hold(uow, deletion)
            await repository.begin_removing(uow, deletion)

    async def _purge_some(self, deletion: Deletion) -> bool:
        """Purge the next documents, as anybody would; False if there are none left."""
        async with self._database.platform(acting_for=deletion.tenant_id) as uow:
            await self._hold(uow, deletion)
            documents = await repository.lock_documents(uow, limit=_DOCUMENTS)
            digest = await repository.find_progress(uow, deletion)
            versions: list[Doomed] = []
            for document_id, is_in_trash in documents:
                doomed = await repository.list_versions(uow, document_id)
                await _purge_one(uow, document_id, is_in_trash=is_in_trash)
                versions += doomed
                for version in doomed:
                    digest = extend_digest(digest, document_id, version)
            if documents:
                await repository.add_progress(
                    uow,
                    deletion,
                    documents=len(documents),
                    versions=len(versions),
                    size_bytes=sum(version.size_bytes for version in versions),
                    digest=digest,
                )
                await self._blobs.defer_sweep(uow)
            await fp("tenant_delete.in_purge_txn")
        return bool(documents)

    async def _remove(self, deletion: Deletion) -> None:
        async with self._database.platform() as uow:
            traces = await repository.list_traces(uow)
            children = {trace: await repository.list_children(uow, trace.table) for trace in traces}
        removed = 1
        while removed:
            removed = 0
            for trace in traces:
                async with self._database.platform(acting_for=deletion.tenant_id) as uow:
                    await self._hold(uow, deletion)
                    # Rows at stores are never forgotten here: the sweep does that, once their bytes are gone.
                    if trace.table not in ("replicas", "cache_entries"):
                        hanging = [] if trace.column == "tenant_id" else children[trace]
                        removed += await repository.remove_traces(uow, trace, hanging, limit=_ROWS)
                await fp("tenant_delete.removed_some")
        async with self._database.platform(acting_for=deletion.tenant_id) as uow:
            await self._hold(uow, deletion)
            names = await repository.lock_tenant(uow, deletion.tenant_id)
            left = [trace.table for trace in traces if await repository.has_trace(uow, trace)]
            if left:
                message = f"Rows of the tenant are left in {', '.join(sorted(set(left)))}."
                raise Unavailable(message, code="rows_left")
            current = await repository.find_current(uow, deletion.tenant_id)
            assert current is not None
            certificate = certify(current, *names)
            await repository.bury(uow, current, certificate)
            await record(
                uow,
                WORKER,
                "tenant.deleted",
                target_type="tenant",
                target_id=str(deletion.tenant_id),
                details=certificate,
            )
            await fp("tenant_delete.in_final_txn")
        await fp("tenant_delete.done")


async def _purge_one(uow: UnitOfWork, document_id: UUID, *, is_in_trash: bool) -> None:
    if not await is_free(uow, document_id):
        raise _Kept(document_id)
    if not is_in_trash:
        await documents_repository.set_deleted(uow, document_id, deleted=True)
    blob_ids = await documents_repository.purge(uow, document_id)
    if blob_ids is None:
        raise _Kept(document_id)
    await blobs_repository.bury(uow, blob_ids)


def extend_digest(digest: bytes, document_id: UUID, version: Doomed) -> bytes:
    """SHA-256 over the digest so far and `DOCUMENT:VERSION:SHA256:SIZE`, by document and version; begins with that of
    nothing. Whoever has a takeout's manifest can work it out."""
    line = f"{document_id}:{version.number}:{version.digest.hex()}:{version.size_bytes}\n"
    return hashlib.sha256(digest + line.encode()).digest()


def certify(deletion: Deletion, short_name: str, name: str) -> dict[str, object]:
    """What the certificate says; the database adds when it was finished."""
    assert deletion.confirmed_at is not None
    return {
        "tenant_id": str(deletion.tenant_id),
        "short_name": short_name,
        "name": name,
        "deletion_id": str(deletion.id),
        "reason": deletion.reason,
        "requested_at": deletion.requested_at.isoformat(),
        "requested_by": deletion.requested_by_name,
        "confirmed_at": deletion.confirmed_at.isoformat(),
        "confirmed_by": deletion.confirmed_by_name,
        "documents": deletion.document_count,
        "versions": deletion.version_count,
        "size_bytes": deletion.size_bytes,
        "manifest_sha256": deletion.manifest_digest.hex(),
    }
