"""What a call that is made again must not do: mix two objects, leave a second copy, keep a store shut."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from layered import chunks, down, layer, memory, read, stack

from simples3dms.providers.base import Body, Capabilities, CopySource, PutResult, StorageProvider
from simples3dms.providers.errors import IntegrityError, ObjectNotFound, StoreResting, StoreUnavailable
from simples3dms.providers.layers.base import CallLayer
from simples3dms.providers.layers.breaker import BreakerLayer
from simples3dms.providers.layers.fault import Fault

pytestmark = pytest.mark.anyio
MIB = 2**20


@pytest.mark.parametrize("versions", [False, True])
@pytest.mark.parametrize("length", [None, 2 * MIB])
async def test_f35_a_read_that_is_taken_up_again_never_mixes_two_objects(versions: bool, length: int | None) -> None:
    """A part of an object has no digest to be compared with: what another size or content would mix must be noticed."""
    inner = memory(versions=versions)
    provider = stack(Fault("open", down, after_bytes=MIB + 1), inner=inner)
    await provider.put("x", bytes(4 * MIB))

    async def read_while_it_is_replaced() -> None:
        async with provider.open("x", start=1, length=length) as reader:
            async for _ in reader:
                await inner.put("x", secrets.token_bytes(4 * MIB))

    with pytest.raises(IntegrityError, match="changed"):
        await read_while_it_is_replaced()


async def test_a_read_that_is_cut_at_its_very_end_is_whole() -> None:
    inner = memory()
    provider = stack(Fault("open", down, after_bytes=2 * MIB - 1), inner=inner)
    body = secrets.token_bytes(2 * MIB)
    await provider.put("x", body)
    assert await read(provider, "x", start=1) == body[1:]


class _LostCopies:
    """Makes the copy, and loses the answer to the first one."""

    def __init__(self, inner: StorageProvider) -> None:
        self._copy, self._lost = inner.copy, False

    async def __call__(self, source: CopySource, key: str, *, content_type: str | None = None) -> object:
        result = await self._copy(source, key, content_type=content_type)
        if not self._lost:
            self._lost = True
            raise down()
        return result


async def test_a_copy_whose_answer_was_lost_leaves_one_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one would be billed, and no row would know of it."""
    inner = memory(versions=True)
    provider = stack(inner=inner)
    made = await provider.put("x", b"body")
    monkeypatch.setattr(inner, "copy", _LostCopies(inner))
    copied = await provider.copy(CopySource(inner.location, "x", 4, made.version_id), "y")
    assert [info.version_id async for info in inner.list("y")] == [copied.version_id]


async def test_a_stream_that_is_on_trial_does_not_keep_the_store_shut() -> None:
    """It moves at its source's pace: one slow upload would close the store to everybody, for hours."""
    inner = memory(parts=False)
    provider = stack(
        Fault("head", down, times=2), inner=inner, retry_attempts=1, breaker_failures=1, breaker_cool_seconds=0.05
    )
    await provider.put("there", b"1")
    with pytest.raises(Exception, match="down"):
        await provider.head("there")
    await asyncio.sleep(0.06)
    goes_on = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"1"
        await goes_on.wait()
        yield b"2"

    upload = asyncio.create_task(provider.put("slow", slow()))
    await asyncio.sleep(0.01)
    # The next call is on trial, too, and finds the store still down.
    with pytest.raises(Exception, match="down"):
        await provider.head("there")
    with pytest.raises(StoreResting):
        await provider.head("there")
    goes_on.set()
    await upload
    # The stream began before it was shut again: its success says nothing of now.
    breaker = layer(provider, BreakerLayer)
    assert isinstance(breaker, BreakerLayer)
    assert breaker.state == "open"
    await asyncio.sleep(0.15)
    assert (await provider.head("there")).size_bytes == 1
    assert await read(provider, "slow") == b"".join([chunk async for chunk in chunks(b"12")])


async def test_what_is_left_of_a_stream_is_never_sent_as_the_whole() -> None:
    """To a store that takes no parts: its failure in the middle is passed on, and nothing is there."""

    class Whole(CallLayer):
        """Takes bodies in one piece; the first time it fails when it has read some of one."""

        failed = False

        @property
        def capabilities(self) -> Capabilities:
            return replace(self.inner.capabilities, multipart=False)

        async def put(self, key: str, body: Body, **how: Any) -> PutResult:
            if not self.failed and not isinstance(body, bytes):
                self.failed = True
                await anext(aiter(body))
                raise StoreUnavailable("down in the middle")
            return await self.inner.put(key, body, **how)

    provider = stack(inner=Whole(memory()))
    with pytest.raises(StoreUnavailable):
        await provider.put("x", chunks(secrets.token_bytes(500_000)))
    with pytest.raises(ObjectNotFound):
        await provider.head("x")
