"""Is it them? A password checked under the limits, with the same answer and about the same work for anybody."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final
from uuid import UUID

from simples3dms.audit.refusals import Refusal, Refusals
from simples3dms.context import PLATFORM, SOMEBODY, Principal
from simples3dms.crypto.passwords import Passwords
from simples3dms.db.session import Database
from simples3dms.errors import Failure
from simples3dms.identity import errors, repository
from simples3dms.identity.factors.service import FactorChecks
from simples3dms.identity.factors.values import Proof
from simples3dms.identity.limits.service import Limits
from simples3dms.identity.limits.values import Door, network_of
from simples3dms.identity.values import Account
from simples3dms.kit.secret import Secret

EMAIL: Final = re.compile(r"[^@\s\x00-\x1f\x7f\ud800-\udfff]{1,64}@[^@\s\x00-\x1f\x7f\ud800-\udfff]{1,190}")


class SignIn:
    """What every door that takes a password asks."""

    def __init__(
        self, database: Database, passwords: Passwords, limits: Limits, factors: FactorChecks, refusals: Refusals
    ) -> None:
        self._database, self._passwords = database, passwords
        self._limits, self._factors, self._refusals = limits, factors, refusals

    async def check(self, email: str, password: Secret, *, address: str, proof: Proof | None = None) -> Account:
        """The account whose password this is, and whose second factor the proof is, if it has one.

        What was read may change until it is held (`hold_account`). Raises Unauthenticated (`credentials_wrong`,
        `second_factor_required`, `second_factor_wrong`), TooMany (`too_many_attempts`), Unavailable.
        """
        attempt = await self._limits.take(Door.SIGN_IN, address, email)
        account = await self._find_account(email)
        if not await self._passwords.verify(password, account.password_hash if account else None) or account is None:
            await self.refuse("password", address, account.id if account else None, tried=email.strip().lower())
            raise errors.credentials_wrong()
        await self._limits.give_back(attempt)
        factor = await self._check_factor(account, proof, address)
        await self._limits.note_known(attempt, account.id)
        return replace(account, factor=factor)

    async def _check_factor(self, account: Account, proof: Proof | None, address: str) -> str | None:
        """What was proved; None where there is nothing to prove."""
        kinds = (await self._factors.get_held(account.id)).kinds
        if not kinds:
            return None
        if proof is None:
            challenge = await self._factors.challenge(account.id)
            shown = {"challenge_id": challenge.id, "options": challenge.options} if challenge else None
            raise errors.factor_required(kinds, shown)
        attempt = await self._limits.take(Door.FACTOR, address, str(account.id))
        if not await self._factors.is_proven(account.id, proof):
            await self.refuse("second factor", address, account.id, tried=str(account.id))
            raise errors.factor_wrong()
        await self._limits.give_back(attempt)
        return "code" if proof.passkey is None else "passkey"

    async def _find_account(self, email: str) -> Account | None:
        address = email.strip().lower()
        # One statement for anybody: for what is no address, an address that nobody has.
        async with self._database.platform() as uow:
            return await repository.find_account(uow, address if EMAIL.fullmatch(address) else "")

    async def refuse(self, what: str, address: str, user_id: UUID | None, *, tried: str = "") -> None:
        """Have it written down that somebody was not let in: the first like it at once, repeats as a count.

        `tried` tells attempts apart, so that as much is written for a name that nobody has. What was typed is not
        kept: it may be a password.
        """
        apart = hashlib.sha256(f"{what}\n{tried}".encode(errors="surrogatepass")).hexdigest()
        target_id = str(user_id) if user_id else "unknown"
        details = {"wrong": what, "network": network_of(address)}
        await self._refusals.note(Refusal(PLATFORM, SOMEBODY, "sign_in.refused", "user", target_id, details, apart))

    @asynccontextmanager
    async def telling(self, address: str, wrong: Mapping[str, str], user_id: UUID | None = None) -> AsyncIterator[None]:
        """`refuse` what fails within with one of these codes, once it is rolled back: code -> what was wrong."""
        try:
            yield
        except Failure as failure:
            what = wrong.get(failure.problem_code)
            if what is not None:
                await self.refuse(what, address, user_id, tried=str(user_id or ""))
            raise


def principal_of(account: Account) -> Principal:
    return Principal(account.id, account.email, account.is_operator, account.is_auditor)
