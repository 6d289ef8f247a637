"""The operator of a soak: migrates tenants there and back, and does what an operator does when a store failed."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from uuid import UUID

from tests.faults.history import Act
from tests.faults.workload import Caller

from simples3dms.client import ApiProblem, Client, ServerUnreachable
from simples3dms.schemas.migrations import Migration

#: A migration that is hurt every few seconds on a busy machine takes a while.
_PATIENCE_SECONDS = 900.0
_ENDED = ("done", "rolled_back", "cancelled")
_Step = Callable[[Client, str, UUID], Migration]


class Mover(Caller):
    """Moves its tenant again and again. `cycles`: how often it went all the way there and back."""

    cycles = 0
    notes: Counter[str]

    def run(self, stop: threading.Event) -> None:
        """Until it is told to stop, and then to the end of what it has begun."""
        self.notes = Counter()
        while not (stop.is_set() and self.cycles):
            if self.tenant.for_good:
                assert self.tenant.target is not None
                self._move(self.tenant.target, "finalize")
                self._move(self.tenant.write, "finalize")
            else:
                assert self.tenant.target is not None
                self._move(self.tenant.target, "roll back")
            self.cycles += 1

    def _move(self, target: str, end: str) -> None:
        act = self.soak.history.begin("migrate", tenant=self.tenant.name, target=target, step=end)
        steps: Mapping[str, _Step] = {
            "planned": Client.start_migration,
            "ready": Client.cut_over_migration,
            "soaking": Client.finalize_migration if end == "finalize" else Client.roll_back_migration,
            "paused": Client.resume_migration,
            "failed": Client.resume_migration,
        }
        deadline, seen = time.monotonic() + _PATIENCE_SECONDS, ""
        while time.monotonic() < deadline:
            time.sleep(0.3)
            state = self._tried(act, partial(self._go_on, target=target, steps=steps, is_new=not seen))
            if state is None or state == seen:
                continue
            seen = state
            self.notes[state] += 1
            act.info(state=state)
            if state in _ENDED:
                act.ok(state=state)
                return
        act.fail(why=f"still {seen} after {_PATIENCE_SECONDS} s")

    def _tried(self, act: Act, call: Callable[[Client], str]) -> str | None:
        try:
            return call(self.soak.client(self.server()))
        except ServerUnreachable as error:
            act.info(why=str(error))
        except ApiProblem as problem:
            # Not proven yet, another state by now, or a store that is hurt: all of that passes.
            if problem.status not in (409, 502, 503, 504):
                raise
            self.notes[problem.code] += 1
            act.info(why=f"{problem.code}: {problem}")
        return None

    def _go_on(self, client: Client, *, target: str, steps: Mapping[str, _Step], is_new: bool) -> str:
        """Take the next step, if there is one to take; the state that was found before."""
        name = self.tenant.name
        newest = next(client.iter_migrations(name), None)
        if newest is None or (is_new and newest.state in _ENDED):
            newest = client.plan_migration(name, target=target)
        if newest.failed_count:
            self.notes["retried"] += client.retry_failures(name, newest.id)
        if newest.state == "soaking":
            # Some of what is written meanwhile has to come back, too.
            time.sleep(self.chance.uniform(1, 5))
        if newest.state in steps:
            steps[newest.state](client, name, newest.id)
        return newest.state
