"""What a store's settings tell: how far it is from this server, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from simples3dms.storage.prices.book import BOOK, STANDARD
from simples3dms.storage.prices.values import PriceList, own_prices, with_own
from simples3dms.storage.stores.jurisdictions import area_of, country_of_region
from simples3dms.storage.stores.values import PricedStore, provider_of

HERE, SAME_REGION, SAME_COUNTRY, SAME_AREA, ELSEWHERE = range(5)
#: `distance` in words.
DISTANCES: Final = ("on this server", "in this region", "in this country", "in this part of the world", "elsewhere")


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where this server runs, as its operator says: a region's name and a country's code; empty: nobody has said."""

    region: str = ""
    country: str = ""


def listed_prices(kind: str, settings: Mapping[str, Any]) -> PriceList | None:
    """The price list of whose service a store is, for the storage class that it asks for; None: there is none."""
    return BOOK.get((provider_of(kind, settings), str(settings.get("storage_class") or STANDARD)))


def prices_of(store: PricedStore, currency: str) -> PriceList | None:
    """What a store costs: as its operator says, in `currency`, and else as its service's list says."""
    own = own_prices(store.price_per_gib_month, store.prices)
    return with_own(listed_prices(store.kind, store.settings), own, currency)


def egress_price(kind: str, settings: Mapping[str, Any], declared: Decimal | None = None) -> Decimal | None:
    """What reading a GB of the service's own costs in the first tier: as somebody `declared` it, else its list price.

    None: not known. What is free of it each month doesn't count.
    """
    if declared is not None:
        return declared
    prices = listed_prices(kind, settings)
    if prices is None or prices.egress is None or prices.retrieval is None:
        return None
    return prices.egress.tiers[0].price + prices.retrieval.tiers[0].price


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
