"""What a plan says a move would take, from the records of a real tenant, and what an operator says of prices."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from tests.support import Place, chunked, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.documents.values import UploadRequest
from simples3dms.schemas.costs import Cost, CostLine
from simples3dms.storage.migrations import parts_of
from simples3dms.storage.migrations.looking import plan_in_words
from simples3dms.storage.migrations.values import MigrationPlan, Schedule
from simples3dms.storage.placement.values import Match, RuleWords
from simples3dms.storage.prices.values import OwnPrices

pytestmark = pytest.mark.anyio

_GIB = 2**30


@pytest.fixture
async def place(services: Services) -> Place:
    return await make_place(services)


async def priced(place: Place, store: str, **prices: Any) -> None:
    own = {name: Decimal(value) if name != "least_days" else value for name, value in prices.items()}
    await place.services.reconciles.set_price(HOST, store, OwnPrices(**own))


async def planned(place: Place, **more: Any) -> MigrationPlan:
    migration = await place.services.migrations.plan_migration(HOST, place.tenant_id, target=place.b, **more)
    await place.services.migrations.cancel_migration(HOST, place.tenant_id, migration.id)
    return (await place.migration(migration.id)).plan


def cost_of(plan: MigrationPlan) -> tuple[Cost, dict[tuple[str, str], CostLine]]:
    cost = Cost.model_validate(plan.cost)
    return cost, {(line.name, line.store): line for line in cost.once.lines}


async def holds(place: Place, store_id: UUID | None, count: int, size_bytes: int) -> None:
    """Have the counters say so, as though that much had been uploaded."""
    async with place.services.database.tenant(place.tenant_id) as uow:
        await uow.execute(
            "INSERT INTO catalogue_deltas (tenant_id, store_id, blob_count, size_bytes) VALUES (%s, %s, %s, %s)",
            [place.tenant_id, store_id, count, size_bytes],
        )


async def test_what_moves_and_what_it_costs(place: Place) -> None:
    for store_id, gib in ((None, 100), (place.a_id, 100), (place.b_id, 20)):
        await holds(place, store_id, gib * 10, gib * _GIB)
    await priced(place, place.a, storage_per_gib_month="0.03", egress_per_gib="0.1", least_days=37)
    await priced(place, place.b, storage_per_gib_month="0.01", write_per_1000="5", read_per_1000="0.4")
    plan = await planned(place, schedule=Schedule(finalize_after_seconds=7 * 86_400))
    assert (plan.blob_count, plan.moved_count, plan.moved_bytes) == (1000, 800, 80 * _GIB)
    cost, once = cost_of(plan)
    amounts = {name: (line.least, line.most) for (name, _), line in once.items()}
    assert amounts["read"] == (8, 8), "80 GiB at 0.1"
    assert amounts["read_back_calls"] == (Decimal("0.32"), Decimal("0.32"))
    assert amounts["both_stored"] == (Decimal("0.7"), Decimal("0.7")), "3.00 a month, for 7 of 30 days"
    assert amounts["early_delete"] == (0, 3), "all 100 GiB, for the 30 days that are left of 37"
    assert once["write_calls", place.b].least == (16_384 - 800) * Decimal("0.005"), (
        "80 GiB are 16,384 parts of 5 MiB, of which 800 objects may have up to one whole each"
    )
    before, after = cost.before.amounts[0], cost.after.amounts[0]
    assert (before.most, after.most) == (Decimal("3.2"), Decimal("1.0"))
    assert [amount.currency for amount in cost.once.amounts] == ["USD"]
    assert cost.once.unknown_count == 0


async def mixed(place: Place) -> None:
    """Images and text of 1, 2, 4, 8 and 16 bytes: at b, at a, and an image at both a and c, where a rule has it."""
    services, t = place.services, place.tenant_id
    await services.stores.add_store(HOST, "c", "memory", {"name": f"c of {place.a}"}, {})
    await services.stores.grant_store(HOST, t, "c")

    async def put(size: int, content_type: str) -> None:
        request = UploadRequest("file", content_type, size_bytes=size)
        await services.uploads.upload(HOST, t, request, chunked(bytes([size]) * size))

    await services.placements.set_placement(HOST, t, write="c", copies=[place.a])
    async with working(services):
        await put(16, "image/png")
        await quiet(place)
    await services.placements.set_placement(HOST, t, write=place.b)
    await put(1, "image/gif")
    await put(2, "text/plain")
    rules = [RuleWords("c", match=Match(("image/png",)))]
    await services.placements.set_placement(HOST, t, write=place.a, rules=rules)
    await put(4, "image/gif")
    await put(8, "text/plain")


async def test_a_part_costs_what_is_of_it(place: Place) -> None:
    await mixed(place)
    plan = await planned(place, only=Match(("image/*",)))
    assert (plan.blob_count, plan.size_bytes, plan.left_count, plan.left_bytes) == (2, 5, 3, 26)
    assert (plan.moved_count, plan.moved_bytes, plan.is_exact) == (1, 4, True)
    cost, once = cost_of(plan)
    assert (once["read", place.a].quantity, once["read_back", place.b].quantity) == (4, 4)
    assert once["both_stored", place.a].quantity == once["early_delete", place.a].quantity == 4 + 16
    assert once["delete_calls", place.a].quantity == 2, "also what the rule has at c, and a has a copy of"
    assert [(line.store, line.quantity) for line in cost.before.lines] == [(place.a, 4 + 8 + 16), (place.b, 1 + 2)]
    assert [(line.store, line.quantity) for line in cost.after.lines] == [(place.a, 8), (place.b, 1 + 2 + 4)]


async def test_a_move_of_all_costs_nothing_for_what_a_rule_keeps_elsewhere(place: Place) -> None:
    await mixed(place)
    plan = await planned(place)
    assert (plan.blob_count, plan.left_count, plan.moved_count, plan.moved_bytes) == (4, 1, 2, 12)
    cost, once = cost_of(plan)
    assert (once["read", place.a].quantity, once["delete_calls", place.a].quantity) == (12, 3)
    assert [(line.store, line.quantity) for line in cost.after.lines] == [(place.b, 1 + 2 + 4 + 8)]


async def test_what_was_not_counted_is_said_to_be(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await mixed(place)
    monkeypatch.setattr(parts_of, "_PAGE", 2)
    monkeypatch.setattr(parts_of, "_MOST", 3)
    plan = await planned(place, only=Match(("image/*",)))
    assert (plan.blob_count, plan.left_count, plan.moved_count, plan.is_exact) == (2, 2, 1, False)
    cost, once = cost_of(plan)
    assert once["delete_calls", place.a].quantity == 2
    assert [(line.store, line.quantity) for line in cost.after.lines] == [(place.a, 8), (place.b, 1 + 2 + 4)]


async def test_what_nobody_has_said_is_not_known(place: Place) -> None:
    await holds(place, None, 10, _GIB)
    await holds(place, place.a_id, 10, _GIB)
    cost, once = cost_of(await planned(place))
    assert once["both_stored", place.a].most is None
    assert "as nobody has said" in once["both_stored", place.a].note
    assert (cost.before.amounts, cost.before.unknown_count) == ([], 2)
    assert once["read", place.a].most == 0, "memory costs nothing to read"
    assert all("memory" in told for told in cost.price_lists)


async def test_a_move_of_nothing_costs_nothing(place: Place) -> None:
    await priced(place, place.a, storage_per_gib_month="0.03")
    await priced(place, place.b, storage_per_gib_month="0.03")
    cost, _ = cost_of(await planned(place))
    assert (cost.once.amounts[0].most, cost.after.amounts[0].most, cost.once.unknown_count) == (0, 0, 0)


async def test_prices_are_set_whole_shown_and_audited(place: Place) -> None:
    await priced(place, place.a, storage_per_gib_month="0.03", egress_per_gib="0.1", least_days=30)
    store = await place.services.stores.get_store(place.a)
    assert (store.price_per_gib_month, store.prices) == (Decimal("0.03"), {"egress_per_gib": "0.1", "least_days": "30"})
    await priced(place, place.a, read_per_1000="2")
    store = await place.services.stores.get_store(place.a)
    assert (store.price_per_gib_month, store.prices) == (None, {"read_per_1000": "2"}), "what is left out is unsaid"
    events = await place.services.audit.list_events(UUID(int=0), limit=10)
    details = [event.details for event in events if event.action == "store.priced"]
    assert [one.get("egress_per_gib") for one in details] == [None, "0.1"]


def test_a_plan_of_an_earlier_version_is_still_read() -> None:
    plan = plan_in_words({"blob_count": 3, "size_bytes": 9})
    assert (plan.blob_count, plan.blockers, plan.moved_count, plan.cost) == (3, (), None, None)
