"""Acts on the same things at once, in an order that a test decides: each act parks at every fail-point it passes.

`explore` runs all orders with up to a number of preemptions (after Musuvathi and Qadeer, "Iterative context bounding",
2007: most races need no more than two); `shuffled` runs orders that are drawn.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import psycopg

from simples3dms.errors import Failure
from simples3dms.kit import failpoints

Act = Callable[[], Awaitable[Any]]
_actor: ContextVar[str | None] = ContextVar("actor", default=None)
_MOST_SECONDS = 60


@dataclass(frozen=True)
class Step:
    """One choice: who could go on, and who did."""

    waiting: tuple[str, ...]
    chosen: str


@dataclass
class Run:
    """One order: its choices, where each act was at each, and what came of the acts."""

    steps: list[Step] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    outcomes: dict[str, Any] = field(default_factory=dict)

    @property
    def chosen(self) -> list[str]:
        return [step.chosen for step in self.steps]


class Interleaver:
    """Runs acts, one step at a time; `url` is the database's, which says who waits for whose lock."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._parked: dict[str, asyncio.Event] = {}
        self._run = Run()

    async def run(self, acts: Mapping[str, Act], choose: Callable[[Run, Sequence[str]], str]) -> Run:
        """All acts to their ends. An act that fails other than by a Failure fails the run."""
        self._run, self._tasks, self._parked = Run(), {}, {}
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
            failpoints.intercept(self._park, environment="test")
            try:
                async with asyncio.timeout(_MOST_SECONDS):
                    for name, act in acts.items():
                        self._tasks[name] = asyncio.create_task(self._begin(name, act))
                    await self._step_through(connection, choose)
            finally:
                failpoints.intercept(None, environment="test")
                for task in self._tasks.values():
                    task.cancel()
                await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        return self._run

    async def _step_through(
        self, connection: psycopg.AsyncConnection[Any], choose: Callable[[Run, Sequence[str]], str]
    ) -> None:
        while True:
            await self._settle(connection)
            waiting = tuple(name for name in self._tasks if name in self._parked)
            if not waiting:
                break
            chosen = choose(self._run, waiting)
            self._run.steps.append(Step(waiting, chosen))
            self._parked.pop(chosen).set()
        for name, task in self._tasks.items():
            self._run.outcomes[name] = await task

    async def _begin(self, name: str, act: Act) -> Any:
        _actor.set(name)
        await self._park("begins")
        try:
            return await act()
        except Failure as failure:
            return failure

    async def _park(self, point: str) -> None:
        name = _actor.get()
        if name is None:
            return
        self._run.passed.append(f"{name}: {point}")
        self._parked[name] = gate = asyncio.Event()
        await gate.wait()

    async def _settle(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Wait until every act is parked, at its end, or behind the lock of one that is parked."""
        while True:
            running = [name for name, task in self._tasks.items() if not task.done() and name not in self._parked]
            if not running:
                return
            cursor = await connection.execute(
                """SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'"""
            )
            found = await cursor.fetchone()
            if self._parked and found is not None and found[0] >= len(running):
                return
            await asyncio.sleep(0.001)


def _preemptions(steps: Sequence[Step], chosen: Sequence[str]) -> int:
    """How often an act was stopped that could have gone on."""
    return sum(
        before != now and before in step.waiting
        for step, before, now in zip(steps[1:], chosen, chosen[1:], strict=False)
    )


async def explore(
    interleaver: Interleaver, make_acts: Callable[[], Awaitable[Mapping[str, Act]]], *, most_preemptions: int
) -> AsyncIterator[Run]:
    """Every order with no more preemptions than that, each on what `make_acts` has made anew."""
    todo: list[tuple[str, ...]] = [()]
    while todo:
        plan = todo.pop()

        def choose(run: Run, waiting: Sequence[str], plan: tuple[str, ...] = plan) -> str:
            place = len(run.steps)
            if place < len(plan) and plan[place] in waiting:
                return plan[place]
            last = run.steps[-1].chosen if run.steps else ""
            return last if last in waiting else waiting[0]

        run = await interleaver.run(await make_acts(), choose)
        yield run
        for place in range(len(plan), len(run.steps)):
            for other in run.steps[place].waiting:
                branch = (*run.chosen[:place], other)
                if other != run.chosen[place] and _preemptions(run.steps, branch) <= most_preemptions:
                    todo.append(branch)


async def shuffled(
    interleaver: Interleaver, make_acts: Callable[[], Awaitable[Mapping[str, Act]]], *, seeds: Sequence[int]
) -> AsyncIterator[tuple[int, Run]]:
    """One order for each seed, any act going on at any step."""
    for seed in seeds:
        chance = random.Random(seed)
        yield seed, await interleaver.run(await make_acts(), lambda _, waiting, chance=chance: chance.choice(waiting))
