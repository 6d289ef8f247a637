"""Keys: which start is refused, a change of keys while everything goes on, and when an old one may go."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from tests.support import make_place, working

from simples3dms.bootstrap import Services, build_services
from simples3dms.context import HOST
from simples3dms.crypto.errors import KeyServiceRefused, KeyServiceUnavailable
from simples3dms.crypto.keyring import Keyring, load_or_create_keyring
from simples3dms.errors import Conflict, Failure, Invalid, NotFound, Unavailable
from simples3dms.keys import engine, repository
from simples3dms.keys.service import hold_key
from simples3dms.keys.values import SEALED_COLUMNS
from simples3dms.kit import failpoints
from simples3dms.settings import Settings

pytestmark = pytest.mark.anyio
Wait = Callable[..., object]


async def _stores(services: Services, count: int) -> list[UUID]:
    made = []
    for number in range(count):
        name = f"m-{number}-{secrets.token_hex(3)}"
        made.append((await services.stores.add_store(HOST, name, "memory", {"name": name}, {})).id)
    return made


async def _named(services: Services) -> dict[str, int]:
    return {key.id: key.sealed_count for key in await services.keys.list_keys() if key.in_use}


async def _rotate(services: Services, key_id: str | None = None) -> str:
    begun = await services.keys.rotate(HOST, key_id)
    await services.keys.engine.run(begun.id)
    assert (await services.keys.get_rewrap(begun.id)).state == "done"
    return begun.key_id


async def test_a_rotation_moves_every_row_and_the_old_key_can_go(services: Services, settings: Settings) -> None:
    await services.keys.check_start()
    ids = await _stores(services, 7)
    (old,) = await _named(services)
    new = await _rotate(services)
    assert await _named(services) == {new: 7}
    assert await services.keys.list_broken() == []
    for store_id in ids:
        await services.credentials.open(store_id)
    await services.keys.retire(HOST, old)
    assert load_or_create_keyring(settings.keyring_path).ids == [new]
    for store_id in ids:
        await services.credentials.open(store_id)
    actions = [event.action for event in await services.audit.list_events(None)]
    assert [action for action in actions if action.startswith("key.")] == ["key.retired", "key.rotated"]


async def test_pages_are_walked_to_the_end(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_PAGE", 3)
    await _stores(services, 10)
    new = await _rotate(services)
    assert await _named(services) == {new: 10}


async def test_another_process_takes_the_new_key_up_by_itself(
    services: Services, settings: Settings, tmp_path: Path
) -> None:
    other = await asyncio.to_thread(build_services, settings)
    await other.open()
    try:
        (first,) = await _stores(other, 1)
        new = await _rotate(services)
        assert await other.credentials.open(first)
        await _stores(other, 1)
        assert await _named(services) == {new: 2}
    finally:
        await other.close()


async def test_a_worker_finishes_what_nobody_waits_for(services: Services, eventually: Wait) -> None:
    await _stores(services, 3)
    begun = await services.keys.rotate(HOST)

    async def done() -> bool:
        return (await services.keys.get_rewrap(begun.id)).state == "done"

    async with working(services):
        await eventually(done)  # type: ignore[misc]
    assert await _named(services) == {begun.key_id: 3}


async def test_two_workers_at_once_move_each_row_once(services: Services) -> None:
    await _stores(services, 5)
    begun = await services.keys.rotate(HOST)
    await asyncio.gather(*(services.keys.engine.run(begun.id) for _ in range(4)))
    done = await services.keys.get_rewrap(begun.id)
    assert (done.state, done.done_count, done.attempt) == ("done", 5, 1)


async def test_a_worker_that_was_frozen_changes_nothing_any_more(
    services: Services, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease runs out in the middle of a page, another one takes over: the fence makes the first one's page void."""
    await _stores(services, 4)
    begun = await services.keys.rotate(HOST)
    failpoints.arm("rewrap.page_wrapped=sleep:1.2@1", environment="test")
    frozen = asyncio.create_task(services.keys.engine.run(begun.id))
    await asyncio.sleep(0.4)
    failpoints.arm("", environment="test")
    async with services.database.platform() as uow:
        await uow.execute("UPDATE rewraps SET lease_until = now() - interval '1 s'")
    await services.keys.engine.run(begun.id)
    await frozen
    done = await services.keys.get_rewrap(begun.id)
    assert (done.state, done.done_count, done.fence) == ("done", 4, 2)
    assert await _named(services) == {begun.key_id: 4}


async def test_a_credential_replaced_during_a_rewrap_stays_the_new_one(services: Services) -> None:
    place = await make_place(services)
    begun = await services.keys.rotate(HOST)
    failpoints.arm("rewrap.page_wrapped=sleep:0.6@1", environment="test")
    moving = asyncio.create_task(services.keys.engine.run(begun.id))
    await asyncio.sleep(0.2)
    await services.stores.set_credential(HOST, place.a, {})
    await moving
    failpoints.arm("", environment="test")
    assert (await services.credentials.open(place.a_id))[0] == 2
    assert await _named(services) == {begun.key_id: 2}


async def test_s41_a_key_goes_only_when_no_row_names_it(services: Services) -> None:
    await _stores(services, 2)
    (old,) = await _named(services)
    with pytest.raises(Conflict) as caught:
        await services.keys.retire(HOST, old)
    assert caught.value.problem_code == "key_is_primary"
    begun = await services.keys.rotate(HOST)
    with pytest.raises(Conflict) as caught:
        await services.keys.retire(HOST, old)
    assert caught.value.problem_code == "key_in_use"
    assert old in services.keys._keyring.ids
    with pytest.raises(Conflict) as caught:
        await services.keys.rotate(HOST)
    assert caught.value.problem_code == "rewrap_running"
    await services.keys.engine.run(begun.id)
    await services.keys.retire(HOST, old)
    with pytest.raises(NotFound):
        await services.keys.retire(HOST, old)


async def test_s41_nothing_is_sealed_under_a_key_that_is_gone(services: Services) -> None:
    """A process that had sealed a value before the key was retired is told to seal it anew."""
    (store_id,) = await _stores(services, 1)
    stale = await services.credentials.seal(store_id, {"key": "x"})
    await _rotate(services)
    await services.keys.retire(HOST, stale.key_id)
    with pytest.raises(Failure) as caught:
        async with services.database.platform() as uow:
            await services.credentials.insert(uow, store_id, stale)
    assert caught.value.problem_code in ("seal_key_retired", "seal_key_unknown")
    elsewhere = Keyring({stale.key_id: secrets.token_bytes(32)}, stale.key_id)
    with pytest.raises(Unavailable) as refused:
        async with services.database.platform() as uow:
            await hold_key(uow, elsewhere, stale.key_id)
    assert refused.value.problem_code == "seal_key_retired"


async def _start(settings: Settings) -> None:
    services = await asyncio.to_thread(build_services, settings)
    await services.open()
    try:
        await services.keys.check_start()
    finally:
        await services.close()


def _ring(keys: dict[str, bytes], primary: str) -> str:
    spelt = {key_id: base64.b64encode(key).decode() for key_id, key in keys.items()}
    return json.dumps({"format": 1, "primary": primary, "keys": spelt})


async def test_s41_a_start_is_refused_while_a_row_names_a_key_that_is_missing(
    services: Services, settings: Settings, tmp_path: Path
) -> None:
    await _stores(services, 1)
    kept = tmp_path / "kept.json"
    shutil.copy2(settings.keyring_path, kept)
    settings.keyring_path.write_text(_ring({"k-other": secrets.token_bytes(32)}, "k-other"))
    with pytest.raises(Unavailable) as caught:
        await _start(settings)
    assert caught.value.problem_code == "keyring_incomplete"
    shutil.copy2(kept, settings.keyring_path)
    await _start(settings)


async def test_f65_a_start_with_another_key_under_the_same_id_is_refused(
    services: Services, settings: Settings
) -> None:
    await services.keys.check_start()
    (key_id,) = load_or_create_keyring(settings.keyring_path).ids
    settings.keyring_path.write_text(_ring({key_id: secrets.token_bytes(32)}, key_id))
    with pytest.raises(Unavailable) as caught:
        await _start(settings)
    assert caught.value.problem_code == "keyring_differs"
    assert key_id in caught.value.message


async def test_f65_a_worker_without_the_key_that_seals_is_refused_before_any_row_names_it(
    services: Services, settings: Settings
) -> None:
    await services.keys.check_start()
    other = settings.model_copy(update={"keyring_file": settings.data_dir / "other.json"})
    with pytest.raises(Unavailable) as caught:
        await _start(other)
    assert caught.value.problem_code == "keyring_incomplete"


async def test_the_key_ring_of_the_environment_is_never_written(services: Services, settings: Settings) -> None:
    ring = {"given-a": secrets.token_bytes(32), "given-b": secrets.token_bytes(32)}
    given = Settings(**settings.model_dump(exclude={"keyring"}), keyring=_ring(ring, "given-a"))
    placed = await asyncio.to_thread(build_services, given)
    await placed.open()
    try:
        await placed.keys.check_start()
        await _stores(placed, 1)
        assert await _named(placed) == {"given-a": 1}
        for act in (placed.keys.add(), placed.keys.rotate(HOST), placed.keys.retire(HOST, "given-b")):
            with pytest.raises(Invalid) as caught:
                await act
            assert caught.value.problem_code == "keyring_read_only"
        await _rotate(placed, "given-b")
        assert await _named(placed) == {"given-b": 1}
        assert not settings.keyring_path.exists() or "given-b" not in settings.keyring_path.read_text()
    finally:
        await placed.close()


class _Remote:
    """A key that a service keeps, which may be away or refuse."""

    def __init__(self, key_id: str) -> None:
        self.key_id, self.place, self.fingerprint = key_id, "far", key_id.encode().ljust(16)[:16]
        self.fault: Exception | None = None

    def wrap(self, data_key: bytes, bound_to: bytes) -> bytes:
        if self.fault:
            raise self.fault
        return b"wrapped:" + data_key[::-1] + bound_to[:0]

    def unwrap(self, wrapped: bytes, bound_to: bytes) -> bytes:
        if self.fault:
            raise self.fault
        return wrapped.removeprefix(b"wrapped:")[::-1]


async def test_f47_while_the_service_of_a_key_is_away_what_is_opened_goes_on_working(services: Services) -> None:
    far = _Remote("k-far")
    services.keys._keyring._keys["k-far"] = far
    place = await make_place(services)
    await _rotate(services, "k-far")
    document = await place.upload(b"before")
    far.fault = KeyServiceUnavailable("k-far")
    services.stores._pool.expire(place.a_id)
    assert await place.read(document.document.id) == b"before"
    with pytest.raises(Unavailable) as caught:
        await services.stores.set_credential(HOST, place.a, {})
    assert caught.value.problem_code == "key_service_unavailable"
    # A newer credential that can't be opened yet: the one before goes on.
    async with services.database.platform() as uow:
        await uow.execute("UPDATE credentials SET version = 9 WHERE store_id = %s", [place.a_id])
    services.stores._pool.expire(place.a_id)
    assert await place.read(document.document.id) == b"before"
    far.fault = None


async def test_f47_a_rewrap_waits_for_a_service_that_is_away_and_a_bad_key_never_becomes_primary(
    services: Services,
) -> None:
    far = _Remote("k-far")
    services.keys._keyring._keys["k-far"] = far
    await _stores(services, 2)
    (old,) = await _named(services)
    far.fault = KeyServiceRefused("k-far", "DisabledException")
    with pytest.raises(KeyServiceRefused):
        await services.keys.rotate(HOST, "k-far")
    assert list(await _named(services)) == [old]
    far.fault = None
    begun = await services.keys.rotate(HOST, "k-far")
    far.fault = KeyServiceUnavailable("k-far")
    with pytest.raises(KeyServiceUnavailable):
        await services.keys.engine.run(begun.id)
    waiting = await services.keys.get_rewrap(begun.id)
    assert (waiting.state, waiting.error_code) == ("running", "key_service_unavailable")
    far.fault = None
    await services.keys.engine.run(begun.id)
    assert await _named(services) == {"k-far": 2}


async def test_a_row_that_does_not_open_is_named_and_all_others_are_moved(services: Services) -> None:
    await _stores(services, 4)
    (old,) = await _named(services)
    async with services.database.platform() as uow:
        await uow.execute(
            """UPDATE credentials SET wrapped_key = set_byte(wrapped_key, 20, get_byte(wrapped_key, 20) # 1)
               WHERE store_id = (SELECT store_id FROM credentials LIMIT 1)"""
        )
    begun = await services.keys.rotate(HOST)
    await services.keys.engine.run(begun.id)
    done = await services.keys.get_rewrap(begun.id)
    assert (done.state, done.done_count, done.broken_count) == ("needs_attention", 3, 1)
    assert await _named(services) == {old: 1, begun.key_id: 3}
    assert [(broken.table, broken.code) for broken in await services.keys.list_broken()] == [
        ("credentials", "seal_broken")
    ]
    with pytest.raises(Conflict):
        await services.keys.retire(HOST, old)


async def test_the_list_of_sealed_columns_is_complete(services: Services) -> None:
    """A table that keeps wrapped data keys is in the list: start, rewrap and retire walk it."""
    async with services.database.platform() as uow:
        found = await uow.scalars(
            """SELECT DISTINCT table_name::text FROM information_schema.columns
               WHERE table_schema = 'public' AND column_name LIKE '%%wrapped_key' ORDER BY 1"""
        )
    assert found == sorted({column.table for column in SEALED_COLUMNS})
    assert replace(SEALED_COLUMNS[0]) == SEALED_COLUMNS[0]
    async with services.database.platform() as uow:
        assert await repository.list_named(uow, SEALED_COLUMNS) == []
