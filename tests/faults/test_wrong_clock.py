"""F40: a clock that is wrong puts nothing off, and is told from a wrong credential where a store minds it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta

import procrastinate.utils
import pytest
from tests.support import chunked, make_place

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.db.roles import QUEUE_ROLE
from simples3dms.errors import StorageFailed
from simples3dms.providers.base import Expected, StorageProvider
from simples3dms.providers.errors import AccessDenied, ClockSkew
from simples3dms.sandbox.httpfaults import Answer, HttpFaultProxy

pytestmark = pytest.mark.anyio
SKEWED = Answer(
    403,
    {"Content-Type": "application/xml"},
    b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>RequestTimeTooSkewed</Code><Message>The difference between "
    b"the request time and the current time is too large.</Message></Error>",
)
KEYS = {"access_key_id": "made-up", "secret_access_key": "made-up"}


@pytest.mark.parametrize("ahead_minutes", [15, -15, 60, -60])
async def test_f40_what_is_queued_for_later_is_due_by_the_database_s_clock(
    services: Services, monkeypatch: pytest.MonkeyPatch, ahead_minutes: int
) -> None:
    monkeypatch.setattr(procrastinate.utils, "utcnow", lambda: datetime.now(UTC) + timedelta(minutes=ahead_minutes))
    place = await make_place(services)
    async with services.database.platform() as uow:
        await services.queue.defer(uow, "placement.survey", delay_seconds=30, tenant_id=place.tenant_id)
        await uow.execute(f"SET LOCAL ROLE {QUEUE_ROLE}")
        due_in = await uow.scalar("SELECT extract(epoch FROM scheduled_at - now()) FROM procrastinate_jobs")
    assert due_in == 30


@pytest.fixture
def skewed() -> Iterator[HttpFaultProxy]:
    with HttpFaultProxy(9) as proxy:
        proxy.add("", instead=SKEWED)
        yield proxy


async def test_f40_a_store_that_minds_our_clock_is_told_from_a_wrong_credential(
    services: Services, skewed: HttpFaultProxy
) -> None:
    settings = {"endpoint": skewed.url, "region": "us-east-1", "bucket": "documents"}
    with pytest.raises(StorageFailed) as caught:
        await services.stores.add_store(HOST, "skewed", "s3", settings, KEYS)
    assert caught.value.problem_code == "store_clock_skew"
    assert "clock" in caught.value.message
    assert await services.stores.list_stores() == []


async def test_f40_whatever_is_asked_of_it(services: Services, skewed: HttpFaultProxy) -> None:
    """By either of the libraries that sign for us."""
    settings = {"endpoint": skewed.url, "region": "us-east-1", "bucket": "documents"}
    async with services.stores.trying("s3", settings, KEYS, {}, None) as provider:
        calls: dict[str, Callable[[StorageProvider], Awaitable[object]]] = {
            "get": lambda one: one.get("t/x", expected=Expected(1)),
            "put": lambda one: one.put("t/x", b"1"),
            "stream": lambda one: one.put("t/x", chunked(b"1" * 100)),
            "parts": lambda one: one.begin_parts("t/x", size_bytes=10_000_000),
            "check": lambda one: one.check(),
        }
        for name, call in calls.items():
            with pytest.raises(ClockSkew) as caught:
                await call(provider)
            assert not caught.value.retryable, name
        # A HEAD's answer has no body to say more.
        with pytest.raises(AccessDenied):
            await provider.head("t/x")
