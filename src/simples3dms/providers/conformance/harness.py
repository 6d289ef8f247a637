"""How behaviours are written down, run one by one, and cleaned up after."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import httpx

from simples3dms.errors import Failure
from simples3dms.kit.ids import new_id
from simples3dms.providers.base import Expected, ObjectRef, PutResult, StorageProvider
from simples3dms.providers.errors import ProviderError
from simples3dms.providers.registry import BuildOptions

#: A chunk of the streams that the suite sends.
CHUNK_BYTES: Final = 200_000
LONGEST_SECONDS: Final = 120.0
#: For whoever tests a store of their own.
STRAIGHT_OUT: Final = BuildOptions()

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
    options: BuildOptions
    """How the store's connections go out: signed requests take the same way."""

    async def send(self, method: str, url: str, body: bytes | None = None, **headers: str) -> httpx.Response:
        """A request of somebody who has nothing but the URL."""
        async with httpx.AsyncClient(
            trust_env=False,
            timeout=60,
            proxy=self.options.proxy_url,
            verify=_trusting(self.options.ca_file, _mark(self.options.ca_file)),
        ) as client:
            return await client.request(method, url, content=body, headers=headers)

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


@lru_cache(maxsize=4)
def _trusting(ca_file: str | None, mark: tuple[int, ...]) -> ssl.SSLContext:  # noqa: ARG001  the file may be another
    """Loading the authorities takes longer than the request."""
    return ssl.create_default_context(cafile=ca_file)


def _mark(ca_file: str | None) -> tuple[int, ...]:
    if ca_file is None:
        return ()
    status = os.stat(ca_file)
    return status.st_ino, status.st_mtime_ns, status.st_size


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


async def run_behaviour(store: StorageProvider, one: Behaviour, options: BuildOptions = STRAIGHT_OUT) -> Outcome:
    """Run one behaviour and remove all that it made. Raises nothing but cancellation, and cleans up after that, too."""
    lacking = one.missing(store)
    if lacking is not None:
        return Outcome(one, "declared", f"this store has no {lacking.replace('_', ' ')}")
    bench = Bench(store, f"conformance/{new_id()}/", options)
    left: str | None = None
    try:
        failed = await _act(bench, one)
    finally:
        left = await asyncio.shield(clean_up(store, bench.scratch))
    if left is not None:
        return Outcome(one, "failed", f"{failed or ''} could not be cleaned up after: {left}".strip())
    return Outcome(one, "ok") if failed is None else Outcome(one, "failed", failed)


async def _act(bench: Bench, one: Behaviour) -> str | None:
    """What went wrong, if anything did."""
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            await one.act(bench)
    except (Failed, Failure) as error:
        return str(error)
    except ProviderError as error:
        return _told(error)
    except httpx.HTTPError as error:
        return f"a signed request got no answer: {type(error).__name__} ({error})"
    except TimeoutError:
        return f"took longer than {LONGEST_SECONDS:.0f} s"
    except Exception as error:  # noqa: BLE001  a plug-in may raise anything, and that is a finding
        return f"raised {type(error).__name__} instead of a ProviderError"
    return None


async def clean_up(store: StorageProvider, scratch: str) -> str | None:
    """Remove all below a scratch prefix, in bounded time. What went wrong, if something may have stayed."""
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            return await _remove_below(store, scratch)
    except ProviderError as error:
        return _told(error)
    except TimeoutError:
        return f"took longer than {LONGEST_SECONDS:.0f} s"
    except Exception as error:  # noqa: BLE001  as above
        return f"raised {type(error).__name__} instead of a ProviderError"


async def _remove_below(store: StorageProvider, scratch: str) -> str | None:
    refs = [ObjectRef(info.key, info.version_id) async for info in store.list(scratch)]
    wrong = [outcome.error for outcome in await store.delete(refs) if outcome.error is not None]
    # Whatever deleting by version did not get, and uploads that were never finished, which a kind without parts may
    # still have of its own temporary files.
    keys = {info.key async for info in store.list(scratch)}
    keys |= {info.key async for info in store.list_unfinished(scratch)}
    for key in sorted(keys):
        await store.discard(key)
    return _told(wrong[0]) if wrong else None


def _told(error: ProviderError) -> str:
    return f"{error.kind}: {error.message} ({error.vendor_code or 'no code'})"


async def run_conformance(store: StorageProvider, options: BuildOptions = STRAIGHT_OUT) -> list[Outcome]:
    """Every behaviour in turn. `store` is the whole stack, with the integrity layer, built with these options."""
    return [await run_behaviour(store, one, options) for one in BEHAVIOURS]
