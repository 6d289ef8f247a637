"""What commands print: tables for people, JSON for scripts; messages go to standard error."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

#: As wide as it needs to be where no terminal bounds it: what another program reads is not broken over lines.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 400)
messages = Console(stderr=True, highlight=False)
_UNBROKEN = frozenset({"id", "at", "action", "state"})
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size(count: int | float) -> str:
    """A number of bytes with its unit, in powers of a thousand as disks and bills count."""
    value = float(count)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def plain(text: str) -> str:
    """Somebody else's text as it is, without what would steer a terminal or turn the direction of reading."""
    return "".join("\ufffd" if _steers(unicodedata.category(character)) else character for character in text)


def _steers(category: str) -> bool:
    """Control and format characters, and the separators of lines and paragraphs."""
    return category[0] == "C" or category in ("Zl", "Zp")


def _words(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{name}={inner}" for name, inner in value.items() if inner not in ("", None))
    return str(value)


def _cell(name: str, value: Any) -> Text:
    """A field for a table. Text and not markup: a name may hold brackets."""
    return Text(size(value) if name.endswith("_bytes") and value is not None else plain(_words(value)))


def show_json(value: BaseModel | Sequence[BaseModel] | Mapping[str, Any]) -> None:
    """Pure JSON on standard output."""
    if isinstance(value, BaseModel):
        document: Any = value.model_dump(mode="json")
    elif isinstance(value, Mapping):
        document = value
    else:
        document = [item.model_dump(mode="json") for item in value]
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def show_one(item: BaseModel, *, as_json: bool) -> None:
    if as_json:
        show_json(item)
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in item.model_dump().items():
        table.add_row(name.replace("_", " "), _cell(name, value))
    console.print(table)


def show_rows(items: Iterable[BaseModel], columns: Sequence[str], *, as_json: bool, empty: str) -> None:
    """A table of these fields; `empty` says what to do where there is nothing."""
    rows = list(items)
    if as_json:
        show_json(rows)
        return
    if not rows:
        messages.print(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        title = name.removesuffix("_bytes").removesuffix("_at").replace("_", " ")
        # An id is there to be copied: names give way to it where the terminal is narrow.
        unbroken = name in _UNBROKEN or name.endswith(("_id", "_at", "_bytes"))
        table.add_column(title, overflow="fold", no_wrap=unbroken)
    for row in rows:
        table.add_row(*(_cell(name, getattr(row, name)) for name in columns))
    console.print(table)


def say(text: str) -> None:
    """A line for the person at the terminal."""
    messages.print(plain(text), soft_wrap=True, markup=False)


def done(text: str, *, as_json: bool, **facts: Any) -> None:
    """That something was done which has no answer of its own: a line for people, the facts for scripts."""
    if as_json:
        show_json(facts)
    else:
        say(text)


def transfer_progress() -> Progress:
    """A bar by bytes with rate and time left, on standard error."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=messages,
        transient=True,
    )
