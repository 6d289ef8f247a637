"""Tell a tenant's people by mail how its migrations fare: once for each change, and as long as they want it."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from simples3dms.db.session import Database, UnitOfWork
from simples3dms.identity.letters.service import Letters
from simples3dms.identity.letters.values import LetterKind
from simples3dms.identity.permissions import TENANT_ROLES, Permission
from simples3dms.kit.ids import new_id
from simples3dms.kit.secret import Secret
from simples3dms.mail import Message
from simples3dms.storage.notices import repository
from simples3dms.storage.notices.values import WORDS

#: Who may run migrations is told of them.
_ROLES: Final = tuple(role for role, rights in TENANT_ROLES.items() if Permission.MIGRATIONS_WRITE in rights)


class Notices:
    """`public_url`: where people reach the installation; None: letters name it not."""

    def __init__(self, database: Database, letters: Letters, *, public_url: str | None) -> None:
        self._database, self._letters, self._public_url = database, letters, public_url
        letters.register(LetterKind.NOTICE, self._write)

    async def owe_due(self, *, limit: int) -> None:
        """Owe a letter to each reader of each new notice. For the watchdog; several at once take different ones.

        Where no mail is sent, what is new is passed over, and not kept for a day on which there is.
        """
        async with self._database.platform() as uow:
            for notice in await repository.take_due(uow, limit=limit):
                if not notice.is_wanted or not self._letters.can_send:
                    continue
                for user_id in await repository.list_readers(uow, notice.tenant_id, roles=_ROLES):
                    letter_id = new_id()
                    await repository.insert_letter(uow, notice, letter_id, user_id=user_id)
                    await self._letters.owe(uow, LetterKind.NOTICE, letter_id)

    async def _write(self, uow: UnitOfWork, letter_id: UUID) -> Message | None:
        found = await repository.find_letter(uow, letter_id, roles=_ROLES)
        if found is None:
            return None
        state = found.state.replace("_", " ")
        lines = [
            f"The move of {found.tenant_name} from {found.source} to {found.target}: {state}.",
            WORDS[found.state],
            *([f"What stopped it: {found.error_message}"] if found.error_message else []),
            f"Look: simples3dms migration show {found.migration_id} --tenant {found.tenant_slug}",
            *([f"Server: {self._public_url}"] if self._public_url else []),
            f"No more of these: simples3dms tenant settings {found.tenant_slug} --migration-letters off",
        ]
        subject = f"Migration of {found.tenant_name} to {found.target}: {state}"
        return Message(found.email, subject, Secret("\n\n".join(lines) + "\n"), mark=f"notice.{letter_id}")
