"""Observe: how many calls of each kind, how long they took, how they ended. Never keys, never URLs."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import structlog

from simples3dms.providers.base import StorageProvider
from simples3dms.providers.errors import ProviderError
from simples3dms.providers.layers.base import Call, CallLayer

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Observations:
    """Counted by (operation, outcome); seconds spent by operation. One process's view, since it started."""

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)

    def note(self, operation: str, outcome: str, seconds: float) -> None:
        self.calls[operation, outcome] += 1
        self.seconds[operation] += seconds  # type: ignore[assignment]  # seconds are fractions


class ObserveLayer(CallLayer):
    """Counts and times each attempt at the store, and logs those that fail."""

    def __init__(self, inner: StorageProvider, observations: Observations) -> None:
        super().__init__(inner)
        self.observations = observations

    def after(self, call: Call, error: BaseException | None) -> None:
        outcome = "ok"
        if isinstance(error, ProviderError):
            outcome = error.kind
            log.debug(
                "store.call_failed",
                operation=call.operation,
                kind=self.kind,
                error=error.kind,
                vendor_code=error.vendor_code,
            )
        elif isinstance(error, asyncio.CancelledError):
            outcome = "cancelled"
        elif error is not None:
            outcome = "broken"
        self.observations.note(call.operation, outcome, call.seconds)
