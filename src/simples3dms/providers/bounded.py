"""Answers to control calls, read with an end: vendors' clients read whatever a server sends, for as long as it sends.

A store that a tenant brought may be hostile (S-38): an endless listing, or an error that never ends, must cost neither
our memory nor one of our few threads.
"""

from __future__ import annotations

import time
from typing import Final, Protocol

#: The largest answer that is none of an object's bytes: a thousand versions with the longest names are 3 MB of XML.
ANSWER_BYTES: Final = 16 * 1024 * 1024
_READ_BYTES: Final = 64 * 1024


class AnswerUnbounded(OSError):
    """The answer was longer, or took longer, than any honest one."""


class RawAnswer(Protocol):
    """urllib3's response."""

    def read1(self, amt: int | None = None, decode_content: bool | None = None) -> bytes: ...


def read_answer(raw: RawAnswer, *, seconds: float, decode: bool = False, most_bytes: int = ANSWER_BYTES) -> bytes:
    """All of it. Raises AnswerUnbounded for more than `most_bytes`, or if it takes longer than `seconds`. Blocks."""
    ends_at = time.monotonic() + seconds
    parts: list[bytes] = []
    left = most_bytes
    while part := raw.read1(min(left + 1, _READ_BYTES), decode_content=decode):
        left -= len(part)
        if left < 0:
            raise AnswerUnbounded(f"an answer of more than {most_bytes} bytes")
        if time.monotonic() > ends_at:
            raise AnswerUnbounded(f"an answer that took longer than {seconds:g} seconds")
        parts.append(part)
    return b"".join(parts)
