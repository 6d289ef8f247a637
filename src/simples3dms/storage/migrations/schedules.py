"""When a migration moves bytes, and what it does by itself: its automatic steps and its windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.db.session import Database
from simples3dms.storage.migrations import errors, repository, windows
from simples3dms.storage.migrations.values import ENDED, Schedule

_MOST_WINDOWS: Final = 20
_LONGEST_SECONDS: Final = 366 * 86_400


def checked(
    *, automatic_cutover: bool, finalize_after_seconds: int | None, given: Sequence[Mapping[str, Any]]
) -> Schedule:
    """Raises Invalid (`migration_window_invalid`, `migration_finalize_after_invalid`)."""
    if finalize_after_seconds is not None and not 0 <= finalize_after_seconds <= _LONGEST_SECONDS:
        raise errors.finalize_after_invalid()
    if len(given) > _MOST_WINDOWS:
        raise errors.window_invalid(f"there are at most {_MOST_WINDOWS} windows")
    try:
        for window in given:
            windows.parse(window)
    except windows.WindowInvalid as error:
        raise errors.window_invalid(str(error)) from None
    return Schedule(automatic_cutover, finalize_after_seconds, tuple(dict(window) for window in given))


class Schedules:
    """The schedules of all migrations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set_schedule(self, principal: Principal, tenant_id: UUID, migration_id: UUID, schedule: Schedule) -> None:
        """Raises Conflict (`migration_wrong_state`) once the migration has ended. Another `finalize_after_seconds`
        while it soaks counts from now."""
        async with self._database.tenant(tenant_id) as uow:
            row = await repository.lock(uow, migration_id)
            if row is None:
                raise errors.not_found()
            if row.state in ENDED:
                raise errors.wrong_state("be scheduled", row.state)
            await repository.set_schedule(uow, row, schedule)
            await record(
                uow,
                principal,
                "migration.scheduled",
                target_type="migration",
                target_id=str(row.id),
                tenant_id=tenant_id,
                details=schedule.document(),
            )
