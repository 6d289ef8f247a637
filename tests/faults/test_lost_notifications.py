"""F64: LISTEN/NOTIFY is lost on the way, and the queue is worked off all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from tests.deaf import DeafProxy
from tests.support import assert_clean, make_place, working

from simples3dms.bootstrap import Services, build_services
from simples3dms.context import HOST
from simples3dms.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture
async def deaf(settings: Settings) -> AsyncIterator[tuple[Services, DeafProxy]]:
    """Services whose every connection loses notifications, and whose watchdog does not look before the test is over."""
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    with DeafProxy(url) as proxy:
        given = settings.model_copy(
            update={"database_url": SecretStr(proxy.around(url)), "watchdog_seconds": 3600.0, "lease_seconds": 600.0}
        )
        services = await asyncio.to_thread(build_services, given)
        await services.open()
        try:
            yield services, proxy
        finally:
            await services.close()


async def test_f64_polling_finds_the_work_that_no_notification_told_of(deaf: tuple[Services, DeafProxy]) -> None:
    services, proxy = deaf
    place = await make_place(services)
    await services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b])
    async with working(services):
        # The first round of a worker looks without being told: what comes after the first copy has to be polled for.
        for number in range(2):
            document = (await place.upload(f"{number}".encode() * 1000)).document
            async with asyncio.timeout(15):
                while len(await place.listing(place.b_id)) <= number:
                    await asyncio.sleep(0.05)
            assert await place.read(document.id) == f"{number}".encode() * 1000
        assert proxy.dropped_count >= 1, "the worker would have been told"
    await assert_clean(services)
