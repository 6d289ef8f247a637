"""Stores, grants and placement."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from simples3dms.schemas.base import Request, Response
from simples3dms.schemas.costs import Cost, CostSide, OwnPrices

ReadPreference = Literal["listed", "nearest", "cheapest", "fastest"]


class AddStore(Request):
    name: str
    kind: str = Field(examples=["s3", "b2", "local"])
    settings: dict[str, Any] = Field(default_factory=dict, description="Endpoint, bucket and the like: nothing secret.")
    credential: dict[str, SecretStr] = Field(default_factory=dict, description="Write-only; never returned.")
    tuning: dict[str, Any] = Field(default_factory=dict, description="The store's own timeouts, retries and limits.")
    cache_max_bytes: int | None = Field(
        default=None, ge=1, le=2**62, description="It is a cache of up to so many bytes, in front of other stores."
    )


class ProbeConfig(Request):
    """A store that is not saved: the same as for adding one, without a name."""

    kind: str = Field(examples=["s3", "b2", "local"])
    settings: dict[str, Any] = Field(default_factory=dict)
    credential: dict[str, SecretStr] = Field(default_factory=dict, description="Write-only; never kept.")
    tuning: dict[str, Any] = Field(default_factory=dict)


class SetTuning(Request):
    tuning: dict[str, Any] = Field(description="All of the store's own; the installation's hold for the rest.")


class ProbeFinding(Response):
    name: str
    verdict: str = Field(description="green, amber or red.")
    meaning: str
    detail: str


class Probe(Response):
    """What a probe found. Red: do not use the store. Amber: it works, with a cost that is named."""

    verdict: str = Field(description="green, amber, red, or unreachable.")
    findings: list[ProbeFinding]
    probed_at: datetime | None


class SetCredential(Request):
    credential: dict[str, SecretStr]


class Store(Response):
    id: UUID
    name: str
    kind: str
    settings: dict[str, Any]
    tuning: dict[str, Any]
    probe_verdict: str | None
    probed_at: datetime | None
    created_at: datetime
    disabled_at: datetime | None
    jurisdiction: str | None = Field(description="A country's code or a bloc's (EU, EEA); null: nobody has said.")
    jurisdiction_source: str | None = Field(description="provider: its region is known; operator: one said so.")
    untrusted_at: datetime | None = Field(description="Since when nothing there is repaired by itself; null: it is.")
    untrusted_reason: str | None
    price_per_gib_month: Decimal | None = Field(description="As an operator says, in the installation's currency.")
    prices: OwnPrices = Field(description="What else an operator says of its prices.")
    cache_max_bytes: int | None = Field(description="It is a cache, and holds no copies; null: it is none.")


class SetCacheSize(Request):
    max_bytes: int = Field(ge=1, le=2**62, description="How much it may hold, of all its tenants together.")


class SetJurisdiction(Request):
    jurisdiction: str | None = Field(max_length=3, description="Such as DE or EU; null: nobody knows.")


class StoreCheck(Response):
    """Whether a store works now; if not, why and what to do."""

    ok: bool
    code: str | None
    message: str | None


class GrantStore(Request):
    tenant: str
    prefix: str | None = None


class GrantedStore(Response):
    id: UUID
    name: str
    kind: str
    prefix: str
    jurisdiction: str | None
    is_own: bool = Field(description="Brought by the tenant itself.")
    is_outside: bool = Field(description="Not where the tenant's documents may lie now: for nothing new.")
    is_cache: bool = Field(description="In front of the others: what it holds is no copy.")


class SetResidency(Request):
    allowed: list[str] | None = Field(
        max_length=300, description="Codes of countries, EU or EEA; null: documents may lie anywhere."
    )


class Outside(Response):
    """A store that the tenant has, and that its documents may not lie in (any more)."""

    store: str
    jurisdiction: str | None
    is_in_use: bool = Field(description="The placement names it.")
    replica_count: int = Field(description="Copies there, counted up to 100,000.")


class Residency(Response):
    """Where a tenant's documents may lie. What is outside goes on working, and nothing is moved by itself."""

    allowed: list[str] | None
    outside: list[Outside]


class Spread(BaseModel):
    """Further copies, in stores that are drawn for each document."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    copies: int = Field(ge=1, le=10, description="How many, beside the written one and those in `copies`.")
    across: Literal["stores", "providers", "jurisdictions"] = Field(
        default="stores", description="What no two copies of a document have in common."
    )


class Match(BaseModel):
    """Which documents a rule is for: those that meet every condition that is given."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    content_types: list[str] = Field(
        default_factory=list, max_length=20, description="Patterns such as `image/*`; one of them is enough."
    )
    min_bytes: int | None = Field(default=None, ge=0)
    max_bytes: int | None = Field(default=None, ge=0)
    min_age_days: int | None = Field(default=None, ge=0, description="Whole days since the bytes were stored.")
    max_age_days: int | None = Field(default=None, ge=0)


class Layout(BaseModel):
    """Where documents belong."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    write: str = Field(description="The store that new documents are written to.")
    copies: list[str] = Field(default_factory=list, max_length=10, description="Stores that hold a copy of each.")
    shares: dict[str, int] = Field(
        default_factory=dict,
        max_length=10,
        description="Weights by which new documents are shared out among stores, `write` being one of them. "
        "Empty: it has them all.",
    )
    spread: Spread | None = None
    min_acks: int = Field(
        default=1, ge=1, le=4, description="How many stores have the bytes before an upload is answered."
    )


class PlacementRule(Layout):
    """Another layout for the documents that match."""

    match: Match


class SetPlacement(Layout):
    """For what is written from now on; existing documents are moved by a migration."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    read: list[str] = Field(default_factory=list, max_length=10, description="Which stores to read first.")
    rules: list[PlacementRule] = Field(
        default_factory=list, max_length=20, description="In this order; the first that matches holds."
    )
    read_preference: ReadPreference = Field(
        default="listed", description="Which of several copies is read first; `read` decides among equals."
    )
    hedge: bool = Field(default=False, description="Ask a second store when the first one is late.")
    expected_version: int | None = None


class StorePreview(Response):
    """What would become of one store."""

    store: str
    held_count: int = Field(description="Blobs that lie there now.")
    held_bytes: int
    owed_count: int = Field(description="Copied there in the background, by itself.")
    owed_bytes: int
    absent_count: int = Field(description="Belong there as where they are written, and only a migration moves them.")
    absent_bytes: int
    extra_count: int = Field(description="Belong there no more, and stay until a migration leaves the store.")
    extra_bytes: int


class PlacementPreview(Response):
    """What a placement would bring about for what is there already."""

    blob_count: int
    size_bytes: int
    is_estimate: bool = Field(description="Told from some blobs, from all over; else it is exact.")
    looked_at_count: int = Field(description="So many. 0: the numbers that are kept were enough.")
    stores: list[StorePreview]
    cost: Cost = Field(description="Of the copies that are made by itself.")
    moving: CostSide = Field(description="Of moving what is absent, without what is only paid after a cut-over.")


class Placement(Layout):
    model_config = ConfigDict(from_attributes=True, extra="ignore")

    version: int
    read: list[str]
    rules: list[PlacementRule]
    read_preference: ReadPreference
    hedge: bool
    updated_at: datetime
