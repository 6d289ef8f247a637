"""A store's limits, divided among the processes that use it: each takes the same share of what all may do together."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

import structlog

from simples3dms.db.session import Database
from simples3dms.errors import Unavailable
from simples3dms.kit.ids import new_id
from simples3dms.storage.stores import repository
from simples3dms.storage.stores.engine import ProviderPool

log = structlog.get_logger(__name__)

_EVERY_SECONDS: Final = 3.0
#: A process that has not said for so long that it uses a store, has its share taken by the others.
_FORGOTTEN_SECONDS: Final = 10.0


class Budgets:
    """This process's shares. A store's requests, bytes and calls at a time are one budget, wherever they are spent.

    Each process says every few seconds which stores it uses, and asks who else does. A process that uses none of a
    store's budget leaves it to the others; when it begins again it begins with the share that it will have, so that for
    the seconds until the others know, no more than that share is spent too much.
    """

    def __init__(self, database: Database, pool: ProviderPool) -> None:
        self._database = database
        self._pool = pool
        self._process_id = new_id()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Idempotent."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Leave this process's shares to the others. Idempotent."""
        if self._task is None:
            return
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        with suppress(Unavailable):
            async with self._database.platform() as uow:
                await repository.forget_user(uow, self._process_id)

    async def divide(self) -> None:
        """Say which stores are used here, and take this process's share of each. Raises Unavailable."""
        used = self._pool.take_used()
        if not used:
            return
        async with self._database.platform() as uow:
            await repository.note_users(
                uow, self._process_id, [store_id for store_id, is_used in used.items() if is_used]
            )
            others = await repository.count_other_users(uow, self._process_id, list(used), seconds=_FORGOTTEN_SECONDS)
        for store_id in used:
            self._pool.set_share(store_id, 1 / (1 + others.get(store_id, 0)))

    async def _run(self) -> None:
        while True:
            try:
                await self.divide()
            except Unavailable:
                log.warning("budgets.wait", reason="database unavailable")
            except Exception:
                log.exception("budgets.failed")
            await asyncio.sleep(_EVERY_SECONDS)
