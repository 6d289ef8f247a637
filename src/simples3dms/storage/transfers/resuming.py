"""Copy a large object in parts that are written down as they arrive, so that whoever comes next goes on from there.

What is recorded of a part (its entity tag and its SHA-256) lets it count again; what lets the whole copy count is that
it is read back in the end, like every other. A part may be sent twice, by somebody who was thought dead and by who took
over from him: it has the same number and the same bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final
from uuid import UUID

from simples3dms.db.session import Database
from simples3dms.kit.failpoints import fp
from simples3dms.kit.streams import gather_small
from simples3dms.providers.base import Part, PartsUpload, PutResult, StorageProvider
from simples3dms.providers.errors import IntegrityError, ObjectNotFound, ProviderError
from simples3dms.storage.blobs.values import Blob, Replica, WriteTicket
from simples3dms.storage.transfers.parts import repository as parts

#: Bytes of one object that are held in memory, and under way, at a time.
_BYTES_UNDER_WAY: Final = 24 * 2**20


class SourceFailed(Exception):
    """The source of a copy failed, not its target."""

    def __init__(self, error: ProviderError) -> None:
        super().__init__(error.message)
        self.error = error


class ClaimLost(Exception):
    """Another has taken the copy over, or it was given up."""


def goes_in_parts(target: StorageProvider, blob: Blob) -> bool:
    """Whether a copy of the blob to the target can be taken up again."""
    return target.capabilities.multipart and blob.size_bytes > target.capabilities.part_size_bytes


async def copy_in_parts(
    database: Database,
    turn: Callable[[], AbstractAsyncContextManager[None]],
    tenant_id: UUID,
    blob: Blob,
    provider: StorageProvider,
    source: Replica,
    target: StorageProvider,
    ticket: WriteTicket,
) -> PutResult:
    """Send the parts that the target does not have yet, and finish. Its bytes are to be read back afterwards.

    `turn`: what each part waits for.

    Raises SourceFailed, ClaimLost, or the target's ProviderError: what was sent stays there for the next attempt.
    """
    upload, done = await _take_up(database, tenant_id, target, ticket)
    if upload is None:
        finished = await _find_finished(target, ticket, blob)
        if finished is not None:
            return finished
        upload = await _begin(database, tenant_id, blob, target, ticket)
    size = upload.part_size_bytes
    numbers = range(1, -(-blob.size_bytes // size) + 1)
    slots = asyncio.Semaphore(max(1, _BYTES_UNDER_WAY // size))

    async def send(number: int) -> None:
        async with slots, turn():
            start = (number - 1) * size
            body = await _read(provider, source, start, min(size, blob.size_bytes - start))
            part = await target.put_part(upload, number, body)
            digest = hashlib.sha256(body).digest()
        async with database.tenant(tenant_id) as uow:
            if not await parts.insert_part(uow, ticket, part, digest):
                raise ClaimLost
        done[number] = part
        await fp("copy.part_sent")

    try:
        async with asyncio.TaskGroup() as group:
            for number in numbers:
                if number not in done:
                    group.create_task(send(number))
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return await target.finish_parts(upload, [done[number] for number in numbers])


async def _take_up(
    database: Database, tenant_id: UUID, target: StorageProvider, ticket: WriteTicket
) -> tuple[PartsUpload | None, dict[int, Part]]:
    """The upload that was begun, if the target still has it, and the parts of it that are as they were recorded."""
    async with database.tenant(tenant_id) as uow:
        begun = await parts.find_part_upload(uow, ticket.replica_id)
        recorded = await parts.list_parts(uow, ticket.replica_id) if begun else []
    if begun is None:
        return None, {}
    upload = PartsUpload(ticket.key, begun.upload_id, begun.part_size_bytes)
    try:
        listed = {part.number: part for part in await target.list_parts(upload)}
    except ObjectNotFound:
        return None, {}
    return upload, {part.number: part for part in recorded if listed.get(part.number) == part}


async def _find_finished(target: StorageProvider, ticket: WriteTicket, blob: Blob) -> PutResult | None:
    """What an attempt before has put together, if the answer to that was all that was lost."""
    try:
        found = await target.head(ticket.key)
    except ObjectNotFound:
        return None
    if found.size_bytes != blob.size_bytes:
        raise IntegrityError("an object of another size lies where this copy belongs", key=ticket.key)
    return PutResult(ticket.key, found.size_bytes, found.version_id, found.etag)


async def _begin(
    database: Database, tenant_id: UUID, blob: Blob, target: StorageProvider, ticket: WriteTicket
) -> PartsUpload:
    upload = await target.begin_parts(ticket.key, size_bytes=blob.size_bytes)
    async with database.tenant(tenant_id) as uow:
        # Until this is committed, the replica's row alone tells of it: whoever sweeps its key ends the upload.
        if not await parts.replace_part_upload(uow, ticket, upload):
            raise ClaimLost
    return upload


async def _read(provider: StorageProvider, source: Replica, start: int, length: int) -> bytes:
    try:
        async with provider.open(source.key, version_id=source.version_id, start=start, length=length) as reader:
            body = await gather_small(reader, length)
        if len(body) != length:
            raise IntegrityError("the object is shorter than recorded", key=source.key)
    except ValueError as error:
        raise SourceFailed(IntegrityError("the object is longer than recorded", key=source.key)) from error
    except ProviderError as error:
        raise SourceFailed(error) from error
    return body
