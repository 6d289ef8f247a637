"""Faults to order, by the name of the call, and the log of the calls that came in."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Action = Literal["error", "reset", "stall", "truncate", "lose_answer"]
_MOST_CALLS = 10_000


@dataclass(slots=True)
class Fault:
    """What goes wrong with the next `times` calls of that name, after `after` good ones.

    `error` answers `status`, `code` and `headers` without doing anything; `reset` cuts the connection at once;
    `stall` waits `seconds` (None: for ever) and then goes on; `truncate` sends half of the answer and cuts;
    `lose_answer` does the work and cuts before answering.
    """

    call: str
    action: Action = "error"
    status: int = 503
    code: str = "service_unavailable"
    message: str = "injected by the sandbox"
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    after: int = 0
    seconds: float | None = None


@dataclass(slots=True)
class Call:
    """One call as it ended; `status` 0: it got no whole answer. `fault` is the action that was injected."""

    number: int
    name: str
    status: int = 0
    fault: str | None = None


class Faults:
    """The faults that are waiting, and the last calls."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []
        self._calls: deque[Call] = deque(maxlen=_MOST_CALLS)
        self._count = 0

    def inject(self, fault: Fault) -> None:
        self._waiting.append(fault)

    def clear(self) -> None:
        self._waiting.clear()

    def begin(self, name: str) -> Call:
        self._count += 1
        call = Call(self._count, name)
        self._calls.append(call)
        return call

    def take(self, name: str) -> Fault | None:
        """The fault that meets this call, if any: the one injected first."""
        for fault in self._waiting:
            if fault.call not in (name, "*"):
                continue
            if fault.after:
                fault.after -= 1
                continue
            fault.times -= 1
            if not fault.times:
                self._waiting.remove(fault)
            return fault
        return None

    def calls(self) -> list[dict[str, Any]]:
        return [asdict(call) for call in self._calls]
