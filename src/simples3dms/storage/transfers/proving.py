"""Proving a copy: by reading it back, or, where that will do, by what its provider reports of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from simples3dms.providers.base import Expected, StorageProvider
from simples3dms.providers.vouching import COPIED, REPORTED
from simples3dms.storage.blobs.proofs import CHECKSUM_EVIDENCE, READ_BACK, READ_BACK_EVIDENCE, Proof
from simples3dms.storage.blobs.values import Blob

#: Bodies up to this size go through memory whole, so that one request each way is enough and may be retried.
WHOLE_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Demand:
    """What a batch of copies must show, and what its target can be taken at its word about (`providers.vouching`)."""

    proof: Proof = READ_BACK
    vouched: frozenset[str] = frozenset()

    def takes_word(self, blob: Blob, *, inside: bool = False) -> bool:
        """Whether a checksum that the target reports may stand for the blob's bytes. `inside`: the service copied them
        by itself, and may have carried along what it knew of the source."""
        needed = {REPORTED, COPIED} if inside else {REPORTED}
        return needed <= self.vouched and not self.proof.reads_back(blob.id)


@dataclass(frozen=True, slots=True)
class Copy:
    """An object at the target that is to be proven; `sha1` is ours, of the same bytes that we have hashed and sent."""

    key: str
    version_id: str | None
    sha1: bytes | None = None
    inside: bool = False


async def prove(target: StorageProvider, copy: Copy, blob: Blob, demand: Demand) -> str:
    """The evidence: that the object has the blob's bytes. Raises IntegrityError if it has not."""
    if demand.takes_word(blob, inside=copy.inside) and await _is_vouched_for(target, copy, blob):
        return CHECKSUM_EVIDENCE
    # What the target says of its write proves nothing by itself: read it back and compare with the record.
    await read_back(target, copy.key, copy.version_id, Expected(blob.size_bytes, blob.digest))
    return READ_BACK_EVIDENCE


async def _is_vouched_for(target: StorageProvider, copy: Copy, blob: Blob) -> bool:
    """Whether the store reports, of the whole object, a digest that we know of the same bytes. Anything else it may say
    is not taken for a failure either: the bytes are read then."""
    told = await target.head(copy.key, version_id=copy.version_id)
    if told.size_bytes != blob.size_bytes:
        return False
    if told.sha256 is not None:
        return told.sha256 == blob.digest.hex()
    return told.sha1 is not None and copy.sha1 is not None and told.sha1 == copy.sha1.hex()


def sha1_of(body: bytes) -> bytes:
    """What B2 computes of an upload."""
    return hashlib.sha1(body, usedforsecurity=False).digest()


async def read_back(provider: StorageProvider, key: str, version_id: str | None, expected: Expected) -> None:
    """All of an object, compared with the record."""
    if expected.size_bytes is not None and expected.size_bytes <= WHOLE_BYTES:
        await provider.get(key, version_id=version_id, expected=expected)
        return
    async with provider.open(key, version_id=version_id, expected=expected) as reader:
        async for _ in reader:
            pass
