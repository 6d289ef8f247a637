"""How durations, windows and proofs are spelled on the command line."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import typer
from pydantic import ValidationError

from simples3dms.schemas.migrations import PROOF, Window

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhdw])")
_WINDOW: Final = re.compile(r"([a-z,-]+) ([0-9:]+)-([0-9:]+) (\S+)")
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def seconds_of(text: str) -> int:
    """`90s`, `30m`, `12h`, `7d`, `2w`. Raises BadParameter."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"A duration is spelled 12h or 7d, not {text!r}.")
    return int(found[1]) * _UNITS[found[2]]


def checked_proof(text: str) -> str:
    """`read-back`, `provider-checksum`, `sample=10`. Raises BadParameter."""
    if not re.fullmatch(PROOF, text):
        raise typer.BadParameter(f"A proof is read-back, provider-checksum or sample=10 (1 to 99 %), not {text!r}.")
    return text


ProofOption = Annotated[
    str,
    typer.Option(
        help="What proves a copy: read-back, provider-checksum, or sample=10 (percent that are read back).",
        metavar="PROOF",
        callback=checked_proof,
    ),
]


def window_of(text: str) -> Window:
    """`mon-fri 22:00-06:00 Europe/Vienna`. Raises BadParameter."""
    found = _WINDOW.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        days: list[Any] = [day for part in found[1].split(",") for day in _span(part)]
        return Window(days=days, opens=found[2], closes=found[3], zone=found[4])
    except (ValueError, ValidationError):
        raise typer.BadParameter(f"A window is spelled 'mon-fri 22:00-06:00 Europe/Vienna', not {text!r}.") from None


def _span(part: str) -> list[str]:
    """`fri-mon` goes over the end of the week."""
    first, _, last = part.partition("-")
    start, count = _DAYS.index(first), (_DAYS.index(last or first) - _DAYS.index(first)) % 7 + 1
    return [_DAYS[(start + ahead) % 7] for ahead in range(count)]


def window_in_words(window: Window) -> str:
    return f"{','.join(window.days)} {window.opens}-{window.closes} {window.zone}"
