"""Blocking calls in threads: what nobody waits for is not begun, closing waits for nobody, answers may be nonsense."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from simples3dms.providers.errors import ProviderError, StoreTimedOut, StoreUnavailable
from simples3dms.providers.kinds.b2 import reading
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


B2 = ("b2", {"bucket": "documents"}, {"application_key_id": "own", "application_key": "made-up"})
S3 = (
    "s3",
    {"bucket": "documents", "endpoint": "http://127.0.0.1:9"},
    {"access_key_id": "own", "secret_access_key": "made-up"},
)


def made(kind: str, settings: dict[str, str], credential: dict[str, str], **options: Any) -> Any:
    return get_kind(kind).create(settings, credential, options=BuildOptions(**options))


@pytest.mark.parametrize("kind", [S3, B2], ids=["s3", "b2"])
async def test_f27_a_call_that_the_layers_let_through_waits_for_no_thread(kind: Any) -> None:
    """Waiting in our own queue would count as the store's time: a busy moment of ours would open its breaker."""
    provider = made(*kind, most_concurrent=40)
    threads: CallThreads = provider._threads if kind is S3 else provider._account._threads
    all_at_once = threading.Barrier(40, timeout=20)
    await asyncio.gather(*(run(threads, all_at_once.wait) for _ in range(40)))
    await provider.close()


async def test_closing_cancels_nobody_whose_turn_is_still_to_come(let_go: threading.Event) -> None:
    """They would be told that they were cancelled, which they were not, and end without a word."""
    threads = CallThreads(1, "test")
    first = asyncio.create_task(run(threads, let_go.wait))
    second = asyncio.create_task(run(threads, lambda: "done"))
    await asyncio.sleep(0.05)
    threads.close()
    let_go.set()
    assert await asyncio.gather(first, second) == [True, "done"]


@pytest.mark.parametrize("is_whole", [False, True])
async def test_a_download_from_b2_is_left_without_blocking_the_event_loop(is_whole: bool) -> None:
    """Closing waits for whoever still reads from it, and all of the process would wait with it."""
    provider = made(*B2)
    closed_in: list[int] = []
    closed, may_close = threading.Event(), threading.Event()

    def close() -> None:
        may_close.wait(5)
        closed_in.append(threading.get_ident())
        closed.set()

    response = SimpleNamespace(raw=SimpleNamespace(connection=None), close=close)
    reading.let_go(provider._account, response, is_whole=is_whole)
    may_close.set()
    assert await asyncio.to_thread(closed.wait, 10)
    assert closed_in != [threading.get_ident()]
    await provider.close()
