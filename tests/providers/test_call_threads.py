"""Blocking calls in threads: what nobody waits for is not begun, closing waits for nobody, answers may be nonsense."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from simples3dms.providers.errors import ProviderError, StoreTimedOut, StoreUnavailable
from simples3dms.providers.registry import BuildOptions, get_kind
from simples3dms.providers.stack import StackSettings, build_stack
from simples3dms.providers.threads import AbandonedError, CallThreads, check_wanted
from simples3dms.sandbox.b2 import B2Sandbox

pytestmark = pytest.mark.anyio


def mapped(error: BaseException) -> ProviderError:
    return StoreUnavailable("the vendor's", vendor_code=type(error).__name__)


@pytest.fixture
def let_go() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


async def run(threads: CallThreads, call: Callable[[], Any]) -> Any:
    return await threads.run(call, (OSError,), mapped)


async def test_what_was_cancelled_before_its_turn_is_never_done(let_go: threading.Event) -> None:
    threads, done = CallThreads(1, "test"), []
    first = asyncio.create_task(run(threads, let_go.wait))
    second = asyncio.create_task(run(threads, lambda: done.append("second")))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    let_go.set()
    await first
    await run(threads, lambda: done.append("third"))
    assert done == ["third"]
    threads.close()


async def test_whoever_is_abandoned_on_the_way_sends_no_further_request(let_go: threading.Event) -> None:
    threads, sent, ended = CallThreads(1, "test"), [], threading.Event()

    def two_requests() -> None:
        try:
            sent.append(1)
            let_go.wait()
            check_wanted()
            sent.append(2)
        except AbandonedError:
            ended.set()
            raise

    running = asyncio.create_task(run(threads, two_requests))
    while not sent:
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    let_go.set()
    assert await asyncio.to_thread(ended.wait, 30)
    assert sent == [1]
    # The next one in the same thread is wanted.
    await run(threads, check_wanted)
    threads.close()


async def test_closing_waits_for_nobody_and_what_runs_may_end(let_go: threading.Event) -> None:
    threads = CallThreads(1, "test")
    running = asyncio.create_task(run(threads, let_go.wait))
    await asyncio.sleep(0)
    threads.close()
    with pytest.raises(StoreUnavailable) as caught:
        await run(threads, lambda: None)
    assert caught.value.vendor_code == "closed"
    let_go.set()
    assert await running is True


@pytest.mark.parametrize(
    "error", [KeyError("x"), ValueError("x"), TypeError("x"), IndexError("x"), AttributeError("x")]
)
async def test_an_answer_without_sense_is_the_stores_fault(error: Exception) -> None:
    threads = CallThreads(1, "test")

    def raising() -> None:
        raise error("x")

    with pytest.raises(StoreUnavailable) as caught:
        await run(threads, raising)
    assert caught.value.vendor_code == "malformed_answer"
    threads.close()


async def test_mode_13_a_b2_write_that_was_given_up_in_the_queue_is_never_sent(tmp_path: Any) -> None:
    """Its caller was told that it failed: if it came through later, no row would know of the object."""
    with B2Sandbox(tmp_path, buckets=("documents",)) as server:
        credential = {"application_key_id": server.application_key_id, "application_key": server.application_key}
        options = BuildOptions(most_concurrent=1, read_seconds=30)
        kind = get_kind("b2").create({"realm": server.url, "bucket": "documents"}, credential, options=options)
        await kind.check()
        impatient = build_stack(
            kind, StackSettings(retry_attempts=1, connect_timeout_seconds=0.5, read_timeout_seconds=0.5)
        )
        server.inject("b2_upload_file", action="stall", seconds=4)
        first = asyncio.create_task(kind.put("first", b"1"))
        while not any(call.name == "b2_upload_file" for call in server.calls()):
            await asyncio.sleep(0.02)
        with pytest.raises(StoreTimedOut):
            await impatient.put("second", b"2")
        await first
        assert [info.key async for info in kind.list()] == ["first"]
        assert sum(call.name == "b2_upload_file" for call in server.calls()) == 1
        await impatient.close()
