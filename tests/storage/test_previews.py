"""What a placement would bring about is told before it is set: exactly from what is kept, or estimated, and said so."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from uuid import UUID

import psycopg
import pytest
from tests.conftest import Cluster
from tests.storage.test_plans import holds, priced
from tests.storage.test_surveys import surveyed
from tests.support import Place, make_place

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.db.provision import Provisioned
from simples3dms.errors import Invalid
from simples3dms.schemas.costs import Cost, CostSide
from simples3dms.storage.placement import preview as previews
from simples3dms.storage.placement.preview import Preview, StorePreview
from simples3dms.storage.placement.values import Match, PolicyWords, RuleWords

pytestmark = pytest.mark.anyio

_GIB = 2**30


@pytest.fixture
async def place(services: Services) -> Place:
    return await make_place(services)


async def preview(place: Place, words: PolicyWords) -> tuple[Preview, dict[str, StorePreview]]:
    found = await place.services.previews.preview(place.tenant_id, words)
    return found, {one.store: one for one in found.stores}


def counts(one: StorePreview) -> tuple[int, int, int, int]:
    return one.held_count, one.owed_count, one.absent_count, one.extra_count


async def test_a_copy_more_is_told_to_the_byte_and_comes_true(place: Place) -> None:
    for size in (10, 200, 3000):
        await place.upload(bytes(size))
    await priced(place, place.a, egress_per_gib="1", storage_per_gib_month="1")
    await priced(place, place.b, storage_per_gib_month="2")
    words = PolicyWords(place.a, (place.b,))
    found, stores = await preview(place, words)
    assert (found.blob_count, found.size_bytes, found.is_estimate, found.looked_at_count) == (3, 3210, False, 0)
    assert [counts(stores[name]) for name in (place.a, place.b)] == [(3, 0, 0, 0), (0, 3, 0, 0)]
    assert stores[place.b].owed_bytes == 3210
    cost = Cost.model_validate(found.cost)
    assert next(line.most for line in cost.once.lines if line.name == "read") == Decimal("0.000003")
    assert (cost.before.amounts[0].most, cost.after.amounts[0].most) == (Decimal("0.000003"), Decimal("0.000009"))
    assert found.moving["lines"] == []
    await place.services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b])
    await surveyed(place)
    assert sum(one.size_bytes for one in await place.listing(place.b_id)) == stores[place.b].owed_bytes
    _, after = await preview(place, words)
    assert [counts(after[name]) for name in (place.a, place.b)] == [(3, 0, 0, 0), (3, 0, 0, 0)]


async def test_another_write_target_moves_nothing_and_is_told_what_would(place: Place) -> None:
    for store_id in (None, place.a_id):
        await holds(place, store_id, 12_431, 88 * _GIB)
    await priced(place, place.a, egress_per_gib="0.009")
    found, stores = await preview(place, PolicyWords(place.b))
    assert [counts(stores[name]) for name in (place.a, place.b)] == [(12_431, 0, 0, 12_431), (0, 0, 12_431, 0)]
    assert found.cost["once"]["lines"] == []
    moving = CostSide.model_validate(found.moving)
    assert next(line.most for line in moving.lines if line.name == "read") == Decimal("0.792")


async def test_nobody_needs_the_catalogue_for_it(place: Place, cluster: Cluster, urls: Provisioned) -> None:
    """It is locked meanwhile."""
    await place.upload(b"12345")
    name = str(psycopg.conninfo.conninfo_to_dict(urls.app_url)["dbname"])
    superuser = await psycopg.AsyncConnection.connect(cluster.server.superuser_dsn(name))
    async with superuser, superuser.transaction():
        await superuser.execute("LOCK TABLE blobs, replicas, versions IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(20):
            _, stores = await preview(place, PolicyWords(place.a, (place.b,)))
    assert counts(stores[place.b]) == (0, 1, 0, 0)


async def test_rules_are_asked_of_each_blob_where_they_are_few(place: Place) -> None:
    for size in (10, 2000, 3000):
        await place.upload(bytes(size))
    rules = (RuleWords(place.b, match=Match(min_bytes=1000)), RuleWords(place.a, (place.b,), match=Match(max_bytes=10)))
    found, stores = await preview(place, PolicyWords(place.a, rules=rules))
    assert (found.is_estimate, found.looked_at_count) == (False, 3)
    assert counts(stores[place.b]) == (0, 1, 2, 0)
    assert counts(stores[place.a]) == (3, 0, 0, 2)
    assert (stores[place.b].owed_bytes, stores[place.b].absent_bytes) == (10, 5000)


async def test_of_many_blobs_some_from_all_over_are_looked_at(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews, "LOOKED_AT", 40)
    monkeypatch.setattr(previews, "_PAGE", 4)
    # The first 150 are small, the last 50 large: the first 40 alone would say that no blob is for the rule.
    await seed(place, [10] * 150 + [2000] * 50)
    rules = (RuleWords(place.a, (place.b,), match=Match(min_bytes=1000)),)
    found, stores = await preview(place, PolicyWords(place.a, rules=rules))
    assert (found.is_estimate, found.looked_at_count) == (True, 40)
    assert counts(stores[place.a])[0] == 200
    assert counts(stores[place.b]) == (0, 40, 0, 0), "eight of the forty are large: those from 160 and from 180 on"
    assert stores[place.b].owed_bytes == 8 * 2000 * (150 * 10 + 50 * 2000) // (32 * 10 + 8 * 2000)


async def seed(place: Place, sizes: list[int]) -> None:
    """Blobs of these sizes with a replica each, as the records would have them."""
    async with place.services.database.tenant(place.tenant_id) as uow:
        for size in sizes:
            blob_id: UUID = await uow.scalar(
                """INSERT INTO blobs (tenant_id, id, digest, size_bytes, content_type)
                   VALUES (%s, gen_random_uuid(), sha256(''), %s, 'text/plain') RETURNING id""",
                [place.tenant_id, size],
            )
            await uow.execute(
                """INSERT INTO replicas (tenant_id, id, blob_id, store_id, key, state, evidence)
                   VALUES (%s, gen_random_uuid(), %s, %s, %s, 'live', 'written')""",
                [place.tenant_id, blob_id, place.a_id, str(blob_id)],
            )


async def test_what_could_not_be_set_is_refused_alike(place: Place) -> None:
    with pytest.raises(Invalid) as caught:
        await preview(place, PolicyWords("nowhere", (place.b, place.b)))
    assert caught.value.problem_code == "placement_invalid"
    row = await place.services.placements.get_placement(place.tenant_id)
    assert (row.version, row.write) == (1, place.a), "and what is refused, or shown, changes nothing"
