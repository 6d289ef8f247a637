"""Rollout of kinds: for whom each is there, told before it is changed, and never taken from what is in use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from tests.stores.conftest import RIGHT
from tests.support import make_place

from simples3dms.audit.service import Audit
from simples3dms.bootstrap import Services
from simples3dms.context import HOST, Principal
from simples3dms.db.session import Database
from simples3dms.errors import Conflict, Failure, Forbidden, Invalid
from simples3dms.kit.ids import new_id
from simples3dms.storage.placement.service import Placements
from simples3dms.storage.rollout import repository
from simples3dms.storage.rollout.service import Rollouts
from simples3dms.storage.rollout.values import Attach, Change, OwnStoreRule, Preview, Reach
from simples3dms.storage.stores.service import Stores
from simples3dms.storage.stores.values import Store
from simples3dms.tenants.values import Tenant

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("book")]

EVE = Principal(id=new_id(), name="eve@example.org")


@pytest.fixture
def rollouts(database: Database) -> Rollouts:
    return Rollouts(database)


@pytest.fixture
async def many(database: Database) -> list[UUID]:
    ids = [new_id() for _ in range(400)]
    async with database.platform() as uow:
        await uow.execute(
            "INSERT INTO tenants (id, slug, name) SELECT id, 't-' || id, 'x' FROM unnest(%s::uuid[]) AS t (id)", [ids]
        )
    return ids


async def refused(failure: type[Failure], code: str, act: Any) -> Failure:
    with pytest.raises(failure) as caught:
        await act
    assert caught.value.problem_code == code
    return caught.value


async def reached(database: Database, kind: str) -> set[UUID]:
    async with database.platform() as uow:
        return set(await repository.list_reached(uow, kind, after=UUID(int=0), limit=1000))


async def test_a_greater_share_holds_a_smaller_one(rollouts: Rollouts, database: Database, many: list[UUID]) -> None:
    seen: set[UUID] = set()
    for percent in (0, 0.5, 1, 10, 20, 50, 99, 100):
        await rollouts.set_rollout(HOST, "s3", Change(Reach.PERCENT, percent))
        now = await reached(database, "s3")
        assert seen <= now
        assert abs(len(now) - len(many) * percent / 100) <= 35, "about that share"
        for tenant_id in list(now)[:3] + list(set(many) - now)[:3]:
            assert ("s3" in await rollouts.closed_kinds(tenant_id)) == (tenant_id not in now), "one rule, asked twice"
        seen = now
    assert seen == set(many)
    await rollouts.set_rollout(HOST, "s3", Change(Reach.PERCENT, 20))
    again = await reached(database, "s3")
    await rollouts.set_rollout(HOST, "b2", Change(Reach.PERCENT, 20))
    assert await reached(database, "b2") != again, "another kind begins with others"


async def test_the_preview_is_what_comes_true(rollouts: Rollouts, database: Database, many: list[UUID]) -> None:
    changes = [
        Change(Reach.OFF),
        Change(Reach.CHOSEN, 0, many[:12]),
        Change(Reach.PERCENT, 10, many[:12]),
        Change(Reach.PERCENT, 30, many[5:]),
        Change(Reach.EVERYONE),
        Change(Reach.PERCENT, 30),
    ]
    before = await reached(database, "s3")
    assert before == set(many)
    for number, change in enumerate(changes):
        preview = await rollouts.preview_rollout(HOST, "s3", change)
        assert await reached(database, "s3") == before, "a preview changes nothing"
        assert preview.version == number
        saved = await rollouts.set_rollout(HOST, "s3", change, expected_version=preview.version)
        now = await reached(database, "s3")
        expected = Preview(number, len(now - before), len(before - now), 0, len(now), len(many))
        assert preview == expected
        assert set(change.tenant_ids) <= now or change.reach == Reach.OFF
        assert saved.version == number + 1
        before = now
    events = await Audit(database).list_events(None)
    assert [event.action for event in events] == ["rollout.set"] * len(changes)
    assert events[-2].details["gained"] == 12
    assert events[-2].details["before"]["reach"] == "off"


async def test_of_two_changes_over_one_preview_one_is_refused(rollouts: Rollouts) -> None:
    outcomes = await asyncio.gather(
        *(rollouts.set_rollout(HOST, "s3", Change(Reach.PERCENT, p), expected_version=0) for p in (10, 20, 30)),
        return_exceptions=True,
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "Conflict", "Rollout"]
    await refused(Conflict, "rollout_changed", rollouts.set_rollout(HOST, "s3", Change(Reach.OFF), expected_version=0))


@pytest.mark.parametrize(
    "change",
    [
        Change(Reach.PERCENT, -1),
        Change(Reach.PERCENT, 100.5),
        Change(Reach.PERCENT, float("nan")),
        Change(Reach.EVERYONE, 5),
        Change(Reach.CHOSEN, 0, [UUID(int=5)]),
        Change(Reach.PERCENT, 5, [UUID(int=n) for n in range(1001)]),
    ],
)
async def test_a_change_that_makes_no_sense_is_refused(rollouts: Rollouts, change: Change) -> None:
    await refused(Invalid, "rollout_invalid", rollouts.set_rollout(HOST, "s3", change))
    await refused(Invalid, "rollout_invalid", rollouts.preview_rollout(HOST, "s3", change))


async def test_only_operators_change_it(rollouts: Rollouts) -> None:
    for act in (
        rollouts.set_rollout(EVE, "s3", Change(Reach.OFF)),
        rollouts.preview_rollout(EVE, "s3", Change(Reach.OFF)),
        rollouts.set_rule(EVE, OwnStoreRule("s3", ["*"], [], 1)),
        rollouts.remove_rule(EVE, "s3"),
    ):
        await refused(Forbidden, "operator_required", act)
    await refused(Invalid, "store_kind_unknown", rollouts.set_rollout(HOST, "tape", Change(Reach.OFF)))
    assert {one.kind for one in await rollouts.list_rollouts()} >= {"s3", "b2", "local", "vault"}


@pytest.mark.parametrize(
    "rule",
    [
        OwnStoreRule("s3", ["a b"], [], 1),
        OwnStoreRule("s3", ["ftp://x"], [], 1),
        OwnStoreRule("s3", ["https://u@x.example"], [], 1),
        OwnStoreRule("s3", ["0x7f.1"], [], 1),
        OwnStoreRule("b2", ["*"], ["eu"], 1),
        OwnStoreRule("s3", ["*"], [], 101),
        OwnStoreRule("s3", ["*"], [], 1, {"retry_attempts": (5, 1)}),
        OwnStoreRule("s3", ["*"], [], 1, {"retry_attempts": (1, 1000)}),
        OwnStoreRule("s3", ["*"], [], 1, {"colour": (1, 2)}),
    ],
)
async def test_a_rule_that_makes_no_sense_is_refused(rollouts: Rollouts, rule: OwnStoreRule) -> None:
    await refused(Invalid, "own_store_rule_invalid", rollouts.set_rule(HOST, rule))
    assert await rollouts.list_rules() == []


@pytest.fixture
async def closed(rollouts: Rollouts, tenant: Tenant) -> Callable[[], Any]:
    async def close() -> None:
        await rollouts.set_rollout(HOST, "vault", Change(Reach.CHOSEN, 0, []))

    return close


async def test_a_kind_that_is_off_is_not_added(stores: Stores, rollouts: Rollouts) -> None:
    await rollouts.set_rollout(HOST, "vault", Change(Reach.OFF))
    act = stores.add_store(HOST, "vault-1", "vault", {"place": "one"}, RIGHT)
    await refused(Conflict, "kind_not_enabled", act)
    await rollouts.set_rollout(HOST, "vault", Change(Reach.CHOSEN))
    assert (await stores.add_store(HOST, "vault-1", "vault", {"place": "one"}, RIGHT)).kind == "vault"


async def test_what_is_in_use_goes_on_and_nothing_new_begins(
    stores: Stores, store: Store, tenant: Tenant, database: Database, closed: Callable[[], Any], rollouts: Rollouts
) -> None:
    second = await stores.add_store(HOST, "vault-2", "vault", {"place": "two"}, RIGHT)
    third = await stores.add_store(HOST, "vault-3", "vault", {"place": "three"}, RIGHT)
    for one in (store, second):
        await stores.grant_store(HOST, tenant.id, one.name)
    placements = Placements(database)
    await placements.set_placement(HOST, tenant.id, write=store.name)
    preview = await rollouts.preview_rollout(HOST, "vault", Change(Reach.CHOSEN, 0, []))
    assert (preview.lost, preview.kept) == (1, 1)
    await closed()
    await refused(Conflict, "kind_not_enabled", stores.grant_store(HOST, tenant.id, third.name))
    assert (await stores.grant_store(HOST, tenant.id, second.name)).name == second.name, "that grant was there"
    for change in ({"write": second.name}, {"write": store.name, "copies": [second.name]}):
        act = placements.set_placement(HOST, tenant.id, **change)  # type: ignore[arg-type]
        await refused(Conflict, "kind_not_enabled", act)
    kept = await placements.set_placement(HOST, tenant.id, write=store.name, read=[store.name])
    assert kept.version == 2
    assert (await stores.check_store(store.name)).ok
    await rollouts.set_rollout(HOST, "vault", Change(Reach.CHOSEN, 0, [tenant.id]))
    assert (await placements.set_placement(HOST, tenant.id, write=second.name)).write == second.name


async def test_a_migration_begins_only_where_the_kind_is_there(services: Services) -> None:
    place = await make_place(services)
    body = b"x" * 1000
    done = await place.upload(body)
    planned = await services.migrations.plan_migration(HOST, place.tenant_id, target=place.b)
    await services.rollouts.set_rollout(HOST, "memory", Change(Reach.CHOSEN, 0, []))
    act = services.migrations.start_migration(HOST, place.tenant_id, planned.id)
    await refused(Conflict, "kind_not_enabled", act)
    assert (await place.migration(planned.id)).state == "planned", "nothing is half done"
    await services.migrations.cancel_migration(HOST, place.tenant_id, planned.id)
    act = services.migrations.plan_migration(HOST, place.tenant_id, target=place.b)
    await refused(Conflict, "kind_not_enabled", act)
    more = await place.upload(b"y")
    assert await place.read(done.document.id) == body
    assert await place.read(more.document.id) == b"y"


async def test_who_may_attach_is_said_for_each_kind(rollouts: Rollouts, tenant: Tenant) -> None:
    await rollouts.set_rule(HOST, OwnStoreRule("s3", ["*"], [], 1))
    assert await rollouts.list_rules_for(tenant.id) == []
    await rollouts.set_rollout(HOST, "s3", Change(attach=Attach.TENANTS))
    (rule,) = await rollouts.list_rules_for(tenant.id)
    assert (rule.kind, rule.hosts, rule.most_per_tenant) == ("s3", ["*"], 1)
