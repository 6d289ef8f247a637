"""A key that a real OpenBao server keeps, from the key ring's file to a store's credential."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.support import make_place

from simples3dms.bootstrap import build_services
from simples3dms.context import HOST
from simples3dms.crypto.errors import KeyServiceRefused, KeyServiceUnavailable
from simples3dms.errors import Invalid
from simples3dms.sandbox.openbao import KEY, OpenBao
from simples3dms.settings import Settings

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


async def test_f47_a_key_of_a_transit_engine_seals_opens_and_may_be_away(settings: Settings, tmp_path: Path) -> None:
    with OpenBao(tmp_path / "bao") as server:
        with_token = settings.model_copy(update={"transit_token": SecretStr(server.token)})
        services = await asyncio.to_thread(build_services, with_token)
        await services.open()
        try:
            await services.keys.check_start()
            place = await make_place(services)
            with pytest.raises(Invalid):
                await services.keys.add({"kind": "transit", "key": KEY})
            described = {"kind": "transit", "key": KEY, "address": server.address}
            assert await services.keys.add(described, key_id="bao") == "bao"
            begun = await services.keys.rotate(HOST, "bao")
            await services.keys.engine.run(begun.id)
            assert (await services.keys.get_rewrap(begun.id)).state == "done"
            assert {key.id: key.sealed_count for key in await services.keys.list_keys() if key.in_use} == {"bao": 2}
            assert json.loads(settings.keyring_path.read_text())["format"] == 2
            assert server.token not in settings.keyring_path.read_text()
            document = await place.upload(b"sealed far away")
            # A process that may not ask the server is told so, when it opens a credential for the first time.
            stranger = await asyncio.to_thread(build_services, settings)
            await stranger.open()
            await stranger.keys.check_start()
            with pytest.raises(KeyServiceRefused):
                await stranger.stores.provider(place.a_id)
            await stranger.close()
            server.stop()
            assert await place.read(document.document.id) == b"sealed far away"
            with pytest.raises(KeyServiceUnavailable):
                await services.stores.set_credential(HOST, place.a, {})
        finally:
            await services.close()
