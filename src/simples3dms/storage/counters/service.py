"""Counters: put right, and folded."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from simples3dms.db.session import Database
from simples3dms.storage.counters import repository
from simples3dms.tenants import repository as tenants_repository

_PAGE: Final = 500
_FOLD: Final = 20_000


class Counters:
    """The counters of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def fold(self) -> None:
        """Add up what has come since, so that looks at the numbers stay quick. For the watchdog."""
        async with self._database.platform() as uow:
            await repository.fold(uow, limit=_FOLD)

    async def recount(self) -> int:
        """Put the counters of all tenants right, beside whatever else goes on; how many numbers were wrong."""
        wrong = 0
        after: UUID | None = None
        while True:
            async with self._database.platform() as uow:
                page = await tenants_repository.list_page(uow, after=after, limit=_PAGE)
            for tenant in page:
                async with self._database.tenant(tenant.id) as uow:
                    wrong += await repository.correct(uow)
            if len(page) < _PAGE:
                return wrong
            after = page[-1].id
