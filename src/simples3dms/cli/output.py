"""What commands print: tables for people, JSON for scripts; messages go to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

console = Console(highlight=False)
messages = Console(stderr=True, highlight=False)
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size(count: int | float) -> str:
    """A number of bytes with its unit, in powers of a thousand as disks and bills count."""
    value = float(count)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def show_json(value: BaseModel | Sequence[BaseModel] | dict[str, Any]) -> None:
    """Pure JSON on standard output."""
    if isinstance(value, BaseModel):
        document: Any = value.model_dump(mode="json")
    elif isinstance(value, dict):
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
        table.add_row(name.replace("_", " "), size(value) if name.endswith("_bytes") else _cell(value))
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
        table.add_column(name.removesuffix("_bytes").removesuffix("_at").replace("_", " "), overflow="fold")
    for row in rows:
        values = [(name, getattr(row, name)) for name in columns]
        table.add_row(*(size(v) if n.endswith("_bytes") and v is not None else _cell(v) for n, v in values))
    console.print(table)


def say(text: str) -> None:
    """A line for the person at the terminal."""
    messages.print(text)
