"""Hedged reads over real servers: a store that is late is helped out, the loser is let go of, the budget holds."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import Place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.providers.stack import is_idle
from simples3dms.sandbox.httpfaults import Answer, Fault, HttpFaultProxy
from simples3dms.sandbox.seaweedfs import SeaweedServer
from simples3dms.storage.blobs.hedging import SHARE
from simples3dms.storage.blobs.latencies import (
    LATE_CAP_SECONDS,
    LATE_FLOOR_SECONDS,
    LEAST_SAMPLES,
    Latencies,
)

pytestmark = pytest.mark.anyio
SMALL, LARGE = 1000, 2_500_000


@dataclass
class Gate:
    """Holds a server's answers back until it is opened."""

    proxy: HttpFaultProxy
    opened: threading.Event

    def hold(self) -> None:
        def wait(answer: Answer) -> Answer:
            self.opened.wait(60)
            return answer

        self.opened.clear()
        self.proxy.faults[:] = [Fault("GET", wait)]

    def release(self) -> None:
        self.proxy.faults.clear()
        self.opened.set()


@dataclass
class Hedged:
    """A tenant whose documents lie in two buckets, each behind a gate."""

    place: Place
    gates: tuple[Gate, Gate]
    documents: dict[int, tuple[UUID, bytes]]

    @property
    def counts(self) -> tuple[int, int]:
        """Hedged reads, and those that the second store won."""
        counts = self.place.services.blobs.hedges.counts
        return counts.hedged, counts.won

    async def warm(self, size: int = SMALL, times: int = LEAST_SAMPLES) -> None:
        """Read often enough that it is known how soon the first store answers; and save up for a hedge."""
        document, body = self.documents[size]
        for _ in range(times):
            assert await self.place.read(document) == body

    def asked(self) -> tuple[int, int]:
        first, second = (gate.proxy.count("GET") for gate in self.gates)
        return first, second

    async def assert_idle(self) -> None:
        """No reader is left open, in no layer."""
        await self.place.services.blobs.hedges.settle()
        for store_id in (self.place.a_id, self.place.b_id):
            assert is_idle(await self.place.services.stores.provider(store_id))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    with SeaweedServer(tmp_path_factory.mktemp("weed"), buckets=()) as server:
        yield server


@pytest.fixture
def gates(server: SeaweedServer) -> Iterator[tuple[Gate, Gate]]:
    with HttpFaultProxy(server.port) as one, HttpFaultProxy(server.port) as two:
        gates = Gate(one, threading.Event()), Gate(two, threading.Event())
        yield gates
        for gate in gates:
            gate.release()


@pytest.fixture
async def hedged(services: Services, server: SeaweedServer, gates: tuple[Gate, Gate]) -> Hedged:
    credential = {"access_key_id": server.access_key, "secret_access_key": server.secret_key}
    tenant = await services.tenants.create_tenant(HOST, "acme", "Acme")
    ids = []
    for name, gate in zip(("one", "two"), gates, strict=True):
        bucket = f"{name}-{secrets.token_hex(4)}"
        await asyncio.to_thread(server.create_bucket, bucket)
        settings = {"bucket": bucket, "endpoint": gate.proxy.url, "region": server.region}
        ids.append((await services.stores.add_store(HOST, name, "s3", settings, credential)).id)
        await services.stores.grant_store(HOST, tenant.id, name)
    placed = await services.placements.set_placement(HOST, tenant.id, write="one", copies=["two"], hedge=True)
    assert placed.hedge
    place = Place(services, tenant.id, "one", "two", *ids)
    documents = {}
    for size in (SMALL, LARGE):
        body = secrets.token_bytes(size)
        documents[size] = ((await place.upload(body)).document.id, body)
    async with working(services):
        await quiet(place)
    for gate in gates:
        gate.proxy.requests.clear()
    return Hedged(place, gates, documents)


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_late_store_is_helped_out_and_let_go_of(hedged: Hedged, size: int) -> None:
    await hedged.warm(size)
    assert hedged.counts == (0, 0)
    assert hedged.asked()[1] == 0
    hedged.gates[0].hold()
    document, body = hedged.documents[size]
    # The gate stays shut: only the second store can have served.
    assert await hedged.place.read(document) == body
    assert hedged.counts == (1, 1)
    assert hedged.asked()[1] == 1
    await hedged.assert_idle()
    # No word against the late store: its copy is as good as before.
    replicas = await hedged.place.services.documents.list_replicas(hedged.place.tenant_id, document)
    assert [one.state for one in replicas] == ["live", "live"]


async def test_a_range_is_helped_out_too_and_bytes_are_of_one_answer(hedged: Hedged) -> None:
    await hedged.warm()
    hedged.gates[0].hold()
    document, body = hedged.documents[LARGE]
    assert await hedged.place.read(document, start=1000, length=2_000_000) == body[1000:2_001_000]
    assert hedged.counts[1] >= 1
    await hedged.assert_idle()


async def test_a_second_store_that_fails_leaves_the_first_to_serve(hedged: Hedged) -> None:
    await hedged.warm()
    first, second = hedged.gates
    first.hold()

    def fail(answer: Answer) -> Answer:
        first.opened.set()
        return Answer(404, {}, b"<Error><Code>NoSuchKey</Code></Error>")

    second.proxy.faults[:] = [Fault("GET", fail)]
    document, body = hedged.documents[SMALL]
    assert await hedged.place.read(document) == body
    assert hedged.counts == (1, 0)
    await hedged.assert_idle()


async def test_a_reader_who_goes_away_leaves_nothing_open(hedged: Hedged) -> None:
    await hedged.warm()
    for gate in hedged.gates:
        gate.hold()
    document, _ = hedged.documents[LARGE]
    reading = asyncio.create_task(hedged.place.read(document))
    while not all(hedged.asked()[1:]):
        await asyncio.sleep(0.01)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await hedged.assert_idle()


async def test_the_budget_holds_while_a_store_is_slow_for_all(hedged: Hedged) -> None:
    await hedged.warm()
    document, body = hedged.documents[SMALL]
    latencies: Latencies = hedged.place.services.blobs._latencies

    def late(_: UUID) -> float:
        return 0.0

    latencies.late_after = late  # type: ignore[method-assign]
    for _ in range(5):
        bodies = await asyncio.gather(*(hedged.place.read(document) for _ in range(20)))
        assert set(bodies) == {body}
    counts = hedged.place.services.blobs.hedges.counts
    # What each read earns, and what was saved up before.
    assert 0 < counts.hedged <= SHARE * counts.reads + 1
    await hedged.assert_idle()


async def test_without_the_word_of_the_placement_nobody_is_asked_twice(hedged: Hedged) -> None:
    place = hedged.place
    await place.services.placements.set_placement(HOST, place.tenant_id, write="one", copies=["two"])
    await hedged.warm()
    hedged.gates[0].hold()
    document, body = hedged.documents[SMALL]
    reading = asyncio.create_task(place.read(document))
    while hedged.asked()[0] <= LEAST_SAMPLES:
        await asyncio.sleep(0.01)
    hedged.gates[0].release()
    assert await reading == body
    assert hedged.asked()[1] == 0
    assert place.services.blobs.hedges.counts.reads == 0


@given(st.lists(st.floats(0, 100), max_size=300))
def test_late_is_what_one_read_in_twenty_is(times: list[float]) -> None:
    latencies = Latencies()
    store_id = UUID(int=1)
    for seconds in times:
        latencies.note(store_id, seconds)
    late = latencies.late_after(store_id)
    recent = times[-100:]
    if len(times) < LEAST_SAMPLES:
        assert late is None
        return
    assert late is not None
    assert LATE_FLOOR_SECONDS <= late <= LATE_CAP_SECONDS
    later = Counter(seconds > late for seconds in recent)[True]
    assert later <= 0.05 * len(recent) or late == LATE_CAP_SECONDS
