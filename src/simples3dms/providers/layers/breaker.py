"""Circuit breaker: a store that fails again and again is left alone for a while, and then asked once."""

from __future__ import annotations

import time
from typing import Final, Literal

import structlog

from simples3dms.providers.base import StorageProvider
from simples3dms.providers.errors import STORE_FAULTS, ProviderError, StoreResting, Throttled
from simples3dms.providers.layers.base import LOCAL, Call, CallLayer

log = structlog.get_logger(__name__)
State = Literal["closed", "open", "half_open"]
_LONGEST_COOL_SECONDS: Final = 60.0


class BreakerLayer(CallLayer):
    """Opens after `failures` faults of the store in a row, for `cool_seconds` (doubling, up to a minute).

    Only faults of the store count: a missing object, a refused right, wrong bytes or a throttled call show that the
    store answers, and close it. When the time is over one call is let through; its outcome decides for the others.
    """

    def __init__(self, inner: StorageProvider, *, failures: int, cool_seconds: float) -> None:
        super().__init__(inner)
        self._failures = failures
        self._cool_seconds = cool_seconds
        self._failed = 0
        self._times_opened = 0
        self._opened_at: float | None = None
        self._trial: Call | None = None

    @property
    def state(self) -> State:
        if self._opened_at is None:
            return "closed"
        return "half_open" if self._left() <= 0 else "open"

    @property
    def rest_seconds(self) -> float | None:
        """For how long calls are still refused; 0: one is let through. None: all are."""
        return None if self._opened_at is None else max(0.0, self._left())

    def _left(self) -> float:
        assert self._opened_at is not None
        pause: float = min(_LONGEST_COOL_SECONDS, self._cool_seconds * 2 ** max(0, self._times_opened - 1))
        return self._opened_at + pause - time.monotonic()

    def begin(self, call: Call) -> None:
        if self._opened_at is None or call.operation in LOCAL:
            return
        left = self._left()
        if left > 0 or not self._may_try(call):
            raise StoreResting(
                "the store failed again and again and is left alone for a moment",
                vendor_code="breaker_open",
                retry_after=max(left, 0.1),
            )
        self._trial = call

    def _may_try(self, call: Call) -> bool:
        # A stream moves at its source's pace, and may for hours: others do not wait for what becomes of it.
        return self._trial is None or (self._trial.is_stream and not call.is_stream)

    def answered(self, call: Call) -> None:
        # A reader may stay open for hours, so others may go on now. But only its end says that the store is well: one
        # that answers each time, and each time cuts the body, is not.
        if self._trial is call:
            self._trial, self._opened_at = None, None
            self._failed = self._failures - 1
            log.info("store.breaker_closed", kind=self.kind)

    def after(self, call: Call, error: BaseException | None) -> None:
        if call.operation in LOCAL:
            return
        if error is None or (isinstance(error, ProviderError) and not _is_fault(error)):
            self._note(call, healthy=True)
        elif isinstance(error, ProviderError):
            self._note(call, healthy=False)
        elif self._trial is call:
            # Cancelled, or the caller's own fault: nothing was learnt, so the next call is the trial.
            self._trial = None

    def _note(self, call: Call, *, healthy: bool) -> None:
        if self._trial is call:
            self._trial = None
        elif self._opened_at is not None:
            return  # begun before it opened: says nothing of now
        if healthy:
            if self._opened_at is not None:
                log.info("store.breaker_closed", kind=self.kind)
            self._failed, self._times_opened, self._opened_at = 0, 0, None
            return
        self._failed += 1
        if self._opened_at is not None or self._failed >= self._failures:
            self._times_opened += 1
            self._opened_at = time.monotonic()
            log.warning("store.breaker_opened", kind=self.kind, failures=self._failed, seconds=round(self._left(), 1))


def _is_fault(error: ProviderError) -> bool:
    return isinstance(error, STORE_FAULTS) and not isinstance(error, Throttled)
