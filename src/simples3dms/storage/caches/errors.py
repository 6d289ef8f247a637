"""What can go wrong with caches."""

from __future__ import annotations

from simples3dms.errors import Conflict


def no_cache(name: str) -> Conflict:
    return Conflict(
        f"{name} is no cache, and what holds copies can't become one: add a store with --cache-max-bytes.",
        code="store_no_cache",
    )
