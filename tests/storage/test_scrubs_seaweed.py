"""Scrubs over a real object store: a byte that changes on its disk, and a bucket that is deleted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import Place, assert_clean, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.sandbox.seaweedfs import SeaweedServer
from simples3dms.storage.scrubs.values import Level, Scrub

pytestmark = pytest.mark.anyio
BUCKETS = ("one", "two")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SeaweedServer]:
    with SeaweedServer(tmp_path / "weed", buckets=BUCKETS) as server:
        yield server


@pytest.fixture
async def place(services: Services, server: SeaweedServer) -> Place:
    credential = {"access_key_id": server.access_key, "secret_access_key": server.secret_key}
    tenant = await services.tenants.create_tenant(HOST, "acme", "Acme")
    ids = []
    for bucket in BUCKETS:
        settings = {"bucket": bucket, "endpoint": server.endpoint, "region": server.region}
        ids.append((await services.stores.add_store(HOST, bucket, "s3", settings, credential)).id)
        await services.stores.grant_store(HOST, tenant.id, bucket)
    await services.placements.set_placement(HOST, tenant.id, write="one", copies=["two"])
    return Place(services, tenant.id, *BUCKETS, *ids)


def body_of(number: int) -> bytes:
    """Of a kind that the server does not compress."""
    return random.Random(number).randbytes(6000)


async def fill(place: Place, count: int) -> None:
    for number in range(count):
        await place.upload(body_of(number))
    async with working(place.services):
        await quiet(place)


async def scrub(place: Place, level: Level) -> Scrub:
    services = place.services
    begun = await services.scrubs.start(HOST, place.tenant_id, store="two", level=level)
    while True:
        # Several turns: each read of what the server can't read takes until it is given up.
        await services.scrubs.engine.run(place.tenant_id, begun.id)
        found = await services.scrubs.get(place.tenant_id, begun.id)
        if found.state != "running" or found.error_code is not None:
            return found


async def test_f32_a_byte_that_changes_on_the_disk_is_found_by_a_deep_scrub(place: Place, tmp_path: Path) -> None:
    """The server answers 500 to every read of it, and 200 with the right size to a head."""
    await fill(place, 5)
    volumes = [path for path in (tmp_path / "weed").rglob("*.dat") if body_of(3) in path.read_bytes()]
    (volume,) = [path for path in volumes if path.name.startswith("two")]
    at = volume.read_bytes().index(body_of(3)) + 10
    with volume.open("r+b") as file:
        file.seek(at)
        file.write(bytes([body_of(3)[10] ^ 1]))
    light = await scrub(place, "light")
    assert (light.state, light.checked_count, light.suspect_count) == ("done", 5, 0)
    deep = await scrub(place, "deep")
    assert (deep.state, deep.checked_count, deep.suspect_count, deep.missing_count) == ("done", 5, 1, 0)
    async with working(place.services):
        async with asyncio.timeout(60):
            while await place.services.scrubs.list_doubtful(place.tenant_id):
                await asyncio.sleep(0.05)
        await quiet(place)
    await assert_clean(place.services)


async def test_f49_a_bucket_that_is_deleted_marks_nothing(place: Place, server: SeaweedServer) -> None:
    await fill(place, 3)
    s3 = server.client()
    for item in s3.list_objects_v2(Bucket="two")["Contents"]:
        s3.delete_object(Bucket="two", Key=item["Key"])
    s3.delete_bucket(Bucket="two")
    found = await scrub(place, "light")
    assert (found.state, found.error_code, found.checked_count) == ("running", "store_bucket_missing", 0)
    compared = await place.services.reconciles.start(HOST, place.tenant_id, store="two", older_than_days=0)
    await place.services.reconciles.engine.run(place.tenant_id, compared.id)
    compared = await place.services.reconciles.get(place.tenant_id, compared.id)
    assert (compared.state, compared.error_code, compared.missing_count) == ("running", "store_bucket_missing", 0)
    assert await place.services.scrubs.list_doubtful(place.tenant_id) == []
    assert (await place.services.stores.get_store("two")).untrusted_at is None
