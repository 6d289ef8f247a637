"""Holds and retention: place, release, lengthen, lift; and the one question that every removal asks first."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.documents import errors as documents_errors
from simples3dms.documents import repository as documents_repository
from simples3dms.documents.holds import errors, repository
from simples3dms.documents.holds.values import Hold, Retention, RetentionMode
from simples3dms.kit.ids import new_id
from simples3dms.kit.texts import LONGEST_REASON, is_line
from simples3dms.storage.locks.service import Locks

_LONGEST_NAME: Final = 100
_MOST_HOLDS: Final = 1000
_LATEST: Final = datetime(9999, 12, 31, tzinfo=UTC)


class Holds:
    """The holds and retentions of all tenants."""

    def __init__(self, database: Database, locks: Locks) -> None:
        self._database = database
        self._locks = locks

    async def place_hold(
        self, principal: Principal, tenant_id: UUID, document_id: UUID, *, name: str, reason: str
    ) -> Hold:
        """Keep a document, in the trash or not, until the hold is released. Any number of holds may be on one.

        Raises Invalid (`hold_invalid`), NotFound (`document_not_found`), Conflict (`hold_exists`).
        """
        _check("name", name, _LONGEST_NAME)
        _check("reason", reason, LONGEST_REASON)
        async with self._database.tenant(tenant_id) as uow:
            await _lock(uow, document_id)
            hold = await repository.insert(uow, new_id(), document_id, name, reason, by=principal.name)
            if hold is None:
                raise errors.exists(name)
            details = {"name": name, "reason": reason, "hold": str(hold.id)}
            await self._locks.want_for_document(uow, document_id)
            await _audit(uow, principal, "hold.placed", document_id, details)
            return hold

    async def release_hold(
        self, principal: Principal, tenant_id: UUID, document_id: UUID, hold_id: UUID, *, reason: str
    ) -> Hold:
        """End a hold; the document may still be kept by others, or by a retention.

        Raises Invalid (`hold_invalid`), NotFound (`document_not_found`, `hold_not_found`), Conflict (`hold_released`).
        """
        _check("reason", reason, LONGEST_REASON)
        async with self._database.tenant(tenant_id) as uow:
            await _lock(uow, document_id)
            found = await repository.find(uow, document_id, hold_id)
            if found is None:
                raise errors.not_found()
            hold = await repository.release(uow, hold_id, reason, by=principal.name)
            if hold is None:
                raise errors.released()
            await repository.forget_passing(uow, document_id)
            details = {"name": hold.name, "reason": reason, "hold": str(hold.id)}
            await self._locks.want_for_document(uow, document_id)
            await _audit(uow, principal, "hold.released", document_id, details)
            return hold

    async def list_holds(self, tenant_id: UUID, document_id: UUID) -> list[Hold]:
        """All holds of a document, released ones too, oldest first; at most a thousand."""
        async with self._database.tenant(tenant_id) as uow:
            await _get_retention(uow, document_id)
            return await repository.list_of_document(uow, document_id, limit=_MOST_HOLDS)

    async def list_tenant_holds(self, tenant_id: UUID, *, after: UUID | None = None, limit: int = 100) -> list[Hold]:
        """A page of the holds in force in a tenant, oldest first."""
        async with self._database.tenant(tenant_id) as uow:
            return await repository.list_page(uow, after=after, limit=limit)

    async def get_retention(self, tenant_id: UUID, document_id: UUID) -> Retention:
        async with self._database.tenant(tenant_id) as uow:
            return await _get_retention(uow, document_id)

    async def set_retention(
        self, principal: Principal, tenant_id: UUID, document_id: UUID, *, until: datetime, mode: RetentionMode
    ) -> Retention:
        """Retain a document until then. Never shorter and never weaker than what is in force.

        Raises Invalid (`retention_invalid`), NotFound (`document_not_found`), Conflict (`retention_not_lengthened`,
        `retention_locked`).
        """
        async with self._database.tenant(tenant_id) as uow:
            before = await _lock(uow, document_id)
            if until > _LATEST or not await repository.is_future(uow, until):
                raise errors.not_later()
            if before.is_retained and before.retain_until is not None:
                if before.mode == RetentionMode.COMPLIANCE and mode is not RetentionMode.COMPLIANCE:
                    raise errors.never_shortened(before.retain_until)
                if until < before.retain_until:
                    raise errors.not_lengthened(before.retain_until)
            await repository.set_retention(uow, document_id, until, mode)
            details = {"until": until.isoformat(), "mode": str(mode), "before": _told(before)}
            await self._locks.want_for_document(uow, document_id)
            await _audit(uow, principal, "retention.set", document_id, details)
            return await _get_retention(uow, document_id)

    async def lift_retention(
        self, principal: Principal, tenant_id: UUID, document_id: UUID, *, until: datetime | None, reason: str
    ) -> Retention:
        """Shorten a retention of the mode governance, or (None) end it. For owners, with a reason.

        Raises Kept (`retention_locked`) for one of the mode compliance, whoever asks; Invalid, NotFound.
        """
        _check("reason", reason, LONGEST_REASON)
        async with (
            refusals(self._database, principal, tenant_id, document_id, "retention.lifted"),
            self._database.tenant(tenant_id) as uow,
        ):
            before = await _lock(uow, document_id)
            if before.is_retained and before.retain_until is not None:
                if before.mode == RetentionMode.COMPLIANCE:
                    raise errors.never_shortened(before.retain_until)
                if until is not None and until >= before.retain_until:
                    raise errors.not_shorter()
                await repository.set_retention(uow, document_id, until, None if until is None else before.mode)
                details = {"until": until and until.isoformat(), "before": _told(before), "reason": reason}
                await self._locks.want_for_document(uow, document_id)
                await _audit(uow, principal, "retention.lifted", document_id, details)
            return await _get_retention(uow, document_id)


async def require_free(uow: UnitOfWork, document_id: UUID) -> None:
    """Raise Kept (`document_held`, `document_retained`) if anything keeps a document that the caller has locked."""
    found = await repository.find_retention(uow, document_id)
    if found is None:
        return
    if found.hold_count:
        raise errors.held()
    if found.is_retained and found.retain_until is not None and found.mode is not None:
        raise errors.retained(found.retain_until, found.mode)


async def is_free(uow: UnitOfWork, document_id: UUID) -> bool:
    """Whether nothing keeps the document, as far as can be seen without its lock."""
    found = await repository.find_retention(uow, document_id)
    return found is None or not found.is_kept


async def pass_over(database: Database, principal: Principal, tenant_id: UUID, document_id: UUID) -> None:
    """Record, once, that a document in the trash was due and stayed because something keeps it."""
    async with database.tenant(tenant_id) as uow:
        found = await repository.find_retention(uow, document_id)
        if found is not None and found.is_kept and await repository.note_passing(uow, document_id):
            details = {"code": "document_held" if found.hold_count else "document_retained"}
            await _audit(uow, principal, "document.purged", document_id, details, outcome="refused")


@asynccontextmanager
async def refusals(
    database: Database, principal: Principal, tenant_id: UUID, document_id: UUID, action: str
) -> AsyncIterator[None]:
    """Record what is refused because something keeps the document: the refused unit of work itself is undone."""
    try:
        yield
    except errors.Kept as failure:
        async with database.tenant(tenant_id) as uow:
            await _audit(uow, principal, action, document_id, {"code": failure.problem_code}, outcome="refused")
        raise


async def _lock(uow: UnitOfWork, document_id: UUID) -> Retention:
    if await documents_repository.lock(uow, document_id) is None:
        raise documents_errors.not_found()
    return await _get_retention(uow, document_id)


async def _get_retention(uow: UnitOfWork, document_id: UUID) -> Retention:
    found = await repository.find_retention(uow, document_id)
    if found is None:
        raise documents_errors.not_found()
    return found


def _told(retention: Retention) -> dict[str, str] | None:
    if retention.retain_until is None or retention.mode is None:
        return None
    return {"until": retention.retain_until.isoformat(), "mode": retention.mode}


def _check(field: str, text: str, longest: int) -> None:
    if not is_line(text, longest=longest):
        raise errors.text_invalid(field, longest)


async def _audit(
    uow: UnitOfWork,
    principal: Principal,
    action: str,
    document_id: UUID,
    details: Mapping[str, object],
    *,
    outcome: str = "done",
) -> None:
    await record(
        uow,
        principal,
        action,
        target_type="document",
        target_id=str(document_id),
        tenant_id=uow.tenant_id,
        outcome=outcome,
        details=details,
    )
