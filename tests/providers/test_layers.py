"""Each layer on its own and in the stack: what is repeated, bounded, shared, counted, refused, and in which order."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable

import pytest
from tests.providers.layered import QUICK, chunks, down, layer, memory, read, stack

from simples3dms.errors import Invalid
from simples3dms.providers.base import Expected, ObjectRef, StorageProvider
from simples3dms.providers.errors import (
    AccessDenied,
    BadCredential,
    IntegrityError,
    ObjectNotFound,
    ProviderError,
    StoreResting,
    StoreTimedOut,
    StoreUnavailable,
    Throttled,
)
from simples3dms.providers.layers.base import CallLayer
from simples3dms.providers.layers.breaker import BreakerLayer
from simples3dms.providers.layers.concurrency import ConcurrencyLayer
from simples3dms.providers.layers.fault import Fault, FaultLayer
from simples3dms.providers.layers.forwarding import Layer
from simples3dms.providers.layers.meter import MeterLayer
from simples3dms.providers.layers.ratelimit import RateLimitLayer, share_as
from simples3dms.providers.layers.retry import RetryBudget, RetryLayer
from simples3dms.providers.layers.timeout import TimeoutLayer
from simples3dms.providers.stack import TUNABLE, StackSettings, build_stack

pytestmark = pytest.mark.anyio


# --- order --------------------------------------------------------------------------------------------------------


async def test_the_layers_are_nested_in_this_order() -> None:
    provider = stack(Fault(times=0), read_only=True, requests_per_second=5)
    found = []
    while isinstance(provider, Layer):
        found.append(type(provider).__name__.removesuffix("Layer"))
        provider = provider.inner
    assert found == [
        *("Integrity", "Meter", "Retry", "Observe", "Breaker", "Concurrency", "RateLimit", "Lease", "Timeout"),
        *("ReadOnly", "Fault"),
    ]


def test_every_layer_forwards_every_method_in_writing() -> None:
    members = {name for name in vars(StorageProvider) if not name.startswith("_")}
    assert members <= set(vars(Layer))
    assert {"put", "open", "get", "head", "delete", "discard", "list_page", "copy", "put_part"} <= set(vars(CallLayer))


# --- retry --------------------------------------------------------------------------------------------------------


async def test_what_may_be_repeated_is_and_no_more_often_than_allowed() -> None:
    provider = stack(Fault("put", down, times=3), retry_attempts=4)
    await provider.put("x", b"1")
    assert layer(provider, FaultLayer).operations == ["put"] * 4  # type: ignore[attr-defined]
    failing = stack(Fault("head", down, times=99), retry_attempts=3)
    with pytest.raises(StoreUnavailable):
        await failing.head("x")
    assert layer(failing, FaultLayer).operations == ["head"] * 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [AccessDenied, BadCredential, ObjectNotFound, IntegrityError])
async def test_what_repeating_can_not_mend_is_not_repeated(error: type[ProviderError]) -> None:
    provider = stack(Fault("head", lambda: error("no"), times=9))
    with pytest.raises(error):
        await provider.head("x")
    assert layer(provider, FaultLayer).operations == ["head"]  # type: ignore[attr-defined]


async def test_the_store_is_not_asked_again_before_the_time_it_named() -> None:
    """F24: Retry-After is waited out, never less; one that is too long is passed on to whoever can wait."""
    provider = stack(Fault("put", lambda: Throttled("slow", retry_after=0.3)), retry_longest_seconds=5)
    began = time.monotonic()
    await provider.put("x", b"1")
    assert time.monotonic() - began >= 0.3
    provider = stack(Fault("put", lambda: Throttled("slow", retry_after=7), times=9), retry_longest_seconds=5)
    with pytest.raises(Throttled) as caught:
        await provider.put("x", b"1")
    assert caught.value.retry_after == 7
    assert layer(provider, FaultLayer).operations == ["put"]  # type: ignore[attr-defined]


async def test_a_store_that_fails_for_everybody_is_not_asked_many_times_over() -> None:
    """The budget bounds all repeats together: a hundred callers do not make four hundred calls."""
    faulty = FaultLayer(memory(), Fault("head", down, times=10_000))
    provider = RetryLayer(faulty, attempts=4, base_seconds=0.001, longest_seconds=0.01, budget=RetryBudget(20))
    results = await asyncio.gather(*(provider.head("x") for _ in range(100)), return_exceptions=True)
    assert all(isinstance(result, StoreUnavailable) for result in results)
    assert len(faulty.operations) == 100 + 20
    for _ in range(200):
        provider.budget.succeed()
    assert provider.budget.take()


async def test_parts_of_a_stream_are_repeated_one_by_one() -> None:
    provider = stack(Fault("put_part", down, times=2), Fault("finish_parts", down))
    body = secrets.token_bytes(11 * 2**20)
    result = await provider.put("x", chunks(body))
    assert result.size_bytes == len(body)
    assert await read(provider, "x") == body
    assert [info async for info in provider.list_unfinished()] == []


async def test_a_body_that_is_cut_goes_on_where_it_was_cut() -> None:
    """F29, at the first byte, in the middle, and again and again."""
    body = secrets.token_bytes(4 * 2**20)
    for after in (0, 1_500_000, 3_900_000):
        provider = stack(Fault("open", down, times=2, after_bytes=after), retry_attempts=4)
        await provider.put("x", body)
        assert await read(provider, "x", expected=Expected(len(body))) == body


async def test_a_put_whose_answer_was_lost_leaves_one_version() -> None:
    """The store made a version of it all the same: it is removed beside the one that counts."""

    class Losing(CallLayer):
        lost = 0

        async def put(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            result = await self.inner.put(*args, **kwargs)
            if self.lost == 0:
                self.lost += 1
                raise StoreUnavailable("the answer was lost")
            return result

        async def begin_parts(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            upload = await self.inner.begin_parts(*args, **kwargs)
            if self.lost == 1:
                self.lost += 1
                raise StoreUnavailable("the answer was lost")
            return upload

    provider = stack(inner=Losing(memory(versions=True)))
    result = await provider.put("x", b"once")
    assert [info.version_id async for info in provider.list()] == [result.version_id]
    await provider.put("y", chunks(secrets.token_bytes(11 * 2**20)))
    assert [info async for info in provider.list_unfinished()] == []


# --- circuit breaker ----------------------------------------------------------------------------------------------


async def test_the_breaker_opens_on_the_stores_faults_and_closes_after_one_trial() -> None:
    faulty = FaultLayer(memory(), Fault("head", down, times=4))
    breaker = BreakerLayer(faulty, failures=3, cool_seconds=0.1)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await breaker.head("x")
    assert breaker.state == "open"
    with pytest.raises(StoreResting) as caught:
        await breaker.head("x")
    assert caught.value.retry_after is not None
    assert len(faulty.operations) == 3
    while breaker.state == "open":
        await asyncio.sleep(0.01)
    # The trial fails: it opens again, for longer.
    with pytest.raises(StoreUnavailable):
        await breaker.head("x")
    assert breaker.state == "open"
    while breaker.state == "open":
        await asyncio.sleep(0.01)
    with pytest.raises(ObjectNotFound):
        await breaker.head("x")
    assert breaker.state == "closed"


async def test_one_objects_fault_never_opens_the_breaker() -> None:
    breaker = BreakerLayer(memory(), failures=2, cool_seconds=10)
    for _ in range(20):
        with pytest.raises(ObjectNotFound):
            await breaker.head("missing")
    assert breaker.state == "closed"


async def test_only_one_call_goes_through_on_trial_and_a_cancelled_one_decides_nothing() -> None:
    faulty = FaultLayer(memory(), Fault("head", down), Fault("discard", wait_seconds=60))
    breaker = BreakerLayer(faulty, failures=1, cool_seconds=0.05)
    with pytest.raises(StoreUnavailable):
        await breaker.head("x")
    while breaker.state == "open":
        await asyncio.sleep(0.01)
    trial = asyncio.create_task(breaker.discard("x"))
    while "discard" not in faulty.operations:
        await asyncio.sleep(0)
    with pytest.raises(StoreResting):
        await breaker.head("x")
    trial.cancel()
    await asyncio.gather(trial, return_exceptions=True)
    assert breaker.state == "half_open"
    await breaker.put("x", b"1")
    assert breaker.state == "closed"


async def test_a_resting_store_is_not_asked_again_by_the_retry_layer() -> None:
    provider = stack(Fault("head", down, times=99), breaker_failures=2, breaker_cool_seconds=30, retry_attempts=9)
    with pytest.raises(StoreUnavailable) as caught:
        await provider.head("x")
    # What was sent, and came to nothing, is what is told: of a call that says "resting" nothing was sent.
    assert not isinstance(caught.value, StoreResting)
    with pytest.raises(StoreResting):
        await provider.head("x")
    assert layer(provider, FaultLayer).operations == ["head"] * 2  # type: ignore[attr-defined]


# --- concurrency --------------------------------------------------------------------------------------------------


async def test_no_more_calls_at_a_time_than_the_limit_and_all_get_their_turn() -> None:
    class Counting(CallLayer):
        now = most = 0

        async def head(self, key: str, *, version_id: str | None = None):  # type: ignore[no-untyped-def]
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.002)
            self.now -= 1
            return await self.inner.head(key)

    counting = Counting(memory())
    await counting.put("x", b"1")
    limited = ConcurrencyLayer(counting, most=4, first=4)
    await asyncio.gather(*(limited.head("x") for _ in range(50)))
    assert counting.most == 4
    assert limited.busy_count == 0


async def test_throttling_halves_the_limit_once_a_moment_and_use_grows_it_again() -> None:
    faulty = FaultLayer(memory(), Fault("head", lambda: Throttled("slow"), times=10))
    limited = ConcurrencyLayer(faulty, most=64, first=16)
    await asyncio.gather(*(limited.head("x") for _ in range(10)), return_exceptions=True)
    assert limited.limit == 8
    faulty.faults.append(Fault("head", times=10_000, wait_seconds=0.001))
    await limited.put("x", b"1")
    for _ in range(10):
        await asyncio.gather(*(limited.head("x") for _ in range(32)))
    assert limited.limit > 8


async def test_a_small_object_in_one_call_is_repeated_compared_and_counted() -> None:
    """What holds for `open` holds for `get`: it is repeated as a whole, and wrong bytes are not."""
    body = secrets.token_bytes(5000)
    expected = Expected(len(body), hashlib.sha256(body).digest())
    provider = stack(Fault("open", down, times=2), Fault("open", down, times=1, after_bytes=10), retry_attempts=4)
    await provider.put("x", body)
    assert await provider.get("x", expected=expected) == body
    faulty = layer(provider, FaultLayer)
    assert faulty.operations == ["put", *["open"] * 4]  # type: ignore[attr-defined]
    metered = layer(provider, MeterLayer).metered  # type: ignore[attr-defined]
    assert (metered.calls["open"], metered.bytes_read, metered.under_way) == (1, len(body), 0)
    with pytest.raises(IntegrityError):
        await provider.get("x", expected=Expected(len(body), bytes(32)))
    with pytest.raises(IntegrityError):
        await provider.get("x", expected=Expected(len(body) - 1))
    assert len(faulty.operations) == 7  # type: ignore[attr-defined]
    assert layer(provider, ConcurrencyLayer).busy_count == 0  # type: ignore[attr-defined]


async def test_a_small_object_that_does_not_come_is_not_waited_for() -> None:
    provider = stack(
        Fault("open", wait_seconds=60), connect_timeout_seconds=0.1, read_timeout_seconds=0.1, retry_attempts=1
    )
    await provider.put("x", b"1")
    with pytest.raises(StoreTimedOut):
        await provider.get("x", expected=Expected(1))
    assert layer(provider, ConcurrencyLayer).busy_count == 0  # type: ignore[attr-defined]


async def test_a_waiting_call_that_is_cancelled_gives_its_place_on() -> None:
    faulty = FaultLayer(memory(), Fault("discard", wait_seconds=0.05, times=1))
    limited = ConcurrencyLayer(faulty, most=1, first=1)
    first = asyncio.create_task(limited.discard("x"))
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(limited.put(f"{n}", b"1")) for n in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.gather(first, *waiting, return_exceptions=True)
    assert limited.busy_count == 0
    assert [info.key async for info in limited.list()] == ["1", "2"]


async def test_a_reader_holds_no_place_while_its_bytes_flow() -> None:
    """Else two streams, each from one store to the other, could wait for one another for ever."""
    limited = ConcurrencyLayer(memory(), most=1, first=1)
    await limited.put("x", secrets.token_bytes(3 * 2**20))
    async with limited.open("x") as reader:
        async for _ in reader:
            await limited.put("y", b"1")
    assert limited.busy_count == 0


# --- rate limit ---------------------------------------------------------------------------------------------------


async def test_shares_take_turns_whatever_each_asks_for() -> None:
    """A tenant with a thousand requests does not keep another's one request waiting behind them."""
    limited = RateLimitLayer(memory(), requests_per_second=200, bytes_per_second=None)
    await limited.put("x", b"1")
    done: list[str] = []

    async def ask(share: str, count: int) -> None:
        share_as(share)
        await asyncio.gather(*(one(share) for _ in range(count)))

    async def one(share: str) -> None:
        await limited.head("x")
        done.append(share)

    await asyncio.gather(ask("large", 300), ask("small", 5))
    last = max(index for index, share in enumerate(done) if share == "small")
    assert last < 250, last
    assert len(done) == 305


async def test_a_share_of_the_rate_is_all_that_is_used() -> None:
    limited = RateLimitLayer(memory(), requests_per_second=100, bytes_per_second=None)
    await limited.put("x", b"1")
    limited.set_share(0.1)
    asked = [asyncio.create_task(limited.head("x")) for _ in range(50)]
    for _ in range(5):
        await asyncio.sleep(0)
    at_once = sum(task.done() for task in asked)
    limited.set_share(1)
    await asyncio.gather(*asked)
    assert 5 <= at_once <= 20


async def test_the_limit_doubles_in_a_round_until_the_store_slows_down() -> None:
    pace = Fault("head", times=10_000, wait_seconds=0.002)
    limited = ConcurrencyLayer(FaultLayer(memory(), pace), most=256, first=8)
    await limited.put("x", b"1")
    await asyncio.gather(*(limited.head("x") for _ in range(40)))
    assert limited.limit > 24


async def test_bytes_are_bounded_both_ways() -> None:
    limited = RateLimitLayer(memory(), requests_per_second=None, bytes_per_second=2_000_000)
    body = secrets.token_bytes(3_000_000)
    began = time.monotonic()
    await limited.put("x", body)
    assert await read(limited, "x") == body
    # Six megabytes at two a second, with a second's worth at once to begin with: two seconds, and never much less.
    assert time.monotonic() - began > 1.0


# --- timeout, read-only, meter, settings --------------------------------------------------------------------------


async def test_no_call_waits_for_ever_and_a_slow_body_may_take_as_long_as_it_flows() -> None:
    """F26: connecting, the answer, and each further stretch of a body are bounded; the whole body is not."""
    hanging = FaultLayer(memory(), Fault("head", wait_seconds=60), Fault("open", wait_seconds=60))
    bounded = TimeoutLayer(hanging, answer_seconds=0.1, read_seconds=0.2, call_seconds=0.1)
    await bounded.put("x", secrets.token_bytes(4 * 2**20))
    for act in (bounded.head("x"), read(bounded, "x")):
        with pytest.raises(StoreTimedOut):
            await act

    class Slow(CallLayer):
        async def moved(self, *_: object) -> None:
            await asyncio.sleep(0.1)

    slow = TimeoutLayer(Slow(hanging), answer_seconds=0.1, read_seconds=0.2, call_seconds=0.1)
    assert len(await read(slow, "x")) == 4 * 2**20
    hanging.faults.append(Fault("open", wait_seconds=60, after_bytes=1))
    with pytest.raises(StoreTimedOut):
        await read(bounded, "x")


async def test_a_read_only_store_is_left_as_it_is() -> None:
    inner = memory()
    await inner.put("x", b"1")
    provider = stack(inner=inner, read_only=True)
    for act in (provider.put("y", b"1"), provider.delete([ObjectRef("x")]), provider.discard("x")):
        with pytest.raises(AccessDenied):
            await act
    assert await read(provider, "x") == b"1"
    assert [info.key async for info in provider.list()] == ["x"]


async def test_the_meter_counts_what_was_asked_for_and_what_passed() -> None:
    settings = StackSettings(**QUICK)
    provider = build_stack(memory(), settings, Fault("put", down, times=2))
    await provider.put("x", b"12345")
    await read(provider, "x")
    await provider.delete([ObjectRef("x"), ObjectRef("y")])
    metered = settings.metered
    assert (metered.calls["put"], metered.calls["open"], metered.objects_deleted) == (1, 1, 2)
    assert (metered.bytes_sent, metered.bytes_read) == (5, 5)
    assert settings.observations.calls["put", "store_unavailable"] == 2


@pytest.mark.parametrize("name", sorted(TUNABLE))
def test_each_setting_has_a_range(name: str) -> None:
    lowest, highest, _ = TUNABLE[name]
    base = StackSettings()
    assert getattr(base.tuned({name: lowest}), name) == lowest
    assert getattr(base.tuned({name: highest}), name) == highest
    for wrong in (lowest - 1e-9 - lowest / 10, highest * 1.1, "5", True, float("nan")):
        with pytest.raises(Invalid) as caught:
            base.tuned({name: wrong})
        assert caught.value.extra["fields"][0]["field"] == name  # type: ignore[index]


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(Invalid) as caught:
        StackSettings().tuned({"patience": 3})
    assert caught.value.extra["fields"][0]["field"] == "patience"  # type: ignore[index]


async def test_a_listing_that_gets_nowhere_ends_with_an_error() -> None:
    """S-38: the same page for ever, or pages without anything for ever."""
    from simples3dms.providers.base import ListPage, ObjectInfo

    pages: list[Callable[[int], ListPage]] = [
        lambda _: ListPage([ObjectInfo("a", 1)], "same"),
        lambda number: ListPage([ObjectInfo("a", 1)], f"token-{number}"),
        lambda number: ListPage([], f"token-{number}"),
    ]
    for make in pages:

        class Endless(Layer):
            asked = 0

            async def list_page(self, *_: object, **__: object) -> ListPage:
                self.asked += 1
                assert self.asked < 1000
                return make(self.asked)  # noqa: B023 used at once

        with pytest.raises(ProviderError):
            async for _ in Endless(memory()).list():
                pass
