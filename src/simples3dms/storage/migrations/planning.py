"""What a migration would move, and whether the placement can be turned as it asks."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from simples3dms.db.session import Database
from simples3dms.errors import Invalid
from simples3dms.storage.counters import repository as counters
from simples3dms.storage.migrations import errors, repository
from simples3dms.storage.migrations.values import MigrationPlan
from simples3dms.storage.placement.selections import Selection, Unclear
from simples3dms.storage.placement.turns import Move, is_drawn, is_written, lacks_stores, moved, selected, soaking
from simples3dms.storage.placement.values import Match, PlacementRow
from simples3dms.storage.placement.words import MOST_RULES, checked_match

_PAGE: Final = 10_000
#: So many blobs are looked at for a plan.
_MOST: Final = 1_000_000


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


async def count(database: Database, tenant_id: UUID, placement: PlacementRow, move: Move) -> MigrationPlan:
    """Page by page, each in a unit of work of its own; the whole of a tenant without rules is known already."""
    selection = selected(placement.policy, move)
    if selection.is_all:
        async with database.tenant(tenant_id) as uow:
            total = await counters.find_total(uow)
        return MigrationPlan(total.blob_count, total.size_bytes)
    return await _count(database, tenant_id, selection)


async def _count(database: Database, tenant_id: UUID, selection: Selection) -> MigrationPlan:
    blobs = size = left = left_size = 0
    after: int | None = 0
    while after is not None and blobs + left < _MOST:
        async with database.tenant(tenant_id) as uow:
            page = await repository.count_page(uow, selection, after_seq=after, limit=_PAGE)
        blobs, size = blobs + page.blob_count, size + page.size_bytes
        left, left_size = left + page.left_count, left_size + page.left_bytes
        after = page.last_seq
    return MigrationPlan(blobs, size, left_count=left, left_bytes=left_size, is_exact=after is None)
