"""The probe: stores that lie are found out before they are saved; what was found is kept and looked at again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.stores.conftest import RIGHT
from tests.stores.plugin import Book, VaultProvider

from simples3dms.context import HOST, WORKER
from simples3dms.db.session import Database
from simples3dms.errors import Forbidden, Invalid, NotFound
from simples3dms.providers.base import DeleteOutcome
from simples3dms.providers.errors import AccessDenied, BucketMissing
from simples3dms.storage.stores.service import Stores
from simples3dms.storage.stores.values import Store

pytestmark = pytest.mark.anyio
REAL = {name: getattr(VaultProvider, name) for name in ("put", "delete", "list_page", "discard")}


async def _loses_the_end(self: Any, key: str, body: Any, **how: Any) -> Any:
    """Takes the whole body, says so, and keeps less of it."""
    kept = body[:-1] if isinstance(body, bytes) and body else body
    result = await REAL["put"](self, key, kept, **how)
    return type(result)(key, len(body) if isinstance(body, bytes) else result.size_bytes)


async def _keeps_the_framing(self: Any, key: str, body: Any, **how: Any) -> Any:
    """Stores what frames a trailer on the wire inside the object (failure mode 10)."""
    if isinstance(body, bytes):
        framed = b"%x\r\n%s\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n" % (len(body), body)
        result = await REAL["put"](self, key, framed, **how)
        return type(result)(key, len(body))
    return await REAL["put"](self, key, body, **how)


async def _deletes_nothing(_: Any, refs: Any) -> Any:
    return [DeleteOutcome(ref) for ref in refs]


async def _deletes_neighbours(self: Any, refs: Any) -> Any:
    for ref in refs:
        page = await REAL["list_page"](self, ref.key)
        for info in page.items:
            await REAL["discard"](self, info.key)
    return await REAL["delete"](self, refs)


LIES: dict[str, tuple[str, Callable[..., Any], str]] = {
    "loses the end": ("put", _loses_the_end, "write and read"),
    "keeps the framing": ("put", _keeps_the_framing, "write and read"),
    "deletes neighbours": ("delete", _deletes_neighbours, "deleting"),
}


@pytest.mark.parametrize("lie", sorted(LIES))
async def test_a_store_that_lies_is_not_saved(stores: Stores, monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    method, how, row = LIES[lie]
    monkeypatch.setattr(VaultProvider, method, how)
    with pytest.raises(Invalid) as caught:
        await stores.add_store(HOST, "vault-1", "vault", {"place": lie}, RIGHT)
    assert caught.value.problem_code == "store_probe_failed"
    findings: Any = caught.value.extra["findings"]
    assert row in [finding["name"] for finding in findings if finding["verdict"] == "red"]
    assert row in caught.value.message
    assert await stores.list_stores() == []


async def test_a_listing_that_is_behind_is_amber_and_says_what_it_costs(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VaultProvider, "delete", _deletes_nothing)
    result = await stores.probe_config(HOST, "vault", {"place": "behind"}, RIGHT)
    row = next(finding for finding in result.findings if finding["name"] == "listing")
    assert row["verdict"] == "amber"
    assert "behind" in row["detail"]


async def test_the_probe_is_kept_with_the_store_and_cleans_up(stores: Stores, store: Store) -> None:
    assert store.probe_verdict == "green"
    found = await stores.get_probe("vault-1")
    assert found.verdict == "green"
    assert found.probed_at is not None
    assert {finding["name"] for finding in found.findings} >= {"access", "write and read", "large objects", "deleting"}
    assert all(finding["meaning"] for finding in found.findings)
    provider = await stores.provider(store.id)
    assert [info async for info in provider.list()] == []


async def test_a_store_that_turned_bad_is_found_by_the_scheduled_probe_once(
    stores: Stores, store: Store, book: Book, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with database.platform() as uow:
        await uow.execute("UPDATE stores SET probed_at = now() - interval '25 hours'")
    asked = 0
    real = stores._probe_and_save

    async def counted(one: Store) -> Any:
        nonlocal asked
        asked += 1
        return await real(one)

    monkeypatch.setattr(stores, "_probe_and_save", counted)
    book.fault = BucketMissing
    await asyncio.gather(*(stores.probe_due(store.id, hours=24) for _ in range(4)))
    assert asked == 1
    found = await stores.get_probe("vault-1")
    assert found.verdict == "unreachable"
    assert "bucket" in found.findings[0]["detail"]
    book.fault = None
    assert (await stores.probe_store(HOST, "vault-1")).verdict == "green"


async def test_probing_a_config_saves_nothing_and_is_for_operators(stores: Stores) -> None:
    assert (await stores.probe_config(HOST, "vault", {"place": "one"}, RIGHT)).verdict == "green"
    assert await stores.list_stores() == []
    with pytest.raises(Forbidden):
        await stores.probe_config(WORKER, "vault", {"place": "one"}, RIGHT)
    with pytest.raises(Invalid):
        await stores.probe_config(HOST, "vault", {"place": "one"}, {"key_id": "k", "key": "wrong"})
    with pytest.raises(NotFound):
        await stores.get_probe("vault-1")


async def test_a_store_has_settings_of_its_own_and_they_take_effect(stores: Stores, store: Store) -> None:
    before = await stores.provider(store.id)
    with pytest.raises(Invalid) as caught:
        await stores.set_tuning(HOST, "vault-1", {"retry_attempts": 0, "patience": 1})
    assert {one["field"] for one in caught.value.extra["fields"]} <= {"retry_attempts", "patience"}  # type: ignore[attr-defined]
    tuned = await stores.set_tuning(HOST, "vault-1", {"read_only": True})
    assert tuned.tuning == {"read_only": True}
    after = await stores.provider(store.id)
    assert after is not before
    with pytest.raises(AccessDenied):
        await after.put("x", b"1")
    await stores.set_tuning(HOST, "vault-1", {})
    await (await stores.provider(store.id)).put("x", b"1")
