"""Is it them? A password checked under the limits, with the same answer and about the same work for anybody."""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import SOMEBODY, Principal
from simples3dms.crypto.passwords import Passwords
from simples3dms.db.session import Database
from simples3dms.identity import errors, repository
from simples3dms.identity.limits.service import Limits
from simples3dms.identity.limits.values import Door, network_of
from simples3dms.identity.values import Account
from simples3dms.kit.secret import Secret

EMAIL: Final = re.compile(r"[^@\s\x00-\x1f\x7f\ud800-\udfff]{1,64}@[^@\s\x00-\x1f\x7f\ud800-\udfff]{1,190}")


class SignIn:
    """What every door that takes a password asks."""

    def __init__(self, database: Database, passwords: Passwords, limits: Limits) -> None:
        self._database, self._passwords, self._limits = database, passwords, limits

    async def check(self, email: str, password: Secret, *, address: str) -> Account:
        """The account whose password this is. What was read may change until it is held (`hold_account`).

        Raises Unauthenticated (`credentials_wrong`), TooMany (`too_many_attempts`), Unavailable.
        """
        attempt = await self._limits.take(Door.SIGN_IN, address, email)
        account = await self._find_account(email)
        if not await self._passwords.verify(password, account.password_hash if account else None) or account is None:
            await self.refuse("password", address, account.id if account else None)
            raise errors.credentials_wrong()
        await self._limits.give_back(attempt, account.id)
        return account

    async def _find_account(self, email: str) -> Account | None:
        address = email.strip().lower()
        # One statement for anybody: for what is no address, an address that nobody has.
        async with self._database.platform() as uow:
            return await repository.find_account(uow, address if EMAIL.fullmatch(address) else "")

    async def refuse(self, what: str, address: str, user_id: UUID | None) -> None:
        """Write down that somebody was not let in. What was typed is not kept: it may be a password."""
        async with self._database.platform() as uow:
            await record(
                uow,
                SOMEBODY,
                "sign_in.refused",
                target_type="user",
                target_id=str(user_id) if user_id else "unknown",
                outcome="refused",
                details={"wrong": what, "network": network_of(address)},
            )


def principal_of(account: Account) -> Principal:
    return Principal(account.id, account.email, account.is_operator, account.is_auditor)
