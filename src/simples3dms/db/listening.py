"""Listen to NOTIFY on a connection of one's own: told at once, where a poll would find out later.

A notification carries nothing and may be lost (a pooler in between, a restart): whoever listens looks by itself, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import psycopg
import structlog
from psycopg import sql

log = structlog.get_logger(__name__)

_PAUSE_SECONDS: Final = 5.0
#: Several notifications in a row are one.
_TOGETHER_SECONDS: Final = 0.05


class Listener:
    """Calls `on_change` after each notification, and after each connect: something may have been missed before."""

    def __init__(self, url: str, channel: str, on_change: Callable[[], Awaitable[None]]) -> None:
        self._url = url
        self._channel = channel
        self._on_change = on_change
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Idempotent."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Idempotent."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, application_name="simples3dms-listener"
                ) as connection:
                    await self._listen(connection)
            except psycopg.Error:
                log.info("listener.reconnects")
            except Exception:
                log.exception("listener.failed")
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _listen(self, connection: psycopg.AsyncConnection[Any]) -> None:
        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
        await self._on_change()
        while True:
            async for _ in connection.notifies(stop_after=1):
                pass
            async for _ in connection.notifies(timeout=_TOGETHER_SECONDS):
                pass
            await self._on_change()
