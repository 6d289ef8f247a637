"""What follows when replicas are found bad: they are marked and mended, unless so many are that a person decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from simples3dms.audit.service import record
from simples3dms.context import WORKER
from simples3dms.db.session import UnitOfWork
from simples3dms.storage.blobs import repository as blobs_repository
from simples3dms.storage.blobs.service import Blobs
from simples3dms.storage.scrubs import repository
from simples3dms.storage.scrubs.values import Found, is_too_much

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Finder:
    """Which piece of work found them, and at which store."""

    noun: str
    id: UUID
    store_id: UUID
    store: str


async def mark(uow: UnitOfWork, found: Sequence[Found]) -> list[Found]:
    """Take the bad replicas' word back; what counts of all that was found: not where a reader has been first."""
    bad = [one for one in found if one.state is not None]
    await blobs_repository.lock_replicas(uow, [one.copy.id for one in bad])
    counted = [one for one in found if one.state is None]
    for one in bad:
        assert one.state is not None
        if await blobs_repository.mark_lost(uow, one.copy.id, state=one.state, error=one.error or one.state):
            counted.append(one)
    return counted


async def answer(
    blobs: Blobs,
    uow: UnitOfWork,
    by: Finder,
    bad: Sequence[Found],
    lost: Sequence[UUID],
    *,
    checked_count: int,
    bad_count: int,
) -> str | None:
    """For the platform's unit of work that marked them. The reason, if the store is not trusted from now on.

    `lost`: blobs that have no good replica any more. The counts are those of the whole piece of work so far.
    """
    if lost:
        log.error("blob.lost", store=by.store, blobs=[str(blob_id) for blob_id in lost])
        details: dict[str, object] = {"store": by.store, "blobs": [str(blob_id) for blob_id in lost]}
        await record(
            uow,
            WORKER,
            "blob.lost",
            target_type=by.noun,
            target_id=str(by.id),
            tenant_id=uow.tenant_id,
            details=details,
        )
    for one in bad:
        log.warning("replica.lost", replica=str(one.copy.id), store=by.store, state=one.state)
    reason = f"A {by.noun} found {bad_count} of {checked_count} replicas bad."
    is_news = is_too_much(checked_count, bad_count) and await repository.distrust(uow, by.store_id, reason)
    if is_news:
        log.error("store.distrusted", store=by.store, reason=reason)
        await record(
            uow,
            WORKER,
            "store.distrusted",
            target_type="store",
            target_id=str(by.store_id),
            tenant_id=await repository.find_owner(uow, by.store_id),
            details={"name": by.store, by.noun: str(by.id), "reason": reason},
        )
    if await blobs_repository.is_trusted(uow, by.store_id):
        for one in bad:
            assert one.copy.blob_id is not None
            await blobs.defer_repair(uow, one.copy.blob_id, by.store_id)
    return reason if is_news else None
