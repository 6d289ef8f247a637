"""Erase a person, and say what is held about one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.compliance.persons import errors, repository
from simples3dms.compliance.persons.values import Erasure, Person
from simples3dms.context import Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.documents.holds.errors import Kept
from simples3dms.documents.service import Documents
from simples3dms.errors import Conflict, NotFound
from simples3dms.identity.service import keep_an_operator, require_held_of
from simples3dms.jobqueue.app import JobQueue
from simples3dms.kit.ids import new_id
from simples3dms.kit.texts import is_line
from simples3dms.tenants.service import Tenants, require_operator

_PAGE: Final = 500
_MOST_ROWS: Final = 1000
_LEASE_SECONDS: Final = 60.0
#: What an erasure leaves, and why: part of each certificate.
_STAYS: Final = (
    "audit events name who acted: they are kept to account for what was done, as long as the trail is kept",
    "holds, takeouts, erasures and deletions of tenants name who placed or asked for them, for the same reason",
    "backups and takeouts made before",
)


class Persons:
    """The people of this installation, as the law sees them."""

    def __init__(self, database: Database, queue: JobQueue, tenants: Tenants, documents: Documents) -> None:
        self._database = database
        self._queue = queue
        self._tenants = tenants
        self._documents = documents

    async def request_erasure(
        self, principal: Principal, user: str, *, reason: str, documents: Sequence[tuple[str, UUID]] = ()
    ) -> Erasure:
        """Erase a user's account now, and the documents that are named (tenant, document) soon. For operators.

        The account keeps its id and nothing else; nobody can sign in as it. Documents that something keeps stay, and
        the certificate says so. Raises NotFound (`user_not_found`, `tenant_not_found`), Invalid, Conflict
        (`erasure_of_oneself`, `last_operator`), Forbidden (`rights_exceed_own`).
        """
        require_operator(principal)
        if not is_line(reason):
            raise errors.reason_invalid()
        named = [
            {"tenant_id": str((await self._tenants.get_tenant(tenant)).id), "document_id": str(document_id)}
            for tenant, document_id in documents
        ]
        async with self._database.platform() as uow:
            # The operators first, and then the person, as wherever both are locked.
            await keep_an_operator(uow, (await _get(uow, user)).id)
            person = await _get(uow, user, lock=True)
            if person.id == principal.id:
                raise errors.oneself()
            require_held_of(principal, person)
            account = await _erase_account(uow, person)
            erasure = await repository.insert(
                uow, new_id(), person.id, reason=reason, by=principal.name, account=account, documents=named
            )
            details = {"erasure": str(erasure.id), "reason": reason, **account}
            await record(uow, principal, "user.erased", target_type="user", target_id=str(person.id), details=details)
            await self.defer(uow, erasure.id)
            return erasure

    async def defer(self, uow: UnitOfWork, erasure_id: UUID) -> None:
        await self._queue.defer(uow, "erasure.run", once=f"erasure:{erasure_id}", erasure_id=erasure_id)

    async def run_erasure(self, erasure_id: UUID) -> None:
        """Purge the named documents, as anybody would, and write the certificate. May be run any number of times."""
        async with self._database.platform() as uow:
            erasure = await repository.claim(uow, erasure_id, lease_seconds=_LEASE_SECONDS)
        if erasure is None:
            return
        actor = Principal(None, erasure.requested_by_name)
        outcomes = [
            await self._purge(actor, UUID(one["tenant_id"]), UUID(one["document_id"])) for one in erasure.documents
        ]
        certificate = {
            "erasure_id": str(erasure.id),
            "user_id": str(erasure.user_id),
            "reason": erasure.reason,
            "requested_at": erasure.requested_at.isoformat(),
            "requested_by": erasure.requested_by_name,
            "account": erasure.account,
            "documents": [{**one, **outcome} for one, outcome in zip(erasure.documents, outcomes, strict=True)],
            "stays": list(_STAYS),
        }
        async with self._database.platform() as uow:
            if await repository.finish(uow, erasure_id, certificate):
                await record(
                    uow,
                    actor,
                    "erasure.finished",
                    target_type="user",
                    target_id=str(erasure.user_id),
                    details=certificate,
                )

    async def _purge(self, actor: Principal, tenant_id: UUID, document_id: UUID) -> dict[str, str]:
        try:
            await self._documents.delete_document(actor, tenant_id, document_id)
            await self._documents.purge_document(actor, tenant_id, document_id)
        except Kept as kept:
            return {"outcome": "kept", "code": kept.problem_code}
        except NotFound:
            return {"outcome": "gone"}
        except Conflict as conflict:
            # Restored by somebody between the two steps: it stays, and that is told.
            return {"outcome": "kept", "code": conflict.problem_code}
        return {"outcome": "purged"}

    async def get_erasure(self, erasure_id: UUID) -> Erasure:
        """Raises NotFound (`erasure_not_found`)."""
        async with self._database.platform() as uow:
            erasure = await repository.find(uow, erasure_id)
        if erasure is None:
            raise errors.not_found()
        return erasure

    async def list_erasures(self, *, after: UUID | None = None, limit: int = 100) -> list[Erasure]:
        """A page, newest first."""
        async with self._database.platform() as uow:
            return await repository.list_page(uow, after=after, limit=limit)

    async def find_person(self, user: str) -> Person:
        """By id or address. Raises NotFound (`user_not_found`)."""
        async with self._database.platform() as uow:
            return await _get(uow, user)

    async def iter_report(
        self, principal: Principal, person: Person, *, for_oneself: bool = False
    ) -> AsyncIterator[dict[str, Any]]:
        """All that is held about a person, piece by piece, each with its `kind`; a last one says that it is whole.

        That a report was made is an event itself. Of a table with more than a thousand rows of theirs, the first are
        told, and that there are more (`shortened`). `for_oneself` leaves out who else acted: that is about others.
        """
        async with self._database.platform() as uow:
            await record(uow, principal, "report.made", target_type="user", target_id=str(person.id))
            memberships = await repository.list_memberships(uow, person.id, limit=_MOST_ROWS + 1)
            references = await repository.list_references(uow)
            invitations = await repository.list_invitations(uow, person.email, limit=_MOST_ROWS + 1)
        yield {"kind": "account", **asdict(person)}
        for piece in _told("members", ({"kind": "membership", **asdict(one)} for one in memberships)):
            yield piece
        for piece in _told("invitations", (_invitation(one, for_oneself=for_oneself) for one in invitations)):
            yield piece
        for reference in references:
            async with self._database.platform() as uow:
                rows = await repository.list_rows(uow, reference, person.id, limit=_MOST_ROWS + 1)
            for piece in _told(
                reference.table, ({"kind": "row", "table": reference.table, "row": row} for row in rows)
            ):
                yield piece
        async for piece in self._iter_acts(person, for_oneself=for_oneself):
            yield piece
        async for piece in self._iter_uploads(person):
            yield piece
        yield {"kind": "end"}

    async def _iter_acts(self, person: Person, *, for_oneself: bool) -> AsyncIterator[dict[str, Any]]:
        for by in (True, False):
            after: UUID | None = None
            while True:
                async with self._database.platform() as uow:
                    page = await repository.list_acts(uow, person.id, by=by, after=after, limit=_PAGE)
                for act in page:
                    told = {"kind": "act_by" if by else "act_about", **asdict(act)}
                    if for_oneself and act.principal_id != person.id:
                        told |= {"principal_id": None, "principal_name": "somebody else"}
                    yield told
                if len(page) < _PAGE:
                    break
                after = page[-1].id

    async def _iter_uploads(self, person: Person) -> AsyncIterator[dict[str, Any]]:
        after = (UUID(int=0), UUID(int=0), 0)
        while True:
            async with self._database.platform() as uow:
                page = await repository.list_uploads(uow, person.id, after=after, limit=_PAGE)
            for version in page:
                yield {"kind": "upload", **asdict(version)}
            if len(page) < _PAGE:
                return
            after = (page[-1].tenant_id, page[-1].document_id, page[-1].number)


def _told(table: str, pieces: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The first of them, and that there are more."""
    for number, piece in enumerate(pieces):
        if number == _MOST_ROWS:
            yield {"kind": "shortened", "table": table}
            return
        yield piece


def _invitation(row: dict[str, Any], *, for_oneself: bool) -> dict[str, Any]:
    """Who invited them is about somebody else."""
    return {"kind": "invitation", **row} | ({"invited_by": None} if for_oneself else {})


async def _get(uow: UnitOfWork, user: str, *, lock: bool = False) -> Person:
    try:
        user_id, email = UUID(user), None
    except ValueError:
        user_id, email = None, user.strip().lower()
    # What the driver can't send names nobody.
    if email is not None and ("\0" in email or not email.isprintable()):
        raise errors.user_not_found()
    person = await repository.find_person(uow, user_id=user_id, email=email, lock=lock)
    if person is None:
        raise errors.user_not_found()
    return person


async def _erase_account(uow: UnitOfWork, person: Person) -> dict[str, Any]:
    """Remove all that hangs on the account; what was removed, by table, and which tenants have no owner now."""
    ownerless = await repository.list_ownerless(uow, person.id)
    removed: dict[str, int] = {}
    for reference in await repository.list_references(uow):
        count = await repository.remove_rows(uow, reference, person.id)
        if count:
            removed[reference.table] = removed.get(reference.table, 0) + count
    for table, count in (await repository.remove_address(uow, person.email)).items():
        removed[table] = removed.get(table, 0) + count
    await repository.bury_account(uow, person.id)
    return {"user_id": str(person.id), "removed": removed, "ownerless_tenants": ownerless}
