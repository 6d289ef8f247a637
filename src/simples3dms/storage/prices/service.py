"""Estimates of cost: pure functions from loads and price lists to lines of money. Nothing unknown counts as nothing."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final

from simples3dms.storage.prices.values import MONTH_DAYS, Beside, Cost, Line, Load, PriceList, Site, Span

#: Objects up to this size are copied whole, by one call each way, whatever the store's parts are.
WHOLE_BYTES: Final = 4 * 2**20
_ZERO: Final = Decimal(0)


def monthly_bill(prices: PriceList, stored: int, *, writes: int, reads: int, egress: int, is_free: bool) -> Decimal:
    """What an account pays in a month in which nothing but this happens. `egress`: bytes that are read out of it.

    `is_free`: with what the list gives free. Raises ValueError where a price is not known.
    """
    if prices.storage is None or prices.egress is None or prices.retrieval is None:
        raise ValueError(prices.name)
    if prices.write_call is None or prices.read_call is None:
        raise ValueError(prices.name)
    storage = prices.storage.charge(stored, free_units=prices.free_storage_units if is_free else _ZERO)
    return (
        max(storage, prices.least_month)
        + prices.write_call * max(0, writes - (prices.free_writes if is_free else 0))
        + prices.read_call * max(0, reads - (prices.free_reads if is_free else 0))
        + prices.egress.charge(egress, free_units=_free_egress(prices, stored) if is_free else _ZERO)
        + prices.retrieval.charge(egress)
    )


def _free_egress(prices: PriceList, stored_bytes: int) -> Decimal:
    unit_bytes = prices.egress.unit_bytes if prices.egress else 1
    return prices.free_egress_units + prices.free_egress_of_stored * Decimal(stored_bytes) / unit_bytes


def write_calls(load: Load, part_bytes: int | None) -> tuple[int, int]:
    """How many calls writing takes, at least and at most: one for each object, and for one in parts two and its parts.

    Only the count and the sum of the sizes are known, so this is what is true of any sizes that add up to it.
    """
    if part_bytes is None:
        return load.count, load.count
    least, parts = _parts(load, part_bytes)
    # Of objects in parts there are no more than fit into the bytes, each with two further calls and a last, short part.
    large = min(load.count, load.size_bytes // (max(WHOLE_BYTES, part_bytes) + 1))
    return least, load.count + 2 * large + parts


def read_calls(load: Load, part_bytes: int | None) -> tuple[int, int]:
    """How many calls reading takes, at least and at most, where what goes in parts is read in parts too."""
    if part_bytes is None:
        return load.count, load.count
    least, parts = _parts(load, part_bytes)
    return least, load.count + parts


def _parts(load: Load, part_bytes: int) -> tuple[int, int]:
    """The least number of calls for all, and the most full parts that there can be."""
    whole = max(WHOLE_BYTES, part_bytes)
    sure = max(0, load.size_bytes - load.count * whole) // part_bytes
    return max(load.count, sure), load.size_bytes // part_bytes


def month_of(prices: PriceList | None, load: Load) -> Span | None:
    """What storing costs a month: at least, with all that is free; at most, with every minimum."""
    if prices is None or prices.storage is None:
        return None
    if load.count == 0 and load.size_bytes == 0:
        return Span(_ZERO, _ZERO)
    padded = load.size_bytes + load.count * prices.least_object_bytes
    most = max(prices.storage.charge(padded), prices.least_month)
    return Span(prices.storage.charge(load.size_bytes, free_units=prices.free_storage_units), most)


def read_lines(source: Site, load: Load, *, part_bytes: int | None, stored: Load) -> list[Line]:
    """What reading costs at the source of a copy. `part_bytes`: the target's. `stored`: what lies at the source."""
    return _reading("read", source, load, read_calls(load, part_bytes), stored)


def write_lines(target: Site, load: Load) -> list[Line]:
    """What writing costs at the target of a copy, and reading all of it back there to compare it."""
    return [
        _calls("write_calls", target, write_calls(load, target.part_bytes), lambda prices: prices.write_call),
        # How much is stored on average in the month of a move depends on its day: nothing, to all of it.
        *_reading("read_back", target, load, read_calls(load, None), load),
    ]


def _reading(name: str, site: Site, load: Load, calls: tuple[int, int], stored: Load) -> list[Line]:
    prices = site.prices
    span = None
    if prices is not None and prices.egress is not None and prices.retrieval is not None:
        least = prices.egress.charge(load.size_bytes, free_units=_free_egress(prices, stored.size_bytes))
        retrieval = prices.retrieval.charge(load.size_bytes)
        span = Span(least + retrieval, prices.egress.charge(load.size_bytes) + retrieval)
    return [
        _line(name, site, load.size_bytes, "bytes", span),
        _calls(f"{name}_calls", site, calls, lambda prices: prices.read_call),
    ]


def _calls(name: str, site: Site, calls: tuple[int, int], price: Callable[[PriceList], Decimal | None]) -> Line:
    each = None if site.prices is None else price(site.prices)
    span = None
    if site.prices is not None and each is not None:
        free = {"write_calls": site.prices.free_writes, "delete_calls": 0}.get(name, site.prices.free_reads)
        span = Span(each * max(0, calls[0] - free), each * calls[1])
    return _line(name, site, calls[1], "calls", span, "at most so many" if calls[0] != calls[1] else "")


def _line(name: str, site: Site, quantity: int, unit: str, span: Span | None, note: str = "") -> Line:
    if span is None or site.prices is None:
        return Line(name, site.name, quantity, unit, None, None, None, note)
    return Line(name, site.name, quantity, unit, span.least, span.most, site.prices.currency, note)


def month_line(name: str, site: Site, load: Load) -> Line:
    return _line(name, site, load.size_bytes, "bytes", month_of(site.prices, load))


def move_cost(
    source: Site,
    target: Site,
    *,
    total: Load,
    at_source: Load,
    at_target: Load,
    window_days: Decimal | None,
    beside: Beside = Beside(),
) -> Cost:
    """What it costs to move all (`total`) that is not at the target yet there, and to empty the source of it.

    `at_source` and `at_target` are of that; what else lies there is `beside` it.
    `window_days`: how long both are kept after the cut-over; None: nobody has said, and a month is assumed.
    """
    moved = total - at_target
    elsewhere = moved - at_source
    emptied = at_source + beside.leaving
    stored = emptied + beside.at_source
    days = Decimal(MONTH_DAYS) if window_days is None else window_days
    once = read_lines(source, moved - elsewhere, part_bytes=target.part_bytes, stored=stored)
    if elsewhere != Load(0, 0):
        # Which of the others serves is found out when it is read, and they may ask for different prices.
        nobody = Site("other stores", None)
        once += read_lines(nobody, elsewhere, part_bytes=target.part_bytes, stored=Load(0, 0))
    once += [
        *write_lines(target, moved),
        _kept("both_stored", source, emptied, days, window_days is None),
        _early(source, emptied, days),
        _calls("delete_calls", source, (emptied.count, emptied.count), lambda prices: prices.delete_call),
    ]
    staying = [month_line("stored", source, beside.at_source)] if beside.at_source != Load(0, 0) else []
    return Cost(
        once=once,
        before=[month_line("stored", source, stored), month_line("stored", target, at_target + beside.at_target)],
        after=[*staying, month_line("stored", target, total + beside.at_target)],
        lists=lists_of(source, target),
    )


def _kept(name: str, site: Site, load: Load, days: Decimal, is_assumed: bool) -> Line:
    month = month_of(site.prices, load)
    span = None if month is None else Span(month.least * days / MONTH_DAYS, month.most * days / MONTH_DAYS)
    note = f"for {days.normalize():f} days of roll-back window" + (", as nobody has said" if is_assumed else "")
    return _line(name, site, load.size_bytes, "bytes", span, note)


def _early(site: Site, load: Load, window_days: Decimal) -> Line:
    """At most: as though all had been written just before the move."""
    least_days = site.prices.least_days if site.prices else 0
    left = max(Decimal(least_days) - window_days, _ZERO)
    month = month_of(site.prices, load)
    span = None if month is None else Span(_ZERO, month.most * left / MONTH_DAYS)
    if site.prices is not None and least_days == 0:
        span = Span(_ZERO, _ZERO)
    note = f"at most, if all is new; {least_days} days are paid at least" if least_days else ""
    return _line("early_delete", site, load.size_bytes, "bytes", span, note)


def lists_of(*sites: Site) -> list[str]:
    """Which price lists were used, in words."""
    return list(dict.fromkeys(f"{site.name}: {_told(site.prices)}" for site in sites))


def _told(prices: PriceList | None) -> str:
    if prices is None:
        return "no price list is known"
    told = [prices.name, prices.region, f"read on {prices.read_on}" if prices.read_on else prices.source]
    return ", ".join(part for part in told if part) + (f" ({prices.doubts})" if prices.doubts else "")
