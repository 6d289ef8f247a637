"""The service over a real database, and the plug-in registered as an installed package would be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.stores import plugin

from simples3dms.context import HOST
from simples3dms.crypto.keyring import Keyring
from simples3dms.db.session import Database
from simples3dms.providers.stack import StackSettings
from simples3dms.storage.credentials.service import Credentials
from simples3dms.storage.stores.service import Stores
from simples3dms.storage.stores.values import Store
from simples3dms.tenants.service import Tenants
from simples3dms.tenants.values import Tenant

RIGHT = {"key_id": "k", "key": "right"}
STACK = StackSettings(retry_attempts=1)


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[plugin.Book]:
    info = tmp_path / "vault-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(plugin.METADATA)
    (info / "entry_points.txt").write_text(plugin.ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(plugin, "BOOK", plugin.Book())
    return plugin.BOOK


@pytest.fixture
def keyring() -> Keyring:
    return Keyring({"k-1": b"1" * 32}, "k-1")


@pytest.fixture
def credentials(database: Database, keyring: Keyring) -> Credentials:
    return Credentials(database, keyring)


@pytest.fixture
async def stores(database: Database, credentials: Credentials, book: plugin.Book) -> AsyncIterator[Stores]:
    stores = Stores(database, credentials, stack_settings=STACK)
    yield stores
    await stores.close()


@pytest.fixture
async def store(stores: Stores) -> Store:
    return await stores.add_store(HOST, "vault-1", "vault", {"place": "one"}, RIGHT)


@pytest.fixture
async def tenant(database: Database) -> Tenant:
    return await Tenants(database).create_tenant(HOST, "acme", "Acme")
