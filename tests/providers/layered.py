"""Stacks of layers over memory, with faults, for tests of the layers."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

from simples3dms.providers.base import StorageProvider
from simples3dms.providers.errors import StoreUnavailable
from simples3dms.providers.kinds.memory import MemoryProvider, MemorySettings
from simples3dms.providers.layers.fault import Fault
from simples3dms.providers.layers.forwarding import Layer
from simples3dms.providers.stack import StackSettings, build_stack

QUICK = {"retry_base_seconds": 0.001, "retry_longest_seconds": 0.05}


def memory(**settings: bool) -> MemoryProvider:
    return MemoryProvider(MemorySettings(name=secrets.token_hex(8), **settings))


def stack(*faults: Fault, inner: StorageProvider | None = None, **settings: object) -> StorageProvider:
    return build_stack(inner or memory(), StackSettings(**{**QUICK, **settings}), *faults)  # type: ignore[arg-type]


def layer(provider: StorageProvider, kind: type[Layer]) -> Layer:
    while not isinstance(provider, kind):
        provider = provider.inner  # type: ignore[attr-defined]
    return provider


async def chunks(body: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for offset in range(0, len(body), size):
        yield body[offset : offset + size]


async def read(provider: StorageProvider, key: str, **how: object) -> bytes:
    async with provider.open(key, **how) as reader:  # type: ignore[arg-type]
        return b"".join([chunk async for chunk in reader])


def down() -> Exception:
    return StoreUnavailable("down")
