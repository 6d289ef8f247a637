"""Which jobs a worker is at, for the rows of the queue that say so of others: the word of their end was lost.

The queue closes a job's row over a connection that may break just then, and takes the job for one that runs as long as
its worker lives. (A row whose worker is gone is `JobQueue.drop_stalled`'s.)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from procrastinate import JobContext
from procrastinate.worker import Worker

from simples3dms.jobqueue.app import JobQueue

log = structlog.get_logger(__name__)


class RunningJobs:
    """The jobs of one worker. Hand `around` to it, and call `drop_lost` now and then."""

    def __init__(self) -> None:
        self._worker_id: int | None = None
        self._ids: set[int] = set()
        #: Since when each is over, or has been seen in the queue though it does not run.
        self._over_since: dict[int, float] = {}

    async def around(self, call_next: Callable[[], Awaitable[Any]], context: JobContext, worker: Worker) -> Any:
        """Run a job, and know of it meanwhile."""
        self._worker_id = worker.worker_id
        whole = asyncio.current_task()
        assert context.job.id is not None
        assert whole is not None
        whole.add_done_callback(_look_at_end)
        self._ids.add(context.job.id)
        try:
            return await call_next()
        finally:
            self._ids.discard(context.job.id)
            self._over_since[context.job.id] = time.monotonic()

    async def drop_lost(self, queue: JobQueue, *, after_seconds: float) -> None:
        """Forget the rows of jobs that have been over for so long. What they were for is queued anew from our own."""
        if self._worker_id is None:
            return
        doing = await queue.list_doing(self._worker_id)
        now = time.monotonic()
        self._over_since = {id_: self._over_since.get(id_, now) for id_ in doing if id_ not in self._ids}
        lost = [id_ for id_, since in self._over_since.items() if now - since >= after_seconds]
        if lost:
            log.warning("job.end_was_lost", count=len(lost))
            await queue.drop_lost(self._worker_id, lost)


def _look_at_end(whole: asyncio.Task[Any]) -> None:
    """Tell of an end that could not be noted, which nobody else asks for."""
    error = None if whole.cancelled() else whole.exception()
    if error is not None:
        log.warning("job.end_not_noted", error=type(error).__name__)
