"""Copies inside a service: between stores of one account no byte passes here; they are proven all the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.support import Place, assert_clean, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.kit import failpoints
from simples3dms.kit.ids import new_id
from simples3dms.providers.base import CopySource, PutResult
from simples3dms.providers.errors import AccessDenied, ObjectNotFound, StoreBroken, StoreUnavailable, Unsupported
from simples3dms.providers.kinds import memory
from simples3dms.providers.layers.forwarding import Layer
from simples3dms.providers.layers.meter import Metered, MeterLayer
from simples3dms.sandbox.b2 import B2Sandbox
from simples3dms.sandbox.seaweedfs import SeaweedServer
from simples3dms.storage.migrations.values import Schedule
from simples3dms.storage.placement import repository as placement_repository
from simples3dms.storage.placement.values import Grant
from simples3dms.storage.transfers.values import Outcome, Result

pytestmark = pytest.mark.anyio
BUCKETS = ("one-bucket", "two-bucket")
LARGE = 11 * 2**20
Given = tuple[str, dict[str, Any], dict[str, str]]


def bytes_of(number: int, size: int = 3000) -> bytes:
    return random.Random(number).randbytes(size)


async def place_of(services: Services, a: Given, b: Given) -> Place:
    mark = new_id().hex[-8:]
    tenant = await services.tenants.create_tenant(HOST, f"t-{mark}", "A tenant")
    ids = []
    for name, given in ((f"a-{mark}", a), (f"b-{mark}", b)):
        ids.append((await services.stores.add_store(HOST, name, *given)).id)
        await services.stores.grant_store(HOST, tenant.id, name)
    await services.placements.set_placement(HOST, tenant.id, write=f"a-{mark}")
    return Place(services, tenant.id, f"a-{mark}", f"b-{mark}", *ids)


def shelves(*, account: str = "shared", **settings: Any) -> tuple[Given, Given]:
    """Two stores in memory, of one account."""
    mark = new_id().hex[-8:]
    a, b = ({"name": f"{side}-{mark}", "account": account, **settings} for side in "ab")
    return ("memory", a, {}), ("memory", b, {})


async def metered(services: Services, store_id: UUID) -> Metered:
    layer: Any = await services.stores.provider(store_id)
    while not isinstance(layer, MeterLayer):
        assert isinstance(layer, Layer)
        layer = layer.inner
    return layer.metered


@dataclass
class Copying:
    """Documents at `a` that are owed copies at `b`."""

    place: Place
    grant: Grant
    blob_ids: list[UUID]

    async def copy(self) -> list[Result]:
        return await self.place.services.transfers._engine.copy(self.place.tenant_id, self.blob_ids, self.grant)

    async def replicas(self, store_id: UUID) -> list[tuple[str, str | None, str]]:
        """State, evidence and key."""
        async with self.place.services.database.tenant(self.place.tenant_id) as uow:
            cursor = await uow.connection.execute(
                "SELECT state, evidence, key FROM replicas WHERE store_id = %s ORDER BY created_at", [store_id]
            )
            return await cursor.fetchall()


async def copying(place: Place, *bodies: bytes) -> Copying:
    services = place.services
    for body in bodies:
        await place.upload(body)
    await services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b])
    async with services.database.tenant(place.tenant_id) as uow:
        (grant,) = [one for one in await placement_repository.list_grants(uow) if one.name == place.b]
        blob_ids = await uow.scalars("SELECT id FROM blobs WHERE tenant_id = %s ORDER BY seq", [place.tenant_id])
    return Copying(place, grant, blob_ids)


class Instead:
    """Stands in for a store's `copy`, and counts."""

    def __init__(self, provider: Any, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
        self.calls = 0
        self._error, self._copy = error, provider.copy
        monkeypatch.setattr(provider, "copy", self)

    async def __call__(self, source: CopySource, key: str, **known: Any) -> PutResult:
        self.calls += 1
        if self._error is not None:
            raise self._error
        return await self._copy(source, key, **known)


def spoil(shelf: str, key: str) -> None:
    """Another byte, at the same length."""
    (kept,) = [versions for path, versions in memory._shelves[shelf].objects.items() if path.endswith(key)]
    kept[-1] = replace(kept[-1], data=bytes(1) + kept[-1].data[1:])


async def test_no_byte_of_the_source_passes_here_and_each_copy_is_read_back(services: Services) -> None:
    given = shelves(versions=True)
    place = await place_of(services, *given)
    copies = await copying(place, b"", bytes_of(1), bytes_of(2, LARGE))
    source, target = await metered(services, place.a_id), await metered(services, place.b_id)
    read, sent, back = source.bytes_read, target.bytes_sent, target.bytes_read
    assert [one.outcome for one in await copies.copy()] == [Outcome.COPIED] * 3
    assert (source.bytes_read, target.bytes_sent) == (read, sent)
    assert target.bytes_read - back == 3000 + LARGE
    assert [one[:2] for one in await copies.replicas(place.b_id)] == [("live", "read-back")] * 3
    # Nobody has read the source: nothing more is known of it than before.
    assert [one[:2] for one in await copies.replicas(place.a_id)] == [("live", "written")] * 3
    await assert_clean(services)


async def test_wrong_bytes_of_a_copy_inside_are_found_and_the_next_attempt_is_streamed(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = shelves()
    place = await place_of(services, *given)
    copies = await copying(place, bytes_of(1))
    instead = Instead(await services.stores.provider(place.b_id), monkeypatch)
    right = instead._copy

    async def wrong(source: CopySource, key: str, **known: Any) -> PutResult:
        made = await right(source, key, **known)
        spoil(given[1][1]["name"], key)
        return made

    instead._copy = wrong
    (found,) = await copies.copy()
    assert (found.outcome, found.error_kind, found.retryable) == (Outcome.FAILED, "integrity", True)
    assert [one[0] for one in await copies.replicas(place.b_id)] == ["retiring"]
    assert [one.outcome for one in await copies.copy()] == [Outcome.COPIED]
    assert instead.calls == 1
    (spoiled, good) = await copies.replicas(place.b_id)
    assert good[:2] == ("live", "read-back")
    assert spoiled[2] != good[2]
    assert [one[:2] for one in await copies.replicas(place.a_id)] == [("live", "read-back")]


async def test_a_source_that_was_wrong_all_along_is_told_when_it_is_streamed(services: Services) -> None:
    given = shelves()
    place = await place_of(services, *given)
    copies = await copying(place, bytes_of(1))
    ((_, _, key),) = await copies.replicas(place.a_id)
    spoil(given[0][1]["name"], key)
    assert [one.error_kind for one in await copies.copy()] == ["integrity"]
    assert [one[0] for one in await copies.replicas(place.a_id)] == ["live"], "the service may have been at fault"
    assert [one.error_kind for one in await copies.copy()] == ["integrity"]
    assert [one[0] for one in await copies.replicas(place.a_id)] == ["suspect"]


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (AccessDenied("no"), 1),
        (Unsupported("no", vendor_code="NotImplemented"), 1),
        # Whose disk it was is seen when it is streamed.
        (StoreBroken("no"), 1),
        # These say nothing of the next object.
        (ObjectNotFound("no"), 2),
        (Unsupported("too large"), 2),
    ],
    ids=["denied", "not_implemented", "broken", "not_found", "too_large"],
)
async def test_what_the_service_refuses_is_streamed_at_once_and_not_asked_again(
    services: Services, monkeypatch: pytest.MonkeyPatch, error: Exception, asked: int
) -> None:
    place = await place_of(services, *shelves())
    copies = await copying(place, bytes_of(1), bytes_of(2, LARGE))
    instead = Instead(await services.stores.provider(place.b_id), monkeypatch, error)
    for blob_id in list(copies.blob_ids):
        copies.blob_ids = [blob_id]
        assert [one.outcome for one in await copies.copy()] == [Outcome.COPIED]
    assert instead.calls == asked
    assert [one[:2] for one in await copies.replicas(place.b_id)] == [("live", "read-back")] * 2
    await assert_clean(services)


@pytest.mark.parametrize("point", ["copy.after_put", "copy.proven"])
async def test_f06_a_copy_inside_that_was_not_confirmed_is_swept_up(services: Services, point: str) -> None:
    place = await place_of(services, *shelves(versions=True))
    copies = await copying(place, bytes_of(1))
    failpoints.arm(f"{point}=raise@1", environment="test")
    try:
        with pytest.RaisesGroup(failpoints.FailPointError):
            await copies.copy()
    finally:
        failpoints.arm("", environment="test")
    assert [one[0] for one in await copies.replicas(place.b_id)] == ["retiring"]
    assert len(await place.listing(place.b_id)) == 1, "a row tells of it"
    async with services.database.tenant(place.tenant_id) as uow:
        await uow.execute("UPDATE replicas SET lease_until = NULL WHERE state = 'retiring'")
    await services.blobs.sweep(place.tenant_id)
    assert await place.listing(place.b_id) == []
    assert [one.outcome for one in await copies.copy()] == [Outcome.COPIED]
    await assert_clean(services)


async def test_a_fault_of_the_store_is_one_and_no_refusal(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    place = await place_of(services, *shelves())
    copies = await copying(place, bytes_of(1))
    with monkeypatch.context() as patch:
        Instead(await services.stores.provider(place.b_id), patch, StoreUnavailable("away"))
        (found,) = await copies.copy()
        assert (found.outcome, found.store_fault) == (Outcome.FAILED, True)
    instead = Instead(await services.stores.provider(place.b_id), monkeypatch)
    assert [one.outcome for one in await copies.copy()] == [Outcome.COPIED]
    assert instead.calls == 1


async def test_between_accounts_and_between_owners_nothing_is_asked_for(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = services.transfers._engine
    place = await place_of(services, shelves(account="")[0], shelves(account="")[1])
    copies = await copying(place, bytes_of(1))
    instead = Instead(await services.stores.provider(place.b_id), monkeypatch)
    assert [one.outcome for one in await copies.copy()] == [Outcome.COPIED]
    assert instead.calls == 0
    place = await place_of(services, *shelves())
    copies = await copying(place, bytes_of(1))
    instead = Instead(await services.stores.provider(place.b_id), monkeypatch)
    with monkeypatch.context() as patch:
        owners = {place.a_id: None, place.b_id: place.tenant_id}
        patch.setattr(services.stores._pool, "owner_of", owners.get)
        assert [one.outcome for one in await copies.copy()] == [Outcome.COPIED]
    assert instead.calls == 0
    assert engine._inside._refused == {}


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    with SeaweedServer(tmp_path_factory.mktemp("weed"), buckets=BUCKETS) as server:
        yield server


@pytest.fixture(scope="module")
def b2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[B2Sandbox]:
    with B2Sandbox(tmp_path_factory.mktemp("b2"), buckets=BUCKETS) as server:
        yield server


async def move(services: Services, a: Given, b: Given) -> None:
    """A whole move between two places of one account, and back to nothing at the source."""
    place = await place_of(services, a, b)
    bodies = [bytes_of(number) for number in range(5)] + [bytes_of(9, LARGE)]
    documents = [(await place.upload(body)).document.id for body in bodies]
    source, target = await metered(services, place.a_id), await metered(services, place.b_id)
    read, sent = source.bytes_read, target.bytes_sent
    schedule = Schedule(automatic_cutover=True, finalize_after_seconds=0)
    planned = await services.migrations.plan_migration(HOST, place.tenant_id, target=place.b, schedule=schedule)
    await services.migrations.start_migration(HOST, place.tenant_id, planned.id)
    async with working(services):
        await place.until(planned.id, "done")
    assert (source.bytes_read, target.bytes_sent) == (read, sent)
    assert target.calls["copy"] == len(bodies)
    for document, body in zip(documents, bodies, strict=True):
        assert await place.read(document) == body
    assert await place.listing(place.a_id) == []
    await assert_clean(services)


async def test_a_move_between_buckets_of_one_s3_account(services: Services, weed: SeaweedServer) -> None:
    credential = {"access_key_id": weed.access_key, "secret_access_key": weed.secret_key}
    one, two = ({"bucket": bucket, "endpoint": weed.endpoint} for bucket in BUCKETS)
    await move(services, ("s3", one, credential), ("s3", two, credential))


async def test_a_move_between_buckets_of_one_b2_account(services: Services, b2: B2Sandbox) -> None:
    credential = {"application_key_id": b2.application_key_id, "application_key": b2.application_key}
    one, two = ({"bucket": bucket, "realm": b2.url} for bucket in BUCKETS)
    await move(services, ("b2", one, credential), ("b2", two, credential))


async def test_a_move_between_directories(services: Services, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    await move(services, ("local", {"path": str(tmp_path / "one")}, {}), ("local", {"path": str(tmp_path / "two")}, {}))
