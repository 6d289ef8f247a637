"""The watchdog: finds, in our own rows, work whose job was lost or whose worker is gone, and queues it again."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import structlog

from simples3dms.bootstrap import Services
from simples3dms.compliance.deletions import repository as deletions_repository
from simples3dms.compliance.persons import repository as persons_repository
from simples3dms.context import WORKER
from simples3dms.documents import repository as documents_repository
from simples3dms.errors import Failure
from simples3dms.jobs import trails
from simples3dms.keys import repository as keys_repository
from simples3dms.storage.blobs import repository as blobs_repository
from simples3dms.storage.migrations import repository as migrations_repository
from simples3dms.storage.rotations import repository as rotations_repository
from simples3dms.storage.stores import repository as stores_repository
from simples3dms.storage.transfers import repository as transfers_repository

log = structlog.get_logger(__name__)

_LIMIT = 500


async def tick(services: Services) -> None:
    """One round. Cheap when there is nothing to do; several at once do no harm."""
    async with services.database.platform() as uow:
        await documents_repository.expire_uploads(uow, limit=_LIMIT)
        to_clean = await blobs_repository.list_tenants_to_clean(uow, limit=_LIMIT)
        transfers = await transfers_repository.list_due(uow, limit=_LIMIT)
        migrations = await migrations_repository.list_working(uow, limit=_LIMIT)
        doubtful = await blobs_repository.list_doubtful(uow, limit=_LIMIT)
        to_probe = await stores_repository.list_due_probes(uow, hours=services.probe_hours, limit=_LIMIT)
        rewraps = await keys_repository.list_due_rewraps(uow, limit=_LIMIT)
        to_purge = await documents_repository.list_to_purge(uow, trash_days=services.trash_days, limit=_LIMIT)
    await services.counters.fold()
    await services.health.tell()
    for tenant_id in {*to_clean, *await services.blobs.caches.list_to_clean(limit=_LIMIT)}:
        async with services.database.tenant(tenant_id) as tenant:
            await services.blobs.defer_sweep(tenant)
    for replica in doubtful:
        async with services.database.tenant(replica.tenant_id) as tenant:
            await services.blobs.defer_repair(tenant, replica.blob_id, replica.store_id)
    await services.blobs.caches.begin_trims()
    if to_probe:
        async with services.database.platform() as platform:
            for store_id in to_probe:
                await services.queue.defer(platform, "store.probe", once=f"probe:{store_id}", store_id=store_id)
    await _watch_keys(services, rewraps)
    await services.drains.engine.defer_due(limit=_LIMIT)
    await services.notices.owe_due(limit=_LIMIT)
    await services.letters.defer_due(limit=_LIMIT)
    await services.locks.defer_due(limit=_LIMIT)
    await services.scrubs.start_due(limit=_LIMIT)
    await services.reconciles.start_due(limit=_LIMIT)
    await services.transfers.defer_due_surveys(limit=_LIMIT)
    for transfer in transfers:
        async with services.database.tenant(transfer.tenant_id) as tenant:
            await services.transfers.defer_run(tenant, transfer.id, once=True)
    for migration in migrations:
        async with services.database.tenant(migration.tenant_id) as tenant:
            await services.migration_engine.defer_advance(tenant, migration.id)
    is_held = await services.restores.is_held()
    if is_held:
        log.error("removals.held", reason="the database was restored: simples3dms upkeep confirm-restore")
    await _queue_endings(services)
    # What these records have in the trash may have been taken out of it since.
    for document in () if is_held else to_purge:
        try:
            await services.documents.expire_document(WORKER, document.tenant_id, document.id, days=services.trash_days)
        except Failure as failure:
            log.info("purge.skipped", document=str(document.id), code=failure.problem_code)
    await trails.tick(services, limit=_LIMIT)


async def _watch_keys(services: Services, rewraps: Sequence[UUID]) -> None:
    """Changes of keys and rotations of credentials that are due; and which key seals, told or not."""
    await services.keys.refresh()
    async with services.database.platform() as uow:
        rotations = await rotations_repository.list_due(uow, limit=_LIMIT)
        schedules = await rotations_repository.list_due_schedules(uow, limit=_LIMIT)
        for rewrap_id in rewraps:
            await services.keys.defer_rewrap(uow, rewrap_id)
        for rotation_id in rotations:
            await services.rotations.defer(uow, rotation_id)
        for store_id in schedules:
            await services.queue.defer(uow, "rotation.start", once=f"rotate:{store_id}", store_id=store_id)
    await services.keys.catch_up()
    await services.rotations.warn_of_expiry()


async def _queue_endings(services: Services) -> None:
    """Queue what ends tenants and forgets persons."""
    async with services.database.platform() as uow:
        for deletion in await deletions_repository.list_due(uow, limit=_LIMIT):
            await services.deletion_engine.defer(uow, deletion.tenant_id, deletion.id)
        for erasure_id in await persons_repository.list_due(uow, limit=_LIMIT):
            await services.persons.defer(uow, erasure_id)
