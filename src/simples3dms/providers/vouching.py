"""What a probe found out about the checksums that a store reports: whether it computes them, or only repeats ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

#: The row that says that a store computes what it reports: a wrong checksum of what is written is refused.
REPORTED: Final = "reported checksum"
#: The row that says that it also computes one of what it copies inside itself, and does not carry the source's along.
COPIED: Final = "checksum of a copy"


def vouched(findings: Iterable[Mapping[str, str]]) -> frozenset[str]:
    """Of these rows of a probe, what the store can be taken at its word about: `REPORTED`, `COPIED`, both or neither.

    A store that was never asked is taken at its word about nothing.
    """
    green = {row["name"] for row in findings if row.get("verdict") == "green"}
    return frozenset(green & {REPORTED, COPIED})
