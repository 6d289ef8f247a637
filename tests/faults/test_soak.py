"""A soak: writers, readers and migrations go on while processes are killed and stores hurt, every few seconds.

No acknowledged document is unreadable at any moment, and once nothing is hurt any more everything converges.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults import settling
from tests.faults.history import Event
from tests.faults.installation import eventually
from tests.faults.judging import judge
from tests.faults.moving import Mover
from tests.faults.nemesis import ProcessNemesis, StoreNemesis
from tests.faults.soaking import TENANTS, Soak, soaked
from tests.faults.workload import Crew, Reader, Shelf, Writer

from simples3dms.db.provision import Provisioned

#: Of this test alone: how long it hurts, what it throws its dice with, how many times as long convergence may take.
SECONDS = float(os.environ.get("SOAK_SECONDS", "900"))
SEED = int(os.environ.get("SOAK_SEED", "0")) or secrets.randbelow(2**32)
SLOWNESS = float(os.environ.get("SOAK_SLOWNESS", "1"))
READERS = 2
_CONVERGE_SECONDS = 60.0
_LOOK_SECONDS = 20.0
_ACTIONS = {"upload": "uploaded", "delete": "deleted", "restore": "restored", "purge": "purged"}


@pytest.fixture
def soak(urls: Provisioned) -> Iterator[Soak]:
    directory = Path(tempfile.mkdtemp(prefix="simples3dms-soak-"))
    directory.chmod(0o755)
    with soaked(directory, urls) as found:
        yield found
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 1800)
def test_a_soak_loses_nothing_and_converges(soak: Soak, tmp_path: Path) -> None:
    print(f"SOAK_SEED={SEED} SOAK_SECONDS={SECONDS:.0f} history: {tmp_path / 'history.jsonl'}", flush=True)
    try:
        _suffer(soak, random.Random(SEED))
        _look_at_the_end(soak)
    finally:
        shutil.copy(soak.directory / "history.jsonl", tmp_path)
        shutil.copy(soak.log, tmp_path)


def _suffer(soak: Soak, chance: random.Random) -> None:
    """Everybody works while the nemesis does, until every migration has gone there and back at least once."""
    nemeses = [ProcessNemesis(soak, _fork(chance)), StoreNemesis(soak, _fork(chance))]
    people: list[Writer | Reader] = []
    for tenant in TENANTS:
        shelf = Shelf()
        people.append(Writer(soak, tenant, _fork(chance), shelf))
        people += [Reader(soak, tenant, _fork(chance), shelf) for _ in range(READERS)]
    movers = [Mover(soak, tenant, _fork(chance)) for tenant in TENANTS if tenant.target is not None]
    hurting, moving, working = Crew(nemeses), Crew(movers), Crew(people)
    begun = looked_at = time.monotonic()
    try:
        while time.monotonic() < begun + SECONDS or not all(mover.cycles for mover in movers):
            time.sleep(1)
            for crew in (hurting, moving, working):
                crew.check()
            if time.monotonic() > looked_at + _LOOK_SECONDS:
                assert judge(soak.history.events()) == []
                looked_at = time.monotonic()
    finally:
        # Also where something has failed: nothing is started again that would be left over.
        hurting.end()
    print(
        f"hurt for {time.monotonic() - begun:.0f} s: {dict(sum((one.counts for one in nemeses), Counter()))}",
        flush=True,
    )
    moving.end()
    working.end()
    soak.all_running()
    print(f"all ended after {time.monotonic() - begun:.0f} s", flush=True)
    for mover in movers:
        print(
            f"migrations of {mover.tenant.name}: {mover.cycles} times there and back, {dict(mover.notes)}", flush=True
        )


def _fork(chance: random.Random) -> random.Random:
    return random.Random(chance.getrandbits(64))


def _look_at_the_end(soak: Soak) -> None:
    print(f"converged in {settling.converge(soak, seconds=_CONVERGE_SECONDS * SLOWNESS):.1f} s", flush=True)
    assert settling.list_misplaced(soak) == []
    settling.list_final(soak)
    events = soak.history.events()
    assert judge(events) == []
    for kind in ("ok", "info"):
        print(f"{kind}: {dict(Counter(event['op'] for event in events if event['type'] == kind))}", flush=True)
    assert settling.check_audits(soak, _acts(events)) == []
    print(f"reconciled: {dict(settling.remove_unexplained(soak))}", flush=True)
    assert settling.fsck(soak) == []
    eventually(lambda: settling.jobs_without_worker(soak) == [])


def _acts(events: list[Event]) -> dict[str, Counter[str]]:
    """How often what was done in each tenant, by what the audit calls it."""
    asked = {event["n"]: event for event in events if event["type"] == "invoke"}
    acts: dict[str, Counter[str]] = defaultdict(Counter)
    for event in events:
        if event["type"] == "ok" and event["op"] in _ACTIONS:
            acts[asked[event["n"]]["tenant"]][f"document.{_ACTIONS[event['op']]}"] += 1
    return acts
