"""Whose place of the world a store's is: by the records, and by a mark in the place itself (F51).

The records compare what settings say, so two spellings of one bucket (an alias of the host) look like two. A store that
a tenant brings therefore leaves a mark of its owner in the place, and nobody else's is ever written over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.providers.base import StorageProvider
from simples3dms.providers.errors import ObjectNotFound
from simples3dms.storage.stores import errors, repository
from simples3dms.storage.stores.values import Place, Store, is_alias, place_of

#: The one object of ours whose name is not made for it. It lies beside all tenants' prefixes, and is written once
#: by an owner, who takes it away when it ends.
MARK_KEY: Final = "simples3dms-owner.json"
_LONGEST_MARK_BYTES: Final = 1000


def mark_of(owner: UUID) -> bytes:
    """What the mark of a tenant holds: a digest, so that whoever reads the bucket does not learn who it is."""
    digest = hashlib.sha256(f"simples3dms:owner:{owner}".encode()).hexdigest()
    return json.dumps({"owner": digest}).encode()


async def find_mark(provider: StorageProvider) -> bytes | None:
    """The mark in a place; None where there is none. Raises ProviderError."""
    found = bytearray()
    try:
        async with provider.open(MARK_KEY, length=_LONGEST_MARK_BYTES) as reader:
            async for chunk in reader:
                found += chunk
    except ObjectNotFound:
        return None
    return bytes(found)


async def claim_place(provider: StorageProvider, owner: UUID | None) -> None:
    """Mark the place as the owner's. The platform (None) leaves no mark, and respects others'.

    Repeating it changes nothing. Raises Conflict (`store_place_taken`), or a ProviderError.
    """
    found = await find_mark(provider)
    if found is None and owner is not None:
        await provider.put(MARK_KEY, mark_of(owner), content_type="application/json")
        # Of two who claim at once, the one whose mark is there afterwards has it.
        found = await find_mark(provider)
    if found is not None and (owner is None or found != mark_of(owner)):
        raise errors.place_taken()


async def leave_place(provider: StorageProvider, owner: UUID) -> None:
    """Take the owner's mark out of the place; nobody else's. Again is no error. Raises ProviderError."""
    if await find_mark(provider) == mark_of(owner):
        await provider.discard(MARK_KEY)


async def is_others(provider: StorageProvider, owner: UUID) -> bool:
    """Whether somebody else's mark lies in the place. Raises ProviderError."""
    return await find_mark(provider) not in (None, mark_of(owner))


async def refuse_taken(
    uow: UnitOfWork, kind: str, settings: Mapping[str, Any], owner: UUID | None, *, but: UUID | None = None
) -> None:
    """Raise Conflict where a store of the same owner is this place, or one of another owner is, holds or is in it.

    `but`: the store that moves there.
    """
    wanted = place_of(kind, settings)
    for store in await repository.list_neighbours(uow, kind, bucket_of(settings)):
        if store.id == but:
            continue
        there = place_of(kind, store.settings)
        if store.owner_tenant_id != owner and there.overlaps(wanted):
            raise errors.place_taken()
        if there == wanted:
            raise errors.duplicate(store.name)
        if is_alias(settings, store.settings):
            raise errors.alias(store.name, str(store.settings["path"]))


async def refuse_prefix_taken(uow: UnitOfWork, store: Store, prefix: str) -> None:
    """Raise Conflict where a grant has this prefix, or one above or below it, in the same bucket."""
    here = place_of(store.kind, store.settings)
    neighbours: dict[UUID, Place] = {}
    for other in await repository.list_neighbours(uow, store.kind, bucket_of(store.settings)):
        place = place_of(other.kind, other.settings)
        if place.root == here.root:
            neighbours[other.id] = place
    if await repository.is_prefix_taken(uow, neighbours, here.prefix + prefix):
        raise errors.prefix_taken()


def bucket_of(settings: Mapping[str, Any]) -> str:
    """What the database narrows its search by: stores of one place name one bucket, whatever else differs."""
    return str(settings.get("bucket") or "")
