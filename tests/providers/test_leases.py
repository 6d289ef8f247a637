"""Nothing is changed at a store by work whose claim may be over, whatever keeps it from hearing of that."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.providers.layered import down, layer, read, stack

from simples3dms.kit.leases import Lease, LeaseLost
from simples3dms.kit.streams import heartbeat
from simples3dms.providers.base import ObjectRef
from simples3dms.providers.layers.fault import Fault, FaultLayer

pytestmark = pytest.mark.anyio


async def test_nothing_is_changed_under_a_claim_that_may_be_over() -> None:
    provider = stack(Fault(times=0))
    await provider.put("x", b"1")
    old = time.monotonic() - 51  # of 60 seconds the last sixth is for what is on its way
    with Lease(60, asked_at=old):
        for change in (
            provider.put("x", b"2"),
            provider.delete([ObjectRef("x")]),
            provider.discard("x"),
            provider.begin_parts("y"),
        ):
            with pytest.raises(LeaseLost):
                await change
        assert await read(provider, "x") == b"1"
        with Lease(60), pytest.raises(LeaseLost):
            await provider.discard("x")  # the claim around it is over
    with Lease(60, asked_at=time.monotonic() - 40):
        await provider.discard("x")


async def test_a_repeat_is_a_change_too() -> None:
    with Lease(60) as lease:

        def fail_late() -> Exception:
            lease.renew(time.monotonic() - 60)
            return down()

        provider = stack(Fault("delete", fail_late), retry_attempts=3)
        with pytest.raises(LeaseLost):
            await provider.delete([ObjectRef("x")])
    assert layer(provider, FaultLayer).operations == ["delete"]  # type: ignore[attr-defined]


async def test_a_beat_that_does_not_come_back_ends_the_claim_in_time() -> None:
    never = asyncio.Event()
    with pytest.raises(LeaseLost):
        async with asyncio.timeout(10), heartbeat(never.wait, lease_seconds=0.3):
            await never.wait()
