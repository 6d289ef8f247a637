"""How behaviours are written down, run one by one, and cleaned up after."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

import httpx

from simples3dms.errors import Failure
from simples3dms.kit.ids import new_id
from simples3dms.providers.base import Expected, ObjectRef, PutResult, StorageProvider
from simples3dms.providers.errors import ProviderError

#: A chunk of the streams that the suite sends.
CHUNK_BYTES: Final = 200_000
LONGEST_SECONDS: Final = 120.0

Verdict = Literal["ok", "declared", "failed"]


class Failed(Exception):
    """The store did not do as it must."""


def require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Failed(otherwise)


@dataclass(frozen=True, slots=True)
class Bench:
    """One behaviour's place: the store under test, and a scratch prefix that nobody else uses."""

    store: StorageProvider
    scratch: str

    def key(self, name: str) -> str:
        return f"{self.scratch}{name}"

    @property
    def part_bytes(self) -> int:
        return self.store.capabilities.part_size_bytes

    async def put(self, name: str, body: bytes) -> PutResult:
        return await self.store.put(self.key(name), body)

    async def put_stream(self, name: str, body: bytes, expected: Expected | None = None) -> PutResult:
        return await self.store.put(self.key(name), stream(body), expected=expected or Expected())

    async def read(
        self, name: str, *, start: int = 0, length: int | None = None, version_id: str | None = None
    ) -> bytes:
        async with self.store.open(self.key(name), start=start, length=length, version_id=version_id) as reader:
            return b"".join([chunk async for chunk in reader])

    async def require_body(self, name: str, body: bytes) -> None:
        found = await self.read(name)
        require(found == body, f"{len(body)} bytes came back as {len(found)} others")

    async def keys(self, prefix: str = "") -> list[str]:
        """The keys below the scratch prefix, without it, as they are listed."""
        return [info.key.removeprefix(self.scratch) async for info in self.store.list(self.key(prefix))]

    async def require_nothing(self, prefix: str = "") -> None:
        require(await self.keys(prefix) == [], "an object is left")
        left = [info async for info in self.store.list_unfinished(self.key(prefix))]
        require(left == [], "an unfinished upload is left")

    async def require_raises(self, kind: type[ProviderError], act: Awaitable[object], otherwise: str) -> None:
        try:
            await act
        except kind:
            return
        raise Failed(otherwise)


async def stream(body: bytes, size: int = CHUNK_BYTES) -> AsyncIterator[bytes]:
    for offset in range(0, len(body), size):
        yield body[offset : offset + size]


def noise(size: int) -> bytes:
    return os.urandom(size)


Act = Callable[[Bench], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One thing that a store must do. `needs`: capabilities without which it is declared, not tested."""

    group: str
    name: str
    meaning: str
    needs: tuple[str, ...]
    act: Act

    def missing(self, store: StorageProvider) -> str | None:
        """The capability that the store declares not to have, if there is one."""
        return next((name for name in self.needs if not getattr(store.capabilities, name)), None)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one behaviour ended; `detail` is the reason where it is not ok."""

    behaviour: Behaviour
    verdict: Verdict
    detail: str = ""


BEHAVIOURS: list[Behaviour] = []


def behaviour(
    group: str, *needs: str
) -> Callable[[Callable[[Bench], Awaitable[None]]], Callable[[Bench], Awaitable[None]]]:
    """Put a function on the list; its docstring is what a person reads."""

    def add(act: Act) -> Act:
        BEHAVIOURS.append(Behaviour(group, act.__name__, (act.__doc__ or "").strip(), needs, act))
        return act

    return add


async def run_behaviour(store: StorageProvider, one: Behaviour) -> Outcome:
    """Run one behaviour and remove all that it made. Raises nothing but cancellation."""
    lacking = one.missing(store)
    if lacking is not None:
        return Outcome(one, "declared", f"this store has no {lacking.replace('_', ' ')}")
    bench = Bench(store, f"conformance/{new_id()}/")
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            await one.act(bench)
        outcome = Outcome(one, "ok")
    except (Failed, Failure) as error:
        outcome = Outcome(one, "failed", str(error))
    except ProviderError as error:
        outcome = Outcome(one, "failed", f"{error.kind}: {error.message} ({error.vendor_code or 'no code'})")
    except httpx.HTTPError as error:
        outcome = Outcome(one, "failed", f"a signed request got no answer: {type(error).__name__}")
    except TimeoutError:
        outcome = Outcome(one, "failed", f"took longer than {LONGEST_SECONDS:.0f} s")
    try:
        await _clean(bench)
    except ProviderError as error:
        return Outcome(one, "failed", f"{outcome.detail} could not be cleaned up after: {error.message}".strip())
    return outcome


async def _clean(bench: Bench) -> None:
    keys = {info.key async for info in bench.store.list(bench.scratch)}
    if bench.store.capabilities.multipart:
        keys |= {info.key async for info in bench.store.list_unfinished(bench.scratch)}
    await bench.store.delete([ObjectRef(key) for key in sorted(keys)])
    for key in sorted(keys):
        await bench.store.discard(key)


async def run_conformance(store: StorageProvider) -> list[Outcome]:
    """Every behaviour in turn. `store` is the whole stack, with the integrity layer."""
    return [await run_behaviour(store, one) for one in BEHAVIOURS]
