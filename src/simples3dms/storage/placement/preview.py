"""What another placement would bring about, before it is set. Nothing is changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from simples3dms.db.session import Database
from simples3dms.storage.counters import repository as counters
from simples3dms.storage.placement import repository
from simples3dms.storage.placement.residency import refuse_new
from simples3dms.storage.placement.router import owed_stores, wanted_stores
from simples3dms.storage.placement.values import Grant, Policy, PolicyWords, Seen, Seqs
from simples3dms.storage.placement.words import to_policy
from simples3dms.storage.prices.service import lists_of, month_line, read_lines, write_lines
from simples3dms.storage.prices.values import Cost, Line, Load, Site
from simples3dms.storage.rollout.service import Rollouts
from simples3dms.storage.stores import repository as stores_repository
from simples3dms.storage.stores.residency import held_jurisdictions
from simples3dms.storage.stores.service import Stores
from simples3dms.storage.stores.traits import prices_of

#: Up to so many blobs are all looked at; of more, so many, in pages evenly over the catalogue.
LOOKED_AT: Final = 2000
_PAGE: Final = 100
_NOTHING: Final = Load(0, 0)


@dataclass(frozen=True, slots=True)
class StorePreview:
    """What would become of one store.

    `held` lies there now. `owed` is copied there by itself, in the background. `absent` belongs there, as where it is
    written, and lies elsewhere: only a migration moves it. `extra` lies there and belongs there no more: it stays until
    a migration leaves the store.
    """

    store: str
    held_count: int
    held_bytes: int
    owed_count: int
    owed_bytes: int
    absent_count: int
    absent_bytes: int
    extra_count: int
    extra_bytes: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What would become of each store, and money: of what is copied by itself, and of moving what is absent."""

    blob_count: int
    size_bytes: int
    is_estimate: bool
    """Told from the blobs that were looked at, and not from all."""
    looked_at_count: int
    """0: the kept numbers were enough."""
    stores: list[StorePreview]
    cost: dict[str, Any]
    """As `schemas.costs` reads it: of the copies."""
    moving: dict[str, Any]
    """Of a migration, should there be one: its `once`."""


@dataclass(slots=True)
class Tally:
    """What was found of blobs, by store."""

    count: int = 0
    size_bytes: int = 0
    owed: defaultdict[UUID, Load] = field(default_factory=lambda: defaultdict(lambda: _NOTHING))
    absent: defaultdict[UUID, Load] = field(default_factory=lambda: defaultdict(lambda: _NOTHING))
    extra: defaultdict[UUID, Load] = field(default_factory=lambda: defaultdict(lambda: _NOTHING))

    def add(self, policy: Policy, blob: Seen) -> None:
        one = Load(1, blob.size_bytes)
        wanted = wanted_stores(policy, blob.subject)
        owed = owed_stores(policy, blob.subject, blob.store_ids)
        self.count += 1
        self.size_bytes += blob.size_bytes
        for store_id in owed:
            self.owed[store_id] += one
        for store_id in set(wanted) - {*owed, *blob.store_ids}:
            self.absent[store_id] += one
        for store_id in set(blob.store_ids) - set(wanted):
            self.extra[store_id] += one

    def scaled(self, total: Load) -> Tally:
        """The same for all, if those that were looked at are like the rest."""
        if self.count in (0, total.count):
            return self
        scaled = Tally(self.count, self.size_bytes)
        for name in ("owed", "absent", "extra"):
            for store_id, load in getattr(self, name).items():
                size = load.size_bytes * total.size_bytes // self.size_bytes if self.size_bytes else 0
                getattr(scaled, name)[store_id] = Load(load.count * total.count // self.count, size)
        return scaled


def is_uniform(policy: Policy) -> bool:
    """Whether every blob belongs in the same stores: then what is kept of each store tells what it lacks."""
    return not policy.rules and policy.spread is None and not policy.write_weights


def tally_of(policy: Policy, loads: Mapping[UUID | None, Load]) -> Tally:
    """Of a uniform policy, from the kept numbers: what a store lacks is all, less what it has."""
    total = loads.get(None, _NOTHING)
    tally = Tally(total.count, total.size_bytes)
    for store_id in policy.copy_store_ids:
        tally.owed[store_id] = total - loads.get(store_id, _NOTHING)
    tally.absent[policy.write_store_id] = total - loads.get(policy.write_store_id, _NOTHING)
    held = {store_id: load for store_id, load in loads.items() if store_id is not None}
    tally.extra.update({one: load for one, load in held.items() if one not in policy.wanted_store_ids})
    return tally


class Previews:
    """Previews of placements, of all tenants."""

    def __init__(self, database: Database, stores: Stores, *, currency: str) -> None:
        """`currency`: of the prices that operators set."""
        self._database = database
        self._stores = stores
        self._currency = currency
        self._rollouts = Rollouts(database)

    async def preview(self, tenant_id: UUID, words: PolicyWords) -> Preview:
        """What setting it would bring about. Raises as `Placements.set_placement` does, but for what is under way."""
        closed = await self._rollouts.closed_kinds(tenant_id)
        async with self._database.tenant(tenant_id) as uow:
            row = await repository.find(uow)
            held = row.policy.wanted_store_ids if row else ()
            grants = await repository.hold_grants(uow)
            allowed = await held_jurisdictions(uow, tenant_id)
            policy = to_policy(grants, words, closed=closed, allowed=allowed, held=held)
            new = [one for one in grants if one.store_id in policy.wanted_store_ids and one.store_id not in held]
            await refuse_new(uow, new, closed)
            loads = {one.store_id: Load(one.blob_count, one.size_bytes) for one in await counters.list_totals(uow)}
            seqs = None if is_uniform(policy) else await repository.find_seqs(uow)
        total = loads.get(None, _NOTHING)
        looked = Tally()
        if seqs is not None:
            async for blob in self._iter_some(tenant_id, total, seqs):
                looked.add(policy, blob)
        tally = tally_of(policy, loads) if is_uniform(policy) else looked.scaled(total)
        sites = await self._sites(tenant_id, {*policy.wanted_store_ids, *(one for one in loads if one is not None)})
        return _in_words(total, loads, tally, sites, grants, looked.count)

    async def _iter_some(self, tenant_id: UUID, total: Load, seqs: Seqs) -> AsyncIterator[Seen]:
        """All blobs if they are few, else some from all over; each page in a unit of work of its own."""
        pages = LOOKED_AT // _PAGE
        whole = total.count <= LOOKED_AT
        after = seqs.first - 1
        for page in range(pages):
            if not whole:
                after = max(after, seqs.first - 1 + (seqs.last - seqs.first + 1) * page // pages)
            async with self._database.tenant(tenant_id) as uow:
                found = await repository.list_seen(uow, after_seq=after, limit=_PAGE)
            for blob in found:
                yield blob
            if len(found) < _PAGE:
                return
            after = found[-1].seq

    async def _sites(self, tenant_id: UUID, store_ids: set[UUID]) -> dict[UUID, Site]:
        async with self._database.tenant(tenant_id) as uow:
            priced = await stores_repository.list_priced(uow, list(store_ids))
        return {
            one.id: Site(one.name, prices_of(one, self._currency), await self._stores.part_bytes(one.id))
            for one in priced
        }


def _in_words(
    total: Load,
    loads: Mapping[UUID | None, Load],
    tally: Tally,
    sites: Mapping[UUID, Site],
    grants: list[Grant],
    looked_at: int,
) -> Preview:
    names = {grant.store_id: grant.name for grant in grants}
    rows = [
        StorePreview(
            names.get(store_id, site.name),
            *_pair(loads.get(store_id, _NOTHING)),
            *_pair(tally.owed[store_id]),
            *_pair(tally.absent[store_id]),
            *_pair(tally.extra[store_id]),
        )
        for store_id, site in sites.items()
    ]
    held = {store_id: load for store_id, load in loads.items() if store_id is not None}
    after = {store_id: held.get(store_id, _NOTHING) + tally.owed[store_id] for store_id in sites}
    cost = Cost(
        once=_copied(tally.owed, held, sites),
        before=[month_line("stored", sites[one], load) for one, load in held.items() if one in sites],
        after=[month_line("stored", sites[one], load) for one, load in after.items() if load != _NOTHING],
        lists=lists_of(*sites.values()),
    )
    moving = Cost(once=_copied(tally.absent, held, sites), before=[], after=[], lists=[])
    return Preview(
        blob_count=total.count,
        size_bytes=total.size_bytes,
        is_estimate=0 < looked_at < total.count,
        looked_at_count=looked_at,
        stores=[row for row in rows if any(getattr(row, f"{name}_count") for name in ("held", "owed", "absent"))],
        cost=cost.document(),
        moving=moving.document()["once"],
    )


def _copied(wanted: Mapping[UUID, Load], held: Mapping[UUID, Load], sites: Mapping[UUID, Site]) -> list[Line]:
    """What it costs to bring so much to each of these stores, read from the store that holds most."""
    lines: list[Line] = []
    for store_id, load in wanted.items():
        if load == _NOTHING or store_id not in sites:
            continue
        target = sites[store_id]
        others = [one for one in held if one != store_id and one in sites]
        source_id = max(others, key=lambda one: held[one].count, default=None)
        there = _NOTHING if source_id is None else load.at_most(held[source_id])
        if source_id is not None and there != _NOTHING:
            part_bytes = target.part_bytes
            lines += read_lines(sites[source_id], there, part_bytes=part_bytes, stored=held[source_id])
        if there != load:
            nobody = Site("other stores", None)
            lines += read_lines(nobody, load - there, part_bytes=target.part_bytes, stored=_NOTHING)
        lines += write_lines(target, load)
    return lines


def _pair(load: Load) -> tuple[int, int]:
    return load.count, load.size_bytes
