"""The placement policy of a tenant: by store id, in words, and as it is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from simples3dms.storage.stores.values import provider_of

#: How far the copies in one store are counted for a person.
COUNTED: Final = 100_000


@dataclass(frozen=True, slots=True)
class Subject:
    """What a placement may ask of a blob. A size of None is not known yet: rules about sizes don't match."""

    blob_id: UUID
    content_type: str = ""
    size_bytes: int | None = None
    age_seconds: float = 0.0
    """Since its bytes were stored, by the database's clock."""


@dataclass(frozen=True, slots=True)
class Survey:
    """A look at every blob of a tenant, under way: how far it is, and the fence that it counts under."""

    after_seq: int
    fence: int


@dataclass(frozen=True, slots=True)
class Seqs:
    """From where to where a tenant's blobs are numbered."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Seen:
    """A blob as a survey sees it: what rules ask, and the stores that hold it, or are to."""

    seq: int
    blob_id: UUID
    content_type: str
    size_bytes: int
    age_seconds: float
    store_ids: list[UUID]

    @property
    def subject(self) -> Subject:
        return Subject(self.blob_id, self.content_type, self.size_bytes, self.age_seconds)


@dataclass(frozen=True, slots=True)
class Match:
    """Which blobs a rule is for: those that meet every condition that it names."""

    content_types: tuple[str, ...] = ()
    """Patterns such as `image/*`, in lower case; one of them is enough. Parameters (`; charset=`) don't count."""
    min_bytes: int | None = None
    max_bytes: int | None = None
    min_age_days: int | None = None
    max_age_days: int | None = None


class Across(StrEnum):
    """What no two copies of a blob may have in common."""

    STORES = "stores"
    PROVIDERS = "providers"
    JURISDICTIONS = "jurisdictions"


@dataclass(frozen=True, slots=True)
class ReadPlace:
    """A store that holds a copy, as the records know it."""

    store_id: UUID
    kind: str
    settings: dict[str, Any]
    jurisdiction: str | None
    is_disabled: bool
    own_egress: Decimal | None
    """What an operator says that reading one GiB out of it costs."""


class ReadPreference(StrEnum):
    """Which of several good copies is read first. Among equals the read order that is listed decides."""

    LISTED = "listed"
    NEAREST = "nearest"
    CHEAPEST = "cheapest"
    FASTEST = "fastest"


@dataclass(frozen=True, slots=True)
class Standing:
    """A store as the reader of a copy sees it, from this process and at this moment."""

    store_id: UUID
    distance: int
    """To this server, as `stores.traits` counts it."""
    price: Decimal | None
    """Of reading one GiB out of it; None: nobody has said."""
    seconds: float | None
    """Until its first byte, as measured here; None: not measured yet, or due to be measured again."""
    is_resting: bool
    """Disabled, or left alone for a while after many faults: asked only where no other has the bytes."""


@dataclass(frozen=True, slots=True)
class Spread:
    """So many further copies of each blob, in stores that are drawn for it.

    `store_ids` are those it may draw from, and `groups` what each store that the policy names belongs to: both as they
    were when the policy was set, so that the same blob draws the same stores for as long as it is in force.
    """

    copy_count: int
    across: Across
    store_ids: tuple[UUID, ...]
    groups: tuple[tuple[UUID, str], ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where blobs belong: their write target (or shares of several), the stores that hold copies, and how many more."""

    write_store_id: UUID
    copy_store_ids: tuple[UUID, ...] = ()
    write_weights: tuple[tuple[UUID, int], ...] = ()
    spread: Spread | None = None
    min_acks: int = 1
    """How many stores have the bytes before an upload is answered."""

    @property
    def write_store_ids(self) -> tuple[UUID, ...]:
        """Each store that blobs are written to, the write target first."""
        return tuple(dict.fromkeys((self.write_store_id, *(store_id for store_id, _ in self.write_weights))))

    @property
    def store_ids(self) -> tuple[UUID, ...]:
        """Each store that it names or may draw."""
        drawn = self.spread.store_ids if self.spread else ()
        return tuple(dict.fromkeys((*self.write_store_ids, *self.copy_store_ids, *drawn)))


@dataclass(frozen=True, slots=True)
class Rule:
    """Where the blobs that match belong, instead of where the policy's other ones do."""

    match: Match
    layout: Layout


@dataclass(frozen=True, slots=True)
class Policy:
    """What the tenant wants, by store id: where new blobs are written, which stores hold a copy, whom to read first."""

    write_store_id: UUID
    copy_store_ids: tuple[UUID, ...] = ()
    read_store_ids: tuple[UUID, ...] = ()
    write_weights: tuple[tuple[UUID, int], ...] = ()
    """Among which stores new blobs are shared out, and how; the write target is one of them. Empty: it has them all."""
    spread: Spread | None = None
    min_acks: int = 1
    rules: tuple[Rule, ...] = ()
    """In this order; the first that matches holds. What none matches follows the policy's own layout."""
    read_preference: ReadPreference = ReadPreference.LISTED
    hedge: bool = False
    """Whether a second store is asked when the first one is late."""

    @property
    def layout(self) -> Layout:
        """Where blobs belong that no rule is for."""
        return Layout(self.write_store_id, self.copy_store_ids, self.write_weights, self.spread, self.min_acks)

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """The policy's own, then those of its rules."""
        return (self.layout, *(rule.layout for rule in self.rules))

    @property
    def wanted_store_ids(self) -> tuple[UUID, ...]:
        """Each store that blobs may belong in, the write target first. Which of them one blob does, the router says."""
        return tuple(dict.fromkeys(store_id for layout in self.layouts for store_id in layout.store_ids))

    def with_layout(self, layout: Layout) -> Policy:
        """The same with another layout of its own."""
        return replace(
            self,
            write_store_id=layout.write_store_id,
            copy_store_ids=layout.copy_store_ids,
            write_weights=layout.write_weights,
            spread=layout.spread,
            min_acks=layout.min_acks,
        )


@dataclass(frozen=True, slots=True)
class PlacementRow:
    """The tenant's placement row: the policy and its version, which is what cut-over and roll-back swap.

    `is_held`: a cut-over is about to happen and asks new versions to wait a moment before they become visible.
    """

    tenant_id: UUID
    version: int
    write_store_id: UUID
    copy_store_ids: list[UUID]
    read_store_ids: list[UUID]
    updated_at: datetime
    is_held: bool
    write_weights: dict[str, int]
    more: dict[str, Any]
    """What else the policy says, as `forms` writes it down."""

    @property
    def policy(self) -> Policy:
        layout = _layout_from(
            {
                "write": str(self.write_store_id),
                "copies": [str(store_id) for store_id in self.copy_store_ids],
                "weights": self.write_weights,
                **self.more,
            }
        )
        return Policy(
            self.write_store_id,
            read_store_ids=tuple(self.read_store_ids),
            rules=_rules_from(self.more),
            read_preference=_preference_from(self.more),
            hedge=bool(self.more.get("hedge")),
        ).with_layout(layout)


@dataclass(frozen=True, slots=True)
class SpreadWords:
    """So many further copies, no two of them (nor the written one) in the same store, provider or jurisdiction."""

    copies: int
    across: Across = Across.STORES


@dataclass(frozen=True, slots=True)
class LayoutWords:
    """A layout in words: store names."""

    write: str
    copies: tuple[str, ...] = ()
    shares: Mapping[str, int] = field(default_factory=dict)
    """Weights by which new blobs are shared out among stores; empty: `write` has them all."""
    spread: SpreadWords | None = None
    min_acks: int = 1


@dataclass(frozen=True, slots=True)
class RuleWords(LayoutWords):
    """A rule in words."""

    match: Match = Match()


@dataclass(frozen=True, slots=True)
class PolicyWords(LayoutWords):
    """A policy in words."""

    read: tuple[str, ...] = ()
    rules: tuple[RuleWords, ...] = ()
    read_preference: ReadPreference = ReadPreference.LISTED
    hedge: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement(PolicyWords):
    """The policy in force, in words."""

    version: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Outside:
    """A store that the tenant's documents may not lie in, and that it has. Nothing is moved out of it by itself."""

    store: str
    jurisdiction: str | None
    is_in_use: bool
    """The placement names it: it is written to, or holds copies."""
    replica_count: int
    """Copies that lie there, counted up to a limit (`COUNTED`)."""


@dataclass(frozen=True, slots=True)
class Residency:
    """Where a tenant's documents may lie (None: anywhere), and what lies outside of that now."""

    allowed: list[str] | None
    outside: list[Outside]


@dataclass(frozen=True, slots=True)
class Grant:
    """A store that the tenant may use, with the prefix that is the tenant's own in it."""

    store_id: UUID
    name: str
    kind: str
    prefix: str
    jurisdiction: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    is_cache: bool = False

    def group(self, across: Across) -> str | None:
        """What the store shares with others that are not to hold copies of the same blob; None: nobody has said."""
        if across is Across.PROVIDERS:
            return provider_of(self.kind, self.settings)
        return str(self.store_id) if across is Across.STORES else self.jurisdiction


def to_document(policy: Policy) -> dict[str, Any]:
    """The policy as it is written down: in the history, and (but for what has columns) in the row in force."""
    return {
        **_layout_document(policy.layout),
        "read_preference": str(policy.read_preference),
        "hedge": policy.hedge,
        "read": [str(store_id) for store_id in policy.read_store_ids],
        "rules": [{"match": match_document(rule.match)} | _layout_document(rule.layout) for rule in policy.rules],
    }


def from_document(document: Mapping[str, Any]) -> Policy:
    """The policy that was written down; what an earlier version of this program wrote lacks the newer words."""
    read = tuple(UUID(store_id) for store_id in document["read"])
    layout = _layout_from(document)
    return Policy(
        layout.write_store_id,
        read_store_ids=read,
        rules=_rules_from(document),
        read_preference=_preference_from(document),
        hedge=bool(document.get("hedge")),
    ).with_layout(layout)


def _layout_document(layout: Layout) -> dict[str, Any]:
    spread = layout.spread
    return {
        "write": str(layout.write_store_id),
        "copies": [str(store_id) for store_id in layout.copy_store_ids],
        "weights": {str(store_id): weight for store_id, weight in layout.write_weights},
        "min_acks": layout.min_acks,
        "spread": spread
        and {
            "copies": spread.copy_count,
            "across": str(spread.across),
            "stores": [str(store_id) for store_id in spread.store_ids],
            "groups": {str(store_id): group for store_id, group in spread.groups},
        },
    }


def _layout_from(document: Mapping[str, Any]) -> Layout:
    spread = document.get("spread")
    return Layout(
        UUID(document["write"]),
        tuple(UUID(store_id) for store_id in document["copies"]),
        tuple((UUID(store_id), weight) for store_id, weight in document.get("weights", {}).items()),
        Spread(
            spread["copies"],
            Across(spread["across"]),
            tuple(UUID(store_id) for store_id in spread["stores"]),
            tuple((UUID(store_id), group) for store_id, group in spread["groups"].items()),
        )
        if spread
        else None,
        document.get("min_acks", 1),
    )


def _preference_from(document: Mapping[str, Any]) -> ReadPreference:
    return ReadPreference(document.get("read_preference", ReadPreference.LISTED))


def _rules_from(document: Mapping[str, Any]) -> tuple[Rule, ...]:
    return tuple(Rule(match_from(rule["match"]), _layout_from(rule)) for rule in document.get("rules", []))


def match_document(match: Match) -> dict[str, Any]:
    """The conditions that it names, as they are written down."""
    named = {name: value for name, value in asdict(match).items() if value not in (None, ())}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in named.items()}


def match_from(document: Mapping[str, Any]) -> Match:
    return Match(**{**document, "content_types": tuple(document.get("content_types", ()))})
