"""What makes a process of our program (`tests.programs.start(first=...)`) another than it would be."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import procrastinate

#: What a worker of an older version does not know yet.
NEW_TASKS = ("chunk.run", "transfer.run")


def older_worker() -> None:
    """It knows nothing of the tasks that a later version has come to queue."""
    register = procrastinate.App.task

    def known(app: procrastinate.App, *, name: str, **how: Any) -> Callable[..., Any]:
        return (lambda work: work) if name in NEW_TASKS else register(app, name=name, **how)

    procrastinate.App.task = known  # type: ignore[method-assign, assignment]


def wrong_clock(seconds: float) -> None:
    """Its clock is so far ahead: Python's, which everything here asks that is not the database or written in Rust."""
    shift, real_time, real_datetime = timedelta(seconds=seconds), time.time, datetime

    class _AsReal(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real_datetime)

    class Shifted(real_datetime, metaclass=_AsReal):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return real_datetime.now(tz) + shift

        @classmethod
        def utcnow(cls) -> Any:
            return real_datetime.now(UTC).replace(tzinfo=None) + shift

    def shifted_time() -> float:
        return real_time() + seconds

    wrong: dict[int, Any] = {id(real_datetime): Shifted, id(real_time): shifted_time}
    for module in list(sys.modules.values()):
        for name, value in list(vars(module).items()):
            if id(value) in wrong:
                setattr(module, name, wrong[id(value)])
