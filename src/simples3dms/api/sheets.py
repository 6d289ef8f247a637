"""Tables as CSV that a spreadsheet takes for text: no cell is a formula, and each row is one line."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Sequence

#: What makes a cell a formula (OWASP, CSV Injection), and the wide forms that some programs take for the same.
_FORMULAS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
#: Control and format characters, surrogates, and the separators of lines and paragraphs.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def as_row(cells: Sequence[object]) -> bytes:
    """One line in UTF-8, every cell in quotes. None is empty."""
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow([_cell(cell) for cell in cells])
    return out.getvalue().encode()


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = str(value)
    is_formula = not isinstance(value, int) and text.lstrip(" ").startswith(_FORMULAS)
    shown = "".join("\ufffd" if unicodedata.category(one) in _UNSEEN else one for one in text)
    return f"'{shown}" if is_formula else shown
