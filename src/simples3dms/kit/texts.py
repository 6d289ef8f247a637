"""What people write in a line: names and reasons, which end up in lists, logs and letters."""

from __future__ import annotations

import re
from typing import Final

_PRINTABLE: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]+")
#: Of a reason that is kept with what was done, in characters.
LONGEST_REASON: Final = 500


def is_line(text: str, *, longest: int = LONGEST_REASON) -> bool:
    """Whether it says something, in 1 to `longest` characters, with no line breaks and no other control characters."""
    return len(text) <= longest and bool(text.strip()) and _PRINTABLE.fullmatch(text) is not None
