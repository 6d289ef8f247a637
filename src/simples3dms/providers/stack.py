"""The one place where layers are nested around a provider."""

from __future__ import annotations

from dataclasses import dataclass, field

from simples3dms.errors import Invalid
from simples3dms.providers.base import StorageProvider
from simples3dms.providers.layers.integrity import IntegrityLayer
from simples3dms.providers.layers.observe import Observations, ObserveLayer
from simples3dms.providers.layers.retry import RetryLayer
from simples3dms.providers.layers.timeout import TimeoutLayer


@dataclass(frozen=True, slots=True)
class StackSettings:
    """How patient the layers are. Seconds; out of range raises Invalid (`store_settings_invalid`)."""

    connect_timeout_seconds: float = 10
    read_timeout_seconds: float = 60
    retry_attempts: int = 4
    retry_base_seconds: float = 0.2
    retry_longest_seconds: float = 20
    observations: Observations = field(default_factory=Observations)

    def __post_init__(self) -> None:
        for name, lowest, highest in (
            ("connect_timeout_seconds", 0.1, 300),
            ("read_timeout_seconds", 0.1, 3600),
            ("retry_attempts", 1, 20),
            ("retry_base_seconds", 0.001, 60),
            ("retry_longest_seconds", 0.001, 3600),
        ):
            if not lowest <= getattr(self, name) <= highest:
                raise Invalid(f"{name} must be between {lowest} and {highest}.", code="store_settings_invalid")


def build_stack(provider: StorageProvider, settings: StackSettings) -> StorageProvider:
    """integrity > retry > observe > timeout > provider, from the outside in.

    Integrity is outermost, so that a resumed body is compared as one. Observe is below retry, so that each attempt is
    counted. Timeout is innermost, so that an attempt that hangs becomes an error that retry can repeat.
    """
    bounded = TimeoutLayer(
        provider,
        answer_seconds=settings.connect_timeout_seconds + settings.read_timeout_seconds,
        read_seconds=settings.read_timeout_seconds,
        call_seconds=settings.connect_timeout_seconds + settings.read_timeout_seconds,
    )
    observed = ObserveLayer(bounded, settings.observations)
    repeated = RetryLayer(
        observed,
        attempts=settings.retry_attempts,
        base_seconds=settings.retry_base_seconds,
        longest_seconds=settings.retry_longest_seconds,
    )
    return IntegrityLayer(repeated)
