"""Was a browser made to send this by another site? Decided from headers that pages can't write (S-15)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
#: What a form, and a script without the server's leave, may send to another site (the Fetch standard's safelist).
_FORM_TYPES: Final = frozenset({"", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain"})
_OWN_SITES: Final = frozenset({"same-origin", "none"})


@dataclass(frozen=True, slots=True)
class Asked:
    """What there is to judge by. Headers are None where they are missing; `own_header`: one that no form can send."""

    method: str
    own_origins: Collection[str]
    origin: str | None = None
    fetch_site: str | None = None
    content_type: str | None = None
    has_body: bool = False
    has_own_header: bool = False


def why_forged(asked: Asked) -> str | None:
    """Why a request that a cookie vouches for is not taken for the user's own; None if it is.

    Reading changes nothing, so it may come from anywhere: the answer can't be read there. All else has to come from
    our own pages, which browsers tell by Sec-Fetch-Site (`none`: typed in by hand), older ones by Origin; and what
    tells nothing is no browser, or hides where it comes from.
    """
    if asked.method in _SAFE_METHODS:
        return None
    if asked.fetch_site is not None:
        if asked.fetch_site not in _OWN_SITES:
            return "it comes from another site"
    elif asked.origin is None:
        return "it does not say where it comes from"
    elif asked.origin not in asked.own_origins:
        return "it comes from another site"
    bare = (asked.content_type or "").partition(";")[0].strip().lower()
    if asked.has_body and bare in _FORM_TYPES and not asked.has_own_header:
        return "a form of any site could have sent its body: send JSON, or application/octet-stream"
    return None
