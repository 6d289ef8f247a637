"""The one place where layers are nested around a provider."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Final

from simples3dms.errors import Invalid
from simples3dms.providers.base import StorageProvider
from simples3dms.providers.layers.breaker import BreakerLayer
from simples3dms.providers.layers.concurrency import ConcurrencyLayer
from simples3dms.providers.layers.fault import Fault, FaultLayer
from simples3dms.providers.layers.forwarding import Layer
from simples3dms.providers.layers.integrity import IntegrityLayer
from simples3dms.providers.layers.lease import LeaseLayer
from simples3dms.providers.layers.meter import Metered, MeterLayer
from simples3dms.providers.layers.observe import Observations, ObserveLayer
from simples3dms.providers.layers.ratelimit import RateLimitLayer
from simples3dms.providers.layers.readonly import ReadOnlyLayer
from simples3dms.providers.layers.retry import RetryLayer
from simples3dms.providers.layers.timeout import TimeoutLayer

#: What a store may set for itself, with the least and the greatest value, and what it means.
TUNABLE: Final[dict[str, tuple[float, float, str]]] = {
    "connect_timeout_seconds": (0.1, 300, "Longest wait for a connection."),
    "read_timeout_seconds": (0.1, 3600, "Longest wait for an answer, and for further bytes of a body."),
    "retry_attempts": (1, 20, "Attempts at one request before its error is passed on."),
    "retry_base_seconds": (0.001, 60, "The first pause between attempts; doubles with each further one, with jitter."),
    "retry_longest_seconds": (0.001, 3600, "The longest pause; a store that asks for a longer one is asked no more."),
    "breaker_failures": (1, 1000, "Faults of the store in a row after which it is left alone for a while."),
    "breaker_cool_seconds": (0.05, 600, "How long, the first time; doubles up to a minute while it stays unwell."),
    "most_concurrent": (
        1,
        1024,
        "Calls that wait for the store at a time, of all processes together; fewer while it throttles.",
    ),
    "requests_per_second": (
        0.1,
        1_000_000,
        "Requests per second of all processes together, shared fairly among tenants.",
    ),
    "bytes_per_second": (
        1024,
        1e12,
        "Bytes per second both ways of all processes together, shared fairly among tenants.",
    ),
}


@dataclass(frozen=True, slots=True)
class StackSettings:
    """How patient and how hungry the layers are. Out of range raises Invalid (`store_settings_invalid`)."""

    connect_timeout_seconds: float = 10
    read_timeout_seconds: float = 60
    retry_attempts: int = 4
    retry_base_seconds: float = 0.2
    retry_longest_seconds: float = 20
    breaker_failures: int = 10
    breaker_cool_seconds: float = 2
    most_concurrent: int = 128
    requests_per_second: float | None = None
    bytes_per_second: float | None = None
    read_only: bool = False
    observations: Observations = field(default_factory=Observations)
    metered: Metered = field(default_factory=Metered)

    def __post_init__(self) -> None:
        wrong = [
            {"field": name, "message": f"must be a number from {lowest:g} to {highest:g}"}
            for name, (lowest, highest, _) in TUNABLE.items()
            if not _fits(getattr(self, name), lowest, highest, optional=name.endswith("per_second"))
        ]
        if wrong:
            raise Invalid("The store's settings are not valid.", code="store_settings_invalid", fields=wrong)

    def tuned(self, tuning: dict[str, Any]) -> StackSettings:
        """These with a store's own values in place. Raises Invalid for what is unknown or out of range.

        Counts are the new store's own.
        """
        known = {*TUNABLE, "read_only"}
        unknown = [{"field": name, "message": "is not a setting of the layers"} for name in tuning if name not in known]
        if unknown:
            raise Invalid("The store's settings are not valid.", code="store_settings_invalid", fields=unknown)
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name in known}
        return StackSettings(**{**values, **tuning})


def _fits(value: object, lowest: float, highest: float, *, optional: bool) -> bool:
    if value is None:
        return optional
    return isinstance(value, int | float) and not isinstance(value, bool) and lowest <= value <= highest


def is_idle(stack: StorageProvider) -> bool:
    """Whether nobody is reading or writing through a stack of `build_stack`."""
    assert isinstance(stack, IntegrityLayer)
    assert isinstance(stack.inner, MeterLayer)
    return stack.inner.metered.under_way == 0


def count_calls(stack: StorageProvider) -> int:
    """How many calls a stack of `build_stack` has been asked for since it was made."""
    assert isinstance(stack, IntegrityLayer)
    assert isinstance(stack.inner, MeterLayer)
    return stack.inner.metered.calls.total() + stack.inner.metered.under_way


def rest_seconds(stack: StorageProvider) -> float | None:
    """For how long the store of a stack is left alone, after faults; 0: it is asked once. None: nothing is wrong."""
    while isinstance(stack, Layer):
        if isinstance(stack, BreakerLayer):
            return stack.rest_seconds
        stack = stack.inner
    return None


def set_share(stack: StorageProvider, share: float) -> None:
    """Use so much of a store's limits from now on (above 0, up to 1): the rest is for other processes."""
    while isinstance(stack, Layer):
        if isinstance(stack, RateLimitLayer | ConcurrencyLayer):
            stack.set_share(share)
        stack = stack.inner


def build_stack(provider: StorageProvider, settings: StackSettings, *faults: Fault) -> StorageProvider:
    """integrity > meter > retry > observe > breaker > concurrency > rate > lease > timeout > read-only > fault > kind.

    Integrity is outermost, so that a resumed body is compared as one. Meter counts what was asked for; observe, below
    retry, each attempt. The breaker sees attempts too, and refuses before a place or a token is taken. Lease is inside
    the waits for places and tokens, as a claim may run out meanwhile. So is timeout, so that only the store's own time
    counts, and an attempt that hangs becomes an error that retry can repeat. Fault is there only when a test names
    faults.
    """
    inner = provider
    if faults:
        inner = FaultLayer(inner, *faults)
    if settings.read_only:
        inner = ReadOnlyLayer(inner)
    inner = TimeoutLayer(
        inner,
        answer_seconds=settings.connect_timeout_seconds + settings.read_timeout_seconds,
        read_seconds=settings.read_timeout_seconds,
        call_seconds=settings.connect_timeout_seconds + settings.read_timeout_seconds,
    )
    inner = LeaseLayer(inner)
    if settings.requests_per_second is not None or settings.bytes_per_second is not None:
        inner = RateLimitLayer(
            inner,
            requests_per_second=settings.requests_per_second,
            bytes_per_second=settings.bytes_per_second,
        )
    inner = ConcurrencyLayer(inner, most=settings.most_concurrent)
    inner = BreakerLayer(inner, failures=settings.breaker_failures, cool_seconds=settings.breaker_cool_seconds)
    inner = ObserveLayer(inner, settings.observations)
    inner = RetryLayer(
        inner,
        attempts=settings.retry_attempts,
        base_seconds=settings.retry_base_seconds,
        longest_seconds=settings.retry_longest_seconds,
    )
    return IntegrityLayer(MeterLayer(inner, settings.metered))
