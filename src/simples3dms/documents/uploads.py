"""Uploads: intent row, then bytes, then one unit of work that makes the document's new version visible."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, replace
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.documents import errors, repository
from simples3dms.documents.values import LONGEST_NAME, UploadRequest, UploadResult, UploadRow
from simples3dms.documents.writes import Targets, Writes
from simples3dms.errors import Failure, Invalid, NotFound, Unavailable
from simples3dms.kit.failpoints import fp
from simples3dms.kit.ids import new_id
from simples3dms.kit.streams import LeaseLost, heartbeat
from simples3dms.storage.blobs.service import Blobs
from simples3dms.storage.blobs.values import Written
from simples3dms.storage.migrations import repository as migrations_repository
from simples3dms.storage.placement import repository as placement_repository
from simples3dms.storage.placement.router import (
    layout_of,
    missing_stores,
    needs_size,
    stores_for_writing,
    write_store_of,
)
from simples3dms.storage.placement.service import not_set
from simples3dms.storage.placement.values import PlacementRow, Subject
from simples3dms.storage.transfers.service import Transfers
from simples3dms.tenants import repository as tenants_repository

_NO_PRINCIPAL = UUID(int=0)
_LONGEST_HOLD_ROUNDS = 100
_HOLD_ROUND_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class _Most:
    """How many bytes an upload may bring: `room_bytes` is what the tenant's `most_bytes` had left, and is reserved."""

    largest_bytes: int
    room_bytes: int | None = None
    most_bytes: int | None = None

    def check(self, size_bytes: int) -> None:
        """Raise TooLarge (`document_too_large`) or Conflict (`limit_reached`) for more than that."""
        if size_bytes > self.largest_bytes:
            raise errors.too_large(self.largest_bytes)
        if self.room_bytes is not None and self.most_bytes is not None and size_bytes > self.room_bytes:
            raise errors.limit_reached("most_bytes", self.most_bytes)

    def reserved(self, size_bytes: int | None) -> int:
        """What is announced, else (for a limited tenant) as much as may come."""
        if size_bytes is not None:
            return size_bytes
        return 0 if self.room_bytes is None else min(self.largest_bytes, self.room_bytes)


@dataclass(frozen=True, slots=True)
class _Session:
    """An open upload: ours as long as its fence stands."""

    id: UUID
    fence: int
    targets: Targets
    most: _Most
    blob_id: UUID


class Uploads:
    """The uploads of all tenants."""

    def __init__(self, database: Database, blobs: Blobs, transfers: Transfers, *, largest_bytes: int) -> None:
        self._database = database
        self._blobs = blobs
        self._transfers = transfers
        self._largest_bytes = largest_bytes
        self._writes = Writes(database, blobs)

    async def upload(
        self, principal: Principal, tenant_id: UUID, request: UploadRequest, body: AsyncIterable[bytes]
    ) -> UploadResult:
        """Stream a body to where the placement says and make it a document, or a document's next version.

        Nothing is visible until all of it is stored and right; whatever fails, nothing is left behind. With an
        idempotency key, a repeated request answers what the first one did, and the body is not read again.
        """
        _check(request)
        if request.size_bytes is not None and request.size_bytes > self._largest_bytes:
            raise errors.too_large(self._largest_bytes)
        begun = await self._begin(principal, tenant_id, request)
        if isinstance(begun, UploadResult):
            return begun
        await fp("upload.reserved")
        counted = _Counted(body, request, begun.most)
        try:
            written = await self._write(tenant_id, begun, request, counted)
            await fp("upload.after_put")
            result = await self._finish(principal, tenant_id, request, begun, written)
        except Failure as failure:
            done = await self._give_up(tenant_id, begun)
            if done is not None:
                # The last unit of work was committed, and nothing but the database's answer to that was lost.
                return done
            raise counted.verdict() or failure from failure.__cause__
        except BaseException:
            await asyncio.shield(self._give_up(tenant_id, begun))
            raise
        await fp("upload.committed")
        return result

    async def _begin(self, principal: Principal, tenant_id: UUID, request: UploadRequest) -> _Session | UploadResult:
        """The first unit of work. One whose COMMIT was not answered is undone: no repeat is to wait for its claim."""
        opened: list[_Session] = []
        try:
            return await self._open(principal, tenant_id, request, opened)
        except Unavailable:
            for session in opened:
                await self._give_up(tenant_id, session)
            raise

    async def _open(
        self, principal: Principal, tenant_id: UUID, request: UploadRequest, opened: list[_Session]
    ) -> _Session | UploadResult:
        """Route and record the intent, or find that it was done already. `opened` gets the session before the end."""
        owner = principal.id or _NO_PRINCIPAL
        fingerprint = _fingerprint(request)
        async with self._database.tenant(tenant_id) as uow:
            earlier: UploadRow | None = None
            if request.idempotency_key is not None:
                earlier = await repository.find_upload(uow, owner, request.idempotency_key)
            if earlier is not None:
                if earlier.fingerprint != fingerprint:
                    raise errors.key_reused()
                if earlier.state == "completed":
                    return await _replay(uow, earlier)
                if earlier.state == "open" and earlier.is_leased:
                    raise errors.upload_under_way()
            if request.document_id is not None:
                await _require_live(uow, request.document_id)
            most = await _room(uow, request, self._largest_bytes, apart_from=earlier.id if earlier else None)
            blob_id = new_id()
            targets = await self._route(uow, Subject(blob_id, request.content_type, request.size_bytes))
            lease = self._blobs.lease_seconds
            reserved = most.reserved(request.size_bytes)
            if earlier is not None:
                fence = await repository.reopen_upload(
                    uow,
                    earlier.id,
                    replica_id=targets.tickets[0].replica_id,
                    reserved_bytes=reserved,
                    lease_seconds=lease,
                )
                opened.append(_Session(earlier.id, fence, targets, most, blob_id))
                return opened[0]
            session = _Session(new_id(), 1, targets, most, blob_id)
            if not await repository.insert_upload(
                uow,
                session.id,
                request,
                principal_id=owner,
                fingerprint=fingerprint,
                replica_id=targets.tickets[0].replica_id,
                reserved_bytes=reserved,
                lease_seconds=lease,
            ):
                raise errors.upload_under_way()
            opened.append(session)
            return session

    async def _route(self, uow: UnitOfWork, subject: Subject) -> Targets:
        """Claim the stores that the bytes go to."""
        # Shared, so that no upload starts towards a store after the placement has turned away from it.
        placement = await placement_repository.share(uow)
        if placement is None:
            raise not_set()
        if needs_size(placement.policy, subject):
            raise errors.size_needed()
        grants = {grant.store_id: grant for grant in await placement_repository.list_grants(uow)}
        stores = [grants[store_id] for store_id in stores_for_writing(placement.policy, subject)]
        acks = layout_of(placement.policy, subject).min_acks
        return Targets([await self._blobs.begin_write(uow, grant) for grant in stores[:acks]], stores[acks:])

    async def _write(
        self, tenant_id: UUID, session: _Session, request: UploadRequest, body: AsyncIterable[bytes]
    ) -> list[Written]:
        async def beat() -> bool:
            async with self._database.tenant(tenant_id) as uow:
                await repository.extend_upload(uow, session.id, session.fence, lease_seconds=self._blobs.lease_seconds)
            return True

        try:
            async with heartbeat(beat, lease_seconds=self._blobs.lease_seconds):
                return await self._writes.write(tenant_id, session.targets, request, body)
        except LeaseLost:
            message = "The upload could not be kept alive and was given up; send it again."
            raise Unavailable(message, code="lease_lost") from None

    async def _finish(
        self,
        principal: Principal,
        tenant_id: UUID,
        request: UploadRequest,
        session: _Session,
        written: list[Written],
    ) -> UploadResult:
        """The last unit of work. One that a cut-over asks to wait lets it go first: a moment, and never for long."""
        for attempt in range(_LONGEST_HOLD_ROUNDS + 1):
            async with self._database.tenant(tenant_id) as uow:
                placement = await placement_repository.share(uow)
                if placement is None:
                    raise not_set()
                if not placement.is_held or attempt == _LONGEST_HOLD_ROUNDS:
                    return await self._publish(uow, principal, request, session, written, placement)
            await asyncio.sleep(_HOLD_ROUND_SECONDS)
        raise AssertionError("unreachable")

    async def _publish(
        self,
        uow: UnitOfWork,
        principal: Principal,
        request: UploadRequest,
        session: _Session,
        written: list[Written],
        placement: PlacementRow,
    ) -> UploadResult:
        """Blob, live replica, version, debts of copies, audit; all or none of it."""
        blob_id = session.blob_id
        await self._blobs.record_blob(uow, written, blob_id, content_type=request.content_type)
        document_id, number = await _add_version(uow, principal, request, blob_id)
        await self._blobs.locks.want_for_document(uow, document_id)
        if not await repository.complete_upload(
            uow, session.id, session.fence, document_id=document_id, version=number
        ):
            raise errors.upload_under_way()
        is_new = request.document_id is None
        await repository.count_usage(uow, documents=int(is_new), size_bytes=written[0].size_bytes)
        # By its real size: one that was not announced may have hidden which rule the blob follows.
        subject = Subject(blob_id, request.content_type, written[0].size_bytes)
        # Where the bytes are besides, they are still to be read back: that is owed as copies are.
        present = {one.ticket.store_id for one in written} & {write_store_of(placement.policy, subject)}
        wanted = missing_stores(placement.policy, subject, present)
        if wanted:
            migration_id = await migrations_repository.find_active_id(uow)
            await self._transfers.owe_copies(uow, blob_id, wanted, migration_id=migration_id)
        await record(
            uow,
            principal,
            "document.uploaded",
            target_type="document",
            target_id=str(document_id),
            tenant_id=uow.tenant_id,
            details={"version": number, "size_bytes": written[0].size_bytes},
        )
        document = await repository.find(uow, document_id)
        version = await repository.find_version(uow, document_id, number)
        await fp("upload.in_final_txn")
        assert document is not None
        assert version is not None
        return UploadResult(document, version, replayed=False)

    async def _give_up(self, tenant_id: UUID, session: _Session) -> UploadResult | None:
        """Leave nothing behind; the result, if the upload turns out to have been completed."""
        async with self._database.tenant(tenant_id) as uow:
            if not await repository.fail_upload(uow, session.id, session.fence):
                completed = await repository.find_completed(uow, session.id, session.fence)
                if completed is not None:
                    return replace(await _replay(uow, completed), replayed=False)
        for ticket in session.targets.tickets:
            await self._blobs.give_up(tenant_id, ticket)
        return None


class _Counted:
    """The body on its way: counted, hashed where a digest was announced, so that the client can be told its fault."""

    def __init__(self, body: AsyncIterable[bytes], request: UploadRequest, most: _Most) -> None:
        self._body = body
        self._most = most
        self._request = request
        self._received = 0
        self._ended = False
        self._digest = hashlib.sha256() if request.sha256 is not None else None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        announced = self._request.size_bytes
        first = True
        async for chunk in self._body:
            self._received += len(chunk)
            self._most.check(self._received)
            if announced is not None and self._received > announced:
                raise errors.size_mismatch(announced, self._received)
            if self._digest is not None:
                self._digest.update(chunk)
            yield chunk
            if first:
                first = False
                await fp("upload.mid_stream")
        if announced is not None and self._received != announced:
            raise errors.size_mismatch(announced, self._received)
        self._ended = True

    def verdict(self) -> Invalid | None:
        """What the client did wrong, if that is why the store's layers refused the body."""
        if self._ended and self._digest is not None and self._digest.digest() != self._request.sha256:
            return errors.digest_mismatch()
        return None


async def _replay(uow: UnitOfWork, earlier: UploadRow) -> UploadResult:
    assert earlier.result_document_id is not None
    assert earlier.result_version is not None
    document = await repository.find(uow, earlier.result_document_id)
    version = await repository.find_version(uow, earlier.result_document_id, earlier.result_version)
    if document is None or version is None:
        raise NotFound("This upload was done, and its document has been purged since.", code="document_not_found")
    return UploadResult(document, version, replayed=True)


async def _room(uow: UnitOfWork, request: UploadRequest, largest_bytes: int, *, apart_from: UUID | None) -> _Most:
    """What the tenant's limits leave to this upload. Of a limited tenant, uploads begin one after the other."""
    assert uow.tenant_id is not None
    limits = await tenants_repository.find_settings(uow, uow.tenant_id)
    largest = min(largest_bytes, limits.largest_upload_bytes or largest_bytes)
    most = _Most(largest)
    if limits.most_documents is not None or limits.most_bytes is not None:
        await repository.lock_usage(uow)
        used = await repository.find_usage(uow, apart_from=apart_from)
        if (
            request.document_id is None
            and limits.most_documents is not None
            and used.documents >= limits.most_documents
        ):
            raise errors.limit_reached("most_documents", limits.most_documents)
        if limits.most_bytes is not None:
            most = _Most(largest, max(0, limits.most_bytes - used.size_bytes), limits.most_bytes)
    most.check(request.size_bytes or 0)
    return most


async def _require_live(uow: UnitOfWork, document_id: UUID) -> None:
    document = await repository.find(uow, document_id)
    if document is None:
        raise errors.not_found()
    if document.deleted_at is not None:
        raise errors.in_trash()


async def _add_version(
    uow: UnitOfWork, principal: Principal, request: UploadRequest, blob_id: UUID
) -> tuple[UUID, int]:
    document_id, number = request.document_id, 1
    if document_id is None:
        document_id = new_id()
        await repository.insert(uow, document_id, request.name)
    else:
        state = await repository.lock(uow, document_id)
        if state is None:
            raise errors.not_found()
        if state.is_deleted:
            raise errors.in_trash()
        number = state.version_number + 1
    await repository.add_version(
        uow,
        document_id,
        number,
        blob_id=blob_id,
        content_type=request.content_type,
        created_by=principal.id,
        original_created_at=request.original_created_at,
    )
    return document_id, number


def _check(request: UploadRequest) -> None:
    name = request.name
    if request.document_id is None and (not name.strip() or len(name) > LONGEST_NAME):
        raise Invalid(f"A document's name has 1 to {LONGEST_NAME} characters.", code="document_name_invalid")
    if any(ord(character) < 32 or ord(character) == 127 or 0xD800 <= ord(character) <= 0xDFFF for character in name):
        raise Invalid("A document's name holds no control characters.", code="document_name_invalid")
    if not 1 <= len(request.content_type) <= 200 or not request.content_type.isprintable():
        raise Invalid("The content type is missing or malformed.", code="content_type_invalid")


def _fingerprint(request: UploadRequest) -> bytes:
    """What makes two requests with one key the same request."""
    parts = [
        request.name,
        request.content_type,
        str(request.document_id),
        str(request.size_bytes),
        (request.sha256 or b"").hex(),
    ]
    if request.original_created_at is not None:
        parts.append(request.original_created_at.isoformat())
    return hashlib.sha256(json.dumps(parts).encode()).digest()
