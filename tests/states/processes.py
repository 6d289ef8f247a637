"""Processes that are played within one event loop: each can be stopped at every step, frozen, and killed.

A step is a fail-point of the program or a call of a memory store. One that is killed does nothing from then on: no
statement, no call, whatever its `finally` blocks would still do. One that is frozen neither, until it wakes up.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from simples3dms.db import session
from simples3dms.kit import failpoints
from simples3dms.providers.errors import StoreUnavailable
from simples3dms.providers.kinds.memory import MemoryProvider
from simples3dms.providers.layers import breaker

Verdict = Literal["go", "kill", "freeze"]
#: How a store fails: before it did anything, after it did all of it, or after a part of the body.
Way = Literal["refused", "answer_lost", "cut"]
_CALLS = ("copy", "put", "get", "open", "head", "delete", "discard", "put_part", "finish_parts")
_SETTLE_SECONDS = 0.05
_LONGEST_SETTLE_SECONDS = 10.0


class Killed(BaseException):
    """What a process dies of, and what it is told when it wants to do something after that."""


@dataclass(eq=False)
class Process:
    """One that works: `work` is under way until `outcome` says how it ended."""

    name: str
    plan: list[Verdict] = field(default_factory=list)
    """What happens at its next steps, one each; then it goes on to its end."""
    is_stepped: bool = False
    """Whether it waits at each step until somebody says how it goes on."""
    is_dead: bool = False
    thaw: asyncio.Event | None = None
    task: asyncio.Task[Any] | None = None

    async def require_alive(self) -> None:
        """Raise Killed if it is dead; wait while it is frozen."""
        if self.thaw is not None:
            await self.thaw.wait()
        if self.is_dead:
            raise Killed(self.name)

    def kill(self) -> None:
        self.is_dead = True
        self.wake()

    async def rest(self) -> None:
        """Wait until it is over or frozen. One that was killed does not wait for its own dead parts."""
        assert self.task is not None
        while not self.task.done() and self.thaw is None:
            if self.is_dead:
                self.task.cancel()
            await asyncio.wait([self.task], timeout=0.005)

    def wake(self) -> None:
        if self.thaw is not None:
            self.thaw.set()
            self.thaw = None

    @property
    def is_over(self) -> bool:
        return self.task is not None and self.task.done()


@dataclass(eq=False)
class Stop:
    """A place where a process waits to be told how to go on."""

    process: Process
    point: str
    verdict: asyncio.Future[Verdict]


@dataclass
class Fault:
    """What a store does at its next calls."""

    way: Way
    times: int
    text: str
    """What the vendor says."""


_current: ContextVar[Process | None] = ContextVar("process", default=None)


class BreakerClock:
    """What circuit breakers take for `time`: it goes on with the machine's clock, so that a store that was called often
    while it failed does not rest for longer than an example takes."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_seconds


BREAKER_CLOCK = BreakerClock()


class Stage:
    """Where processes act. One for each example; its `faults` are by the memory store's name."""

    def __init__(self) -> None:
        self.stops: list[Stop] = []
        self.processes: list[Process] = []
        self.faults: dict[str, Fault] = {}
        self.taken: set[bytes] = set()
        """The digests of what stores were given as whole objects, kept or not."""
        self.reach: Counter[str] = Counter()
        self.visits = 0

    def start(self, process: Process, work: Coroutine[Any, Any, Any]) -> Process:
        """Begin the work; what the process does later, its tasks included, is known as its own."""

        async def run() -> Any:
            _current.set(process)
            try:
                return await work
            except BaseException:
                if process.is_dead:
                    raise Killed(process.name) from None
                raise

        process.task = asyncio.create_task(run(), name=process.name)
        self.processes.append(process)
        return process

    async def visit(self, point: str) -> None:
        """A step: called by the fail-points, and before and after each call of a store."""
        process = _current.get()
        self.reach[point] += 1
        self.visits += 1
        if process is None:
            return
        await process.require_alive()
        verdict: Verdict = "go"
        if process.is_stepped:
            stop = Stop(process, point, asyncio.get_running_loop().create_future())
            self.stops.append(stop)
            try:
                verdict = await stop.verdict
            finally:
                self.stops.remove(stop)
        elif process.plan:
            verdict = process.plan.pop(0)
        if verdict == "freeze" and "in_" in point:
            # A frozen process in a transaction holds its locks until the database cuts it off: to others, it is dead.
            verdict = "kill"
        if verdict == "kill":
            process.kill()
        elif verdict == "freeze":
            process.thaw = asyncio.Event()
        await process.require_alive()

    async def settle(self, is_blocked: Callable[[], Awaitable[bool]]) -> None:
        """Wait until nobody gets any further by himself: all are over, wait for a verdict, or for each other."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + _LONGEST_SETTLE_SECONDS
        seen, since = (-1, -1), clock()
        while clock() < deadline:
            waiting = {stop.process for stop in self.stops if not stop.verdict.done()}
            running = [one for one in self.processes if not one.is_over and one.thaw is None]
            if all(one in waiting for one in running):
                return
            now = (self.visits, len(running))
            if now != seen:
                seen, since = now, clock()
            elif waiting and clock() - since > _SETTLE_SECONDS:
                if await is_blocked():
                    return
                since = clock()
            await asyncio.sleep(0.001)

    # --- stores -----------------------------------------------------------------------------------------------------

    def _fault(self, provider: MemoryProvider, *ways: Way) -> Fault | None:
        fault = self.faults.get(provider.location.bucket)
        if fault is None or fault.way not in ways:
            return None
        fault.times -= 1
        if fault.times <= 0:
            del self.faults[provider.location.bucket]
        return fault

    async def before_call(self, provider: MemoryProvider, call: str) -> None:
        await self.visit(f"store.{call}")
        if (fault := self._fault(provider, "refused")) is not None:
            raise _unavailable(fault)

    async def after_call(self, provider: MemoryProvider, call: str) -> None:
        if (fault := self._fault(provider, "answer_lost")) is not None:
            raise _unavailable(fault)
        await self.visit(f"store.{call}.done")

    async def cut(self, provider: MemoryProvider, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        first = True
        async for chunk in chunks:
            yield chunk
            if first and (fault := self._fault(provider, "cut")) is not None:
                raise _unavailable(fault)
            first = False


def _unavailable(fault: Fault) -> StoreUnavailable:
    return StoreUnavailable("the store failed", vendor_code=fault.text)


@contextmanager
def played(stages: Callable[[], Stage | None], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """While this is open, what the current stage says happens at fail-points, in memory stores and at the database."""

    async def visit(point: str) -> None:
        if (stage := stages()) is not None:
            await stage.visit(point)

    for call in _CALLS:
        real = getattr(MemoryProvider, call)
        replaced = _opened(stages, real) if call == "open" else _called(stages, call, real)
        monkeypatch.setattr(MemoryProvider, call, replaced)
    enter = session._UnitContext.__aenter__

    async def entered(self: session._UnitContext) -> session.UnitOfWork:
        if (process := _current.get()) is not None:
            await process.require_alive()
        return await enter(self)

    monkeypatch.setattr(session._UnitContext, "__aenter__", entered)
    monkeypatch.setattr(breaker, "time", BREAKER_CLOCK)
    failpoints.intercept(visit, environment="test")
    try:
        yield
    finally:
        failpoints.intercept(None, environment="test")


def _called(stages: Callable[[], Stage | None], call: str, real: Callable[..., Any]) -> Callable[..., Any]:
    async def replaced(self: MemoryProvider, *args: Any, **named: Any) -> Any:
        stage = stages()
        if stage is None:
            return await real(self, *args, **named)
        await stage.before_call(self, call)
        if call == "put" and not isinstance(args[1], bytes):
            args = (args[0], stage.cut(self, args[1]), *args[2:])
        result = await real(self, *args, **named)
        if call == "put":
            stage.taken.add(hashlib.sha256(self._find(args[0], None).data).digest())
        await stage.after_call(self, call)
        return result

    return replaced


def _opened(stages: Callable[[], Stage | None], real: Callable[..., Any]) -> Callable[..., Any]:
    @asynccontextmanager
    async def replaced(self: MemoryProvider, *args: Any, **named: Any) -> AsyncIterator[Any]:
        stage = stages()
        if stage is not None:
            await stage.before_call(self, "open")
        async with real(self, *args, **named) as reader:
            yield reader

    return replaced
