"""Rotations against real providers: made there or given by hand, switched, taken back, finished, cleaned up."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import structlog.testing
from pydantic import SecretStr
from tests.deaf import DeafProxy
from tests.rotations.conftest import B2Side, Rotated
from tests.support import Place, working

from simples3dms.bootstrap import build_services
from simples3dms.context import HOST, WORKER
from simples3dms.db.listening import Listener
from simples3dms.errors import Conflict, Failure, Forbidden, Invalid, NotFound
from simples3dms.keys.service import CHANNEL
from simples3dms.kit import failpoints
from simples3dms.settings import Settings
from simples3dms.storage.stores.service import Stores

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
Wait = Callable[..., Any]


async def _works(rotated: Rotated) -> None:
    assert (await rotated.services.stores.check_store(rotated.store.name)).ok


async def test_a_key_is_made_used_and_the_old_one_deleted(rotated: Rotated, eventually: Wait) -> None:
    services, name = rotated.services, rotated.store.name
    before = rotated.provider.key_ids()
    switched = await services.rotations.start(HOST, name, deletes_old=True)
    assert (switched.state, switched.error_code) == ("switched", None)
    new = await rotated.current_id()
    assert rotated.provider.key_ids() == before | {new}
    assert new not in before
    await _works(rotated)
    if isinstance(rotated.provider, B2Side):
        keys = {key["applicationKeyId"]: key for key in rotated.provider.list_keys()}
        for part in ("capabilities", "bucketIds", "namePrefix"):
            assert keys[new][part] == keys[rotated.first_id][part]
        assert keys[new]["keyName"] == switched.key_name
    async with working(services):

        async def done() -> bool:
            return (await services.rotations.get(name)).state == "done"

        await eventually(done)
    assert rotated.provider.key_ids() == (before | {new}) - {rotated.first_id}
    status = await services.rotations.get_credential(name)
    assert [(one.version, one.state) for one in status.versions] == [(2, "current")]
    await _works(rotated)
    actions = [event.action for event in await services.audit.list_events(None)]
    assert actions.count("rotation.started") == actions.count("credential.switched") == 1
    assert actions.count("credential.retired") == 1


async def test_a_key_that_was_entered_by_hand_is_left_at_the_provider_unless_said(rotated: Rotated) -> None:
    services, name = rotated.services, rotated.store.name
    given = rotated.provider.new_credential()
    assert (await services.rotations.start(HOST, name, given)).state == "switched"
    await asyncio.sleep(1.1)
    rotation = await services.rotations.get(name)
    await services.rotations.engine.advance(rotation.id)
    assert (await services.rotations.get(name)).state == "done"
    assert rotated.first_id in rotated.provider.key_ids()
    await _works(rotated)


async def test_one_that_does_not_work_is_taken_back_and_nobody_notices(rotated: Rotated) -> None:
    services, name = rotated.services, rotated.store.name
    wrong = {field: value if field.endswith("_id") else "wrong" for field, value in rotated.first.items()}
    before = await services.stores.provider(rotated.store.id)
    failed = await services.rotations.start(HOST, name, wrong)
    assert failed.state == "failed"
    assert failed.error_code in ("store_credential_refused", "store_access_denied")
    assert await services.stores.provider(rotated.store.id) is before
    status = await services.rotations.get_credential(name)
    assert [(one.version, one.state) for one in status.versions] == [(1, "current")]
    # A version is never given twice: what was sealed as one can't come back as another.
    assert (await services.rotations.start(HOST, name, rotated.first)).to_version == 3


async def test_back_by_hand_within_the_grace(rotated: Rotated) -> None:
    services, name = rotated.services, rotated.store.name
    before = rotated.provider.key_ids()
    await services.rotations.start(HOST, name, grace_seconds=3600)
    new = await rotated.current_id()
    back = await services.rotations.roll_back(HOST, name)
    assert back.state == "undoing"
    assert await rotated.current_id() == rotated.first_id
    assert new in rotated.provider.key_ids(), "somebody may be signing with it still"
    assert (await services.rotations.roll_back(HOST, name)).state == "undoing"
    await asyncio.sleep(0.6)
    await services.rotations.engine.advance(back.id)
    assert (await services.rotations.get(name)).state == "rolled_back"
    assert rotated.provider.key_ids() == before
    await _works(rotated)
    with pytest.raises(Conflict) as caught:
        await services.rotations.roll_back(HOST, name)
    assert caught.value.problem_code == "rotation_too_late"


async def test_the_grace_is_ended_by_hand(rotated: Rotated) -> None:
    services, name = rotated.services, rotated.store.name
    rotation = await services.rotations.start(HOST, name, deletes_old=True, grace_seconds=3600)
    await services.rotations.engine.advance(rotation.id)
    assert (await services.rotations.get(name)).state == "switched"
    await services.rotations.finish(HOST, name)
    await asyncio.sleep(0.6)
    await services.rotations.engine.advance(rotation.id)
    assert (await services.rotations.get(name)).state == "done"
    assert rotated.first_id not in rotated.provider.key_ids()
    with pytest.raises(Conflict):
        await services.rotations.finish(HOST, name)


async def test_by_itself_on_a_schedule(rotated: Rotated, eventually: Wait) -> None:
    services, name = rotated.services, rotated.store.name
    await services.rotations.set_schedule(HOST, name, every_days=30, deletes_old=True)
    async with services.database.platform() as uow:
        await uow.execute("UPDATE rotation_schedules SET next_at = now()")
    async with working(services):

        async def done() -> bool:
            return (await services.rotations.get(name)).state == "done"

        async def begun() -> bool:
            return (await services.rotations.get_credential(name)).rotation is not None

        await eventually(begun)
        await eventually(done)
    assert rotated.first_id not in rotated.provider.key_ids()
    schedule = (await services.rotations.get_credential(name)).schedule
    assert schedule is not None
    assert schedule.next_at is not None
    assert schedule.next_at > datetime.now(UTC) + timedelta(days=29)
    await _works(rotated)


async def test_a_key_that_was_made_but_never_written_down_is_removed(rotated: Rotated) -> None:
    """The crash between the provider's answer and our row: the next attempt finds it, by name or as the new one."""
    services, name = rotated.services, rotated.store.name
    before = rotated.provider.key_ids()
    failpoints.arm("rotate.made=raise", environment="test")
    with pytest.raises(failpoints.FailPointError):
        await services.rotations.start(HOST, name)
    failpoints.arm("", environment="test")
    assert len(rotated.provider.key_ids()) == len(before) + 1
    async with services.database.platform() as uow:
        await uow.execute("UPDATE credential_rotations SET lease_until = NULL")
    rotation = await services.rotations.get(name)
    await services.rotations.engine.advance(rotation.id)
    assert (await services.rotations.get(name)).state == "switched"
    assert rotated.provider.key_ids() == before | {await rotated.current_id()}


async def test_a_worker_that_was_overtaken_takes_its_key_back(rotated: Rotated) -> None:
    services, name = rotated.services, rotated.store.name
    before = rotated.provider.key_ids()
    failpoints.arm("rotate.made=sleep:1@1", environment="test")
    slow = asyncio.create_task(services.rotations.start(HOST, name))
    await asyncio.sleep(0.7)
    failpoints.arm("", environment="test")
    await services.rotations.roll_back(HOST, name)
    await slow
    rotation = await services.rotations.get(name)
    await services.rotations.engine.advance(rotation.id)
    assert (await services.rotations.get(name)).state == "rolled_back"
    assert rotated.provider.key_ids() == before


async def test_a_worker_that_is_quicker_is_waited_for(rotated: Rotated, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for a rotation is told how it went, whoever took its first steps."""
    services, name = rotated.services, rotated.store.name
    advance, workers = services.rotations.engine.advance, []

    async def behind_a_worker(rotation_id: UUID) -> None:
        failpoints.arm("rotate.claimed=sleep:0.5@1", environment="test")
        workers.append(asyncio.create_task(advance(rotation_id)))
        while not (await services.rotations.get(name)).fence:
            await asyncio.sleep(0.01)
        await advance(rotation_id)

    monkeypatch.setattr(services.rotations.engine, "advance", behind_a_worker)
    try:
        assert (await services.rotations.start(HOST, name)).state == "switched"
    finally:
        failpoints.arm("", environment="test")
    await asyncio.gather(*workers)


async def test_other_processes_turn_when_they_are_told(rotated: Rotated, settings: Settings, eventually: Wait) -> None:
    """NOTIFY comes at once, where the poll alone would take half a minute."""
    other = await asyncio.to_thread(build_services, settings)
    await other.open()
    other.listener.start()
    try:
        before = await other.stores.provider(rotated.store.id)
        await asyncio.sleep(0.3)
        await rotated.services.rotations.start(HOST, rotated.store.name)

        async def turned() -> bool:
            return await other.stores.provider(rotated.store.id) is not before

        await eventually(turned, seconds=5)
        await before.check()
    finally:
        await other.close()


async def test_f64_a_process_that_is_never_told_turns_by_itself(
    rotated: Rotated, settings: Settings, eventually: Wait
) -> None:
    """What it holds of a store is looked up again after a while, sooner than the old key may be gone."""
    kept = inspect.signature(Stores).parameters["fresh_seconds"].default
    assert kept <= Settings.model_fields["credential_settle_seconds"].default / 2
    services, name = rotated.services, rotated.store.name
    tenant = await services.tenants.create_tenant(HOST, name, "A tenant")
    await services.stores.grant_store(HOST, tenant.id, name)
    await services.placements.set_placement(HOST, tenant.id, write=name)
    place = Place(services, tenant.id, name, "", rotated.store.id, rotated.store.id)
    document = (await place.upload(b"right" * 400_000)).document
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    with DeafProxy(url) as proxy:
        deaf = settings.model_copy(update={"database_url": SecretStr(proxy.around(url))})
        other = await asyncio.to_thread(build_services, deaf)
        other.stores._pool._fresh_seconds = 1.0
        await other.open()
        looks: list[str] = []
        refused: set[str] = set()

        async def look() -> None:
            looks.append("told")
            other.stores.expire()

        other.listener = Listener(other.urls.app_url, CHANNEL, look)
        other.listener.start()
        try:
            await eventually(lambda: looks)  # as it connects
            there = Place(other, tenant.id, name, "", rotated.store.id, rotated.store.id)
            assert await there.read(document.id) == b"right" * 400_000
            before = await other.stores.provider(rotated.store.id)
            await services.stores.set_credential(HOST, name, rotated.provider.new_credential())
            rotated.provider.delete_key(rotated.first_id)

            async def turned() -> bool:
                try:
                    assert await there.read(document.id) == b"right" * 400_000
                except Failure as failure:
                    refused.add(failure.problem_code)
                return await other.stores.provider(rotated.store.id) is not before

            await eventually(turned, seconds=20)
            assert await there.read(document.id) == b"right" * 400_000
            assert refused <= {"store_credential_refused", "store_resting"}, "the old key is refused, if anything"
            assert refused <= {"store_credential_refused", "store_resting"}, "the old key is refused, if anything"
            assert (len(looks), proxy.dropped_count) == (1, 1), "it would have been told"
        finally:
            await other.close()


async def test_one_at_a_time_and_none_beside_a_replacement(rotated: Rotated) -> None:
    services, name = rotated.services, rotated.store.name
    await services.rotations.start(HOST, name, grace_seconds=3600)
    for act in (
        services.rotations.start(HOST, name),
        services.rotations.start(HOST, name, rotated.first),
        services.stores.set_credential(HOST, name, rotated.first),
    ):
        with pytest.raises(Conflict) as caught:
            await act
        assert caught.value.problem_code == "rotation_under_way"


async def test_what_is_refused(rotated: Rotated) -> None:
    services, name = rotated.services, rotated.store.name
    with pytest.raises(NotFound):
        await services.rotations.get(name)
    with pytest.raises(Invalid) as caught:
        await services.rotations.start(HOST, name, grace_seconds=0.1)
    assert caught.value.problem_code == "rotation_grace_too_short"
    await services.stores.add_store(HOST, "plain", "memory", {"name": "plain"}, {})
    for act in (services.rotations.start(HOST, "plain"), services.rotations.set_schedule(HOST, "plain", every_days=1)):
        with pytest.raises(Invalid) as caught:
            await act
        assert caught.value.problem_code == "key_management_missing"
    with pytest.raises(Forbidden):
        await services.rotations.start(WORKER, name)


async def test_an_expiry_is_told_once_a_day(rotated: Rotated) -> None:
    services, name = rotated.services, rotated.store.name
    soon = datetime.now(UTC) + timedelta(days=5)
    await services.rotations.start(HOST, name, rotated.provider.new_credential(), expires_at=soon)
    with structlog.testing.capture_logs() as logged:
        for _ in range(2):
            await services.rotations.warn_of_expiry()
    assert [line["event"] for line in logged].count("store.key_expires") == 1
    status = await services.rotations.get_credential(name)
    assert [one.expires_at for one in status.versions if one.state == "current"] == [soon]


async def test_no_secret_is_in_what_is_told(rotated: Rotated) -> None:
    services, name = rotated.services, rotated.store.name
    given = rotated.provider.new_credential()
    await services.rotations.start(HOST, name, given)
    told = repr(await services.rotations.get_credential(name)) + repr(await services.audit.list_events(None))
    for value in (*given.values(), *rotated.first.values()):
        assert value not in told
