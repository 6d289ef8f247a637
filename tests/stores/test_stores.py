"""Adding and checking stores: everything is tried before anything is saved, and nothing secret comes out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.stores.conftest import RIGHT
from tests.stores.plugin import Book

from simples3dms.audit.service import Audit
from simples3dms.context import HOST, WORKER
from simples3dms.db.session import Database
from simples3dms.errors import Conflict, Failure, Forbidden, Invalid, NotFound, Unavailable
from simples3dms.kit.ids import new_id
from simples3dms.kit.secret import Secret
from simples3dms.providers.errors import ProviderError
from simples3dms.storage.stores.errors import explain
from simples3dms.storage.stores.service import Stores
from simples3dms.storage.stores.values import Store, place_of

pytestmark = pytest.mark.anyio


def _tree(root: type[ProviderError]) -> list[type[ProviderError]]:
    return [root, *(found for child in root.__subclasses__() for found in _tree(child))]


ERRORS = [error for error in _tree(ProviderError) if error.__module__ == "simples3dms.providers.errors"]


async def _refused(failure: type[Failure], code: str, act: Any) -> Failure:
    with pytest.raises(failure) as caught:
        await act
    assert caught.value.problem_code == code
    return caught.value


async def _everything(database: Database) -> str:
    async with database.platform() as uow:
        rows = await uow.scalars(
            """SELECT s::text FROM stores s UNION ALL SELECT a::text FROM audit_events a
               UNION ALL SELECT c::text FROM credentials c UNION ALL SELECT encode(sealed, 'escape') FROM credentials"""
        )
    return "\n".join(rows)


async def test_a_store_is_added_with_clean_settings_and_a_sealed_credential(
    stores: Stores, database: Database, book: Book
) -> None:
    added = await stores.add_store(
        HOST,
        "vault-1",
        "vault",
        {"place": " one ", "prefix": "/a/b"},
        {"key_id": "canary-id", "key": Secret("right")} | {"session": Secret("canary-session")},
    )
    assert added.settings == {"place": "one", "prefix": "a/b/"}
    assert await stores.get_store("vault-1") == await stores.get_store(str(added.id)) == added
    assert await stores.list_stores() == [added]
    dump = await _everything(database)
    assert "canary" not in dump
    assert "right" not in dump
    assert "canary" not in repr(added)
    assert book.closed == ["right"]
    (event,) = await Audit(database).list_events(None)
    assert (event.action, event.target_id) == ("store.added", str(added.id))
    await (await stores.provider(added.id)).check()


async def test_nothing_is_held_in_the_database_while_a_store_is_tried(
    stores: Stores, database: Database, book: Book
) -> None:
    seen: list[bool] = []

    def look() -> None:
        stats = database._pool.get_stats()
        seen.append(stats["pool_available"] == stats["pool_size"])

    book.during_check = look
    await stores.add_store(HOST, "vault-1", "vault", {"place": "one"}, RIGHT)
    await stores.set_credential(HOST, "vault-1", RIGHT)
    assert seen == [True, True]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.kind)
async def test_whatever_the_store_says_nothing_is_saved(
    stores: Stores, database: Database, book: Book, error: type[ProviderError]
) -> None:
    book.fault = error
    expected = explain(error("", vendor_code="AsTold"), typed_in=True)
    act = stores.add_store(HOST, "vault-1", "vault", {"place": "one"}, RIGHT)
    failure = await _refused(type(expected), expected.problem_code, act)
    assert failure.extra == {"vendor_code": "AsTold"}
    assert await _everything(database) == ""
    assert book.built == book.closed == ["right"]


def test_every_provider_error_is_explained_by_a_code_of_its_own() -> None:
    explained = {error.kind: explain(error("the vendor's words", retry_after=3)) for error in ERRORS}
    codes = {failure.problem_code for failure in explained.values()}
    assert len(codes) == len(ERRORS) == len({error.kind for error in ERRORS})
    assert all(code.startswith(("store_", "storage_failed")) for code in codes)
    for error in ERRORS:
        failure = explained[error.kind]
        assert failure.retryable == error.retryable, error.kind
        assert "vendor" not in failure.message
        assert failure.extra["retry_after_seconds"] == 3
    # What an uploader did not type in is not the uploader's mistake.
    assert not any(isinstance(explained[kind], Invalid) for kind in ("access_denied", "bad_credential"))


async def test_a_wrong_key_is_refused(stores: Stores) -> None:
    act = stores.add_store(HOST, "vault-1", "vault", {"place": "one"}, RIGHT | {"key": "canary"})
    failure = await _refused(Invalid, "store_credential_refused", act)
    assert "canary" not in f"{failure.message}{failure.extra}"


@pytest.mark.parametrize("name", ["", "-a", "A", "a_b", "a" * 64, "a\n", "a\0", str(new_id()), "0" * 32])
async def test_a_bad_name_is_refused(stores: Stores, name: str) -> None:
    await _refused(Invalid, "store_name_invalid", stores.add_store(HOST, name, "vault", {"place": "one"}, RIGHT))


@pytest.mark.parametrize(
    ("kind", "settings", "credential", "code"),
    [
        ("nope", {}, RIGHT, "store_kind_unknown"),
        ("", {}, RIGHT, "store_kind_unknown"),
        ("vault", {}, RIGHT, "store_settings_invalid"),
        ("vault", {"place": " "}, RIGHT, "store_settings_invalid"),
        ("vault", {"place": "one", "prefix": "a/../b"}, RIGHT, "store_settings_invalid"),
        ("vault", {"place": "one", "key": "canary"}, RIGHT, "store_settings_invalid"),
        ("vault", {"place": "one"}, {}, "credential_invalid"),
        ("vault", {"place": "one"}, {"key_id": "canary"}, "credential_invalid"),
        ("vault", {"place": "one"}, RIGHT | {"key": ""}, "credential_invalid"),
        ("vault", {"place": "one"}, RIGHT | {"key": Secret(" \t")}, "credential_invalid"),
        ("vault", {"place": "one"}, RIGHT | {"session": ""}, "credential_invalid"),
        ("vault", {"place": "one"}, RIGHT | {"session": None}, "credential_invalid"),
        ("vault", {"place": "one"}, RIGHT | {"key": 7}, "credential_invalid"),
        ("vault", {"place": "one"}, RIGHT | {"other": "canary"}, "credential_invalid"),
        ("memory", {"name": "one"}, RIGHT, "credential_invalid"),
    ],
)
async def test_a_bad_form_is_refused_before_anything_is_tried(
    stores: Stores, book: Book, kind: str, settings: dict[str, Any], credential: dict[str, Any], code: str
) -> None:
    failure = await _refused(Invalid, code, stores.add_store(HOST, "vault-1", kind, settings, credential))
    assert "canary" not in f"{failure.message}{failure.extra}"
    assert book.built == []
    assert await stores.list_stores() == []


async def test_a_kind_without_a_credential_needs_none(stores: Stores, tmp_path: Path) -> None:
    added = await stores.add_store(HOST, "disk", "local", {"path": str(tmp_path)}, {})
    assert (await stores.check_store("disk")).ok
    assert (await stores.provider(added.id)).kind == "local"


@pytest.mark.parametrize(
    ("kind", "settings", "credential", "failure", "code"),
    [
        ("local", {"path": "/nowhere/at/all"}, {}, Invalid, "store_bucket_missing"),
        (
            "s3",
            {"endpoint": "http://127.0.0.1:9", "bucket": "bucket"},
            {"access_key_id": "canary-id", "secret_access_key": Secret("canary-secret")},
            Unavailable,
            "store_unreachable",
        ),
    ],
)
async def test_real_kinds_are_tried_too(
    stores: Stores, kind: str, settings: dict[str, Any], credential: dict[str, Any], failure: type[Failure], code: str
) -> None:
    refusal = await _refused(failure, code, stores.add_store(HOST, "real", kind, settings, credential))
    assert "canary" not in f"{refusal.message}{refusal.extra}"
    assert await stores.list_stores() == []


async def test_a_name_and_a_place_are_taken_once(stores: Stores, store: Store) -> None:
    async def add(name: str, place: str) -> Store:
        return await stores.add_store(HOST, name, "vault", {"place": place}, RIGHT)

    await _refused(Conflict, "store_exists", add(store.name, "two"))
    failure = await _refused(Conflict, "store_duplicate", add("vault-2", "one"))
    assert store.name in failure.message
    outcomes = await asyncio.gather(*(add(f"copy-{number}", "three") for number in range(5)), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict"] * 4 + ["Store"]
    assert len(await stores.list_stores()) == 2


def _s3(endpoint: str | None, **more: str) -> dict[str, Any]:
    return {"bucket": "b", **more} | ({"endpoint": endpoint} if endpoint else {})


@pytest.mark.parametrize(
    ("kind", "one", "two"),
    [
        ("s3", _s3("https://S3.Example.org:443"), _s3("https://s3.example.org", region="x", addressing="virtual")),
        ("s3", _s3("https://s3.eu-west-1.amazonaws.com"), _s3(None, region="eu-west-1")),
        ("s3", _s3("http://127.0.0.1:80"), _s3("http://127.0.0.1")),
        ("b2", {"bucket": "b", "realm": "production"}, {"bucket": "b", "prefix": ""}),
        ("local", {"path": "/data"}, {"path": "/data/./"}),
        ("local", {"path": "/data", "prefix": "x/"}, {"path": "/data/x"}),
        ("vault", {"place": "a", "prefix": ""}, {"prefix": "", "place": "a"}),
    ],
)
def test_one_place_in_two_spellings(kind: str, one: dict[str, Any], two: dict[str, Any]) -> None:
    assert place_of(kind, one) == place_of(kind, two)


@pytest.mark.parametrize(
    ("kind", "one", "two"),
    [
        ("s3", _s3("http://127.0.0.1:80"), _s3("http://127.0.0.1:81")),
        ("s3", _s3("http://127.0.0.1"), _s3("http://127.0.0.1", bucket="c")),
        ("s3", _s3("http://127.0.0.1"), _s3("http://127.0.0.1", prefix="p/")),
        ("b2", {"bucket": "b", "realm": "production"}, {"bucket": "b", "realm": "staging"}),
        ("local", {"path": "/data"}, {"path": "/data/x/"}),
        ("vault", {"place": "a"}, {"place": "b"}),
    ],
)
def test_two_places(kind: str, one: dict[str, Any], two: dict[str, Any]) -> None:
    assert place_of(kind, one) != place_of(kind, two)


async def test_only_operators_change_stores(stores: Stores, store: Store) -> None:
    for act in (
        stores.add_store(WORKER, "vault-2", "vault", {"place": "two"}, RIGHT),
        stores.set_credential(WORKER, store.name, RIGHT),
        stores.grant_store(WORKER, new_id(), store.name),
        stores.disable(WORKER, store.name),
    ):
        await _refused(Forbidden, "operator_required", act)


@pytest.mark.parametrize("unknown", ["nope", "", "a\0", "\ud800", str(new_id()), "x" * 5000])
async def test_an_unknown_store_is_not_found(stores: Stores, unknown: str) -> None:
    for act in (
        stores.get_store(unknown),
        stores.check_store(unknown),
        stores.set_credential(HOST, unknown, RIGHT),
        stores.disable(HOST, unknown),
        stores.grant_store(HOST, new_id(), unknown),
        stores.provider(new_id()),
    ):
        await _refused(NotFound, "store_not_found", act)


async def test_a_check_says_what_is_wrong_now(stores: Stores, store: Store, book: Book) -> None:
    assert await stores.check_store(store.name) == await stores.check_store(str(store.id))
    assert (await stores.check_store(store.name)).ok
    for error in ERRORS:
        book.fault = error
        result = await stores.check_store(store.name)
        assert (result.ok, result.code) == (False, explain(error("")).problem_code)
        assert result.message


async def test_pages_of_stores_join_up(stores: Stores) -> None:
    for name in ("b", "a", "c"):
        await stores.add_store(HOST, name, "vault", {"place": name}, RIGHT)
    first = await stores.list_stores(limit=2)
    assert [store.name for store in first + await stores.list_stores(after=first[-1].name, limit=2)] == ["a", "b", "c"]


@pytest.mark.parametrize("prefix", ["", "below"])
async def test_f51_a_directory_has_one_path(stores: Stores, tmp_path: Path, prefix: str) -> None:
    """By two paths, two stores would sweep one another's objects, and two tenants could be given one place."""
    disk, link = tmp_path / "disk", tmp_path / "link"
    disk.mkdir()
    link.symlink_to(disk)
    await stores.add_store(HOST, "disk", "local", {"path": str(disk)}, {})
    again = stores.add_store(HOST, "again", "local", {"path": str(link), "prefix": prefix}, {})
    failure = await _refused(Conflict, "store_duplicate", again)
    assert str(disk) in failure.message
    assert [one.name for one in await stores.list_stores()] == ["disk"]
    # The same path is fine, under a prefix.
    await stores.add_store(HOST, "below", "local", {"path": f"{disk}/", "prefix": "other"}, {})
