"""How the conditions of a part of a tenant's documents are spelled on the command line."""

from __future__ import annotations

import re
from typing import Any, Final

import typer

from simples3dms.cli.schedules import seconds_of
from simples3dms.schemas.stores import Match

_UNITS: Final[dict[str, int]] = {"": 1, "B": 1} | {
    f"{letter}{suffix}": base**power
    for suffix, base in (("B", 1000), ("iB", 1024))
    for power, letter in enumerate("kMGT", start=1)
}
_SIZE: Final = re.compile(r"([0-9]{1,15}) ?([kKMGT]?i?B?)")
_DAY_SECONDS: Final = 86_400
_FIELDS: Final = {
    "min_size": "min_bytes",
    "max_size": "max_bytes",
    "min_age": "min_age_days",
    "max_age": "max_age_days",
}


def match_of(conditions: list[str]) -> Match:
    """`content_type=image/*`, `min_size=10MiB`, `max_age=90d`. Raises BadParameter."""
    read: dict[str, Any] = {"content_types": []}
    for condition in conditions:
        name, _, value = condition.partition("=")
        if name == "content_type" and value:
            read["content_types"].append(value)
        elif name in _FIELDS and _FIELDS[name] not in read:
            read[_FIELDS[name]] = _bytes_of(value) if name.endswith("size") else _days_of(value)
        else:
            names = ", ".join(_FIELDS)
            raise typer.BadParameter(f"A condition is content_type=..., or once {names}; not {condition!r}.")
    return Match.model_validate(read)


def _bytes_of(text: str) -> int:
    found = _SIZE.fullmatch(text)
    unit = found[2].replace("K", "k") if found else ""
    if found is None or unit not in _UNITS:
        raise typer.BadParameter(f"A size is spelled 10MiB, 2GB or 4096, not {text!r}.")
    return int(found[1]) * _UNITS[unit]


def _days_of(text: str) -> int:
    seconds = seconds_of(text)
    if seconds % _DAY_SECONDS:
        raise typer.BadParameter(f"An age is whole days, such as 30d or 4w, not {text!r}.")
    return seconds // _DAY_SECONDS


def match_in_words(match: Match) -> str:
    parts = [f"content_type={pattern}" for pattern in match.content_types]
    for name, field in _FIELDS.items():
        value = getattr(match, field)
        if value is not None:
            parts.append(f"{name}={value}{'d' if name.endswith('age') else ''}")
    return " ".join(parts)
