"""Record acts in the unit of work that does them; search and export them; sign and cut the chain that they make."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from simples3dms.audit import chain, errors, repository
from simples3dms.audit.engine import Sealer
from simples3dms.audit.signers import Signers
from simples3dms.audit.values import (
    AuditEvent,
    ChainedEvent,
    Checkpoint,
    Cut,
    Head,
    Search,
    SigningKey,
    Trail,
    Uncopied,
)
from simples3dms.audit.verifier import Breach, Verdict, Verifier
from simples3dms.context import PLATFORM, WORKER, Principal
from simples3dms.crypto.keyring import Keyring
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.kit.ids import new_id

_ACTION: Final = re.compile(r"[a-z_]{1,100}\.([a-z_]{1,100}|\*)")
_UNTEXT: Final = re.compile("[\x00\ud800-\udfff]")
_PAGE: Final = 500
_CUT_BATCH: Final = 1000


async def record(
    uow: UnitOfWork,
    principal: Principal,
    action: str,
    *,
    target_type: str,
    target_id: str,
    tenant_id: UUID | None = None,
    outcome: str = "done",
    details: Mapping[str, Any] | None = None,
) -> None:
    """Add an event in the caller's unit of work: it is there if, and only if, the change is. `details`: no secrets."""
    event = AuditEvent(
        id=new_id(),
        at=datetime.now(UTC),
        principal_id=principal.id,
        principal_name=principal.name,
        action=action,
        target_type=target_type,
        target_id=target_id,
        outcome=outcome,
        details=dict(details or {}),
    )
    await repository.insert(uow, tenant_id or PLATFORM, event)


@dataclass(frozen=True, slots=True)
class Export:
    """A part of a chain, ready to be read: the header's line, and the events in their order."""

    header: str
    events: AsyncIterator[ChainedEvent]

    async def lines(self) -> AsyncIterator[bytes]:
        """As JSON lines, which `audit verify` reads."""
        yield self.header.encode("ascii") + b"\n"
        async for event in self.events:
            yield chain.event_line(event).encode("ascii") + b"\n"


class Audit:
    """The audit of the platform (None for a tenant) and of all tenants."""

    def __init__(self, database: Database, keyring: Keyring | None = None, *, least_retention_days: int = 1) -> None:
        """Without a key ring, nothing is signed: it can be read, and what waits be sealed."""
        self._database = database
        self._signers = Signers(database, keyring)
        self._least_days = least_retention_days
        self.sealer = Sealer(database)

    async def list_events(
        self,
        tenant_id: UUID | None,
        *,
        wanted: Search | None = None,
        after: UUID | None = None,
        oldest_first: bool = False,
        limit: int = 100,
    ) -> list[AuditEvent]:
        """A page of the events that are wanted, newest first unless asked otherwise.

        Raises Invalid (`audit_action_invalid`, `audit_time_invalid`, `audit_search_invalid`, `cursor_unknown`).
        """
        wanted = wanted or Search()
        _check(wanted)
        chain_id = tenant_id or PLATFORM
        context = self._database.platform() if tenant_id is None else self._database.tenant(tenant_id)
        async with context as uow:
            cursor = None
            if after is not None:
                at = await repository.find_cursor(uow, chain_id, after)
                if at is None:
                    raise errors.cursor_unknown()
                cursor = (at, after)
            return await repository.search(uow, chain_id, wanted, cursor=cursor, oldest_first=oldest_first, limit=limit)

    async def open_export(self, tenant_id: UUID | None, *, after_seq: int | None = None) -> Export:
        """The sealed events after this number (None: all that are kept) up to the newest now, page by page.

        Raises Invalid (`audit_start_invalid`); while it is read, Unavailable if a cut removes what comes next.
        """
        chain_id = tenant_id or PLATFORM
        async with self._database.sealer(chain_id) as uow:
            head = await _head(uow)
            start = head.cut_seq if after_seq is None else after_seq
            if not head.cut_seq <= start <= head.seq:
                raise errors.start_invalid(head.cut_seq + 1, head.seq)
            cut = await repository.find_cut(uow, head.cut_seq) if head.cut_seq else None
            before = chain.GENESIS if start == 0 else await _hash_at(uow, start, cut)
        header = chain.header_line(chain_id, after_seq=start, after_hash=before, cut=cut)
        return Export(header, self._events(chain_id, start, head.seq))

    async def _events(self, chain_id: UUID, after_seq: int, until_seq: int) -> AsyncIterator[ChainedEvent]:
        while after_seq < until_seq:
            async with self._database.sealer(chain_id) as uow:
                page = await repository.list_chain(uow, after_seq=after_seq, until_seq=until_seq, limit=_PAGE)
                follows = bool(page) and page[0].seq == after_seq + 1
                head = None if follows else await _head(uow)
            if head is not None and head.cut_seq > after_seq:
                raise errors.export_interrupted()
            if not page:
                return
            # What was removed without a cut is exported as it is: whoever verifies is to see it.
            for event in page:
                yield event
            assert page[-1].seq is not None
            after_seq = page[-1].seq

    async def verify(self, tenant_id: UUID | None) -> Verdict:
        """Check all that is kept of a chain against itself, its head, its checkpoints and the keys that signed them."""
        async with self._database.sealer(tenant_id or PLATFORM) as uow:
            head = await _head(uow)
        checkpoints = await self._all_checkpoints(tenant_id or PLATFORM)
        export = await self.open_export(tenant_id)
        # Last, so that the keys of all that was read are among them.
        keys = {key.key_id: key.public_key for key in await self.list_keys()}
        verifier = Verifier(checkpoints, keys)
        async for line in export.lines():
            if not verifier.feed(line):
                break
        verdict = verifier.finish()
        if verdict.is_good and verdict.last_seq < head.seq:
            message = f"the chain ends with event {verdict.last_seq}, and its head is {head.seq}"
            verdict.breach = Breach("tail_missing", verdict.last_seq + 1, None, message)
        return verdict

    async def _all_checkpoints(self, chain_id: UUID) -> list[Checkpoint]:
        """Those that are not before the cut."""
        found: list[Checkpoint] = []
        before: int | None = None
        async with self._database.sealer(chain_id) as uow:
            head = await _head(uow)
            while True:
                page = await repository.list_checkpoints(uow, before_seq=before, limit=_PAGE)
                found += [checkpoint for checkpoint in page if checkpoint.seq >= head.cut_seq]
                if len(page) < _PAGE:
                    return found
                before = page[-1].seq

    async def list_chains(self, *, after: UUID | None = None, limit: int = 1000) -> list[UUID]:
        """Whose chains there are, in pages; the platform's own is the one of the id that is all zeros."""
        async with self._database.platform() as uow:
            return [head.tenant_id for head in await repository.list_heads(uow, after=after, limit=limit)]

    # checkpoints

    async def create_checkpoint(self, principal: Principal, tenant_id: UUID | None) -> Checkpoint:
        """Seal what waits, and sign the head. The one there is where nothing has been recorded since.

        Raises Conflict (`audit_empty`).
        """
        await self.sealer.seal(tenant_id or PLATFORM, wait=True)
        return await self._checkpoint(tenant_id or PLATFORM, principal)

    async def checkpoint_due(self, chain_id: UUID) -> Checkpoint:
        """The hourly one. It is no act of anybody's, and no event."""
        return await self._checkpoint(chain_id, None)

    async def list_due_checkpoints(self, *, hours: float, limit: int) -> list[UUID]:
        async with self._database.platform() as uow:
            return await repository.list_to_checkpoint(uow, hours=hours, limit=limit)

    async def _checkpoint(self, chain_id: UUID, principal: Principal | None) -> Checkpoint:
        signer = await self._signers.get()
        async with self._database.sealer(chain_id) as uow:
            head = await repository.lock_head(uow, wait=True)
            if head is None or head.seq == 0:
                raise errors.empty()
            known = await repository.find_checkpoint(uow, head.seq)
            if known is not None:
                return known
            unsigned = Checkpoint(chain_id, head.seq, head.hash, await repository.now(uow), signer.key_id, b"")
            checkpoint = signer.sign_checkpoint(unsigned)
            await repository.insert_checkpoint(uow, checkpoint)
            if principal is not None:
                await record(
                    uow,
                    principal,
                    "audit.checkpointed",
                    target_type="audit",
                    target_id=str(head.seq),
                    tenant_id=chain_id,
                    details={"hash": head.hash.hex(), "key_id": signer.key_id},
                )
            return checkpoint

    async def list_checkpoints(
        self, tenant_id: UUID | None, *, before_seq: int | None = None, limit: int = 100
    ) -> list[Checkpoint]:
        """A page, newest first."""
        async with self._database.sealer(tenant_id or PLATFORM) as uow:
            return await repository.list_checkpoints(uow, before_seq=before_seq, limit=limit)

    async def get_checkpoint(self, tenant_id: UUID | None, seq: int) -> Checkpoint:
        """Raises NotFound (`checkpoint_not_found`)."""
        async with self._database.sealer(tenant_id or PLATFORM) as uow:
            found = await repository.find_checkpoint(uow, seq)
        if found is None:
            raise errors.checkpoint_not_found()
        return found

    async def list_uncopied(self, *, limit: int) -> list[Uncopied]:
        """Newest checkpoints of which nobody has planned copies yet."""
        async with self._database.platform() as uow:
            return await repository.list_uncopied(uow, limit=limit)

    async def note_copies(self, chain_id: UUID, seq: int) -> None:
        """Copies of the chain's checkpoints up to this one are planned, where it has stores at all."""
        async with self._database.sealer(chain_id) as uow:
            await repository.note_copies(uow, seq)

    # keys

    async def sign_document(self, unsigned: Mapping[str, Any]) -> dict[str, Any]:
        """A document of another part, signed as checkpoints are; its `format` says what it is."""
        return (await self._signers.get()).sign_document(unsigned)

    async def list_keys(self) -> list[SigningKey]:
        """Every key that ever signed, newest first; the one that is not retired signs."""
        return await self._signers.list_keys()

    async def rotate_key(self, principal: Principal) -> SigningKey:
        """Sign with a fresh key from now on. The old one's secret is forgotten; its public half stays."""

        async def tell(uow: UnitOfWork, retired: str | None, made: str) -> None:
            details = {"retired_key_id": retired}
            await record(uow, principal, "audit_key.rotated", target_type="audit_key", target_id=made, details=details)

        return await self._signers.rotate(tell)

    # retention

    async def get_trail(self, tenant_id: UUID | None) -> Trail:
        async with self._database.sealer(tenant_id or PLATFORM) as uow:
            head = await _head(uow)
        return Trail(head.cut_seq + 1, head.seq, head.checkpoint_seq, head.retention_days, self._least_days)

    async def set_retention(self, principal: Principal, tenant_id: UUID | None, days: int | None) -> Trail:
        """Keep events that many days (None: for good). Raises Invalid (`audit_retention_too_short`)."""
        if days is not None and days < self._least_days:
            raise errors.retention_too_short(self._least_days)
        chain_id = tenant_id or PLATFORM
        async with self._database.sealer(chain_id) as uow:
            await repository.ensure_head(uow)
            await repository.lock_head(uow, wait=True)
            await repository.set_retention(uow, days)
            await record(
                uow,
                principal,
                "audit.retention_set",
                target_type="audit",
                target_id=str(chain_id),
                tenant_id=chain_id,
                details={"days": days},
            )
        return await self.get_trail(tenant_id)

    async def list_to_cut(self, *, hours: float, limit: int) -> list[UUID]:
        """Chains whose oldest events may have to go, and that were not looked at for so long."""
        async with self._database.platform() as uow:
            return await repository.list_to_cut(uow, hours=hours, limit=limit)

    async def cut(self, chain_id: UUID) -> int:
        """Remove the oldest events that the retention releases, under a signed cut; how many. May be run again."""
        signer = None
        async with self._database.sealer(chain_id) as uow:
            await repository.note_look(uow)
            found = await self._find_cut(uow, await _head(uow))
        if found is not None:
            signer = await self._signers.get()
            async with self._database.sealer(chain_id) as uow:
                head = await repository.lock_head(uow, wait=True)
                # Decided anew: meanwhile it may have been cut, or the retention been prolonged.
                last = None if head is None else await self._find_cut(uow, head)
                if last is not None:
                    seq, hash_, days = last
                    unsigned = Cut(chain_id, seq, hash_, await repository.now(uow), days, signer.key_id, b"")
                    await repository.insert_cut(uow, signer.sign_cut(unsigned))
                    details = {"days": days, "hash": hash_.hex(), "key_id": signer.key_id}
                    await record(
                        uow,
                        WORKER,
                        "audit.cut",
                        target_type="audit",
                        target_id=str(seq),
                        tenant_id=chain_id,
                        details=details,
                    )
        return await self._delete_cut(chain_id)

    async def _find_cut(self, uow: UnitOfWork, head: Head) -> tuple[int, bytes, int] | None:
        if head.retention_days is None:
            return None
        # The operator's least may have grown since the tenant chose.
        days = max(head.retention_days, self._least_days)
        last = await repository.find_last_old(uow, after_seq=head.cut_seq, days=days)
        return None if last is None else (*last, days)

    async def _delete_cut(self, chain_id: UUID) -> int:
        count = 0
        while True:
            async with self._database.sealer(chain_id) as uow:
                deleted = await repository.delete_cut(uow, limit=_CUT_BATCH)
            count += deleted
            if deleted < _CUT_BATCH:
                return count


async def _head(uow: UnitOfWork) -> Head:
    """Of a chain that has not begun: an empty one."""
    assert uow.tenant_id is not None
    return await repository.find_head(uow) or Head(uow.tenant_id, 0, chain.GENESIS, 0, 0, None)


async def _hash_at(uow: UnitOfWork, seq: int, cut: Cut | None) -> bytes:
    if cut is not None and cut.seq == seq:
        return cut.hash
    found = await repository.find_hash(uow, seq)
    # Where the row is not there, somebody removed it past us: the export says so at its first line.
    return found or chain.GENESIS


def _check(wanted: Search) -> None:
    if wanted.action is not None and not _ACTION.fullmatch(wanted.action):
        raise errors.action_invalid()
    if any(at is not None and at.tzinfo is None for at in (wanted.since, wanted.until)):
        raise errors.span_invalid()
    for name in ("principal", "target_type", "target_id"):
        if _UNTEXT.search(getattr(wanted, name) or ""):
            raise errors.text_invalid(name)
