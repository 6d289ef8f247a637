"""Key management: what a provider lets us do with the access keys themselves. An optional part of a kind of store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key that the provider lists. `name` is None where keys have none; then only their ids tell them apart."""

    key_id: str
    name: str | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A key as the provider shows it once: `credential` is in the words of the kind's own form."""

    key_id: str
    credential: Mapping[str, str] = field(repr=False)
    expires_at: datetime | None = None


class KeyManagement(Protocol):
    """The keys of one store. All calls raise ProviderErrors; none is made inside a transaction."""

    async def list_keys(self) -> list[HeldKey]:
        """Those among which ours are: of the account, or of the user that the store's key belongs to."""
        ...

    async def make_key(self, name: str) -> MadeKey:
        """A key that may do what the store's present one may, in the same places. Not idempotent: each makes one."""
        ...

    async def disable_key(self, key_id: str) -> None:
        """Have it refused, so that a mistake can be mended still. Nothing where the provider can't, or it is gone."""
        ...

    async def delete_key(self, key_id: str) -> None:
        """Idempotent: one that is gone is no error."""
        ...

    async def close(self) -> None: ...
