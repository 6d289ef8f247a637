"""Whose fault it was: only what a store did wrong counts against it, all of that, and nothing is told as success."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.providers.layered import chunks, down, layer, memory, read, stack

from simples3dms.providers import parts
from simples3dms.providers.base import Capabilities, DeleteOutcome, Expected, ObjectRef, StorageProvider
from simples3dms.providers.errors import (
    AccessDenied,
    IntegrityError,
    ProviderError,
    StoreResting,
    StoreTimedOut,
    StoreUnavailable,
    Throttled,
)
from simples3dms.providers.layers.breaker import BreakerLayer
from simples3dms.providers.layers.fault import Fault, FaultLayer
from simples3dms.providers.layers.forwarding import Layer
from simples3dms.providers.layers.observe import ObserveLayer

pytestmark = pytest.mark.anyio
BODY = secrets.token_bytes(3_000_000)


class WithoutParts(Layer):
    """A store that takes a stream only whole, so that the body passes all the layers."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(self.inner.capabilities, multipart=False)

    async def put(self, key: str, body: Any, **how: Any) -> Any:
        if not isinstance(body, bytes):
            body = b"".join([chunk async for chunk in body])
        return await self.inner.put(key, body, **how)


class Unwell(Layer):
    """Answers deletes, and says of some objects that it could not."""

    def __init__(self, inner: StorageProvider, *answers: dict[str, ProviderError]) -> None:
        super().__init__(inner)
        self.answers = list(answers)
        self.asked: list[list[str]] = []

    async def delete(self, refs: Sequence[ObjectRef]) -> list[DeleteOutcome]:
        self.asked.append([ref.key for ref in refs])
        wrong = self.answers.pop(0) if self.answers else {}
        outcomes = await self.inner.delete([ref for ref in refs if ref.key not in wrong])
        return outcomes + [DeleteOutcome(ref, wrong[ref.key]) for ref in refs if ref.key in wrong]


def outcomes_of(provider: StorageProvider, operation: str) -> dict[str, int]:
    observed = layer(provider, ObserveLayer).observations.calls  # type: ignore[attr-defined]
    return {outcome: count for (name, outcome), count in observed.items() if name == operation}


@pytest.mark.parametrize("error", [StoreUnavailable("the source is down"), OSError("no such file"), ValueError("?")])
@pytest.mark.parametrize("has_parts", [True, False])
async def test_a_source_that_fails_says_nothing_of_the_target(error: Exception, has_parts: bool) -> None:
    """The error comes out as it was; the target is neither asked again nor left alone."""
    target = stack(inner=memory() if has_parts else WithoutParts(memory()), breaker_failures=1, retry_attempts=5)
    reads = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal reads
        reads += 1
        yield BODY
        raise error

    with pytest.raises(type(error)) as caught:
        await target.put("x", source())
    assert caught.value is error
    assert reads == 1
    assert layer(target, BreakerLayer).state == "closed"  # type: ignore[attr-defined]
    assert "store_unavailable" not in outcomes_of(target, "put")
    assert [info async for info in target.list()] == []


async def test_a_body_that_is_not_the_expected_one_is_its_senders_fault() -> None:
    target = stack(inner=WithoutParts(memory()))
    with pytest.raises(IntegrityError):
        await target.put("x", chunks(BODY), expected=Expected(len(BODY), secrets.token_bytes(32)))
    assert "integrity" not in outcomes_of(target, "put")


async def test_a_target_that_fails_says_nothing_of_the_source_that_is_read() -> None:
    source, target = stack(breaker_failures=1), stack(Fault("put", down, times=99), retry_attempts=1)
    await source.put("x", BODY)

    async def carry() -> None:
        async with source.open("x") as reader:
            async for chunk in reader:
                await target.put("y", chunk)

    with pytest.raises(StoreUnavailable):
        await carry()
    assert layer(source, BreakerLayer).state == "closed"  # type: ignore[attr-defined]
    assert outcomes_of(source, "open") == {"ok": 1}
    assert await read(source, "x") == BODY


async def test_a_store_that_answers_and_cuts_each_body_is_left_alone() -> None:
    """That it answered is no sign of health: each attempt ended with its fault."""
    provider = stack(
        Fault("open", down, times=10_000, after_bytes=0), retry_attempts=9, breaker_failures=3, breaker_cool_seconds=30
    )
    await provider.put("x", BODY)
    with pytest.raises(StoreResting):
        await read(provider, "x")
    assert layer(provider, FaultLayer).operations.count("open") == 3  # type: ignore[attr-defined]
    assert outcomes_of(provider, "open")["store_unavailable"] == 3


async def test_a_trial_whose_body_is_cut_opens_the_breaker_again_at_once() -> None:
    provider = stack(
        Fault("head", down, times=3),
        Fault("open", down, after_bytes=0),
        retry_attempts=1,
        breaker_failures=3,
        breaker_cool_seconds=0.05,
    )
    await provider.put("x", BODY)
    breaker = layer(provider, BreakerLayer)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await provider.head("x")
    while breaker.state == "open":  # type: ignore[attr-defined]
        await asyncio.sleep(0.01)
    with pytest.raises(StoreUnavailable):
        await read(provider, "x")
    assert breaker.state == "open"  # type: ignore[attr-defined]


async def test_of_a_delete_only_what_the_store_could_not_do_is_sent_again() -> None:
    unwell = Unwell(
        memory(), {"b": StoreUnavailable("we failed"), "c": AccessDenied("locked")}, {"b": Throttled("slow")}
    )
    provider = stack(inner=unwell)
    refs = [ObjectRef(key) for key in "abc"]
    for ref in refs:
        await provider.put(ref.key, b"1")
    outcomes = await provider.delete(refs)
    assert [outcome.ref for outcome in outcomes] == refs
    assert [type(outcome.error) for outcome in outcomes] == [type(None), type(None), AccessDenied]
    assert unwell.asked == [["a", "b", "c"], ["b"], ["b"]]
    assert [info.key async for info in provider.list()] == ["c"]


async def test_a_store_that_fails_each_object_of_its_deletes_is_left_alone() -> None:
    sick = {"a": StoreUnavailable("we failed")}
    unwell = Unwell(memory(), *[sick] * 99)
    provider = stack(inner=unwell, breaker_failures=3, breaker_cool_seconds=30, retry_attempts=9)
    with pytest.raises(StoreResting):
        await provider.delete([ObjectRef("a")])
    assert len(unwell.asked) == 3


async def test_what_became_of_an_object_that_no_answer_names_is_not_guessed() -> None:
    class Forgetful(Layer):
        async def delete(self, refs: Sequence[ObjectRef]) -> list[DeleteOutcome]:
            return (await self.inner.delete(refs))[1:]

    outcomes = await stack(inner=Forgetful(memory())).delete([ObjectRef("a"), ObjectRef("b")])
    assert [(outcome.ref.key, type(outcome.error)) for outcome in outcomes] == [
        ("a", StoreUnavailable),
        ("b", type(None)),
    ]


async def test_a_delete_that_lasts_to_fail_tells_which_objects_stayed() -> None:
    sick = {"a": StoreUnavailable("we failed")}
    provider = stack(inner=Unwell(memory(), *[sick] * 99), retry_attempts=2)
    outcomes = await provider.delete([ObjectRef("a"), ObjectRef("b")])
    assert [(outcome.ref.key, type(outcome.error)) for outcome in outcomes] == [
        ("a", StoreUnavailable),
        ("b", type(None)),
    ]


async def test_whoever_is_cancelled_does_not_wait_for_a_store_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_ABORT_SECONDS", 0.05)
    provider = stack(Fault("abort_parts", wait_seconds=200, times=99), Fault("finish_parts", wait_seconds=200))
    writing = asyncio.create_task(provider.put("x", chunks(secrets.token_bytes(11 * 2**20))))
    operations = layer(provider, FaultLayer).operations  # type: ignore[attr-defined]
    while "finish_parts" not in operations:
        await asyncio.sleep(0.001)
    writing.cancel()
    await asyncio.wait({writing}, timeout=20)
    assert writing.cancelled()
    assert "abort_parts" in operations


async def test_an_inspection_that_hangs_ends() -> None:
    provider = stack(Fault("inspect", wait_seconds=200), connect_timeout_seconds=0.1, read_timeout_seconds=0.1)
    async with asyncio.timeout(30):
        with pytest.raises(StoreTimedOut):
            await provider.inspect("scratch/")
