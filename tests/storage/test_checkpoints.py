"""Checkpoints reach the tenant's stores, whatever a store does meanwhile, and fsck explains every object."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.support import assert_clean, make_place, working

from simples3dms.audit import chain
from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.crypto.signing import is_signed
from simples3dms.jobs import watchdog

pytestmark = pytest.mark.anyio


async def stored(services: Services, place: Any) -> list[dict[str, Any]]:
    """What the stores hold, by what is in it."""
    found = []
    for store_id in (place.a_id, place.b_id):
        provider = await services.stores.provider(store_id)
        for info in await place.listing(store_id):
            if "/audit/" in info.key:
                async with provider.open(info.key) as reader:
                    body = b"".join([part async for part in reader])
                found.append(chain.parse(body.rstrip(b"\n")))
    return found


async def test_a_checkpoint_is_copied_into_the_tenants_stores(
    services: Services, eventually: Callable[..., Any]
) -> None:
    place = await make_place(services)
    await place.upload(b"one")
    made = await services.audit.create_checkpoint(HOST, place.tenant_id)
    async with working(services):

        async def is_copied() -> bool:
            return len(await stored(services, place)) == 2

        await eventually(is_copied)
    copies = await stored(services, place)
    assert copies[0] == copies[1]
    checkpoint = chain.parse_checkpoint(copies[0])
    assert checkpoint == made
    (key,) = await services.audit.list_keys()
    assert is_signed(key.public_key, chain.checkpoint_message(checkpoint), checkpoint.signature)
    await assert_clean(services)


async def test_a_store_that_fails_is_tried_again_and_holds_up_nothing(
    services: Services, eventually: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = await make_place(services)
    await place.upload(b"one")
    await services.audit.create_checkpoint(HOST, place.tenant_id)
    await services.checkpoints.plan(place.tenant_id, (await services.audit.get_trail(place.tenant_id)).checkpoint_seq)
    provider = await services.stores.provider(place.b_id)

    async def refuse(*_args: Any, **_more: Any) -> None:
        from simples3dms.providers.errors import StoreUnavailable

        raise StoreUnavailable("out of order")

    with monkeypatch.context() as broken:
        broken.setattr(provider, "put", refuse, raising=True)
        await services.checkpoints.copy_due(place.tenant_id)
        assert len(await stored(services, place)) == 1
    await assert_clean(services)
    async with working(services):

        async def is_copied() -> bool:
            return len(await stored(services, place)) == 2

        await eventually(is_copied)
    await assert_clean(services)


async def test_only_an_audit_that_has_grown_gets_the_hourly_checkpoint(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = await make_place(services)
    await place.upload(b"one")
    await services.audit.sealer.seal_all()
    await watchdog.tick(services)
    assert await services.audit.list_checkpoints(place.tenant_id) == [], "an hour has not passed"
    monkeypatch.setattr(services, "checkpoint_hours", 1e-6)
    for _ in range(3):
        await asyncio.sleep(0.05)
        await watchdog.tick(services)
    assert len(await services.audit.list_checkpoints(place.tenant_id)) == 1
    await place.upload(b"two")
    await services.audit.sealer.seal_all()
    await watchdog.tick(services)
    newest, _ = await services.audit.list_checkpoints(place.tenant_id)
    assert newest.seq == (await services.audit.get_trail(place.tenant_id)).last_seq
    assert (await services.audit.verify(place.tenant_id)).is_good


async def test_fsck_tells_of_a_chain_that_is_broken(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    place = await make_place(services)
    await place.upload(b"one")
    await services.audit.create_checkpoint(HOST, place.tenant_id)
    await assert_clean(services)
    monkeypatch.setattr(chain, "_EVENT_TAG", b"another\x00")
    report = await services.upkeep.fsck()
    assert {finding.kind for finding in report.findings} == {"audit_hash_wrong"}
