"""Owe letters in the unit of work that needs them, and send them: what is written is made when it is sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

import structlog

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.identity import errors
from simples3dms.identity.letters import repository
from simples3dms.identity.letters.values import Letter, LetterKind
from simples3dms.jobqueue.app import JobQueue
from simples3dms.kit.ids import new_id
from simples3dms.mail import Mailer, MailFailed, Message
from simples3dms.tenants.service import require_operator

log = structlog.get_logger(__name__)

#: Writes the letter about a subject; None if there is nothing to write any more. What it stores, such as the digest of
#: a fresh secret, is stored with the claim.
Writer = Callable[[UnitOfWork, UUID], Awaitable[Message | None]]
_LEASE_SECONDS: Final = 60.0
_ATTEMPTS: Final = 8
_LONGEST_DELAY_SECONDS: Final = 3600.0


class Letters:
    """Without a mailer (`can_send` is False) nothing is owed: links are handed over by people."""

    def __init__(
        self, database: Database, queue: JobQueue, mailer: Mailer | None, *, retry_base_seconds: float = 2
    ) -> None:
        self._database, self._queue, self._mailer = database, queue, mailer
        self._retry_base_seconds = retry_base_seconds
        self._writers: dict[str, Writer] = {}

    @property
    def can_send(self) -> bool:
        return self._mailer is not None

    def register(self, kind: LetterKind, writer: Writer) -> None:
        """Say who writes letters of this kind."""
        self._writers[kind] = writer

    async def owe(self, uow: UnitOfWork, kind: LetterKind, subject_id: UUID) -> None:
        """The letter is owed when, and only when, the unit of work commits."""
        letter_id = new_id()
        await repository.insert(uow, letter_id, kind, subject_id)
        await self.defer_send(uow, letter_id)

    async def defer_send(self, uow: UnitOfWork, letter_id: UUID) -> None:
        await self._queue.defer(uow, "letter.send", once=f"letter:{letter_id}", letter_id=letter_id)

    async def list_unsent(self, *, after: UUID | None = None, limit: int = 100) -> list[Letter]:
        """A page of the letters that were tried and could not be sent, oldest first. The door asks who may see them."""
        async with self._database.platform() as uow:
            return await repository.list_unsent(uow, after=after, limit=limit)

    async def retry(self, principal: Principal, letter_id: UUID) -> Letter:
        """Try one of them again now, with fresh attempts. For operators. Raises NotFound (`letter_not_found`)."""
        require_operator(principal)
        async with self._database.platform() as uow:
            letter = await repository.revive(uow, letter_id)
            if letter is None:
                raise errors.letter_not_found()
            await self.defer_send(uow, letter_id)
            await _record(uow, principal, "letter.retried", letter)
            return letter

    async def drop(self, principal: Principal, letter_id: UUID) -> None:
        """Send it no more: its link is useless. For operators. Raises NotFound (`letter_not_found`)."""
        require_operator(principal)
        async with self._database.platform() as uow:
            letter = await repository.drop(uow, letter_id)
            if letter is None:
                raise errors.letter_not_found()
            await _record(uow, principal, "letter.dropped", letter)

    async def defer_due(self, *, limit: int) -> None:
        """Queue again what nobody is at. For the watchdog."""
        if self._mailer is None:
            return
        async with self._database.platform() as uow:
            for letter_id in await repository.list_due(uow, limit=limit):
                await self.defer_send(uow, letter_id)

    async def run(self, letter_id: str) -> None:
        """`send`, as a job calls it."""
        await self.send(UUID(letter_id))

    async def send(self, letter_id: UUID) -> None:
        """Write the letter and hand it over; again, with a fresh secret, if a worker died between the two."""
        if self._mailer is None:
            return
        async with self._database.platform() as uow:
            row = await repository.claim(uow, letter_id, lease_seconds=_LEASE_SECONDS)
            if row is None:
                return
            message = await self._writers[row.kind](uow, row.subject_id)
            if message is None:
                await repository.settle(uow, row)
                return
        try:
            await self._mailer.send(message)
        except MailFailed as failure:
            is_final = failure.is_final or row.attempt >= _ATTEMPTS
            log.warning("letter.failed", letter=str(letter_id), reason=failure.message, final=is_final)
            delay = min(_LONGEST_DELAY_SECONDS, self._retry_base_seconds * 2 ** min(row.attempt, 20))
            async with self._database.platform() as uow:
                await repository.postpone(uow, row, failure.message, delay_seconds=delay, is_final=is_final)
            return
        async with self._database.platform() as uow:
            await repository.settle(uow, row)


async def _record(uow: UnitOfWork, principal: Principal, action: str, letter: Letter) -> None:
    details = {"kind": letter.kind, "attempts": letter.attempt}
    await record(uow, principal, action, target_type="letter", target_id=str(letter.id), details=details)
