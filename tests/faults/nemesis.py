"""Who hurts a soak: every few seconds a process is killed or frozen, or a store cut off, slowed or sent away."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.faults.judging import SETTLE_SECONDS
from tests.faults.soaking import LEASE_SECONDS, Process, Soak

from simples3dms.sandbox.httpfaults import Answer

_SLOW_DOWN = Answer(
    503,
    {"Content-Type": "application/xml", "Retry-After": "1"},
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.'
    b"</Message></Error>",
)
_ALWAYS = 1_000_000


class _Nemesis:
    """Run it in a thread of its own; `counts` says what it did."""

    def __init__(self, soak: Soak, chance: random.Random) -> None:
        self._soak = soak
        self._chance = chance
        self.counts: Counter[str] = Counter()

    @contextmanager
    def _noted(self, target: str, what: str) -> Iterator[None]:
        act = self._soak.history.begin("fault", target=target, what=what)
        yield
        act.ok()
        self.counts[f"{target} {what}"] += 1

    def _last(self, least: float = 1.0, most: float = 6.0) -> None:
        """The time that a fault lasts."""
        time.sleep(self._chance.uniform(least, most))


class ProcessNemesis(_Nemesis):
    """Kills and freezes, one process at a time: of two servers, one is always up."""

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(self._chance.uniform(0.5, 5.0)):
            fault = self._chance.choice([self._kill_worker, self._kill_worker, self._freeze_worker, self._kill_server])
            fault()

    def _kill_worker(self) -> None:
        self._kill(self._chance.choice(self._soak.workers))

    def _kill_server(self) -> None:
        self._kill(self._chance.choice(self._soak.servers))

    def _kill(self, process: Process) -> None:
        with self._noted(process.name, "kill"):
            self._soak.kill(process)
            time.sleep(self._chance.uniform(0, 2))
            self._soak.start(process)

    def _freeze_worker(self) -> None:
        """Beyond its lease: others take its work over, and then it wakes up."""
        worker = self._chance.choice(self._soak.workers)
        with self._noted(worker.name, "freeze"):
            worker.signal(signal.SIGSTOP)
            try:
                time.sleep(LEASE_SECONDS + self._chance.uniform(1, 4))
            finally:
                worker.signal(signal.SIGCONT)


class StoreNemesis(_Nemesis):
    """Hurts one store at a time; the next one only once the last has settled."""

    def __init__(self, soak: Soak, chance: random.Random) -> None:
        super().__init__(soak, chance)
        self._faults: list[tuple[str, str, Callable[[], None]]] = [
            ("s3", "cut", self._cut_s3),
            ("s3", "away", self._s3_away),
            ("s3", "throttled", self._throttle_s3),
            ("s3", "slow", self._slow_s3),
            ("s3", "cut bodies", self._cut_bodies_of_s3),
            ("s3", "restart", self._restart_s3),
            ("b2", "cut", self._cut_b2),
            ("b2", "away", self._b2_away),
            ("b2", "throttled", self._throttle_b2),
            ("b2", "slow", self._slow_b2),
            ("b2", "lost answers", self._lose_answers_of_b2),
            ("b2", "expired tokens", self._expire_tokens_of_b2),
            ("disk", "not mounted", self._unmount_disk),
            ("disk", "not mounted", self._unmount_disk),
        ]

    def run(self, stop: threading.Event) -> None:
        store = ""
        while not stop.wait(self._chance.uniform(0.5, 3.0)):
            known, what, fault = self._chance.choice(self._faults)
            # The same one may be hurt again at once, any other only when the last is well.
            if known != store and stop.wait(SETTLE_SECONDS if store else 0):
                return
            store = known
            with self._noted(f"store:{store}", what):
                fault()

    def _cut_s3(self) -> None:
        for _ in range(self._chance.randint(1, 8)):
            self._soak.line.kill_all()
            time.sleep(self._chance.uniform(0.05, 0.8))

    def _s3_away(self) -> None:
        # Not by closing the port, which somebody else might take.
        self._soak.line.up.cut_after = 0
        self._soak.line.kill_all()
        self._last()
        self._soak.line.heal()

    def _throttle_s3(self) -> None:
        for _ in range(3):
            self._soak.web.add(" ", instead=_SLOW_DOWN, times=self._chance.randint(5, 60))
            time.sleep(self._chance.uniform(0.5, 1.5))
        self._soak.web.faults.clear()

    def _slow_s3(self) -> None:
        self._soak.line.down.latency_seconds = self._chance.uniform(0.1, 0.6)
        self._soak.line.up.bytes_per_second = 400_000
        self._last()
        self._soak.line.heal()

    def _cut_bodies_of_s3(self) -> None:
        self._soak.line.down.cut_after = self._chance.randint(500, 100_000)
        self._last()
        self._soak.line.heal()

    def _restart_s3(self) -> None:
        port = self._soak.s3.port
        self._soak.s3.kill()
        time.sleep(self._chance.uniform(0, 2))
        self._soak.s3.start()
        assert self._soak.s3.port == port, "somebody has taken its port"

    def _cut_b2(self) -> None:
        self._soak.b2.inject("*", action="reset", times=self._chance.randint(1, 40))
        self._last(0.5, 3)
        self._soak.b2.clear_faults()

    def _b2_away(self) -> None:
        self._soak.b2.inject("*", times=_ALWAYS)
        self._last()
        self._soak.b2.clear_faults()

    def _throttle_b2(self) -> None:
        count = self._chance.randint(5, 60)
        self._soak.b2.inject("*", status=429, code="too_many_requests", headers={"Retry-After": "1"}, times=count)
        self._last()
        self._soak.b2.clear_faults()

    def _slow_b2(self) -> None:
        self._soak.b2.inject("*", action="stall", seconds=self._chance.uniform(0.2, 1.5), times=_ALWAYS)
        self._last()
        self._soak.b2.clear_faults()

    def _lose_answers_of_b2(self) -> None:
        self._soak.b2.inject("*", action="lose_answer", times=self._chance.randint(1, 20))
        self._last(0.5, 3)
        self._soak.b2.clear_faults()

    def _expire_tokens_of_b2(self) -> None:
        self._soak.b2.expire_tokens()
        self._last(0.5, 1)

    def _unmount_disk(self) -> None:
        away = self._soak.disk.with_name("disk-away")
        self._soak.disk.rename(away)
        try:
            self._last()
        finally:
            away.rename(self._soak.disk)
