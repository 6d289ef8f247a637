"""Price lists and estimates: the worked examples come out to the cent, and no estimate calls what is unknown free."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from simples3dms.storage.prices.book import BOOK, STANDARD
from simples3dms.storage.prices.service import WHOLE_BYTES, monthly_bill, move_cost, read_calls, write_calls
from simples3dms.storage.prices.values import Cost, Load, OwnPrices, PriceList, Rate, Site, Tier, add_up, with_own
from simples3dms.storage.transfers import engine

S3 = BOOK["amazonaws.com", STANDARD]
B2 = BOOK["backblazeb2.com", STANDARD]
GLACIER = BOOK["amazonaws.com", "GLACIER_IR"]
WASABI = BOOK["wasabisys.com", STANDARD]
_MIB = 2**20


@pytest.mark.parametrize(
    ("service", "storage_class", "is_free", "bill"),
    [
        ("amazonaws.com", STANDARD, True, "64.80"),
        ("amazonaws.com", "STANDARD_IA", True, "65.50"),
        ("amazonaws.com", "GLACIER_IR", True, "95.00"),
        ("backblazeb2.com", STANDARD, True, "6.88"),
        ("cloudflarestorage.com", STANDARD, True, "14.85"),
        ("wasabisys.com", STANDARD, True, "7.99"),
        ("gcs", STANDARD, False, "85.80"),
    ],
)
def test_a_month_of_the_worked_example(service: str, storage_class: str, is_free: bool, bill: str) -> None:
    """1,000 GB stored, a million writes, two million reads, 500 GB read out, in each service's own GB."""
    prices = BOOK[service, storage_class]
    assert prices.storage is not None
    unit = prices.storage.unit_bytes
    found = monthly_bill(prices, 1000 * unit, writes=1_000_000, reads=2_000_000, egress=500 * unit, is_free=is_free)
    assert found.quantize(Decimal("0.01")) == Decimal(bill)


def test_every_list_says_where_and_when_it_was_read() -> None:
    for prices in BOOK.values():
        assert prices.currency == "USD"
        assert prices.source
        assert prices.read_on or prices.storage is None, prices.name
        for rate in (prices.storage, prices.egress, prices.retrieval):
            assert rate is None or rate.tiers[-1].upto is None
            assert rate is None or all(isinstance(tier.price, Decimal) for tier in rate.tiers)


def test_the_copy_engine_copies_whole_what_is_estimated_to_be() -> None:
    assert WHOLE_BYTES == engine.WHOLE_BYTES


def test_each_tier_is_charged_for_what_falls_in_it() -> None:
    rate = Rate((Tier(10, Decimal(5)), Tier(20, Decimal(3)), Tier(None, Decimal(1))), 1)
    assert [rate.charge(n) for n in (0, 10, 15, 20, 25)] == [0, 50, 65, 80, 85]
    assert rate.charge(25, free_units=Decimal(15)) == 50
    assert rate.charge(5, free_units=Decimal(15)) == 0


def test_a_move_of_88_gib_from_b2_to_s3() -> None:
    """12,431 objects, worked out by hand: 94,489,280,512 bytes."""
    load = Load(12_431, 88 * 2**30)
    cost = move_cost(
        Site("b2", B2),
        Site("s3", S3, part_bytes=8 * _MIB),
        total=load,
        at_source=load,
        at_target=Load(0, 0),
        window_days=Decimal(7),
    )
    once = {line.name: line for line in cost.once}
    # 94.489... decimal GB at a cent; free up to three times what is stored, which is more than that.
    assert once["read"].most == Decimal("0.94489280512")
    assert once["read"].least == 0
    # In at least as many calls as there are objects; 88 GiB are 11,264 parts of 8 MiB, two calls more for each of
    # up to 11,263 objects that are larger than that.
    assert once["write_calls"].quantity == 12_431 + 11_264 + 2 * 11_263
    assert once["write_calls"].least == 12_431 * Decimal("0.000005")
    # All of it is read back: 88 GiB at 0.09, less 100 GiB that are free if nobody used them.
    assert (once["read_back"].least, once["read_back"].most) == (Decimal(0), Decimal("7.92"))
    # Seven days of thirty of 0.65669... USD a month at B2 (10 GB of it may be free).
    month = Decimal("94.489280512") * Decimal("0.00695")
    assert once["both_stored"].most == month * 7 / 30
    assert once["early_delete"].most == 0
    assert add_up(cost.before).amounts[0].most == month
    assert add_up(cost.after).amounts[0].most == 88 * Decimal("0.023")
    assert add_up(cost.once).unknown_count == 0


def test_leaving_early_is_paid_for() -> None:
    load = Load(1000, 2 * 2**40)

    def penalty(window_days: int) -> Decimal | None:
        cost = _cost(Site("w", WASABI), Site("s3", S3), load, Load(0, 0), window_days=window_days)
        return next(line.most for line in cost.once if line.name == "early_delete")

    month = (Decimal(load.size_bytes + 1000 * 4096) / 2**30) * Decimal("7.99") / 1024
    assert penalty(30) == pytest.approx(month * 60 / 30)
    assert penalty(90) == 0


def test_what_is_not_known_is_not_nothing() -> None:
    load = Load(5, 5 * _MIB)
    cost = _cost(Site("minio", None), Site("disk", BOOK["local", STANDARD]), load, Load(0, 0))
    unknown = {(line.name, line.store) for line in (*cost.once, *cost.before, *cost.after) if line.most is None}
    assert unknown == {
        *((name, "minio") for name in ("read", "read_calls", "both_stored", "early_delete", "delete_calls", "stored")),
        ("stored", "disk"),
    }
    assert add_up(cost.once).unknown_count == 5
    assert add_up(cost.after).unknown_count == 1


def test_what_lies_elsewhere_is_read_at_a_price_nobody_knows() -> None:
    cost = _cost(Site("b2", B2), Site("s3", S3), Load(10, 1000), Load(0, 0), at_source=Load(6, 700))
    elsewhere = next(line for line in cost.once if (line.name, line.store) == ("read", "other stores"))
    assert (elsewhere.quantity, elsewhere.most) == (300, None)
    assert next(line.quantity for line in cost.once if line.name == "read_back") == 1000


def test_own_prices_hold_and_another_currency_mixes_with_no_list() -> None:
    own = OwnPrices(Decimal("0.01"), egress_per_gib=Decimal("0.02"), write_per_1000=Decimal(3), least_days=12)
    mixed = with_own(WASABI, own, "USD")
    assert mixed is not None
    assert mixed.storage is not None
    assert mixed.egress is not None
    assert (mixed.storage.charge(2**30), mixed.egress.charge(2**30)) == (Decimal("0.01"), Decimal("0.02"))
    assert (mixed.write_call, mixed.read_call, mixed.least_days) == (Decimal("0.003"), Decimal(0), 12)
    assert mixed.least_month == 0
    foreign = with_own(WASABI, own, "EUR")
    assert foreign is not None
    assert (foreign.currency, foreign.read_call, foreign.delete_call) == ("EUR", None, None)
    assert with_own(WASABI, OwnPrices(), "EUR") is WASABI
    assert with_own(None, OwnPrices(), "EUR") is None
    cost = _cost(Site("a", foreign), Site("b", S3), Load(1, 2**30), Load(0, 0))
    assert [amount.currency for amount in add_up(cost.once).amounts] == ["EUR", "USD"]


def _cost(
    source: Site,
    target: Site,
    total: Load,
    at_target: Load,
    *,
    at_source: Load | None = None,
    window_days: int = 7,
) -> Cost:
    return move_cost(
        source,
        target,
        total=total,
        at_source=total if at_source is None else at_source,
        at_target=at_target,
        window_days=Decimal(window_days),
    )


loads = st.builds(Load, st.integers(0, 10**9), st.integers(0, 2**55))
price_lists: st.SearchStrategy[PriceList | None] = st.sampled_from([None, *BOOK.values()])


@given(sizes=st.lists(st.integers(0, 200 * _MIB), max_size=20), part=st.sampled_from([5, 8, 100]))
def test_calls_lie_within_what_any_sizes_take(sizes: list[int], part: int) -> None:
    part_bytes = part * _MIB
    load = Load(len(sizes), sum(sizes))
    in_parts = [size > max(part_bytes, WHOLE_BYTES) for size in sizes]
    writes = sum(2 + -(-size // part_bytes) if big else 1 for size, big in zip(sizes, in_parts, strict=True))
    reads = sum(-(-size // part_bytes) if big else 1 for size, big in zip(sizes, in_parts, strict=True))
    assert write_calls(load, part_bytes)[0] <= writes <= write_calls(load, part_bytes)[1]
    assert read_calls(load, part_bytes)[0] <= reads <= read_calls(load, part_bytes)[1]


@example(GLACIER, GLACIER, Load(10, 2**50), Load(10, 2**50), Load(0, 0), 7)
@given(price_lists, price_lists, loads, loads, loads, st.none() | st.integers(0, 400))
def test_no_move_costs_less_than_its_least_or_than_nothing(
    source: PriceList | None, target: PriceList | None, total: Load, here: Load, there: Load, days: int | None
) -> None:
    cost = move_cost(
        Site("a", source, 8 * _MIB),
        Site("b", target, 8 * _MIB),
        total=total,
        at_source=here.at_most(total),
        at_target=there.at_most(total),
        window_days=None if days is None else Decimal(days),
    )
    for line in (*cost.once, *cost.before, *cost.after):
        assert (line.least is None) == (line.most is None) == (line.currency is None)
        if line.least is not None and line.most is not None:
            assert 0 <= line.least <= line.most
    known = [line for line in cost.once if line.most is not None]
    assert add_up(cost.once).unknown_count == len(cost.once) - len(known)
    assert sum(amount.most for amount in add_up(cost.once).amounts) == sum(line.most or 0 for line in known)


@given(loads, loads, st.sampled_from([one for one in BOOK.values() if one.storage]))
def test_more_never_costs_less(one: Load, more: Load, prices: PriceList) -> None:
    both = Load(one.count + more.count, one.size_bytes + more.size_bytes)
    costs = [
        add_up(_cost(Site("a", prices), Site("b", replace(prices)), load, Load(0, 0)).once).amounts[0].most
        for load in (one, both)
    ]
    assert costs[0] <= costs[1]
