"""Estimates of cost. Amounts are decimal numbers as text, never floats."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from pydantic import Field

from simples3dms.schemas.base import Request, Response


class CostLine(Response):
    """One thing that costs."""

    name: str = Field(
        description="`read`, `read_calls`, `write_calls`, `read_back`, `read_back_calls`, `both_stored`, "
        "`early_delete`, `delete_calls`, `stored`."
    )
    store: str
    quantity: int = Field(description="Of calls: at most so many.")
    unit: Literal["bytes", "calls"]
    least: Decimal | None = Field(description="With all that is free of it each month. Null: its price is not known.")
    most: Decimal | None = Field(description="With nothing free, and all that is asked for at least.")
    currency: str | None
    note: str


class Amount(Response):
    currency: str = Field(examples=["USD"])
    least: Decimal
    most: Decimal


class CostSide(Response):
    """Lines, and what they add up to in each currency."""

    lines: list[CostLine]
    amounts: list[Amount]
    unknown_count: int = Field(description="Lines that are in none of the amounts: their prices are not known.")


class Cost(Response):
    once: CostSide = Field(description="What is paid once for it.")
    before: CostSide = Field(description="What a month costs at these stores as it is.")
    after: CostSide = Field(description="What it costs once all is done.")
    price_lists: list[str] = Field(description="Which prices were used, where they hold, and when they were read.")


_PRICE = Field(default=None, ge=0, lt=1_000_000, max_digits=12, decimal_places=6)


class OwnPrices(Request):
    """What an operator says of a store's prices beside the one of storage. Null: as its service's price list says."""

    egress_per_gib: Decimal | None = _PRICE
    write_per_1000: Decimal | None = _PRICE
    read_per_1000: Decimal | None = _PRICE
    delete_per_1000: Decimal | None = _PRICE
    least_days: int | None = Field(
        default=None, ge=0, le=3650, description="For so many days what is deleted earlier is paid for all the same."
    )
