"""Fault: makes chosen calls fail or wait, for tests of the layers above it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from simples3dms.providers.base import StorageProvider
from simples3dms.providers.layers.base import Call, CallLayer


@dataclass(slots=True)
class Fault:
    """What happens to the next `times` calls of `operation` (None: any): wait, then raise what `error` makes."""

    operation: str | None = None
    error: Callable[[], Exception] | None = None
    times: int = 1
    wait_seconds: float = 0
    after_bytes: int | None = None
    """Raise only when that many bytes of the body have been read."""


class FaultLayer(CallLayer):
    """Injects the listed faults, in order; counts every call that arrives."""

    def __init__(self, inner: StorageProvider, *faults: Fault) -> None:
        super().__init__(inner)
        self.faults = list(faults)
        self.operations: list[str] = []

    def _due(self, call: Call, *, in_body: bool) -> Iterator[Fault]:
        for fault in self.faults:
            fits = fault.operation in (None, call.operation) and (fault.after_bytes is not None) == in_body
            if fits and fault.times > 0:
                yield fault

    async def before(self, call: Call) -> None:
        self.operations.append(call.operation)
        for fault in self._due(call, in_body=False):
            fault.times -= 1
            await asyncio.sleep(fault.wait_seconds)
            if fault.error is not None:
                raise fault.error()
            return

    async def moved(self, call: Call, size_bytes: int) -> None:
        passed = call.bytes_read or call.bytes_sent + size_bytes
        for fault in self._due(call, in_body=True):
            if fault.after_bytes is not None and passed > fault.after_bytes:
                fault.times -= 1
                await asyncio.sleep(fault.wait_seconds)
                if fault.error is not None:
                    raise fault.error()
                return
