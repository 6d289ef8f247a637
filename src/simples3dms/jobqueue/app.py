"""The Procrastinate app, and `defer`: put a job into the queue inside the caller's unit of work."""

from __future__ import annotations

from uuid import UUID

import procrastinate
from procrastinate import exceptions
from psycopg.conninfo import make_conninfo

from simples3dms.db.roles import QUEUE_ROLE
from simples3dms.db.session import UnitOfWork


class JobQueue:
    """One process's door to the queue. `defer` needs no open connection of its own; a worker opens the app."""

    def __init__(self, url: str) -> None:
        conninfo = make_conninfo(url, options=f"-c role={QUEUE_ROLE}", application_name="simples3dms-queue")
        connector = procrastinate.PsycopgConnector(conninfo=conninfo, min_size=1, max_size=8)
        self.app = procrastinate.App(connector=connector)

    async def defer(
        self, uow: UnitOfWork, task: str, *, once: str | None = None, delay_seconds: int = 0, **ids: UUID | int | str
    ) -> None:
        """Queue `task` (`noun.verb`) with these ids when, and only when, the unit of work commits.

        With `once`, at most one such job waits at a time: another call while it does changes nothing.
        """
        args = {name: str(value) for name, value in ids.items()}
        schedule = {"seconds": delay_seconds} if delay_seconds else None
        async with uow.as_queue() as connection:
            # The external connection keeps the job inside our transaction; it skips the connector's own pool.
            task_config = self.app.configure_task(
                task, queue="simples3dms", queueing_lock=once, schedule_in=schedule, connection=connection
            )
            if once is None:
                await task_config.defer_async(**args)
                return
            try:
                # A savepoint: the queueing lock is a unique index, whose violation must not undo the caller's work.
                async with connection.transaction():
                    await task_config.defer_async(**args)
            except exceptions.AlreadyEnqueued:
                return
