"""Faults on demand: the next calls of a name fail in a given way."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Fault:
    """`mode`: `status` answers with an error, `lost` does so after the work, `truncate` cuts a body."""

    call: str
    mode: str = "status"
    status: int = 503
    code: str = "service_unavailable"
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    after: int = 0


class Faults:
    """The faults that are set, and a log of the calls that came."""

    def __init__(self) -> None:
        self._set: list[Fault] = []
        self.calls: deque[str] = deque(maxlen=10_000)

    def add(self, given: dict[str, Any]) -> None:
        self._set.append(Fault(**given))

    def clear(self) -> None:
        self._set.clear()

    def take(self, call: str) -> Fault | None:
        """The fault for this call, if one is due; it is used up by it."""
        self.calls.append(call)
        for fault in self._set:
            if fault.call != call or fault.times <= 0:
                continue
            if fault.after > 0:
                fault.after -= 1
                continue
            fault.times -= 1
            return fault
        return None
