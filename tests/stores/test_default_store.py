"""The store that the environment describes: made sure of at the start, over a real server."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from simples3dms.bootstrap import Services, ensure_default_store
from simples3dms.errors import Conflict, Failure, Invalid
from simples3dms.sandbox.b2 import B2Sandbox
from simples3dms.sandbox.seaweedfs import SeaweedServer
from simples3dms.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    with SeaweedServer(tmp_path_factory.mktemp("s3")) as server:
        yield server


def described(settings: Settings, server: SeaweedServer, **changes: object) -> Settings:
    given = {
        "storage_kind": "s3",
        "storage_endpoint": server.endpoint,
        "storage_region": server.region,
        "storage_bucket": "docs",
        "storage_prefix": "here",
        "storage_key_id": server.access_key,
        "storage_key": SecretStr(server.secret_key),
    }
    return settings.model_copy(update=given | changes)


async def test_it_is_added_once_and_works(services: Services, settings: Settings, server: SeaweedServer) -> None:
    wanted = described(settings, server)
    assert await ensure_default_store(services, wanted) == "added"
    assert await ensure_default_store(services, wanted) is None
    assert (await services.stores.check_store("default")).ok
    assert [store.name for store in await services.stores.list_stores()] == ["default"]


async def test_a_new_key_replaces_the_old_one_once_it_works(
    services: Services, settings: Settings, server: SeaweedServer
) -> None:
    await ensure_default_store(services, described(settings, server))
    with pytest.raises(Failure):
        await ensure_default_store(services, described(settings, server, storage_key=SecretStr(secrets.token_hex())))
    assert (await services.stores.check_store("default")).ok
    other = {
        "storage_key_id": server.readonly_access_key,
        "storage_key": SecretStr(server.readonly_secret_key),
    }
    assert await ensure_default_store(services, described(settings, server, **other)) == "credential replaced"


async def test_another_place_under_the_same_name_is_refused(
    services: Services, settings: Settings, server: SeaweedServer
) -> None:
    await ensure_default_store(services, described(settings, server))
    with pytest.raises(Conflict) as caught:
        await ensure_default_store(services, described(settings, server, storage_prefix="elsewhere"))
    assert caught.value.problem_code == "store_differs"


async def test_b2_and_a_directory(services: Services, settings: Settings, tmp_path: Path) -> None:
    with B2Sandbox(tmp_path / "b2", buckets=("documents",)) as b2:
        wanted = settings.model_copy(
            update={
                "storage_kind": "b2",
                "storage_name": "b2",
                "storage_endpoint": b2.url,
                "storage_bucket": "documents",
                "storage_key_id": b2.application_key_id,
                "storage_key": SecretStr(b2.application_key),
            }
        )
        assert await ensure_default_store(services, wanted) == "added"
    (tmp_path / "files").mkdir()
    here = settings.model_copy(update={"storage_kind": "local", "storage_bucket": str(tmp_path / "files")})
    assert await ensure_default_store(services, here) == "added"


async def test_what_is_missing_or_too_much_is_named(
    services: Services, settings: Settings, server: SeaweedServer
) -> None:
    assert await ensure_default_store(services, settings) is None
    for changes, code in (
        ({"storage_bucket": None}, "store_settings_invalid"),
        ({"storage_key": None}, "credential_invalid"),
        ({"storage_key_id": " "}, "credential_invalid"),
        ({"storage_kind": "local"}, "settings_invalid"),
        ({"storage_kind": "b2"}, "settings_invalid"),
    ):
        with pytest.raises(Invalid) as caught:
            await ensure_default_store(services, described(settings, server, **changes))
        assert caught.value.problem_code == code
    assert await services.stores.list_stores() == []
