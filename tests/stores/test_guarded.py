"""An installation whose stores must pass the egress guard: what is refused, and that what is allowed works whole."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.stores.conftest import RIGHT
from tests.support import Place, assert_clean

from simples3dms.bootstrap import Services, build_services
from simples3dms.context import HOST
from simples3dms.errors import Invalid
from simples3dms.sandbox.ports import listen
from simples3dms.sandbox.seaweedfs import SeaweedServer
from simples3dms.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture
def guarded(settings: Settings) -> Callable[[str], Any]:
    @asynccontextmanager
    async def make(allow: str) -> AsyncIterator[Services]:
        changed = settings.model_copy(update={"egress_guard": "all", "egress_allow": allow})
        services = await asyncio.to_thread(build_services, changed)
        await services.open()
        try:
            yield services
        finally:
            await services.close()

    return make


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.1", "0x7f.0.0.1", "[::ffff:127.0.0.1]"])
async def test_s34_an_endpoint_of_ours_is_refused_when_it_is_saved(guarded: Callable[[str], Any], host: str) -> None:
    with listen() as listener:
        listener.setblocking(False)
        endpoint = f"http://{host}:{listener.getsockname()[1]}"
        credential = {"access_key_id": "a", "secret_access_key": secrets.token_hex()}
        async with guarded("") as services:
            with pytest.raises(Invalid) as caught:
                await services.stores.add_store(
                    HOST, "inside", "s3", {"endpoint": endpoint, "bucket": "docs"}, credential
                )
            assert caught.value.problem_code == "endpoint_refused"
            assert await services.stores.list_stores() == []
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.usefixtures("book")
async def test_a_plug_in_that_does_not_promise_to_use_the_guard_is_refused(guarded: Callable[[str], Any]) -> None:
    async with guarded("") as services:
        with pytest.raises(Invalid) as caught:
            await services.stores.add_store(HOST, "vault-1", "vault", {"place": "x"}, RIGHT)
        assert caught.value.problem_code == "store_kind_unguarded"


async def test_what_the_operator_allows_works_whole(guarded: Callable[[str], Any], tmp_path: Path) -> None:
    with SeaweedServer(tmp_path / "weed") as server:
        async with guarded(f"127.0.0.1:{server.port}") as services:
            settings = {"endpoint": server.endpoint, "bucket": "docs"}
            credential = {"access_key_id": server.access_key, "secret_access_key": server.secret_key}
            stores = [
                await services.stores.add_store(HOST, name, "s3", {**settings, "prefix": name}, credential)
                for name in ("a", "b")
            ]
            tenant = await services.tenants.create_tenant(HOST, "tenant", "A tenant")
            for store in stores:
                await services.stores.grant_store(HOST, tenant.id, store.name)
            await services.placements.set_placement(HOST, tenant.id, write="a", copies=[], read=[])
            place = Place(services, tenant.id, "a", "b", stores[0].id, stores[1].id)
            body = secrets.token_bytes(9_000_000)
            done = await place.upload(body)
            assert await place.read(done.document.id) == body
            await assert_clean(services)


@pytest.mark.parametrize(("name", "value"), [("egress_allow", "10.0.0.0/99"), ("egress_ports", "https")])
def test_a_list_that_can_not_be_read_stops_the_start(settings: Settings, name: str, value: str) -> None:
    with pytest.raises(Invalid) as caught:
        build_services(settings.model_copy(update={name: value}))
    assert caught.value.problem_code == "settings_invalid"


def test_an_authority_that_can_not_be_read_stops_the_start(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(Invalid) as caught:
        build_services(settings.model_copy(update={"storage_ca_file": tmp_path / "ca.pem"}))
    assert caught.value.problem_code == "settings_invalid"
