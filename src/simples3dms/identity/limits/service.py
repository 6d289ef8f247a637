"""Count attempts to come in: for the account, for the network, for everybody; and refuse those that are too many."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import SOMEBODY
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.errors import TooMany
from simples3dms.identity.limits import repository
from simples3dms.identity.limits.values import Attempt, Bucket, Door, Rates, bucket, network_of

_LONGEST_ADDRESS: Final = 256
#: Doors that one knocks at without being known. At the others one account is asked, by who has got that far.
_KNOCKED_AT: Final = frozenset({Door.SIGN_IN, Door.FEDERATION, Door.RESET, Door.INVITATION})


class Limits:
    """For all processes together, by the database's clock. An attempt is counted before it is looked at."""

    def __init__(self, database: Database, rates: Rates | None = None) -> None:
        self._database = database
        self._rates = rates or Rates()

    async def take(self, door: Door, address: str, account: str | None = None) -> Attempt:
        """Count an attempt from this address at this account. The same for accounts that are there and that are not.

        Raises TooMany (`too_many_attempts`, with `retry_after_seconds`), Unavailable (`attempts_uncounted`).
        """
        network = network_of(address)
        full: Bucket | None = None
        wait_seconds = 0.0
        try:
            async with repository.counting(self._database) as uow:
                buckets = await self._buckets(uow, door, network, account)
                for one in buckets:
                    if not await repository.take(uow, one):
                        full, wait_seconds = one, await repository.get_wait_seconds(uow, one)
                        raise _Full  # What the buckets before it took is given back with the unit of work.
                await repository.prune(uow)
        except _Full:
            assert full is not None
            await self._tell(full, network)
            raise TooMany(
                "Too many attempts: wait a while before the next one.",
                code="too_many_attempts",
                retry_after_seconds=max(1.0, wait_seconds),
            ) from None
        return Attempt(door, network, tuple(buckets))

    async def _buckets(self, uow: UnitOfWork, door: Door, network: str, account: str | None) -> list[Bucket]:
        """In one order always, so that two attempts never wait for each other.

        A network from which the account has signed in lately has a bucket of its own for it, which nobody elsewhere
        can fill: strangers who try an account without end keep out one another, and not whose account it is.
        """
        rates, buckets = self._rates, []
        is_known = False
        if account is not None:
            name = account.strip().lower()
            text = name[:_LONGEST_ADDRESS].replace("\0", "").encode(errors="replace").decode()
            is_known = await repository.is_known(uow, text, network)
            of = (name, network) if is_known else (name,)
            rate = rates.factor if door is Door.FACTOR else rates.account
            buckets.append(bucket(door, "known" if is_known else "account", rate, *of))
        if door in _KNOCKED_AT:
            buckets.append(bucket(door, "network", rates.network, network))
        if door in _KNOCKED_AT and not is_known:
            buckets.append(bucket(door, "everybody", rates.everybody))
        return buckets

    async def _tell(self, full: Bucket, network: str) -> None:
        """A security event, once in ten minutes for each bucket, so that an attack does not flood the audit."""
        async with repository.counting(self._database) as uow:
            if await repository.tell_once(uow, full):
                door, _, kind = full.kind.partition(".")
                await record(
                    uow,
                    SOMEBODY,
                    "attempts.limited",
                    target_type="door",
                    target_id=door,
                    outcome="refused",
                    details={"limit": kind, "network": network},
                )

    async def give_back(self, attempt: Attempt) -> None:
        """It was no guess: uncount it."""
        async with repository.counting(self._database) as uow:
            for one in attempt.buckets:
                await repository.give_back(uow, one)

    async def refund(self, door: Door, address: str) -> None:
        """What was taken at a door without an account, some requests ago, was no guess."""
        network = network_of(address)
        async with repository.counting(self._database) as uow:
            for one in await self._buckets(uow, door, network, None):
                await repository.give_back(uow, one)

    async def note_known(self, attempt: Attempt, user_id: UUID) -> None:
        """The account has signed in: the network is known to it from now on."""
        async with repository.counting(self._database) as uow:
            await repository.note_known(uow, user_id, attempt.network)


class _Full(Exception):
    """A bucket takes no more now."""
