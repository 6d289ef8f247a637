"""Residency: asked at grant, at placement and at migration; nothing that lies outside is moved by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import Place, make_place, quiet, working

from simples3dms.audit.service import Audit
from simples3dms.bootstrap import Services
from simples3dms.context import HOST, Principal
from simples3dms.errors import Conflict, Failure, Forbidden, Invalid
from simples3dms.kit.ids import new_id
from simples3dms.storage.migrations import service as migrations
from simples3dms.storage.migrations.values import Schedule
from simples3dms.storage.placement import service as placements
from simples3dms.storage.stores import grants
from simples3dms.storage.stores.jurisdictions import BLOCS, COUNTRIES, is_inside, known_jurisdiction
from simples3dms.tenants import repository as tenants

CODES = st.sampled_from(sorted(COUNTRIES | set(BLOCS)))


async def refused(failure: type[Failure], code: str, act: Any) -> Failure:
    with pytest.raises(failure) as caught:
        await act
    assert caught.value.problem_code == code
    return caught.value


@given(CODES, st.sets(CODES, min_size=1), CODES)
def test_a_longer_list_allows_no_less_and_what_is_unknown_is_in_no_list(one: str, allowed: set[str], more: str) -> None:
    if is_inside(one, allowed):
        assert is_inside(one, allowed | {more})
    assert is_inside(one, {one})
    assert is_inside(one, None)
    assert is_inside(None, None)
    assert not is_inside(None, allowed)


@pytest.mark.parametrize(
    ("one", "allowed", "inside"),
    [
        ("DE", {"EU"}, True),
        ("NO", {"EU"}, False),
        ("NO", {"EEA"}, True),
        ("EU", {"EEA"}, True),
        ("EEA", {"EU"}, False),
        ("EU", {"DE"}, False),
        ("EU", set(BLOCS["EU"]), True),
        ("GB", {"EU", "US"}, False),
        ("CH", {"EEA"}, False),
    ],
)
def test_a_bloc_holds_its_members(one: str, allowed: set[str], inside: bool) -> None:
    assert is_inside(one, allowed) is inside


@pytest.mark.parametrize(
    ("kind", "settings", "known"),
    [
        ("s3", {"bucket": "b", "region": "eu-central-1"}, "DE"),
        ("s3", {"bucket": "b", "endpoint": "https://s3.eu-west-3.amazonaws.com", "region": "us-east-1"}, "FR"),
        ("s3", {"bucket": "b", "endpoint": "https://s3.eu-central-003.backblazeb2.com"}, "NL"),
        ("s3", {"bucket": "b", "endpoint": "https://s3.us-west-004.backblazeb2.com"}, "US"),
        # What only looks like it says nothing.
        ("s3", {"bucket": "b", "endpoint": "https://s3.eu-central-1.amazonaws.com.evil.example"}, None),
        ("s3", {"bucket": "b", "endpoint": "https://minio.example", "region": "eu-central-1"}, None),
        ("s3", {"bucket": "b", "region": "eu-nowhere-9"}, None),
        ("b2", {"bucket": "b"}, None),
        ("local", {"path": "/srv/eu"}, None),
    ],
)
def test_only_what_is_certain_is_concluded(kind: str, settings: dict[str, Any], known: str | None) -> None:
    assert known_jurisdiction(kind, settings) == known


@pytest.fixture
async def place(services: Services) -> Place:
    """Writes to `a`, which lies in Germany; `b` lies in the United States."""
    place = await make_place(services)
    await services.stores.set_jurisdiction(HOST, place.a, "DE")
    await services.stores.set_jurisdiction(HOST, place.b, "US")
    return place


@pytest.mark.anyio
async def test_a_store_outside_is_not_granted_placed_or_moved_to(services: Services, place: Place) -> None:
    await services.placements.set_residency(HOST, place.tenant_id, ["EU"])
    more = [
        await services.stores.add_store(HOST, f"{place.a}-{n}", "memory", {"name": f"{place.a}-{n}"}, {})
        for n in range(2)
    ]
    await services.stores.set_jurisdiction(HOST, more[0].name, "CH")
    for store, where in ((more[0], "CH"), (more[1], None)):
        failure = await refused(
            Conflict, "residency_violated", services.stores.grant_store(HOST, place.tenant_id, store.name)
        )
        assert failure.extra == {"store": store.name, "jurisdiction": where, "allowed": ["EU"]}
        assert store.name in failure.message
    for change in ({"write": place.b}, {"write": place.a, "copies": [place.b]}):
        act = services.placements.set_placement(HOST, place.tenant_id, **change)  # type: ignore[arg-type]
        await refused(Conflict, "residency_violated", act)
    act = services.migrations.plan_migration(HOST, place.tenant_id, target=place.b)
    await refused(Conflict, "residency_violated", act)
    assert (await services.placements.get_placement(place.tenant_id)).version == 1
    await services.stores.set_jurisdiction(HOST, more[1].name, "EU")
    await services.stores.grant_store(HOST, place.tenant_id, more[1].name)
    await services.placements.set_placement(HOST, place.tenant_id, write=more[1].name)


@pytest.mark.anyio
async def test_a_list_that_shrinks_under_a_migration_stops_it_at_the_next_step(
    services: Services, place: Place
) -> None:
    planned = await services.migrations.plan_migration(HOST, place.tenant_id, target=place.b)
    await services.placements.set_residency(HOST, place.tenant_id, ["DE"])
    act = services.migrations.start_migration(HOST, place.tenant_id, planned.id)
    await refused(Conflict, "residency_violated", act)
    assert (await place.migration(planned.id)).state == "planned"
    await services.placements.set_residency(HOST, place.tenant_id, None)
    done = await place.upload(b"moving")
    async with working(services):
        await services.migrations.start_migration(HOST, place.tenant_id, planned.id)
        await place.until(planned.id, "ready")
        await services.placements.set_residency(HOST, place.tenant_id, ["DE"])
        act = services.migrations.cut_over(HOST, place.tenant_id, planned.id)
        await refused(Conflict, "residency_violated", act)
        assert (await services.placements.get_placement(place.tenant_id)).write == place.a
        await services.migrations.roll_back(HOST, place.tenant_id, planned.id)
        await place.until(planned.id, "rolled_back")
    assert await place.read(done.document.id) == b"moving"


@pytest.mark.anyio
async def test_an_automatic_migration_that_may_not_cut_over_waits_for_a_person(
    services: Services, place: Place
) -> None:
    done = await place.upload(b"automatic")
    planned = await services.migrations.plan_migration(
        HOST, place.tenant_id, target=place.b, schedule=Schedule(automatic_cutover=True)
    )
    await services.migrations.start_migration(HOST, place.tenant_id, planned.id)
    await services.placements.set_residency(HOST, place.tenant_id, ["DE"])
    async with working(services):
        parked = await place.until(planned.id, "failed")
        assert (parked.error_code, parked.resume_state) == ("residency_violated", "ready")
        assert place.b in (parked.error_message or "")
        await services.placements.set_residency(HOST, place.tenant_id, ["DE", "US"])
        await services.migrations.resume_migration(HOST, place.tenant_id, planned.id)
        await place.until(planned.id, "soaking")
        await quiet(place)
    assert await place.read(done.document.id) == b"automatic"


@pytest.mark.anyio
async def test_what_lies_outside_is_told_marked_and_left_alone(services: Services, place: Place) -> None:
    async with working(services):
        for n in range(3):
            await place.upload(f"{n}".encode())
        await services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b])
        kept = await place.upload(b"two copies")
        await quiet(place)
    planned = await services.placements.plan_residency(HOST, place.tenant_id, ["US"])
    told = [(one.store, one.jurisdiction, one.is_in_use, one.replica_count) for one in planned.outside]
    assert told == [(place.a, "DE", True, 4)]
    assert (await services.placements.get_residency(place.tenant_id)).allowed is None, "a plan changes nothing"
    assert await services.placements.set_residency(HOST, place.tenant_id, ["US"]) == planned
    marks = {one.name: one.is_outside for one in await services.stores.list_granted_stores(place.tenant_id)}
    assert marks == {place.a: True, place.b: False}
    assert len(await place.listing(place.a_id)) == 4
    assert await place.read(kept.document.id) == b"two copies"
    await place.upload(b"written where the policy still says")
    # The policy may be set anew with what it has; only what is new is refused.
    await services.placements.set_placement(HOST, place.tenant_id, write=place.b, copies=[place.a])
    event = next(e for e in await Audit(services.database).list_events(place.tenant_id) if e.action == "residency.set")
    assert event.details == {"before": None, "allowed": ["US"], "outside": [place.a]}


@pytest.mark.anyio
async def test_bad_lists_and_contradictions_are_refused(services: Services, place: Place) -> None:
    placements, stores = services.placements, services.stores
    for codes in (["XX"], ["de"], ["Germany"], ["DE", "ZZ"], [""]):
        await refused(Invalid, "jurisdiction_unknown", placements.set_residency(HOST, place.tenant_id, codes))
    await refused(Invalid, "residency_empty", placements.set_residency(HOST, place.tenant_id, []))
    await refused(Invalid, "jurisdiction_unknown", stores.set_jurisdiction(HOST, place.a, "XX"))
    eve = Principal(id=new_id(), name="eve")
    await refused(Forbidden, "operator_required", placements.set_residency(eve, place.tenant_id, ["DE"]))
    await refused(Forbidden, "operator_required", stores.set_jurisdiction(eve, place.a, "DE"))
    async with services.database.platform() as uow:
        await uow.execute(
            """UPDATE stores SET kind = 's3', settings = '{"bucket": "b", "region": "eu-west-1"}' WHERE id = %s""",
            [place.a_id],
        )
    for code in ("US", None):
        await refused(Conflict, "jurisdiction_contradicted", stores.set_jurisdiction(HOST, place.a, code))
    assert (await stores.set_jurisdiction(HOST, place.a, "IE")).jurisdiction == "IE"


async def _waits(services: Services, task: asyncio.Task[Any]) -> bool:
    """True once the task's unit of work waits for a lock of somebody else's; False if it ends without."""
    async with asyncio.timeout(30):
        while not task.done():
            async with services.database.platform() as uow:
                if await uow.scalar(
                    """SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
                ):
                    return True
            await asyncio.sleep(0.02)
    return False


async def _place(place: Place, store: str) -> None:
    await place.services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[store])


async def _grant(place: Place, store: str) -> None:
    await place.services.stores.grant_store(HOST, place.tenant_id, store)


async def _start(place: Place, store: str) -> None:
    (planned,) = await place.services.migrations.list_migrations(place.tenant_id)
    await place.services.migrations.start_migration(HOST, place.tenant_id, planned.id)


async def _list(place: Place) -> None:
    await place.services.placements.set_residency(HOST, place.tenant_id, ["DE"])


async def _settings(place: Place) -> None:
    await place.services.tenants.change_settings(HOST, place.tenant_id, {"allowed_jurisdictions": ["DE"]})


Act = Callable[[Place, str], Awaitable[None]]
Setting = Callable[[Place], Coroutine[Any, Any, None]]


@pytest.mark.anyio
@pytest.mark.parametrize("put", [_list, _settings])
@pytest.mark.parametrize(
    ("act", "module", "asked", "is_in_use"),
    [
        (_place, placements, "refuse_new", True),
        (_start, migrations, "refuse_new", True),
        (_grant, grants, "refuse_outside", False),
    ],
    ids=["placement", "migration", "grant"],
)
async def test_another_list_waits_for_what_is_decided_by_the_old_one_and_tells_of_it(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    act: Act,
    module: ModuleType,
    asked: str,
    is_in_use: bool,
    put: Setting,
) -> None:
    services, store = place.services, place.b
    if act is _grant:
        store = (await services.stores.add_store(HOST, f"{place.a}-us", "memory", {"name": f"{place.a}-us"}, {})).name
        await services.stores.set_jurisdiction(HOST, store, "US")
    if act is _start:
        await services.migrations.plan_migration(HOST, place.tenant_id, target=store)
    decided, go = asyncio.Event(), asyncio.Event()
    refuse = getattr(module, asked)

    async def decide_and_wait(*given: Any) -> None:
        await refuse(*given)
        decided.set()
        await go.wait()

    monkeypatch.setattr(module, asked, decide_and_wait)
    acting = asyncio.ensure_future(act(place, store))
    async with asyncio.timeout(30):
        await decided.wait()
    setting = asyncio.create_task(put(place))
    try:
        assert await _waits(services, setting)
    finally:
        go.set()
        await acting
        await setting
    residency = await services.placements.get_residency(place.tenant_id)
    told = {one.store: one.is_in_use for one in residency.outside}
    assert (residency.allowed, told[store]) == (["DE"], is_in_use)
    events = await Audit(services.database).list_events(place.tenant_id)
    assert all(store in event.details["outside"] for event in events if event.action == "residency.set")
    # From here on the new list counts.
    planned = services.migrations.plan_migration(HOST, place.tenant_id, target=place.b)
    await refused(Conflict, "residency_violated", planned)


@pytest.mark.anyio
async def test_other_settings_put_no_older_list_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """All settings are written at once: a list that is set between the look at them and that must not be lost."""
    services, save = place.services, tenants.save_settings
    setting: asyncio.Task[None] | None = None

    async def save_later(*given: Any) -> Any:
        nonlocal setting
        setting = asyncio.create_task(_list(place))
        await _waits(services, setting)
        return await save(*given)

    monkeypatch.setattr(tenants, "save_settings", save_later)
    await services.tenants.change_settings(HOST, place.tenant_id, {"trash_days": 3})
    assert setting is not None
    await setting
    found = await services.tenants.get_settings(place.tenant_id)
    assert (found.trash_days, found.allowed_jurisdictions) == (3, ["DE"])
