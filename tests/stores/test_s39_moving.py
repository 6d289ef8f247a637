"""S-39: a saved secret never goes to a place that somebody names later, and never comes back to anybody."""

from __future__ import annotations

import secrets
from uuid import UUID

import pytest
from tests.stores.conftest import RIGHT
from tests.stores.plugin import Book
from tests.support import make_place

from simples3dms.bootstrap import Services
from simples3dms.context import HOST, WORKER
from simples3dms.db.session import Database
from simples3dms.errors import Conflict, Failure, Forbidden, Invalid
from simples3dms.storage.stores.service import Stores
from simples3dms.storage.stores.values import Store

pytestmark = pytest.mark.anyio


async def _version(database: Database, store_id: UUID) -> int:
    async with database.platform() as uow:
        return int(await uow.scalar("SELECT version FROM credentials WHERE store_id = %s", [store_id]))


async def test_s39_the_saved_secret_is_never_sent_to_a_new_place(
    stores: Stores, store: Store, book: Book, database: Database
) -> None:
    """Without the secret, with half of it, with a wrong one: nothing is asked with the saved one, nothing changes."""
    book.built.clear()
    for given, code in (
        ({}, "credential_invalid"),
        ({"key_id": "k"}, "credential_invalid"),
        (RIGHT | {"key": " "}, "credential_invalid"),
        (RIGHT | {"key": "wrong"}, "store_credential_refused"),
    ):
        with pytest.raises(Invalid) as caught:
            await stores.set_place(HOST, store.name, {"place": "attackers"}, given)
        assert caught.value.problem_code == code
    assert "right" not in book.built
    assert (await stores.get_store(store.name)).settings == store.settings
    assert await _version(database, store.id) == 1


async def test_s39_with_the_secret_the_place_changes_and_the_provider_with_it(
    stores: Stores, store: Store, book: Book, database: Database
) -> None:
    before = await stores.provider(store.id)
    book.keys.add("newer")
    moved = await stores.set_place(HOST, store.name, {"place": "two"}, {"key_id": "k", "key": "newer"})
    assert moved.settings["place"] == "two"
    assert await _version(database, store.id) == 2
    after = await stores.provider(store.id)
    assert after is not before
    await after.put("x", b"1")
    assert (await stores.check_store(store.name)).ok
    async with database.platform() as uow:
        assert "store.moved" in await uow.scalars("SELECT action FROM audit_events")


async def test_a_place_of_another_store_is_not_taken(stores: Stores, store: Store) -> None:
    await stores.add_store(HOST, "vault-2", "vault", {"place": "two"}, RIGHT)
    with pytest.raises(Conflict) as caught:
        await stores.set_place(HOST, store.name, {"place": "two"}, RIGHT)
    assert caught.value.problem_code == "store_duplicate"
    with pytest.raises(Forbidden):
        await stores.set_place(WORKER, store.name, {"place": "three"}, RIGHT)


async def test_a_place_that_does_not_hold_the_documents_is_refused(services: Services) -> None:
    """Promise 1: what was acknowledged stays readable, whatever an operator types."""
    place = await make_place(services)
    document = await place.upload(b"kept")
    store = await services.stores.get_store(place.a)
    with pytest.raises(Conflict) as caught:
        await services.stores.set_place(HOST, place.a, {"name": secrets.token_hex(4), "versions": True}, {})
    assert caught.value.problem_code == "store_place_differs"
    assert await place.read(document.document.id) == b"kept"
    # The same place, described again: what it holds is found.
    await services.stores.set_place(HOST, place.a, store.settings, {})
    assert await place.read(document.document.id) == b"kept"


async def test_s39_nothing_that_is_told_holds_a_secret(
    stores: Stores, store: Store, book: Book, database: Database
) -> None:
    canary = secrets.token_hex(12)
    book.keys.add(canary)
    told: list[object] = [
        await stores.set_place(HOST, store.name, {"place": "two"}, {"key_id": "k", "key": canary}),
        await stores.get_store(store.name),
        await stores.list_stores(),
        await stores.check_store(store.name),
        await stores.probe_store(HOST, store.name),
    ]
    book.keys.discard(canary)
    with pytest.raises(Failure) as caught:
        await stores.set_place(HOST, store.name, {"place": "three"}, {"key_id": "k", "key": canary})
    told += [caught.value.message, caught.value.extra, repr(caught.value)]
    async with database.platform() as uow:
        for table in ("audit_events", "stores", "credentials"):
            told += await uow.scalars(f"SELECT t::text FROM {table} t")  # type: ignore[arg-type]
    assert canary not in repr(told)
