"""Prices and amounts of money. All of it is Decimal, and every amount names its currency."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any, Final

GB: Final = 10**9
GIB: Final = 2**30
#: What a price "a month" is for, where a part of one is reckoned.
MONTH_DAYS: Final = 30


@dataclass(frozen=True, slots=True)
class Tier:
    """A price of one unit, for those up to the `upto`-th of a month; None: for all that are left."""

    upto: int | None
    price: Decimal


@dataclass(frozen=True, slots=True)
class Rate:
    """What bytes cost, by units of so many of them. The last tier has no end."""

    tiers: tuple[Tier, ...]
    unit_bytes: int

    def charge(self, size_bytes: int | Decimal, *, free_units: Decimal = Decimal(0)) -> Decimal:
        """Of a month's bytes, as though none came before them. The first `free_units` cost nothing."""
        units = max(Decimal(size_bytes) / self.unit_bytes - free_units, Decimal(0))
        amount, below = Decimal(0), Decimal(0)
        for tier in self.tiers:
            upto = units if tier.upto is None else min(units, Decimal(tier.upto))
            amount += max(upto - below, Decimal(0)) * tier.price
            below = max(below, upto)
        return amount


@dataclass(frozen=True, slots=True)
class PriceList:
    """What a service asks for, in one currency. None: not known, which is not the same as nothing.

    What is free each month (`free_...`) is an account's, whoever uses it up.
    """

    name: str
    region: str
    source: str
    """Where the prices were read; for an operator's own, who said so."""
    read_on: date | None
    effective_from: date | None = None
    currency: str = "USD"
    storage: Rate | None = None
    """For a month."""
    egress: Rate | None = None
    """Out of the service, to the internet."""
    retrieval: Rate | None = None
    """For bytes that are read, wherever they go, beside `egress`."""
    write_call: Decimal | None = None
    read_call: Decimal | None = None
    delete_call: Decimal | None = None
    free_storage_units: Decimal = Decimal(0)
    free_egress_units: Decimal = Decimal(0)
    free_egress_of_stored: Decimal = Decimal(0)
    """Times what is stored on a month's average."""
    free_writes: int = 0
    free_reads: int = 0
    least_days: int = 0
    """What is deleted earlier is paid for so many days all the same."""
    least_object_bytes: int = 0
    """A smaller object is paid for as one of this size."""
    least_month: Decimal = Decimal(0)
    """What a month costs at least, however little is stored."""
    doubts: str = ""
    """What of it was not read on the vendor's own page, or was worked out."""


@dataclass(frozen=True, slots=True)
class OwnPrices:
    """What an operator says that one store costs. None: as its service's price list says."""

    storage_per_gib_month: Decimal | None = None
    egress_per_gib: Decimal | None = None
    write_per_1000: Decimal | None = None
    read_per_1000: Decimal | None = None
    delete_per_1000: Decimal | None = None
    least_days: int | None = None

    def document(self) -> dict[str, str]:
        """As it is written down, but for the price of storage, which has a column."""
        found = {name: getattr(self, name) for name in self.__slots__ if name != "storage_per_gib_month"}
        return {name: str(value) for name, value in found.items() if value is not None}


def own_prices(storage_per_gib_month: Decimal | None, document: Mapping[str, Any]) -> OwnPrices:
    """What was written down."""
    days = document.get("least_days")
    named = ("egress_per_gib", "write_per_1000", "read_per_1000", "delete_per_1000")
    found = {name: Decimal(str(document[name])) for name in named if name in document}
    return OwnPrices(storage_per_gib_month, **found, least_days=None if days is None else int(days))


def with_own(listed: PriceList | None, own: OwnPrices, currency: str) -> PriceList | None:
    """The list with an operator's own prices in it, which are in `currency`. None: nothing is known.

    Amounts of two currencies can't be added up, so beside own prices in another currency a list counts for nothing. An
    own price holds for all: what the list gives free of it, or asks for at least, falls away.
    """
    if own == OwnPrices():
        return listed
    if listed is None or listed.currency != currency:
        listed = PriceList("own prices", "", "the operator", None, currency=currency)
    else:
        listed = replace(listed, name=f"{listed.name} with own prices")
    if own.storage_per_gib_month is not None:
        listed = replace(
            listed,
            storage=flat(own.storage_per_gib_month),
            free_storage_units=Decimal(0),
            least_object_bytes=0,
            least_month=Decimal(0),
        )
    if own.egress_per_gib is not None:
        listed = replace(
            listed,
            egress=flat(own.egress_per_gib),
            retrieval=flat(Decimal(0)),
            free_egress_units=Decimal(0),
            free_egress_of_stored=Decimal(0),
        )
    if own.write_per_1000 is not None:
        listed = replace(listed, write_call=own.write_per_1000 / 1000, free_writes=0)
    if own.read_per_1000 is not None:
        listed = replace(listed, read_call=own.read_per_1000 / 1000, free_reads=0)
    if own.delete_per_1000 is not None:
        listed = replace(listed, delete_call=own.delete_per_1000 / 1000)
    if own.least_days is not None:
        listed = replace(listed, least_days=own.least_days)
    return listed


def flat(price: Decimal, unit_bytes: int = GIB) -> Rate:
    return Rate((Tier(None, price),), unit_bytes)


@dataclass(frozen=True, slots=True)
class Load:
    """So many objects, and their bytes together."""

    count: int
    size_bytes: int

    def __sub__(self, other: Load) -> Load:
        """What is left; of neither less than nothing."""
        return Load(max(0, self.count - other.count), max(0, self.size_bytes - other.size_bytes))

    def __add__(self, other: Load) -> Load:
        return Load(self.count + other.count, self.size_bytes + other.size_bytes)

    def at_most(self, other: Load) -> Load:
        return Load(min(self.count, other.count), min(self.size_bytes, other.size_bytes))


@dataclass(frozen=True, slots=True)
class Beside:
    """What lies in the two stores of a move and is none of what is moved."""

    leaving: Load = Load(0, 0)
    """At the source, and removed from there as well: it lies elsewhere too."""
    at_source: Load = Load(0, 0)
    """It stays there."""
    at_target: Load = Load(0, 0)


@dataclass(frozen=True, slots=True)
class Span:
    """An amount that is not known better than that: at least, and at most."""

    least: Decimal
    most: Decimal

    def __add__(self, other: Span) -> Span:
        return Span(self.least + other.least, self.most + other.most)


@dataclass(frozen=True, slots=True)
class Site:
    """A store in an estimate: its name, what it costs (None: not known), and how objects are written to it."""

    name: str
    prices: PriceList | None
    part_bytes: int | None = None
    """Larger objects go in parts of so many bytes; None: all go whole."""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that costs, once or a month. `least` and `most` are None where its price is not known."""

    name: str
    store: str
    quantity: int
    unit: str
    """`bytes` or `calls`; of storage, the bytes that lie there."""
    least: Decimal | None
    most: Decimal | None
    currency: str | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Amount:
    """Money, in one currency."""

    currency: str
    least: Decimal
    most: Decimal


@dataclass(frozen=True, slots=True)
class Sum:
    """What lines add up to, currency by currency, and how many of them are in none of it: their prices aren't known."""

    amounts: tuple[Amount, ...]
    unknown_count: int


def add_up(lines: Iterable[Line]) -> Sum:
    sums: dict[str, Span] = {}
    unknown = 0
    for line in lines:
        if line.least is None or line.most is None or line.currency is None:
            unknown += 1
            continue
        sums[line.currency] = sums.get(line.currency, Span(Decimal(0), Decimal(0))) + Span(line.least, line.most)
    return Sum(tuple(Amount(currency, span.least, span.most) for currency, span in sorted(sums.items())), unknown)


@dataclass(frozen=True, slots=True)
class Cost:
    """What is paid once, and what a month costs before and after, line by line and together."""

    once: Sequence[Line]
    before: Sequence[Line]
    after: Sequence[Line]
    lists: Sequence[str]
    """The price lists that were used, each with its region and when it was read."""

    def document(self) -> dict[str, Any]:
        """As it is written down, and as `schemas.costs` reads it."""
        sides = {"once": self.once, "before": self.before, "after": self.after}
        return {name: _side(lines) for name, lines in sides.items()} | {"price_lists": list(self.lists)}


def _side(lines: Sequence[Line]) -> dict[str, Any]:
    total = add_up(lines)
    return {
        "lines": [
            {
                "name": line.name,
                "store": line.store,
                "quantity": line.quantity,
                "unit": line.unit,
                "least": _spelled(line.least),
                "most": _spelled(line.most),
                "currency": line.currency,
                "note": line.note,
            }
            for line in lines
        ],
        "amounts": [
            {"currency": one.currency, "least": _spelled(one.least), "most": _spelled(one.most)}
            for one in total.amounts
        ],
        "unknown_count": total.unknown_count,
    }


def _spelled(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:.6f}"
