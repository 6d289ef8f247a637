"""Rows that come under the old key while it is changed, or after: they follow, and nothing is begun twice for them."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any
from uuid import UUID

import pytest

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.crypto.keyring import Keyring
from simples3dms.errors import Conflict
from simples3dms.keys import service
from simples3dms.keys.values import Rewrap
from simples3dms.storage.credentials import service as credentials_service

pytestmark = pytest.mark.anyio


async def _stores(services: Services, count: int) -> list[UUID]:
    made = []
    for number in range(count):
        name = f"m-{number}-{secrets.token_hex(3)}"
        made.append((await services.stores.add_store(HOST, name, "memory", {"name": name}, {})).id)
    return made


async def _named(services: Services) -> dict[str, int]:
    return {key.id: key.sealed_count for key in await services.keys.list_keys() if key.in_use}


async def _rotate(services: Services) -> Rewrap:
    begun = await services.keys.rotate(HOST)
    await services.keys.engine.run(begun.id)
    return await services.keys.get_rewrap(begun.id)


async def _straggle(services: Services, old: str, count: int) -> None:
    """Stores whose credentials were sealed before the key changed, and are written after."""

    async def chosen_before(_uow: object, keyring: Keyring) -> None:
        keyring.choose(old)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(credentials_service, "choose_primary", chosen_before)
        await _stores(services, count)


async def test_a_row_that_was_being_sealed_while_the_key_changed_follows(services: Services) -> None:
    """Its writer has not heard of the change yet: the row comes under the old key, which stays until it has moved."""
    (first,) = await _stores(services, 1)
    (old,) = await _named(services)
    new = (await _rotate(services)).key_id
    await _straggle(services, old, 2)
    assert await _named(services) == {new: 1, old: 2}
    with pytest.raises(Conflict) as caught:
        await services.keys.retire(HOST, old)
    assert caught.value.problem_code == "key_in_use"
    await services.keys.catch_up()
    again = await services.keys.get_rewrap()
    assert again.state == "running"
    await services.keys.engine.run(again.id)
    found = await services.keys.get_rewrap(again.id)
    assert (found.state, found.done_count, found.total_count) == ("done", 3, 3)
    assert await _named(services) == {new: 3}
    await services.keys.catch_up()
    assert (await services.keys.get_rewrap()).state == "done"
    await services.keys.retire(HOST, old)
    await services.credentials.open(first)


async def test_a_row_sealed_under_the_old_key_behind_the_rewrap_keeps_it_from_being_done(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _stores(services, 2)
    (old,) = await _named(services)
    begun = await services.keys.rotate(HOST)
    walked = services.keys.engine._pass
    passes = 0

    async def walk_and_write(claimed: Rewrap) -> int:
        nonlocal passes
        passes += 1
        broken = await walked(claimed)
        if passes == 1:
            await _straggle(services, old, 1)
            services.keys._keyring.choose(begun.key_id)
        return broken

    monkeypatch.setattr(services.keys.engine, "_pass", walk_and_write)
    await services.keys.engine.run(begun.id)
    assert passes == 2
    assert await _named(services) == {begun.key_id: 3}


async def _break_one(services: Services) -> UUID:
    async with services.database.platform() as uow:
        broken = await uow.scalar(
            """UPDATE credentials SET wrapped_key = set_byte(wrapped_key, 20, get_byte(wrapped_key, 20) # 1)
               WHERE store_id = (SELECT store_id FROM credentials ORDER BY store_id LIMIT 1) RETURNING store_id"""
        )
    return UUID(str(broken))


async def test_a_late_row_follows_a_rewrap_that_needs_attention_and_what_is_broken_is_not_tried_for_ever(
    services: Services,
) -> None:
    await _stores(services, 3)
    (old,) = await _named(services)
    await _break_one(services)
    ended = await _rotate(services)
    assert (ended.state, ended.broken_count) == ("needs_attention", 1)
    await services.keys.catch_up()
    assert await services.keys.get_rewrap() == ended, "nothing but what is broken is left"
    await _straggle(services, old, 2)
    await services.keys.catch_up()
    again = await services.keys.get_rewrap()
    assert (again.id, again.state) == (ended.id, "running")
    await services.keys.engine.run(again.id)
    assert await _named(services) == {ended.key_id: 4, old: 1}
    found = await services.keys.get_rewrap()
    assert (found.state, found.broken_count, found.attempt) == ("needs_attention", 1, 2)
    await services.keys.catch_up()
    assert await services.keys.get_rewrap() == found


async def test_a_row_that_comes_late_in_the_place_of_one_that_was_mended_follows(services: Services) -> None:
    """As many rows as were broken name another key, and none of them is broken."""
    await _stores(services, 3)
    (old,) = await _named(services)
    broken = await _break_one(services)
    ended = await _rotate(services)
    assert (ended.state, ended.broken_count) == ("needs_attention", 1)
    name = next(one.name for one in await services.stores.list_stores() if one.id == broken)
    await services.stores.set_credential(HOST, name, {})
    await services.keys.catch_up()
    assert (await services.keys.get_rewrap()).broken_count == 0
    await _straggle(services, old, 1)
    await services.keys.catch_up()
    again = await services.keys.get_rewrap()
    assert again.state == "running"
    await services.keys.engine.run(again.id)
    assert await _named(services) == {ended.key_id: 4}


async def test_catching_up_waits_for_a_rotation_that_is_being_asked_for(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _stores(services, 2)
    (old,) = await _named(services)
    first = await _rotate(services)
    await _straggle(services, old, 1)
    begun, go = asyncio.Event(), asyncio.Event()
    record = service.record

    async def record_and_wait(*given: Any, **details: Any) -> None:
        await record(*given, **details)
        begun.set()
        await go.wait()

    monkeypatch.setattr(service, "record", record_and_wait)
    rotating = asyncio.create_task(services.keys.rotate(HOST))
    async with asyncio.timeout(30):
        await begun.wait()
    catching_up = asyncio.create_task(services.keys.catch_up())
    try:
        assert await _waits(services, catching_up)
    finally:
        go.set()
        second = await rotating
        await catching_up
    assert (await services.keys.get_rewrap(first.id)).state == "done"
    assert (await services.keys.get_rewrap()).id == second.id
    async with services.database.platform() as uow:
        assert await uow.scalars("SELECT id FROM rewraps WHERE state = 'running'") == [second.id]
    await services.keys.engine.run(second.id)
    assert await _named(services) == {second.key_id: 3}


async def _waits(services: Services, task: asyncio.Task[None]) -> bool:
    """True once the task's unit of work waits for the lock on keys; False if it ends, or goes further, without."""
    async with asyncio.timeout(30):
        while not task.done():
            async with services.database.platform() as uow:
                kind = await uow.scalar(
                    """SELECT l.locktype FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                       WHERE NOT l.granted AND a.datname = current_database() LIMIT 1"""
                )
            if kind is not None:
                return str(kind) == "advisory"
            await asyncio.sleep(0.02)
    return False
