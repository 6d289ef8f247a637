"""How acts run: each as a process, alone or step by step with others, and what the model makes of how they ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal
from uuid import UUID

from hypothesis.stateful import RuleBasedStateMachine
from tests.states.processes import Process, Stage, Stop, Verdict
from tests.states.world import World

from simples3dms.bootstrap import Services
from simples3dms.errors import Failure, NotFound
from simples3dms.kit.leases import LeaseLost

State = Literal["live", "trash", "purged"]
Outcome = Literal["done", "refused", "killed", "frozen"]
#: At which of its steps something happens to a process, and what.
Halt = tuple[int, Verdict]


@dataclass(eq=False)
class Document:
    """What was acknowledged of one."""

    id: UUID
    state: State = "live"
    versions: dict[int, bytes] = field(default_factory=dict)


@dataclass(eq=False)
class Act:
    """Something that somebody does: `work`, and what the model learns from how it ended."""

    name: str
    work: Callable[[], Coroutine[Any, Any, Any]]
    done: Callable[[Any], None] = lambda _: None
    killed: Callable[[], None] = lambda: None
    document: Document | None = None
    target: State | None = None
    turns: int = 0
    """How often it turns the placement, if it is done."""


class Players(RuleBasedStateMachine):
    """A state machine whose acts are played by processes. `begin` of the subclass makes `world` and what follows."""

    services: ClassVar[Services]
    loop: ClassVar[asyncio.AbstractEventLoop]
    stage: ClassVar[Stage | None] = None
    world: World
    frozen: list[tuple[Process, Act]]
    turned: list[int]
    """How often the placement was turned: at least, and at most."""

    def run(self, work: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(work)

    def perform(self, act: Act, halt: Halt = (0, "go")) -> Any:
        """Run it alone, to its end or to where it is halted."""
        process = Process(act.name, plan=["go"] * halt[0] + [halt[1]])
        before = {act.document: act.document.state} if act.document else {}
        self.run(self._alone(process, act))
        return self._learn([(process, act)], before)

    async def _alone(self, process: Process, act: Act) -> None:
        self.world.stage.start(process, act.work())
        await process.rest()

    def _learn(self, ended: Sequence[tuple[Process, Act]], before: dict[Document, State]) -> Any:
        """What the model makes of processes that are over, or frozen. The result of the last that is done."""
        results = [self._learn_of(process, act) for process, act in ended]
        possible: dict[Document, set[State]] = {document: {state} for document, state in before.items()}
        certain: dict[Document, State] = {}
        for (_, act), (outcome, _) in zip(ended, results, strict=True):
            if act.document is None or act.target is None or outcome == "refused":
                continue
            possible.setdefault(act.document, {act.document.state}).add(act.target)
            is_alone = sum(other.document is act.document for _, other in ended) == 1
            if outcome == "done" and (is_alone or act.target == "purged"):
                certain[act.document] = act.target
        for document, states in possible.items():
            document.state = self.run(self._look(document))
            expected = {certain[document]} if document in certain else states
            assert document.state in expected, f"{document.state}, and not one of {expected}"
        done = [result for outcome, result in results if outcome == "done"]
        return done[-1] if done else None

    def _learn_of(self, process: Process, act: Act) -> tuple[Outcome, Any]:
        """How one ended; what it may have turned is counted as possible, what it did turn as certain."""
        assert process.task is not None
        if not process.task.done():
            self.frozen.append((process, act))
            self.turned[1] += act.turns
            return "frozen", None
        error = process.task.exception()
        if error is not None and not process.is_dead and not isinstance(error, LeaseLost):
            if not isinstance(error, Failure):
                raise error
            return "refused", None
        self.turned[1] += act.turns
        if error is not None:
            # Also one that slept until its claim was over, and stopped by itself when it woke up.
            act.killed()
            return "killed", None
        self.turned[0] += act.turns
        act.done(process.task.result())
        return "done", process.task.result()

    async def _look(self, document: Document) -> State:
        try:
            found = await self.services.documents.get_document(self.world.tenant_id, document.id)
        except NotFound:
            return "purged"
        return "live" if found.deleted_at is None else "trash"

    def interleave(self, acts: Sequence[Act], moves: Sequence[tuple[int, Verdict]]) -> None:
        """Run them together: who takes the next step is drawn, and whether it dies there or freezes."""
        before = {act.document: act.document.state for act in acts if act.document}
        running = [(Process(f"{act.name}", is_stepped=True), act) for act in acts]
        self.run(self._together(running, moves))
        self._learn(running, before)

    async def _together(self, running: Sequence[tuple[Process, Act]], moves: Sequence[tuple[int, Verdict]]) -> None:
        stage = self.world.stage
        for process, act in running:
            stage.start(process, act.work())
        for who, verdict in moves:
            await stage.settle(self.world.is_blocked)
            stops = self._stops(running)
            if not stops:
                break
            self._let(stops[who % len(stops)], verdict)
        for process, _ in running:
            process.is_stepped = False
        for stop in self._stops(running):
            self._let(stop, "go")
        for process, _ in running:
            await process.rest()

    def _stops(self, running: Sequence[tuple[Process, Act]]) -> list[Stop]:
        mine = {process for process, _ in running}
        stops = [one for one in self.world.stage.stops if one.process in mine and not one.verdict.done()]
        return [one for one in stops if one.process.thaw is None]

    def _let(self, stop: Stop, verdict: Verdict) -> None:
        if not stop.verdict.done():
            stop.verdict.set_result(verdict)
        if verdict == "kill" or (verdict == "freeze" and "in_" in stop.point):
            for other in self.world.stage.stops:
                if other.process is stop.process and not other.verdict.done():
                    other.verdict.set_result("kill")

    def _thaw(self, process: Process, act: Act, *, kill: bool) -> None:
        """A frozen process goes on where it stood, whatever has happened since; or it never does."""
        self.frozen.remove((process, act))
        before = {act.document: act.document.state} if act.document else {}
        process.plan, process.is_stepped = [], False
        process.kill() if kill else process.wake()
        assert process.task is not None
        for stop in [one for one in self.world.stage.stops if one.process is process and not one.verdict.done()]:
            stop.verdict.set_result("go")
        self.run(process.rest())
        self.turned[1] -= act.turns
        self._learn([(process, act)], before)
