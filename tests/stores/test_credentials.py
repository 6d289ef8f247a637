"""Credentials of stores: replaced while in use, bound to their row, and noticed by every process."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from tests.stores.conftest import RIGHT, STACK
from tests.stores.plugin import Book

from simples3dms.context import HOST
from simples3dms.crypto.keyring import Keyring
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.errors import Failure, Invalid, NotFound, Unavailable
from simples3dms.kit.ids import new_id
from simples3dms.storage.credentials.service import Credentials
from simples3dms.storage.stores import engine
from simples3dms.storage.stores.service import Stores
from simples3dms.storage.stores.values import Store

pytestmark = pytest.mark.anyio
NEWER = {"key_id": "k", "key": "newer"}


async def _versions(database: Database, store_id: UUID) -> list[int]:
    async with database.platform() as uow:
        return await uow.scalars("SELECT version FROM credentials WHERE store_id = %s", [store_id])


async def test_a_replaced_credential_is_used_at_once_and_the_old_one_forgotten(
    stores: Stores, store: Store, book: Book, database: Database
) -> None:
    before = await stores.provider(store.id)
    book.keys.add("newer")
    await stores.set_credential(HOST, store.name, NEWER)
    after = await stores.provider(store.id)
    assert after is not before
    assert book.built[-1] == "newer"
    assert await _versions(database, store.id) == [2]
    # Whoever is still reading with the old one is not cut off before the end.
    assert book.closed == ["right", "newer"], "the two that were only tried"
    await before.check()
    await stores.close()
    assert sorted(book.closed) == ["newer", "newer", "right", "right"]


async def test_a_provider_is_not_closed_while_somebody_reads_with_it(
    stores: Stores, store: Store, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes: an object of a terabyte outlasts any grace."""
    monkeypatch.setattr(engine, "_GRACE_SECONDS", -1)
    book.keys |= {"newer", "newest"}
    old = await stores.provider(store.id)
    await old.put("x", b"1")
    async with old.open("x"):
        await stores.set_credential(HOST, store.name, NEWER)
        await stores.provider(store.id)
        in_use, tried = book.built.count("right"), book.closed.count("right")
        assert tried == in_use - 1
    await stores.set_credential(HOST, store.name, {"key_id": "k", "key": "newest"})
    await (await stores.provider(store.id)).discard("x")
    assert book.closed.count("right") == in_use


async def test_a_refused_credential_changes_nothing(
    stores: Stores, store: Store, database: Database, book: Book
) -> None:
    before = await stores.provider(store.id)
    for wrong, code in (
        (RIGHT | {"key": "wrong"}, "store_credential_refused"),
        (RIGHT | {"key": ""}, "credential_invalid"),
        ({"key": "right"}, "credential_invalid"),
    ):
        with pytest.raises(Invalid) as caught:
            await stores.set_credential(HOST, store.name, wrong)
        assert caught.value.problem_code == code
    assert await _versions(database, store.id) == [1]
    assert await stores.provider(store.id) is before


async def test_replacements_at_once_are_numbered_one_after_another(
    stores: Stores, store: Store, database: Database
) -> None:
    await asyncio.gather(*(stores.set_credential(HOST, store.name, RIGHT) for _ in range(5)))
    assert await _versions(database, store.id) == [6]


async def test_another_process_notices_a_new_credential(
    stores: Stores, store: Store, database: Database, credentials: Credentials, book: Book
) -> None:
    other = Stores(database, credentials, stack_settings=STACK, fresh_seconds=60)
    before = await other.provider(store.id)
    book.keys.add("newer")
    await stores.set_credential(HOST, store.name, NEWER)
    assert await other.provider(store.id) is before
    other.expire(store.id)  # as if the minute had passed
    after = await other.provider(store.id)
    assert after is not before
    other.expire(store.id)
    assert await other.provider(store.id) is after, "an unchanged version keeps its provider"
    await other.close()


async def test_first_uses_at_once_build_one_provider(stores: Stores, store: Store, book: Book) -> None:
    tried = len(book.built)
    providers = await asyncio.gather(*(stores.provider(store.id) for _ in range(20)))
    assert len(set(map(id, providers))) == 1
    assert len(book.built) == tried + 1


async def test_a_fresh_provider_takes_no_trip_to_the_database(stores: Stores, store: Store, database: Database) -> None:
    provider = await stores.provider(store.id)
    await database.close()
    assert await stores.provider(store.id) is provider


async def test_after_close_there_is_no_new_provider(stores: Stores, store: Store, book: Book) -> None:
    await stores.provider(store.id)
    await stores.close()
    await stores.close()
    with pytest.raises(Unavailable):
        await stores.provider(store.id)
    assert sorted(book.built) == sorted(book.closed)


async def _code(stores: Stores, store: Store) -> str | None:
    return (await stores.check_store(store.name)).code


@pytest.mark.parametrize(
    "forgery",
    [
        "UPDATE credentials SET version = version + 1",
        "UPDATE credentials SET sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1)",
        "UPDATE credentials SET wrapped_key = set_byte(wrapped_key, 20, get_byte(wrapped_key, 20) # 1)",
        "UPDATE credentials SET sealed = substr(sealed, 1, 20)",
    ],
)
async def test_s40_a_forged_credential_does_not_open(
    database: Database, credentials: Credentials, stores: Stores, store: Store, forgery: str
) -> None:
    async with database.platform() as uow:
        await uow.execute(forgery)  # type: ignore[arg-type]
    assert await _code(stores, store) == "seal_broken"


async def test_s40_a_credential_moved_to_another_store_does_not_open(
    database: Database, stores: Stores, store: Store
) -> None:
    other = await stores.add_store(HOST, "vault-2", "vault", {"place": "two"}, RIGHT)
    async with database.platform() as uow:
        await uow.execute("DELETE FROM credentials WHERE store_id = %s", [other.id])
        await uow.execute("UPDATE credentials SET store_id = %s", [other.id])
    assert await _code(stores, other) == "seal_broken"
    assert await _code(stores, store) == "credential_not_found"


async def test_s40_a_credential_under_a_key_that_the_key_ring_lacks(
    database: Database, stores: Stores, store: Store
) -> None:
    elsewhere = Credentials(database, Keyring({"k-2": b"2" * 32}, "k-2"))
    assert await _code(Stores(database, elsewhere, stack_settings=STACK), store) == "seal_key_unknown"


async def _nothing(_uow: UnitOfWork, _version: int) -> None: ...


async def test_a_credential_is_saved_and_opened_by_version(
    database: Database, credentials: Credentials, store: Store
) -> None:
    assert await credentials.replace(store.id, {"key": "väl\nue", "other": "x"}, _nothing) == 2
    version, fields = await credentials.open(store.id)
    async with database.platform() as uow:
        assert await credentials.get_version(uow, store.id) == version == 2
    assert {name: secret.reveal() for name, secret in fields.items()} == {"key": "väl\nue", "other": "x"}
    assert "väl" not in repr(fields)


async def test_what_can_not_be_saved_or_opened(credentials: Credentials, store: Store) -> None:
    refusals: list[tuple[type[Failure], str]] = []
    for act in (credentials.replace(store.id, {"key": " "}, _nothing), credentials.open(new_id())):
        with pytest.raises(Failure) as caught:
            await act
        refusals.append((type(caught.value), caught.value.problem_code))
    assert refusals == [(Invalid, "credential_invalid"), (NotFound, "credential_not_found")]
