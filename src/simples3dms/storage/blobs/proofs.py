"""How well a copy is to be proven before it counts: the grades, and who belongs to a sample."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final
from uuid import UUID

#: What is kept with a copy whose bytes were read from the target and compared with the record.
READ_BACK_EVIDENCE: Final = "read-back"
#: What is kept with a copy of which the provider reports the checksum that we know of the same bytes.
CHECKSUM_EVIDENCE: Final = "provider-checksum"
#: How a grade is spelt, in requests and in the records.
PATTERN: Final = r"^(read-back|provider-checksum|sample=[1-9][0-9]?)$"
#: A blob's place in the sample is one of so many.
_PLACES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Proof:
    """A grade: of so many percent of the blobs the bytes are read back; of the others a provider's checksum will do.

    A stronger proof satisfies every weaker grade. Who is in a sample follows from the blob's id alone, so it is the
    same for every worker and reader, and a larger sample holds every smaller one. Providers do not know these ids.
    """

    read_back_percent: int = 100

    def __str__(self) -> str:
        if self.read_back_percent >= 100:
            return READ_BACK_EVIDENCE
        return CHECKSUM_EVIDENCE if self.read_back_percent <= 0 else f"sample={self.read_back_percent}"

    def reads_back(self, blob_id: UUID) -> bool:
        """Whether nothing less than reading it back proves a copy of this blob."""
        place = int.from_bytes(hashlib.sha256(blob_id.bytes).digest()[:2], "big")
        return place * 100 < self.read_back_percent * _PLACES

    def accepts(self, evidence: str | None, blob_id: UUID) -> bool:
        """Whether a live copy with this evidence is proven. `blobs.repository.PROVEN` says the same in SQL."""
        return evidence == READ_BACK_EVIDENCE or (evidence == CHECKSUM_EVIDENCE and not self.reads_back(blob_id))


READ_BACK: Final = Proof()


def parse(text: str) -> Proof:
    """Raises ValueError for what is no grade."""
    if not re.fullmatch(PATTERN, text):
        raise ValueError("a proof is read-back, provider-checksum, or sample=N with N from 1 to 99 percent")
    _, is_sample, percent = text.partition("=")
    return Proof(int(percent)) if is_sample else Proof(0) if text == CHECKSUM_EVIDENCE else READ_BACK
