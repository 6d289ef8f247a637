"""Why a document is where it is: every store that the placement wants, or that holds bytes, with its reason."""

from __future__ import annotations

from uuid import UUID

import pytest
from tests.support import Place, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.documents.values import Explanation
from simples3dms.errors import NotFound
from simples3dms.kit.ids import new_id
from simples3dms.storage.placement.values import Match, RuleWords

pytestmark = pytest.mark.anyio


@pytest.fixture
async def place(services: Services) -> Place:
    return await make_place(services)


async def explained(place: Place, document_id: UUID, number: int | None = None) -> Explanation:
    return await place.services.documents.explain_placement(place.tenant_id, document_id, number)


def told(found: Explanation) -> list[tuple[str, str | None, str]]:
    return [(one.store, one.role, one.verdict) for one in found.stores]


async def test_what_is_there_what_is_owed_and_what_is_extra(place: Place) -> None:
    services, tenant_id = place.services, place.tenant_id
    document = (await place.upload(b"body")).document.id
    found = await explained(place, document)
    assert (found.version_number, found.placement_version, found.rule, found.is_migrating) == (1, 1, None, False)
    assert (found.size_bytes, found.content_type, found.age_days) == (4, "application/octet-stream", 0)
    assert told(found) == [(place.a, "write", "there")]
    await services.placements.set_placement(HOST, tenant_id, write=place.a, copies=[place.b], read=[])
    assert told(await explained(place, document)) == [(place.a, "write", "there"), (place.b, "copy", "lacking")]
    await services.transfers.survey(tenant_id)
    found = await explained(place, document)
    assert told(found) == [(place.a, "write", "there"), (place.b, "copy", "owed")]
    assert found.stores[1].debt == "pending"
    async with working(services):
        await quiet(place)
    assert told(await explained(place, document)) == [(place.a, "write", "there"), (place.b, "copy", "there")]
    await services.placements.set_placement(HOST, tenant_id, write=place.a, copies=[], read=[])
    assert told(await explained(place, document)) == [(place.a, "write", "there"), (place.b, None, "extra")]


async def test_the_rule_that_holds_is_named(place: Place) -> None:
    rules = [
        RuleWords(place.a, match=Match(content_types=("image/*",))),
        RuleWords(place.b, match=Match(max_bytes=10)),
    ]
    document = (await place.upload(b"small")).document.id
    await place.services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[], read=[], rules=rules)
    found = await explained(place, document)
    assert found.rule == 2
    assert told(found) == [(place.b, "write", "lacking"), (place.a, None, "extra")]


async def test_the_greatest_draw_is_where_it_was_written(place: Place) -> None:
    await place.services.placements.set_placement(
        HOST, place.tenant_id, write=place.a, copies=[], read=[], shares={place.a: 1, place.b: 3}
    )
    found = await explained(place, (await place.upload(b"body")).document.id)
    (written,) = [one for one in found.stores if one.role == "write"]
    assert written.verdict == "there"
    assert written.weight == {place.a: 1, place.b: 3}[written.store]
    assert written.draw is not None


async def test_a_migration_is_told_of_and_what_is_not_there_is_not_found(place: Place) -> None:
    services, tenant_id = place.services, place.tenant_id
    document = (await place.upload(b"body")).document.id
    planned = await services.migrations.plan_migration(HOST, tenant_id, target=place.b)
    await services.migrations.start_migration(HOST, tenant_id, planned.id)
    found = await explained(place, document)
    assert found.is_migrating
    assert told(found)[0] == (place.a, "write", "there")
    with pytest.raises(NotFound) as caught:
        await explained(place, document, 2)
    assert caught.value.problem_code == "version_not_found"
    with pytest.raises(NotFound) as caught:
        await explained(place, new_id())
    assert caught.value.problem_code == "document_not_found"
