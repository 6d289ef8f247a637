"""Stores and grants, without their secrets, and which place of the world a store is."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Store:
    """One configured place. `settings` holds nothing secret."""

    id: UUID
    name: str
    kind: str
    settings: dict[str, Any]
    created_at: datetime
    disabled_at: datetime | None
    tuning: dict[str, Any]
    """The store's own values of the layers' settings; the installation's hold for the rest."""
    probe_verdict: str | None
    """Of the last probe: green, amber, red, or unreachable; None before the first."""
    probed_at: datetime | None
    owner_tenant_id: UUID | None = None
    """The tenant that brought the store; None: the platform's."""
    jurisdiction: str | None = None
    """Under whose law its bytes lie: a country's code, or a bloc's such as EU; None: nobody has said."""
    jurisdiction_source: str | None = None
    """Who says so: `provider` (its region is known) or `operator`."""
    untrusted_at: datetime | None = None
    untrusted_reason: str | None = None
    """Why what is bad there is not mended by itself, until an operator says so; None: it is."""
    price_per_gib_month: Decimal | None = None
    """What an operator says that it costs; None: nobody has said."""
    cache_max_bytes: int | None = None
    """It is a cache of up to so many bytes, in front of others: no placement names it. None: it is none."""
    prices: dict[str, str] = field(default_factory=dict)
    """What else an operator says of its prices, as `OwnPrices` writes it down."""


@dataclass(frozen=True, slots=True)
class PricedStore:
    """What tells what a store costs, and how much may be asked of it."""

    id: UUID
    name: str
    kind: str
    settings: dict[str, Any]
    tuning: dict[str, Any]
    price_per_gib_month: Decimal | None
    prices: dict[str, str]
    probe_verdict: str | None
    probed_at: datetime | None


@dataclass(frozen=True, slots=True)
class GrantedStore:
    """A store that a tenant may use, and the prefix that is the tenant's own in it. `id` is the store's."""

    id: UUID
    name: str
    kind: str
    prefix: str
    jurisdiction: str | None = None
    is_own: bool = False
    """Brought by the tenant itself."""
    is_outside: bool = False
    """Not where the tenant's documents may lie, as it stands now."""
    is_cache: bool = False
    """In front of the tenant's other stores; what it holds is no copy."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Whether a store works now; if not, the stable code and a sentence that says what to do."""

    ok: bool
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe found: rows with `name`, `verdict` (green, amber, red), `meaning`, `detail`."""

    verdict: str
    findings: list[dict[str, str]]
    probed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A recorded copy in a store, by which the store is known again."""

    key: str
    version_id: str | None
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where objects lie: places of one `root` share a space of keys, and `prefix` is where this one begins."""

    root: str
    prefix: str

    def overlaps(self, other: Place) -> bool:
        """Whether one is the other, or holds it."""
        nested = self.prefix.startswith(other.prefix) or other.prefix.startswith(self.prefix)
        return self.root == other.root and nested


def place_of(kind: str, settings: Mapping[str, Any]) -> Place:
    """The place that a store's settings name, however they spell it.

    One bucket seen through two kinds (B2's own interface and its S3 one) counts as two places: their keys are never
    the same, since each replica's key is new.
    """
    prefix = str(settings.get("prefix") or "")
    if kind == "local":
        return Place("local", f"{_path(settings)}/{prefix}")
    if kind == "s3":
        endpoint = settings.get("endpoint") or f"https://s3.{settings.get('region')}.amazonaws.com"
        named: object = [_host_and_port(str(endpoint)), settings["bucket"]]
    elif kind == "b2":
        named = [_host_and_port(str(settings.get("realm") or "production")), settings["bucket"]]
    else:
        named = {name: value for name, value in settings.items() if name != "prefix"}
    return Place(f"{kind}:{json.dumps(named, sort_keys=True, default=str)}", prefix)


def is_alias(settings: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether two directories with different paths have one mark: a link, a mount, or a copy with its mark.

    Places are compared by their paths, so what lies in one directory must be called by one path.
    """
    mark = settings.get("mark")
    return mark is not None and mark == others.get("mark") and _path(settings) != _path(others)


def _path(settings: Mapping[str, Any]) -> str:
    return posixpath.normpath(str(settings.get("path")))


def _host_and_port(url: str) -> str:
    """In one spelling; what is no URL (the name of a B2 realm) as it is."""
    parts = urlsplit(url)
    if not parts.hostname:
        return url
    return f"{parts.hostname}:{parts.port or (80 if parts.scheme == 'http' else 443)}"


def provider_of(kind: str, settings: Mapping[str, Any]) -> str:
    """Whose service a store is, as far as its settings tell: by the domain of its endpoint.

    Where it can't be told apart (two hosts of one domain), it is one: copies are spread too far rather than not enough.
    """
    if kind == "b2":
        return "backblazeb2.com"
    if kind != "s3":
        return kind
    host = urlsplit(str(settings.get("endpoint") or "https://amazonaws.com")).hostname or ""
    is_address = ":" in host or host.replace(".", "").isdigit()
    return host if is_address else ".".join(host.split(".")[-2:])
