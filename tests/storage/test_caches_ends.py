"""What may lie in a cache no more goes: purged, outside a residency, taken back, or left by a step that failed."""

from __future__ import annotations

from uuid import UUID

import pytest
from tests.storage.cached import MOST_BYTES, Cached, body_of, cached, server, tenant_of
from tests.support import assert_clean, quiet, working

from simples3dms.compliance.deletions import repository as deletions
from simples3dms.context import HOST
from simples3dms.errors import Conflict, Invalid, NotFound
from simples3dms.kit import failpoints
from simples3dms.providers.base import StorageProvider

pytestmark = pytest.mark.anyio
__all__ = ["cached", "server"]


async def test_no_cache_keeps_what_was_purged(cached: Cached) -> None:
    body = body_of()
    document = await cached.upload(body)
    await cached.read(document)
    assert len(cached.files()) == 1
    documents, tenant_id = cached.services.documents, cached.place.tenant_id
    await documents.delete_document(HOST, tenant_id, document)
    await documents.purge_document(HOST, tenant_id, document)
    async with working(cached.services):
        await quiet(cached.place)
    assert cached.files() == []
    assert await cached.used_bytes() == 0
    await assert_clean(cached.services)


async def test_fsck_finds_what_a_cache_has_of_the_dead(cached: Cached) -> None:
    document = await cached.upload(body_of())
    await cached.read(document)
    await assert_clean(cached.services)
    await cached.sql("UPDATE cache_entries SET blob_id = id")
    report = await cached.services.upkeep.fsck()
    assert [one.kind for one in report.findings] == ["cached_dead_blob"]


async def test_a_purge_while_it_is_filled_leaves_nothing(cached: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blob dies between the intent and the word that its bytes are there."""
    services, tenant_id = cached.services, cached.place.tenant_id
    document = await cached.upload(body_of())
    real, purged = services.stores.provider, []

    async def purging(store_id: UUID) -> StorageProvider:
        if store_id == cached.cache_id and not purged:
            purged.append(document)
            await services.documents.delete_document(HOST, tenant_id, document)
            await services.documents.purge_document(HOST, tenant_id, document)
        return await real(store_id)

    monkeypatch.setattr(services.stores, "provider", purging)
    await cached.place.read(document)
    await services.blobs.caches.settle()
    assert purged == [document]
    async with working(services):
        await quiet(cached.place)
    assert cached.files() == []
    assert await cached.used_bytes() == 0


@pytest.mark.parametrize("point", [name for name in failpoints.FAIL_POINTS if name.startswith("cache.")])
async def test_a_step_that_fails_is_cleaned_up_after(cached: Cached, point: str) -> None:
    """At each fail-point, in the process; `tests/faults` kills there."""
    bodies = [body_of(6000) for _ in range(2)]
    documents = [await cached.upload(body) for body in bodies]
    failpoints.arm(f"{point}=raise@1", environment="test")
    try:
        for document, body in zip(documents, bodies, strict=True):
            assert (await cached.read(document))[0] == body
        assert failpoints.hits()[point] >= 1
    finally:
        failpoints.arm("", environment="test")
    async with working(cached.services):
        await quiet(cached.place)
    assert await cached.used_bytes() == sum(one.stat().st_size for one in cached.files())
    await assert_clean(cached.services)


async def test_tenants_share_its_room_and_nothing_else(cached: Cached) -> None:
    other = await tenant_of(cached.services, "other", cached.place.a_id)
    body = body_of()
    document = await cached.upload(body)
    theirs = (await other.upload(body)).document.id
    await cached.read(document)
    assert await other.read(theirs) == body
    await cached.services.blobs.caches.settle()
    assert {one.relative_to(cached.directory).parts[1] for one in cached.files()} == {
        str(cached.place.tenant_id),
        str(other.tenant_id),
    }
    with pytest.raises(NotFound):
        await cached.services.documents.list_replicas(other.tenant_id, document)
    # Whoever used it last makes room by what the other one has not used for longer.
    large = (await other.upload(body_of(MOST_BYTES - 1500))).document.id
    await other.read(large)
    await cached.services.blobs.caches.settle()
    assert not await cached.is_cached(document)


async def test_it_is_not_used_where_documents_may_not_lie_nor_once_it_is_taken_back(cached: Cached) -> None:
    services, tenant_id = cached.services, cached.place.tenant_id
    document = await cached.upload(body_of())
    await cached.read(document)
    await services.stores.set_jurisdiction(HOST, "far", "DE")
    await services.placements.set_residency(HOST, tenant_id, ["EU"])
    assert (await cached.read(document))[1] == {"far"}
    async with working(services):
        while cached.files():
            await quiet(cached.place)
    await services.stores.set_jurisdiction(HOST, "cache", "FR")
    await cached.read(document)
    assert (await cached.read(document))[1] == {"cache"}
    await services.stores.revoke_grant(HOST, tenant_id, "cache")
    assert (await cached.read(document))[1] == {"far"}
    async with working(services):
        while cached.files():
            await quiet(cached.place)
    assert await cached.used_bytes() == 0


async def test_those_whose_content_may_stay_hide_none_whose_may_not(cached: Cached) -> None:
    """However few are looked at at a time, all have their turn."""
    services = cached.services
    tenants = [cached.place, *[await tenant_of(services, name, cached.place.a_id) for name in ("second", "third")]]
    await services.stores.set_jurisdiction(HOST, "far", "DE")
    await services.stores.set_jurisdiction(HOST, "cache", "FR")
    for one in tenants:
        await services.placements.set_residency(HOST, one.tenant_id, ["EU"])
        await one.read((await one.upload(body_of())).document.id)
    await services.blobs.caches.settle()
    await services.placements.set_residency(HOST, tenants[1].tenant_id, ["DE"])
    for _ in range(2):
        found = [await services.blobs.caches.list_to_clean(limit=1) for _ in range(4)]
        assert set().union(*found) == {tenants[1].tenant_id}


async def test_nothing_is_placed_in_it(cached: Cached) -> None:
    services, tenant_id = cached.services, cached.place.tenant_id
    for words in ({"write": "cache"}, {"write": "far", "copies": ["cache"]}, {"write": "far", "read": ["cache"]}):
        with pytest.raises(Invalid) as caught:
            await services.placements.set_placement(HOST, tenant_id, **words)  # type: ignore[arg-type]
        assert caught.value.problem_code == "placement_invalid"
        assert "is a cache" in caught.value.message
    with pytest.raises((Conflict, Invalid, NotFound)):
        await services.migrations.plan_migration(HOST, tenant_id, target="cache")


async def test_a_tenant_that_is_deleted_leaves_nothing_in_it(cached: Cached) -> None:
    document = await cached.upload(body_of())
    await cached.read(document)
    services, tenant_id = cached.services, cached.place.tenant_id
    await services.documents.delete_document(HOST, tenant_id, document)
    async with services.database.platform() as uow:
        assert await deletions.has_replicas(uow, tenant_id)
    await services.documents.purge_document(HOST, tenant_id, document)
    async with working(services):
        await quiet(cached.place)
    async with services.database.platform() as uow:
        assert not await deletions.has_replicas(uow, tenant_id)
