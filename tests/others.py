"""What makes a process of our program (`tests.programs.start(first=...)`) another than it would be."""

from __future__ import annotations

from collections.abc import Callable
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
