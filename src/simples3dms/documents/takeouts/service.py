"""Takeouts: make one, and stream its manifest, from any line on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.db.session import Database
from simples3dms.documents.takeouts import errors, repository
from simples3dms.documents.takeouts.values import Entry, Takeout
from simples3dms.kit.ids import new_id
from simples3dms.storage.migrations import repository as migrations_repository
from simples3dms.storage.placement import repository as placement_repository

_PAGE: Final = 500
BEGINNING: Final = (UUID(int=0), 0)


class Takeouts:
    """The takeouts of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_takeout(self, principal: Principal, tenant_id: UUID) -> Takeout:
        """Draw the line: what was uploaded up to now belongs to the takeout, what comes later does not."""
        async with self._database.tenant(tenant_id) as uow:
            # Uploads that share the placement are waited out, so that nothing below the line is still to come.
            await placement_repository.lock(uow)
            upto_seq = await migrations_repository.last_seq(uow)
            takeout = await repository.insert(uow, new_id(), upto_seq=upto_seq, by=principal.name)
            await record(
                uow,
                principal,
                "takeout.created",
                target_type="takeout",
                target_id=str(takeout.id),
                tenant_id=tenant_id,
            )
            return takeout

    async def list_takeouts(self, tenant_id: UUID, *, after: UUID | None = None, limit: int = 100) -> list[Takeout]:
        """A page, newest first."""
        async with self._database.tenant(tenant_id) as uow:
            return await repository.list_page(uow, after=after, limit=limit)

    async def get_takeout(self, tenant_id: UUID, takeout_id: UUID) -> Takeout:
        """Raises NotFound (`takeout_not_found`)."""
        async with self._database.tenant(tenant_id) as uow:
            takeout = await repository.find(uow, takeout_id)
        if takeout is None:
            raise errors.not_found()
        return takeout

    async def iter_entries(
        self, tenant_id: UUID, takeout: Takeout, *, after: tuple[UUID, int] = BEGINNING
    ) -> AsyncIterator[Entry]:
        """The manifest after this document and version, in their order, each page a unit of work of its own."""
        while True:
            async with self._database.tenant(tenant_id) as uow:
                page = await repository.list_entries(uow, takeout, after=after, limit=_PAGE)
            for entry in page:
                yield entry
            if len(page) < _PAGE:
                return
            after = (page[-1].document, page[-1].version)


def parse_cursor(text: str | None) -> tuple[UUID, int]:
    """`DOCUMENT:VERSION`. Raises Invalid (`takeout_cursor_invalid`)."""
    if text is None:
        return BEGINNING
    document, _, number = text.partition(":")
    try:
        if not number.isascii() or not number.isdecimal() or len(number) > 9:
            raise ValueError
        return UUID(document), int(number)
    except ValueError:
        raise errors.cursor_invalid() from None
