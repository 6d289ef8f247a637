"""Copies that a service makes by itself, where source and target share an account: no byte passes here.

Nothing of such a copy was hashed by us, so whoever asks for one proves it afterwards, as every other.
"""

from __future__ import annotations

import time
from typing import Final
from uuid import UUID

import structlog

from simples3dms.providers.base import CopySource, StorageProvider
from simples3dms.providers.errors import (
    STORE_FAULTS,
    BucketMissing,
    ObjectNotFound,
    ProviderError,
    StoreBroken,
    Unsupported,
)
from simples3dms.storage.blobs.values import Blob, Replica, WriteTicket
from simples3dms.storage.transfers.proving import Copy

log = structlog.get_logger(__name__)

#: How long this process streams between two stores after one has refused, before it asks again.
_REFUSED_SECONDS: Final = 3600.0
#: Errors of the target that streaming would meet as well. A missing bucket and a broken disk may be the source's.
_FAULTS: Final = tuple(error for error in STORE_FAULTS if error not in (BucketMissing, StoreBroken))


class InsideCopies:
    """Asks stores to copy from one another, and keeps in mind which of them would not."""

    def __init__(self) -> None:
        self._refused: dict[tuple[UUID, UUID], float] = {}

    def suits(self, provider: StorageProvider, source: Replica, target: StorageProvider, ticket: WriteTicket) -> bool:
        """Whether the target may be asked: it can, shares its account with the source, and has not refused lately.

        A key that somebody else has begun to write to in parts (its fence has risen) is not given to the service.
        """
        if not target.capabilities.server_side_copy or provider.location.account != target.location.account:
            return False
        is_refused = self._refused.get((source.store_id, ticket.store_id), 0.0) > time.monotonic()
        return source.state == "live" and ticket.fence == 1 and not is_refused

    async def copy(
        self, blob: Blob, provider: StorageProvider, source: Replica, target: StorageProvider, ticket: WriteTicket
    ) -> Copy | None:
        """Have it copied; None where the service would not, and the bytes are to be streamed. Raises the target's
        faults."""
        place = CopySource(provider.location, source.key, blob.size_bytes, source.version_id)
        try:
            made = await target.copy(place, ticket.key)
        except _FAULTS:
            raise
        except ProviderError as error:
            await self._refuse(error, source, target, ticket)
            return None
        return Copy(ticket.key, made.version_id, inside=True)

    async def _refuse(
        self, error: ProviderError, source: Replica, target: StorageProvider, ticket: WriteTicket
    ) -> None:
        if isinstance(error, Unsupported) and error.vendor_code is None:
            return  # our own word about this object, such as its size: nothing was asked
        if not isinstance(error, ObjectNotFound):
            self.doubt(source, ticket, error)
        await target.discard(ticket.key)

    def doubt(self, source: Replica, ticket: WriteTicket, error: ProviderError) -> None:
        """Stream between these two stores for a while."""
        self._refused[source.store_id, ticket.store_id] = time.monotonic() + _REFUSED_SECONDS
        log.warning(
            "copy.inside_refused",
            source=str(source.store_id),
            target=str(ticket.store_id),
            error=error.kind,
            vendor_code=error.vendor_code,
        )
