"""Which copy is read first: for any placement and any stores, every good copy once, and those in doubt last."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import settings_for
from tests.support import Place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.db.provision import Provisioned
from simples3dms.providers.stack import count_calls
from simples3dms.sandbox.seaweedfs import SeaweedServer
from simples3dms.settings import Settings
from simples3dms.storage.blobs.latencies import EXPLORE_CHOICES, EXPLORE_SECONDS, FAILED_SECONDS, Latencies
from simples3dms.storage.placement.router import order_for_reading
from simples3dms.storage.placement.values import Policy, ReadPreference, Standing
from simples3dms.storage.stores.traits import Whereabouts, distance, egress_price

STORES = [UUID(int=n) for n in range(1, 9)]
STATES = ("live", "suspect", "missing", "writing", "retiring")


@dataclass(frozen=True)
class Copy:
    """A copy as the router sees one."""

    store_id: UUID
    state: str


prices = st.none() | st.decimals(0, 1, places=2)
times = st.none() | st.floats(0, 9)


def standing_of(store_id: UUID) -> st.SearchStrategy[Standing]:
    return st.builds(Standing, st.just(store_id), st.integers(0, 4), prices, times, st.booleans())


known_stores = st.fixed_dictionaries({}, optional={one: standing_of(one) for one in STORES})
copies = st.lists(st.builds(Copy, st.sampled_from(STORES), st.sampled_from(STATES)), unique_by=lambda one: one.store_id)
policies = st.builds(
    Policy,
    st.sampled_from(STORES),
    read_store_ids=st.lists(st.sampled_from(STORES), unique=True).map(tuple),
    read_preference=st.sampled_from(ReadPreference),
    hedge=st.booleans(),
)


def store_of(copy: Copy) -> UUID:
    return copy.store_id


@given(st.none() | policies, copies, known_stores)
def test_every_copy_that_can_be_read_is_there_once_and_the_doubtful_last(
    policy: Policy | None, there: list[Copy], known: dict[UUID, Standing]
) -> None:
    ordered = order_for_reading(policy, there, known)
    readable = [one for one in there if one.state in ("live", "suspect", "missing")]
    assert sorted(ordered, key=store_of) == sorted(readable, key=store_of)

    def rank(one: Copy) -> int:
        return 2 if one.state != "live" else 1 if one.store_id in known and known[one.store_id].is_resting else 0

    assert [rank(one) for one in ordered] == sorted(rank(one) for one in ordered)
    assert order_for_reading(policy, there, known) == ordered


@given(
    st.fixed_dictionaries({one: standing_of(one) for one in STORES}),
    st.sampled_from(ReadPreference),
    st.permutations(STORES),
)
def test_the_preference_decides_and_among_equals_the_list(
    known: dict[UUID, Standing], preference: ReadPreference, listed: list[UUID]
) -> None:
    policy = Policy(STORES[0], read_store_ids=tuple(listed), read_preference=preference)
    there = [Copy(store_id, "live") for store_id in STORES]
    well = [one.store_id for one in order_for_reading(policy, there, known) if not known[one.store_id].is_resting]

    def cost(one: Standing) -> Any:
        return {
            ReadPreference.LISTED: 0,
            ReadPreference.NEAREST: one.distance,
            ReadPreference.CHEAPEST: Decimal(2) if one.price is None else one.price,
            ReadPreference.FASTEST: one.seconds or 0,
        }[preference]

    assert well == sorted(well, key=lambda store_id: (cost(known[store_id]), listed.index(store_id)))


def test_a_store_that_was_slow_is_asked_again_now_and_then_and_found_fast() -> None:
    now = 0.0
    latencies = Latencies(lambda: now)
    fast, slow, new = STORES[:3]
    latencies.note(fast, 0.010)
    latencies.note(slow, 0.020)
    latencies.note_failure(slow, 0.001)
    assert latencies.choose([fast, slow, new])[new] is None
    assert (latencies.choose([fast, slow])[slow] or 0) > 0.1 * FAILED_SECONDS
    choices = 0
    while latencies.get_all([slow])[slow] != 0.001:
        now += 2 * EXPLORE_SECONDS / EXPLORE_CHOICES
        choices += 1
        means = latencies.choose([fast, slow])
        chosen = min((fast, slow), key=lambda one: means[one] or 0.0)
        latencies.note(chosen, 0.010 if chosen == fast else 0.001)
    assert EXPLORE_CHOICES - 2 <= choices <= EXPLORE_CHOICES
    means = latencies.choose([fast, slow])
    assert means == {fast: pytest.approx(0.010), slow: 0.001}


def test_neither_time_nor_reads_alone_are_a_reason_to_ask_a_slow_store() -> None:
    now = 0.0
    latencies = Latencies(lambda: now)
    latencies.note(STORES[0], 1)
    for _ in range(2 * EXPLORE_CHOICES):
        assert latencies.choose(STORES[:1])[STORES[0]] == 1
    latencies.note(STORES[0], 1)
    now += 2 * EXPLORE_SECONDS
    assert latencies.choose(STORES[:1])[STORES[0]] == 1


def test_what_is_remembered_is_bounded() -> None:
    latencies = Latencies()
    ids = [UUID(int=n) for n in range(3000)]
    for store_id in ids:
        latencies.note(store_id, 0.1)
    assert len([one for one in latencies.get_all(ids).values() if one is not None]) == 1000


def test_distances_and_prices() -> None:
    here = Whereabouts("eu-central-1")
    assert [
        distance(here, "local", {}, None),
        distance(here, "s3", {"region": "eu-central-1"}, None),
        distance(here, "s3", {"region": "fsn1"}, "DE"),
        distance(here, "s3", {"region": "eu-west-1"}, "IE"),
        distance(here, "s3", {"region": "us-east-1"}, "US"),
    ] == [0, 1, 2, 3, 4]
    assert distance(Whereabouts(), "s3", {"region": ""}, None) == 4
    assert egress_price("s3", {"region": "us-east-1"}) == Decimal("0.09")
    assert egress_price("b2", {}) == Decimal("0.01")
    assert egress_price("b2", {}, Decimal(3)) == 3
    assert egress_price("s3", {"endpoint": "https://minio.example.org"}) is None


class TestThroughTheDoor:
    """A write target at an object store that nobody knows the price of, and a copy in a directory of this server."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def settings(self, urls: Provisioned, tmp_path: Path) -> Settings:
        return settings_for(urls, tmp_path / "var").model_copy(update={"server_country": "DE"})

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[SeaweedServer]:
        with SeaweedServer(tmp_path / "weed", buckets=("far",)) as server:
            yield server

    @pytest.fixture
    async def place(self, services: Services, server: SeaweedServer, tmp_path: Path) -> Place:
        far = {"bucket": "far", "endpoint": server.endpoint, "region": server.region}
        credential = {"access_key_id": server.access_key, "secret_access_key": server.secret_key}
        tenant = await services.tenants.create_tenant(HOST, "acme", "Acme")
        (tmp_path / "disk").mkdir()
        ids = [
            (await services.stores.add_store(HOST, "far", "s3", far, credential)).id,
            (await services.stores.add_store(HOST, "disk", "local", {"path": str(tmp_path / "disk")}, {})).id,
        ]
        for name in ("far", "disk"):
            await services.stores.grant_store(HOST, tenant.id, name)
        await services.placements.set_placement(HOST, tenant.id, write="far", copies=["disk"])
        return Place(services, tenant.id, "far", "disk", *ids)

    async def test_the_preferred_copy_serves_and_is_explained(self, place: Place, server: SeaweedServer) -> None:
        services = place.services
        document = (await place.upload(b"body")).document.id
        async with working(services):
            await quiet(place)

        async def first() -> list[str]:
            """The stores that a read asks."""
            ids = {"far": place.a_id, "disk": place.b_id}
            stacks = {name: await services.stores.provider(one) for name, one in ids.items()}
            before = {name: count_calls(stack) for name, stack in stacks.items()}
            assert await place.read(document) == b"body"
            return [name for name, stack in stacks.items() if count_calls(stack) > before[name]]

        async def prefer(preference: ReadPreference, **more: Any) -> list[tuple[str, int | None, str | None]]:
            words = {"write": "far", "copies": ["disk"], **more}
            placed = await services.placements.set_placement(HOST, place.tenant_id, read_preference=preference, **words)
            assert placed.read_preference is preference
            found = await services.documents.explain_placement(place.tenant_id, document)
            assert found.read_preference is preference
            return [(one.store, one.read_place, one.read_reason) for one in found.stores]

        assert await first() == ["far"]
        assert await prefer(ReadPreference.LISTED) == [
            ("far", 1, "in the placement's order"),
            ("disk", 2, "in the placement's order"),
        ]
        assert await prefer(ReadPreference.NEAREST) == [("far", 2, "elsewhere"), ("disk", 1, "on this server")]
        assert await first() == ["disk"]
        assert await prefer(ReadPreference.CHEAPEST) == [("far", 2, "price not known"), ("disk", 1, "0 USD per GiB")]
        assert await first() == ["disk"]
        assert await prefer(ReadPreference.LISTED, read=["disk"]) == [
            ("far", 2, "in the placement's order"),
            ("disk", 1, "listed"),
        ]
        assert await first() == ["disk"]
        # A store that fails is slow from then on; the other one goes on to serve.
        await asyncio.to_thread(server.stop)
        await prefer(ReadPreference.LISTED)
        assert "disk" in await first()
        found = await prefer(ReadPreference.FASTEST)
        assert [place for _, place, _ in found] == [2, 1]
        assert await first() == ["disk"]
