"""A listing in batches that end between keys, and what of it the records explain. No database here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from simples3dms.providers.base import ObjectInfo
from simples3dms.storage.reconciles.values import Finding, Known


@dataclass(frozen=True, slots=True)
class Batch:
    """What a store lists after one key, up to and with `end`; all versions of a key are in one batch.

    `is_last`: nothing comes after it. `is_sorted`: by the bytes of the keys, so that what is not in it is not listed.
    """

    items: list[ObjectInfo]
    end: str
    is_last: bool
    is_sorted: bool

    def split(self, key: str) -> tuple[Batch, Batch]:
        """What is up to a key, and what comes after it."""
        first = [info for info in self.items if info.key <= key]
        rest = [info for info in self.items if info.key > key]
        end = max(self.end, key)
        return Batch(first, key, False, self.is_sorted), Batch(rest, end, self.is_last, self.is_sorted)


async def batches(listing: AsyncIterator[ObjectInfo], after: str, limit: int) -> AsyncIterator[Batch]:
    """At least one, the last of which says so. A key with more versions than `limit` is held whole."""
    held: list[ObjectInfo] = []
    end, is_sorted = after, True
    async for info in listing:
        if len(held) >= limit and info.key != held[-1].key:
            yield Batch(held, held[-1].key, False, is_sorted)
            end, held = held[-1].key, []
        is_sorted = is_sorted and info.key >= (held[-1].key if held else end)
        held.append(info)
    yield Batch(held, held[-1].key if held else end, True, is_sorted)


def explain_away(items: Sequence[ObjectInfo], known: Sequence[Known], before: datetime) -> list[Finding]:
    """Of what is listed, what was there before that time and no record explains.

    Of a key that a record knows by its version's id, other versions are `version`s, once the record is settled. What
    has no time may have come a moment ago.
    """
    by_key = {one.key: one for one in known}
    found: list[Finding] = []
    for info in items:
        record = by_key.get(info.key)
        if info.modified_at is None or info.modified_at > before:
            continue
        if record is None:
            found.append(Finding("object", info.key, info.version_id or "", info.size_bytes, info.modified_at))
        elif record.state == "live" and info.version_id and record.version_id not in (None, info.version_id):
            found.append(Finding("version", info.key, info.version_id or "", info.size_bytes, info.modified_at))
    return found
