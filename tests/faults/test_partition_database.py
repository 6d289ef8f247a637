"""A worker that can't reach the database any more, while it still reaches the stores: it stops before its claims are
over, and whoever takes them over finds nothing changed behind its back."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from tests.faults.parted import Line, make_parted, worker
from tests.support import Place, assert_clean, quiet

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.db.provision import Provisioned
from simples3dms.sandbox.faultproxy import FaultProxy
from simples3dms.sandbox.httpfaults import Answer, Fault
from simples3dms.sandbox.seaweedfs import SeaweedServer
from simples3dms.settings import Settings

pytestmark = pytest.mark.anyio
Eventually = Callable[..., Any]
FEW = 4


@dataclass
class Gate:
    """Keeps answers of a store back; when it is opened they are lost."""

    opened: threading.Event
    kept: int = 0

    def keep(self, _: Answer) -> Answer | None:
        self.kept += 1
        self.opened.wait(60)
        return None


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate(threading.Event())
    yield gate
    gate.opened.set()


@pytest.fixture
async def place(services: Services, server: SeaweedServer, lines: tuple[Line, Line]) -> Place:
    place = await make_parted(services, server, lines)
    for name in ("a", "b"):
        # What is under way stays so until the test says otherwise.
        await services.stores.set_tuning(HOST, name, {"read_timeout_seconds": 90, "retry_base_seconds": 0.01})
    return place


def changes(line: Line) -> list[str]:
    """What was asked for at a store that changes something there."""
    return [one for one in line.http.requests if one.startswith(("PUT", "DELETE", "POST"))]


async def claims_are_over(place: Place) -> bool:
    """By the database's clock, which is the one that counts."""
    async with place.services.database.tenant(place.tenant_id) as uow:
        found = await uow.scalar("SELECT 1 FROM replicas WHERE lease_until > now() LIMIT 1")
    return found is None


def assert_each_once(a: Line, b: Line) -> None:
    """One request to remove of the first worker, and one of the second, which found the claim over; and each of them
    wrote each copy once, at keys of its own."""
    assert len([one for one in changes(a) if one.startswith("POST")]) == 2
    written = [one for one in changes(b) if one.startswith("PUT")]
    assert len(written) == len(set(written)) == 2 * FEW


async def begin_work(place: Place) -> dict[UUID, bytes]:
    """Some documents that are owed a copy at `b`, and some whose objects at `a` are to go."""
    services, bodies = place.services, {}
    for number in range(2 * FEW):
        body = secrets.token_bytes(1000)
        document = (await place.upload(body)).document.id
        if number % 2:
            bodies[document] = body
            continue
        await services.documents.delete_document(HOST, place.tenant_id, document)
        await services.documents.purge_document(HOST, place.tenant_id, document)
    return bodies


@pytest.mark.parametrize("how", ["hole", pytest.param("refused", marks=pytest.mark.long)])
async def test_f45_a_worker_that_is_cut_off_changes_nothing_more_at_a_store(
    place: Place,
    settings: Settings,
    urls: Provisioned,
    lines: tuple[Line, Line],
    database_line: tuple[FaultProxy, str],
    gate: Gate,
    eventually: Eventually,
    how: str,
) -> None:
    bodies = await begin_work(place)
    for line in lines:
        line.http.requests.clear()
        line.http.faults[:] = [Fault(method, gate.keep) for method in ("PUT", "POST", "DELETE")]
    to_database, through = database_line
    async with worker(settings, through) as (first, said):
        # The removal from `a` and all copies to `b` have been asked for, and nobody knows yet what came of them.
        await eventually(lambda: gate.kept == 1 + FEW)
        if how == "hole":
            to_database.is_blackhole = True
        else:
            to_database.refuse()
            to_database.kill_all()
        await eventually(lambda: claims_are_over(place))
        for line in lines:
            line.http.faults.clear()
        # The answers are lost: whoever still counted on its claim would ask again.
        gate.opened.set()
        async with worker(settings, urls.app_url):
            await quiet(place, seconds=60)
            assert_each_once(*lines)
            assert first.poll() is None
            to_database.kill_all()
            to_database.accept()
            await eventually(lambda: "lease_lost" in said.read_text() or "database_unavailable" in said.read_text())
            await quiet(place, seconds=60)
    assert_each_once(*lines)
    await assert_clean(place.services)
    for document, body in bodies.items():
        assert await place.read(document) == body
    for store_id in (place.a_id, place.b_id):
        assert len(await place.listing(store_id)) == len(bodies)
