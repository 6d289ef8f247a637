"""Meter: what is asked of a store and what passes, for usage and cost. Counts whole calls, not their repeats."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from simples3dms.providers.base import StorageProvider
from simples3dms.providers.layers.base import LOCAL, Call, CallLayer


@dataclass(slots=True)
class Metered:
    """One process's counts for one store since it started; whoever flushes them to records takes differences."""

    calls: Counter[str] = field(default_factory=Counter)
    objects_deleted: int = 0
    bytes_sent: int = 0
    bytes_read: int = 0
    under_way: int = 0
    """Calls that have begun and not ended: writes, and readers that are open."""


class MeterLayer(CallLayer):
    """Counts calls by operation, and bytes both ways, including those of calls that failed: they are billed too."""

    counts_bytes = True

    def __init__(self, inner: StorageProvider, metered: Metered) -> None:
        super().__init__(inner)
        self.metered = metered

    def begin(self, call: Call) -> None:  # noqa: ARG002
        self.metered.under_way += 1

    def after(self, call: Call, error: BaseException | None) -> None:  # noqa: ARG002 billed either way
        self.metered.under_way -= 1
        if call.operation in LOCAL:
            return
        self.metered.calls[call.operation] += 1
        self.metered.bytes_sent += call.bytes_sent
        self.metered.bytes_read += call.bytes_read
        if call.operation == "delete":
            self.metered.objects_deleted += call.object_count
