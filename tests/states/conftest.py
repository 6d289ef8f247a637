"""The state machine's services: played processes, memory stores, logging as the commands set it up."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog
from tests.conftest import Cluster
from tests.states.life import TenantLife
from tests.states.processes import played

from simples3dms.bootstrap import build_services
from simples3dms.db.provision import Provisioned
from simples3dms.settings import Settings
from simples3dms.storage.migrations import service as migrations_service
from simples3dms.telemetry.logging import configure_logging


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the program logs."""
    root = logging.getLogger()
    handlers, level, before = root.handlers[:], root.level, structlog.get_config()
    buffer = io.StringIO()
    monkeypatch.setattr(sys, "stderr", buffer)
    configure_logging("debug", "text")
    yield buffer
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


@pytest.fixture
def machine(
    cluster: Cluster,
    urls: Provisioned,
    settings: Settings,
    log: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    """What the state machine works with. Cut-overs wait for nobody: what they would wait for is drawn."""
    monkeypatch.setattr(migrations_service, "_CUT_OVER_TRIES", 2)
    monkeypatch.setattr(migrations_service, "_CUT_OVER_WAIT_SECONDS", 0)
    changes = {"chunk_blobs": 2, "retry_base_seconds": 0.01, "lease_seconds": 30, "database_pool": 16}
    loop = asyncio.new_event_loop()
    services = build_services(settings.model_copy(update=changes))
    loop.run_until_complete(services.open())
    TenantLife.services, TenantLife.loop, TenantLife.log = services, loop, log
    TenantLife.superuser, TenantLife.owner_url = cluster.superuser_dsn(urls), urls.owner_url
    with played(lambda: TenantLife.stage, monkeypatch):
        yield
    loop.run_until_complete(services.close())
    loop.close()
