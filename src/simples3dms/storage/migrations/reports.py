"""A migration's report: for each item, what the records prove of it, signed. It is read page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from simples3dms.audit import chain
from simples3dms.audit.service import Audit
from simples3dms.db.session import Database
from simples3dms.storage.migrations import errors, repository
from simples3dms.storage.migrations.evidence import FORMAT, Tally
from simples3dms.storage.migrations.values import EvidenceRow, MigrationRow
from simples3dms.storage.placement import repository as placement_repository
from simples3dms.storage.placement.values import match_document

_PAGE: Final = 500
#: Of a blob that several versions share, so many are named.
_MOST_DOCUMENTS: Final = 20


class Reports:
    """The reports of all migrations. They are made from the records as they are now, and not kept."""

    def __init__(self, database: Database, audit: Audit) -> None:
        self._database = database
        self._audit = audit

    async def open_report(self, tenant_id: UUID, migration_id: UUID) -> AsyncIterator[bytes]:
        """The lines of the report. Raises Conflict (`migration_wrong_state`) before it was started."""
        async with self._database.tenant(tenant_id) as uow:
            row = await repository.find(uow, migration_id)
            if row is None:
                raise errors.not_found()
            if row.started_at is None:
                raise errors.wrong_state("be reported", row.state)
            names = {grant.store_id: grant.name for grant in await placement_repository.list_grants(uow)}
            upto_seq = await repository.last_seq(uow)
        return self._lines(row, names, upto_seq)

    async def _lines(self, row: MigrationRow, names: dict[UUID, str], upto_seq: int) -> AsyncIterator[bytes]:
        tally = Tally(row.grade)
        yield _line(tally.link({"report": _header(row, names)}))
        after: int | None = 0
        while after is not None:
            async with self._database.tenant(row.tenant_id) as uow:
                end = await repository.find_page_end(uow, after_seq=after, upto_seq=upto_seq, limit=_PAGE)
                page = await repository.list_evidence(
                    uow, row, after_seq=after, upto_seq=end or after, documents=_MOST_DOCUMENTS
                )
            for found in page:
                item = _item(found, row, names)
                tally.add(item)
                yield _line(tally.link({"item": item, "n": tally.items}))
            after = end
        unsigned = {"format": FORMAT, "migration_id": str(row.id), "tenant_id": str(row.tenant_id), **tally.totals()}
        yield _line({"trailer": await self._audit.sign_document(unsigned)})


def _line(document: dict[str, Any]) -> bytes:
    return chain.canonical(document).encode("ascii") + b"\n"


def _header(row: MigrationRow, names: dict[UUID, str]) -> dict[str, Any]:
    return {
        "cut_over_at": _time(row.cut_over_at),
        "finished_at": _time(row.finished_at),
        "format": FORMAT,
        "made_at": _time(row.read_at),
        "migration_id": str(row.id),
        "only": None if row.only is None else match_document(row.only),
        "proof": row.proof,
        "source": names.get(row.source_store_id, str(row.source_store_id)),
        "source_store_id": str(row.source_store_id),
        "started_at": _time(row.started_at),
        "state": str(row.state),
        "target": names.get(row.target_store_id, str(row.target_store_id)),
        "target_store_id": str(row.target_store_id),
        "tenant_id": str(row.tenant_id),
    }


def _item(found: EvidenceRow, row: MigrationRow, names: dict[UUID, str]) -> dict[str, Any]:
    source, target = (names.get(one, str(one)) for one in (row.source_store_id, row.target_store_id))
    is_proven = found.target_state == "live" and found.evidence is not None
    return {
        "blob_id": str(found.blob_id),
        "documents": [{"document_id": one["document_id"], "version": one["version"]} for one in found.documents],
        "proof": {"at": _time(found.evidence_at), "kind": found.evidence} if is_proven else None,
        "sha256": found.digest.hex(),
        "size_bytes": found.size_bytes,
        "source": _place(source, found.source_key, found.source_state),
        "target": _place(target, found.target_key, found.target_state),
        "waived": None
        if found.waived_reason is None
        else {"at": _time(found.waived_at), "reason": found.waived_reason},
    }


def _place(store: str, key: str | None, state: str | None) -> dict[str, Any] | None:
    return None if key is None else {"key": key, "state": state, "store": store}


def _time(at: datetime | None) -> str | None:
    return None if at is None else chain.spell_time(at)
