"""Documents: list, look, download, delete, restore, purge."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.documents import errors, repository
from simples3dms.documents.explaining import Facts, explain
from simples3dms.documents.holds.errors import held
from simples3dms.documents.holds.service import is_free, pass_over, refusals, require_free
from simples3dms.documents.values import Document, Download, Explanation, ReplicaView, Version
from simples3dms.kit.failpoints import fp
from simples3dms.storage.blobs import repository as blobs_repository
from simples3dms.storage.blobs.service import Blobs
from simples3dms.storage.placement import repository as placement_repository
from simples3dms.storage.placement.service import not_set
from simples3dms.storage.transfers import repository as transfers_repository

_MOST_VERSIONS = 1000


class Documents:
    """The documents of all tenants."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs

    async def list_documents(
        self, tenant_id: UUID, *, after: UUID | None = None, limit: int = 100, trash: bool = False
    ) -> list[Document]:
        """A page of documents in the order they were made; `after` is the last id of the page before."""
        async with self._database.tenant(tenant_id) as uow:
            return await repository.list_page(uow, after=after, limit=limit, trash=trash)

    async def get_document(self, tenant_id: UUID, document_id: UUID) -> Document:
        async with self._database.tenant(tenant_id) as uow:
            return await _get(uow, document_id)

    async def get_version(
        self, tenant_id: UUID, document_id: UUID, number: int | None = None
    ) -> tuple[Document, Version]:
        """A document and one of its versions, the newest by default."""
        async with self._database.tenant(tenant_id) as uow:
            document = await _get(uow, document_id)
            version = await repository.find_version(uow, document_id, number or document.version)
            if version is None:
                raise errors.version_not_found()
            return document, version

    async def list_versions(self, tenant_id: UUID, document_id: UUID) -> list[Version]:
        """Newest first, at most a thousand."""
        async with self._database.tenant(tenant_id) as uow:
            await _get(uow, document_id)
            return await repository.list_versions(uow, document_id, limit=_MOST_VERSIONS)

    async def list_replicas(self, tenant_id: UUID, document_id: UUID) -> list[ReplicaView]:
        """Where each version of the document is, newest version first."""
        async with self._database.tenant(tenant_id) as uow:
            await _get(uow, document_id)
            return await repository.list_replicas(uow, document_id, limit=_MOST_VERSIONS)

    async def explain_placement(self, tenant_id: UUID, document_id: UUID, number: int | None = None) -> Explanation:
        """Why the bytes of one of its versions, the newest by default, are where they are. Raises NotFound."""
        async with self._database.tenant(tenant_id) as uow:
            document = await _get(uow, document_id)
            blob = await repository.find_version_blob(uow, document_id, number or document.version)
            placement = await placement_repository.find(uow)
            subject = None if blob is None else await placement_repository.find_subject(uow, blob.id)
            if blob is None or subject is None:
                raise errors.version_not_found()
            if placement is None:
                raise not_set()
            replicas = await blobs_repository.list_replicas(uow, [blob.id])
            facts = Facts(
                number or document.version,
                subject,
                placement.version,
                placement.policy,
                replicas,
                await transfers_repository.list_debts(uow, blob.id),
                {grant.store_id: grant.name for grant in await placement_repository.list_grants(uow)},
                await placement_repository.is_migrating(uow),
                await self._blobs.explain_read(uow, placement.policy, replicas, blob=subject),
            )
        return explain(facts)

    @asynccontextmanager
    async def open_download(
        self,
        tenant_id: UUID,
        document_id: UUID,
        *,
        number: int | None = None,
        start: int = 0,
        length: int | None = None,
    ) -> AsyncIterator[Download]:
        """Open a version, or a range of it. Raises before the first byte where that is still possible.

        A document in the trash can't be downloaded (`document_deleted`). The chunks raise if the bytes turn out wrong.
        """
        async with self._database.tenant(tenant_id) as uow:
            document = await _get(uow, document_id)
            if document.deleted_at is not None:
                raise errors.in_trash()
            wanted = number or document.version
            version = await repository.find_version(uow, document_id, wanted)
            blob = await repository.find_version_blob(uow, document_id, wanted)
            if version is None or blob is None:
                raise errors.version_not_found()
            plan = await self._blobs.plan_read(uow, blob)
        size = min(length if length is not None else blob.size_bytes - start, blob.size_bytes - start)
        async with self._blobs.open(plan, start=start, length=size) as chunks:
            yield Download(document, version, start, size, aiter(chunks))

    async def delete_document(self, principal: Principal, tenant_id: UUID, document_id: UUID) -> Document:
        """Put a document into the trash. Idempotent. Raises Kept (`document_held`, `document_retained`)."""
        async with refusals(self._database, principal, tenant_id, document_id, "document.deleted"):
            return await self._set_deleted(principal, tenant_id, document_id, deleted=True)

    async def restore_document(self, principal: Principal, tenant_id: UUID, document_id: UUID) -> Document:
        """Take a document out of the trash. Idempotent."""
        return await self._set_deleted(principal, tenant_id, document_id, deleted=False)

    async def _set_deleted(
        self, principal: Principal, tenant_id: UUID, document_id: UUID, *, deleted: bool
    ) -> Document:
        async with self._database.tenant(tenant_id) as uow:
            state = await repository.lock(uow, document_id)
            if state is None:
                raise errors.not_found()
            if state.is_deleted != deleted:
                if deleted:
                    await require_free(uow, document_id)
                await repository.set_deleted(uow, document_id, deleted=deleted)
                action = "document.deleted" if deleted else "document.restored"
                await _audit(uow, principal, action, document_id)
            return await _get(uow, document_id)

    async def purge_document(
        self, principal: Principal, tenant_id: UUID, document_id: UUID, *, trashed_days: float | None = None
    ) -> None:
        """Remove a document in the trash for good: rows first, and then, by a worker, its bytes at every store.

        Only a tombstone is left, so that neither a retry nor an old replica can bring it back. With `trashed_days`,
        only if it has been in the trash that long: it may have been restored and deleted anew since it was due.
        Raises Kept (`document_held`, `document_retained`) while something keeps it.
        """
        async with (
            refusals(self._database, principal, tenant_id, document_id, "document.purged"),
            self._database.tenant(tenant_id) as uow,
        ):
            state = await repository.lock(uow, document_id)
            if state is None:
                raise errors.not_found()
            if not state.is_deleted:
                raise errors.not_in_trash()
            if trashed_days is not None and not await repository.is_due(uow, document_id, trash_days=trashed_days):
                return
            await require_free(uow, document_id)
            blob_ids = await repository.purge(uow, document_id)
            if blob_ids is None:
                raise held()
            await blobs_repository.bury(uow, blob_ids)
            await self._blobs.locks.want_for_blobs(uow, blob_ids)
            await _audit(uow, principal, "document.purged", document_id)
            await self._blobs.defer_sweep(uow)
            await fp("purge.in_decision_txn")
        await fp("purge.decided")

    async def expire_document(self, principal: Principal, tenant_id: UUID, document_id: UUID, *, days: float) -> None:
        """Purge a document whose time in the trash is over; one that something keeps is passed over, and that told."""
        async with self._database.tenant(tenant_id) as uow:
            free = await is_free(uow, document_id)
        if free:
            await self.purge_document(principal, tenant_id, document_id, trashed_days=days)
        else:
            await pass_over(self._database, principal, tenant_id, document_id)


async def _get(uow: UnitOfWork, document_id: UUID) -> Document:
    document = await repository.find(uow, document_id)
    if document is None:
        raise errors.not_found()
    return document


async def _audit(uow: UnitOfWork, principal: Principal, action: str, document_id: UUID) -> None:
    await record(uow, principal, action, target_type="document", target_id=str(document_id), tenant_id=uow.tenant_id)
