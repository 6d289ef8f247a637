"""What a store's settings tell of reading from it: how far it is from this server, and what a GiB costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from simples3dms.storage.stores.jurisdictions import area_of, country_of_region
from simples3dms.storage.stores.values import provider_of

#: List prices in USD for one GB to the internet in the first tier, as read on 2026-10-04. Free allowances don't count.
EGRESS_PRICES: Final[Mapping[str, Decimal]] = {
    "amazonaws.com": Decimal("0.09"),
    "backblazeb2.com": Decimal("0.01"),
    "cloudflarestorage.com": Decimal(0),
    "gcs": Decimal("0.12"),
    "googleapis.com": Decimal("0.12"),
    "local": Decimal(0),
    "memory": Decimal(0),
    "wasabisys.com": Decimal(0),
}
HERE, SAME_REGION, SAME_COUNTRY, SAME_AREA, ELSEWHERE = range(5)
#: `distance` in words.
DISTANCES: Final = ("on this server", "in this region", "in this country", "in this part of the world", "elsewhere")


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where this server runs, as its operator says: a region's name and a country's code; empty: nobody has said."""

    region: str = ""
    country: str = ""


def egress_price(kind: str, settings: Mapping[str, Any], declared: Decimal | None = None) -> Decimal | None:
    """What reading one GiB costs: as somebody `declared` it, else its provider's list price; None: not known."""
    return declared if declared is not None else EGRESS_PRICES.get(provider_of(kind, settings))


def distance(here: Whereabouts, kind: str, settings: Mapping[str, Any], jurisdiction: str | None) -> int:
    """How far a store is from this server: the less the nearer. What is not known is elsewhere.

    The region of an S3 store counts as it is configured: services name theirs as they like.
    """
    if kind in ("local", "memory"):
        return HERE
    region = str(settings.get("region") or "")
    if here.region and region == here.region:
        return SAME_REGION
    country = here.country or country_of_region(here.region)
    if country and jurisdiction == country:
        return SAME_COUNTRY
    area = area_of(country)
    return SAME_AREA if area is not None and area == area_of(jurisdiction) else ELSEWHERE
