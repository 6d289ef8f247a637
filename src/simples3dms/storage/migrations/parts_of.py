"""Of which blobs a migration is: counted, and whether the placement can be turned as it asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from simples3dms.db.session import Database
from simples3dms.errors import Invalid
from simples3dms.storage.migrations import errors, repository
from simples3dms.storage.placement.selections import Selection, Unclear
from simples3dms.storage.placement.turns import Move, is_drawn, is_written, lacks_stores, moved, selected, soaking
from simples3dms.storage.placement.values import Match, PlacementRow
from simples3dms.storage.placement.words import MOST_RULES, checked_match
from simples3dms.storage.prices.values import Load

_PAGE: Final = 10_000
#: So many blobs are looked at for a plan.
_MOST: Final = 1_000_000
_NOTHING: Final = Load(0, 0)


@dataclass(frozen=True, slots=True)
class Counted:
    """What a move is about, and what of it lies where."""

    part: Load
    left: Load = _NOTHING
    """What stays where it is: a rule keeps it elsewhere, or it is none of the part."""
    at_source: Load = _NOTHING
    """Of the part, as is the next."""
    at_target: Load = _NOTHING
    leaving: Load = _NOTHING
    """All that leaves the source in the end: also what a rule keeps elsewhere, and has a copy there."""
    is_exact: bool = True
    """Whether all was counted; of a very large catalogue only its older part is."""


def checked_part(only: Match) -> Match:
    """Raises Invalid (`migration_part_invalid`)."""
    try:
        return checked_match(only, "only.")
    except Invalid as failure:
        raise errors.part_invalid(failure) from None


def check(placement: PlacementRow, move: Move) -> None:
    """Raises Conflict (`placement_shared_out`, `placement_spread`, `placement_min_acks`, `placement_rules_full`) and
    Invalid (`migration_source_not_in_use`, `migration_part_unclear`)."""
    if placement.write_weights:
        raise errors.weighted()
    policy = placement.policy
    if is_drawn(policy):
        raise errors.drawn()
    if not is_source(placement, move):
        raise errors.source_not_in_use()
    try:
        after = moved(policy, move)
        rules = max(len(soaking(policy, move).rules), len(after.rules))
    except Unclear as unclear:
        raise errors.part_unclear(str(unclear)) from None
    if lacks_stores(after):
        raise errors.lacks_stores()
    if move.only is not None and rules > MOST_RULES:
        raise errors.rules_full(MOST_RULES)


def is_source(placement: PlacementRow, move: Move) -> bool:
    """Whether new documents are written to the source: of a part also by some rule."""
    if move.only is not None:
        return is_written(placement.policy, move.source)
    return placement.write_store_id == move.source


async def count(
    database: Database, tenant_id: UUID, placement: PlacementRow, move: Move, loads: Mapping[UUID | None, Load]
) -> Counted:
    """Page by page, each in a unit of work of its own; the whole of a tenant without rules is known already: `loads`
    says what is kept of each store, and of the tenant (None)."""
    selection = selected(placement.policy, move)
    at_source = loads.get(move.source, _NOTHING)
    if selection.is_all:
        there = loads.get(move.target, _NOTHING)
        return Counted(loads.get(None, _NOTHING), at_source=at_source, at_target=there, leaving=at_source)
    counted = await _count(database, tenant_id, selection, move)
    # A move of all empties the source, however much of it was counted.
    return replace(counted, leaving=at_source) if move.only is None else counted


async def _count(database: Database, tenant_id: UUID, selection: Selection, move: Move) -> Counted:
    found = Counted(_NOTHING)
    after: int | None = 0
    while after is not None and (found.part + found.left).count < _MOST:
        async with database.tenant(tenant_id) as uow:
            page = await repository.count_page(uow, selection, move, after_seq=after, limit=_PAGE)
        found = Counted(
            found.part + Load(page.blob_count, page.size_bytes),
            found.left + Load(page.left_count, page.left_bytes),
            found.at_source + Load(page.source_count, page.source_bytes),
            found.at_target + Load(page.target_count, page.target_bytes),
            found.leaving + Load(page.leaving_count, page.leaving_bytes),
        )
        after = page.last_seq
    return replace(found, is_exact=after is None)
