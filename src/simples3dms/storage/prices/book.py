"""The price lists that come with the program, by service and storage class. Taxes and agreements are in none of them.

Each names where and when it was read. Prices change: an operator says what a store of theirs costs, and that holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Final

from simples3dms.storage.prices.values import GB, GIB, PriceList, Rate, Tier, flat

STANDARD: Final = "STANDARD"
_FREE: Final = Decimal(0)
_AWS_SOURCE: Final = "AWS Price List, offer of 2026-09-28, by a guide that was checked against it"
#: The first 10 TB of a month, the next 40, the next 100, and above; 1 TB is 1,024 GB.
_AWS_EGRESS: Final = Rate(
    (
        Tier(10 * 1024, Decimal("0.09")),
        Tier(50 * 1024, Decimal("0.085")),
        Tier(150 * 1024, Decimal("0.07")),
        Tier(None, Decimal("0.05")),
    ),
    GIB,
)
_S3_STANDARD: Final = PriceList(
    "AWS S3 Standard",
    "us-east-1",
    _AWS_SOURCE,
    date(2026, 10, 3),
    effective_from=date(2026, 9, 28),
    storage=Rate(
        (
            Tier(50 * 1024, Decimal("0.023")),
            Tier(500 * 1024, Decimal("0.022")),
            Tier(None, Decimal("0.021")),
        ),
        GIB,
    ),
    egress=_AWS_EGRESS,
    retrieval=flat(_FREE),
    write_call=Decimal("0.005") / 1000,
    read_call=Decimal("0.0004") / 1000,
    delete_call=_FREE,
    free_egress_units=Decimal(100),
    doubts="not read on the vendor's own page",
)
_S3_IA: Final = PriceList(
    "AWS S3 Standard-IA",
    "us-east-1",
    _AWS_SOURCE,
    date(2026, 10, 3),
    effective_from=date(2026, 9, 28),
    storage=flat(Decimal("0.0125")),
    egress=_AWS_EGRESS,
    retrieval=flat(Decimal("0.01")),
    write_call=Decimal("0.01") / 1000,
    read_call=Decimal("0.001") / 1000,
    delete_call=_FREE,
    free_egress_units=Decimal(100),
    least_days=30,
    least_object_bytes=128 * 1024,
    doubts="not read on the vendor's own page",
)
_S3_GLACIER_IR: Final = PriceList(
    "AWS S3 Glacier Instant Retrieval",
    "us-east-1",
    _AWS_SOURCE,
    date(2026, 10, 3),
    effective_from=date(2026, 9, 28),
    storage=flat(Decimal("0.004")),
    egress=_AWS_EGRESS,
    retrieval=flat(Decimal("0.03")),
    write_call=Decimal("0.02") / 1000,
    read_call=Decimal("0.01") / 1000,
    delete_call=_FREE,
    free_egress_units=Decimal(100),
    least_days=90,
    least_object_bytes=128 * 1024,
    doubts="not read on the vendor's own page",
)
_B2: Final = PriceList(
    "Backblaze B2",
    "any",
    "backblaze.com/cloud-storage/pricing, as quoted by five others",
    date(2026, 10, 4),
    storage=flat(Decimal("0.00695"), GB),
    egress=flat(Decimal("0.01"), GB),
    retrieval=flat(_FREE, GB),
    write_call=_FREE,
    read_call=_FREE,
    delete_call=_FREE,
    free_storage_units=Decimal(10),
    free_egress_of_stored=Decimal(3),
    doubts="not read on the vendor's own page; that its GB are decimal is worked out",
)
_R2: Final = PriceList(
    "Cloudflare R2 Standard",
    "any",
    "R2 pricing page of Cloudflare's documentation",
    date(2026, 10, 4),
    storage=flat(Decimal("0.015"), GB),
    egress=flat(_FREE, GB),
    retrieval=flat(_FREE, GB),
    write_call=Decimal("4.50") / 1_000_000,
    read_call=Decimal("0.36") / 1_000_000,
    delete_call=_FREE,
    free_storage_units=Decimal(10),
    free_writes=1_000_000,
    free_reads=10_000_000,
    doubts="that its GB are decimal is worked out",
)
_R2_IA: Final = PriceList(
    "Cloudflare R2 Infrequent Access",
    "any",
    "R2 pricing page of Cloudflare's documentation",
    date(2026, 10, 4),
    storage=flat(Decimal("0.01"), GB),
    egress=flat(_FREE, GB),
    retrieval=flat(Decimal("0.01"), GB),
    write_call=Decimal(9) / 1_000_000,
    read_call=Decimal("0.90") / 1_000_000,
    delete_call=_FREE,
    least_days=30,
    doubts="that its GB are decimal is worked out",
)
_WASABI: Final = PriceList(
    "Wasabi pay-as-you-go",
    "any",
    "docs.wasabi.com, May 2026 pricing, as quoted by another; minimums from its own pages",
    date(2026, 10, 4),
    effective_from=date(2026, 7, 1),
    storage=flat(Decimal("7.99") / 1024, GIB),
    egress=flat(_FREE, GIB),
    retrieval=flat(_FREE, GIB),
    write_call=_FREE,
    read_call=_FREE,
    delete_call=_FREE,
    least_days=90,
    least_object_bytes=4 * 1024,
    least_month=Decimal("7.99"),
    doubts="the price itself was not read on the vendor's own page; service may be limited where a month's downloads "
    "are more than what is stored",
)
_GCS: Final = PriceList(
    "Google Cloud Storage Standard",
    "us-central1",
    "Google Cloud Storage's price page, word for word by another; its pricing examples agree",
    date(2026, 9, 20),
    storage=flat(Decimal("0.020"), GIB),
    # Above 10 TiB a month less is asked for; how much was not read.
    egress=flat(Decimal("0.12"), GIB),
    retrieval=flat(_FREE, GIB),
    write_call=Decimal("0.005") / 1000,
    read_call=Decimal("0.0004") / 1000,
    delete_call=_FREE,
    doubts="not read on the vendor's own page; without what is always free in some regions",
)


def _of_this_machine(name: str) -> PriceList:
    """Storage is the operator's to say; nothing else is paid by use."""
    return PriceList(
        name,
        "",
        "nothing is paid by use",
        None,
        egress=flat(_FREE),
        retrieval=flat(_FREE),
        write_call=_FREE,
        read_call=_FREE,
        delete_call=_FREE,
    )


#: By the service, as `stores.values.provider_of` names it, and the storage class that is asked for.
BOOK: Final[Mapping[tuple[str, str], PriceList]] = {
    ("amazonaws.com", STANDARD): _S3_STANDARD,
    ("amazonaws.com", "STANDARD_IA"): _S3_IA,
    ("amazonaws.com", "GLACIER_IR"): _S3_GLACIER_IR,
    ("backblazeb2.com", STANDARD): _B2,
    ("cloudflarestorage.com", STANDARD): _R2,
    ("cloudflarestorage.com", "STANDARD_IA"): _R2_IA,
    ("gcs", STANDARD): _GCS,
    ("googleapis.com", STANDARD): _GCS,
    ("local", STANDARD): _of_this_machine("local disk"),
    ("memory", STANDARD): _of_this_machine("memory"),
    ("wasabisys.com", STANDARD): _WASABI,
}
