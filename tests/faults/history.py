"""A history: what was asked of an installation and what it answered, as lines of JSON in the order of one clock."""

from __future__ import annotations

import itertools
import json
import threading
import time
from pathlib import Path
from typing import Any, TextIO

Event = dict[str, Any]


class Act:
    """One thing that was begun. Notes (`info`) may follow, and at most one end: `ok` or `fail`."""

    def __init__(self, history: History, number: int, op: str) -> None:
        self._history = history
        self._number = number
        self._op = op

    @property
    def number(self) -> int:
        return self._number

    def info(self, **fields: Any) -> None:
        """A try that came to nothing, or nobody knows to what."""
        self._history.add(self._number, self._op, "info", fields)

    def ok(self, **fields: Any) -> None:
        self._history.add(self._number, self._op, "ok", fields)

    def fail(self, **fields: Any) -> None:
        """It was refused, or given up: then it may have had its effect."""
        self._history.add(self._number, self._op, "fail", fields)


class History:
    """Written by many threads; each line is on disk before its writer goes on."""

    def __init__(self, path: Path) -> None:
        self._file: TextIO = path.open("w", buffering=1)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._events: list[Event] = []

    def begin(self, op: str, **fields: Any) -> Act:
        """Note that something is about to be asked."""
        act = Act(self, next(self._numbers), op)
        self.add(act.number, op, "invoke", fields)
        return act

    def add(self, number: int, op: str, kind: str, fields: dict[str, Any]) -> None:
        with self._lock:
            event = {"t": time.time(), "n": number, "op": op, "type": kind, **fields}
            self._events.append(event)
            self._file.write(json.dumps(event) + "\n")

    def events(self) -> list[Event]:
        """All of it so far, in order."""
        with self._lock:
            return list(self._events)

    def close(self) -> None:
        self._file.close()
