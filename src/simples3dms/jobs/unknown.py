"""Jobs whose task this version does not know: a newer one has queued them, and they wait for a worker of its own."""

from __future__ import annotations

from typing import Any, Final

import procrastinate
import structlog
from procrastinate import JobContext
from procrastinate.tasks import Task

from simples3dms.jobqueue.app import put_off

log = structlog.get_logger(__name__)

_LONGEST_DELAY_SECONDS: Final = 60.0
#: About a day. Whoever knows the task finds the work in our own rows after that, too.
_MOST_ATTEMPTS: Final = 1500

AnyTask = Task[Any, Any, Any]


class KnownTasks(dict[str, AnyTask]):
    """The tasks of a worker. The queue would throw away a job whose name it does not find here."""

    def __init__(self, known: dict[str, AnyTask], unknown: AnyTask) -> None:
        super().__init__(known)
        self._unknown = unknown

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name, self._unknown if default is None else default)


def leave_unknown(app: procrastinate.App, queue: str) -> None:
    """Have jobs with names that are not registered by now put off, again and again, instead of lost."""
    app.tasks = KnownTasks(
        app.tasks, Task(_put_off, blueprint=app, name="task.unknown", queue=queue, pass_context=True)
    )


async def _put_off(context: JobContext, **_ids: str) -> None:
    job = context.job
    if job.attempts >= _MOST_ATTEMPTS:
        log.error("job.unknown", task=job.task_name, attempts=job.attempts)
        return
    assert job.id is not None
    delay_seconds = min(_LONGEST_DELAY_SECONDS, 2.0 ** min(job.attempts, 10))
    log.warning("job.left_to_others", task=job.task_name, seconds=delay_seconds)
    await put_off(context.app, job.id, delay_seconds=delay_seconds)
