"""The Procrastinate app, and `defer`: put a job into the queue inside the caller's unit of work."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from uuid import UUID

import procrastinate
import psycopg
from procrastinate import exceptions
from psycopg.conninfo import make_conninfo

from simples3dms.db.roles import QUEUE_ROLE
from simples3dms.db.session import UnitOfWork

#: Another one with its lock that waits already is as good.
_PUT_OFF: Final = """INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args,
    scheduled_at, attempts)
  SELECT queue_name, task_name, priority, lock, queueing_lock, args,
    now() + make_interval(secs => %(delay)s::float8), attempts + 1
  FROM procrastinate_jobs WHERE id = %(id)s
  ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING"""

_LATER: Final = "SELECT now() + make_interval(secs => %s::float8)"


class JobQueue:
    """One process's door to the queue. `defer` needs no open connection of its own; a worker opens the app."""

    def __init__(self, url: str) -> None:
        self._conninfo = make_conninfo(url, options=f"-c role={QUEUE_ROLE}", application_name="simples3dms-queue")
        self.app = self.new_app()

    def new_app(self) -> procrastinate.App:
        """An app with a connector of its own, not opened: a worker opens one for each time it starts."""
        connector = procrastinate.PsycopgConnector(conninfo=self._conninfo, min_size=1, max_size=8)
        return procrastinate.App(connector=connector)

    async def drop_stalled(self, *, older_than_seconds: float) -> None:
        """Forget jobs whose worker is gone: what they were for stands in our own rows, and is queued from there."""
        async with await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True) as connection:
            await connection.execute(
                """DELETE FROM procrastinate_jobs j WHERE j.status = 'doing' AND NOT EXISTS (
                     SELECT 1 FROM procrastinate_workers w WHERE w.id = j.worker_id
                       AND w.last_heartbeat > now() - make_interval(secs => %s::float8))""",
                [older_than_seconds],
            )

    async def list_doing(self, worker_id: int) -> list[int]:
        """The ids of the jobs that, as the queue has it, this worker is at."""
        async with await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True) as connection:
            cursor = await connection.execute(
                "SELECT id FROM procrastinate_jobs WHERE worker_id = %s AND status = 'doing'", [worker_id]
            )
            return [int(row[0]) for row in await cursor.fetchall()]

    async def drop_lost(self, worker_id: int, job_ids: Collection[int]) -> None:
        """Forget jobs that the queue takes for being run by this worker, which knows better."""
        async with await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True) as connection:
            await connection.execute(
                "DELETE FROM procrastinate_jobs WHERE worker_id = %s AND status = 'doing' AND id = ANY(%s)",
                [worker_id, list(job_ids)],
            )

    async def defer(
        self,
        uow: UnitOfWork,
        task: str,
        *,
        once: str | None = None,
        delay_seconds: int = 0,
        **ids: UUID | int | str,
    ) -> None:
        """Queue `task` (`noun.verb`) with these ids when, and only when, the unit of work commits.

        With `once`, at most one such job waits at a time: another call while it does changes nothing.
        """
        args = {name: str(value) for name, value in ids.items()}
        # By the database's clock, which hands jobs out, too: a process an hour ahead would put this off for an hour.
        due_at = await uow.scalar(_LATER, [delay_seconds]) if delay_seconds else None
        async with uow.as_queue() as connection:
            # The external connection keeps the job inside our transaction; it skips the connector's own pool.
            task_config = self.app.configure_task(
                task,
                queue="simples3dms",
                queueing_lock=once,
                schedule_at=due_at,
                connection=connection,
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


async def put_off(app: procrastinate.App, job_id: int, *, delay_seconds: float) -> None:
    """Queue a job that is being run once more, for later: it may end then as if it were done."""
    await app.connector.execute_query_async(_PUT_OFF, id=job_id, delay=delay_seconds)
