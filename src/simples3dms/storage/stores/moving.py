"""A store's place changed: another endpoint, region or bucket, with the secret in the same request (S-39)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from simples3dms.providers.base import StorageProvider
from simples3dms.providers.errors import ObjectNotFound
from simples3dms.storage.stores import errors
from simples3dms.storage.stores.values import Sample

#: Copies that are looked for at the new place: of each tenant, and at most.
OF_EACH: Final = 3
MOST: Final = 60


async def check_holds(provider: StorageProvider, samples: Sequence[Sample]) -> None:
    """See that what a store holds is at its new place. Raises Conflict (`store_place_differs`), ProviderErrors."""
    missing = 0
    for sample in samples:
        try:
            found = await provider.head(sample.key, version_id=sample.version_id)
            missing += found.size_bytes != sample.size_bytes
        except ObjectNotFound:
            missing += 1
    if missing:
        raise errors.holds_other(missing)
