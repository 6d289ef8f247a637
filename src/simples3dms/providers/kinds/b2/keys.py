"""B2 application keys: a new one with the rights, buckets and prefix of the one in use."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from b2sdk.v3 import exception as b2_errors

from simples3dms.providers.errors import AccessDenied, ObjectNotFound
from simples3dms.providers.keys import HeldKey, MadeKey
from simples3dms.providers.kinds.b2.session import Account

_PAGE: Final = 1000


class B2Keys:
    """`account` signs with a key that may list, write and delete keys; `key_id` is the store's present key."""

    def __init__(self, account: Account, key_id: str) -> None:
        self._account = account
        self._key_id = key_id

    async def list_keys(self) -> list[HeldKey]:
        return [
            HeldKey(str(key["applicationKeyId"]), str(key["keyName"]), _time(key.get("expirationTimestamp")))
            for key in await self._account.run_account(_all_keys)
        ]

    async def make_key(self, name: str) -> MadeKey:
        def work(session: Any) -> MadeKey:
            like = next((key for key in _all_keys(session) if key["applicationKeyId"] == self._key_id), None)
            if like is None:
                raise AccessDenied("the key in use is the account's own, or not listed", vendor_code="key_not_listed")
            buckets = like.get("bucketIds") or ([like["bucketId"]] if like.get("bucketId") else None)
            made = session.create_key(
                session.account_info.get_account_id(),
                sorted(like["capabilities"]),
                name,
                None,
                buckets,
                like.get("namePrefix"),
            )
            key_id, key = str(made["applicationKeyId"]), str(made["applicationKey"])
            credential = {"application_key_id": key_id, "application_key": key}
            return MadeKey(key_id, credential, _time(made.get("expirationTimestamp")))

        return await self._account.run_account(work)

    async def disable_key(self, key_id: str) -> None:
        """B2 has no such state."""

    async def delete_key(self, key_id: str) -> None:
        def work(session: Any) -> None:
            try:
                session.delete_key(key_id)
            except b2_errors.B2Error:
                # One code for many things: what counts is whether it is still listed.
                if any(key["applicationKeyId"] == key_id for key in _all_keys(session)):
                    raise

        with suppress(ObjectNotFound):
            await self._account.run_account(work)

    async def close(self) -> None:
        self._account.close()


def _all_keys(session: Any) -> list[dict[str, Any]]:
    """Every application key of the account: B2 allows for very many, so page by page."""
    account_id, start, found = session.account_info.get_account_id(), None, []
    while True:
        page = session.list_keys(account_id, _PAGE, start)
        found += page["keys"]
        start = page.get("nextApplicationKeyId")
        if not start:
            return found


def _time(milliseconds: object) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if isinstance(milliseconds, int | float) else None
