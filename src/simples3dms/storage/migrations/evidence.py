"""A migration's report, to the byte, and the check of one. It needs no server and no database.

JSON lines, each canonical (`audit.chain`): a header, an item for each blob, a trailer. Every line but the trailer has a
hash over itself and the hash of the line before; the trailer holds the last hash and the totals, and is signed. Memory
stays the same however long the report is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from simples3dms.audit import chain
from simples3dms.crypto.signing import is_signed
from simples3dms.storage.blobs.proofs import READ_BACK, READ_BACK_EVIDENCE, Proof, parse

FORMAT: Final = "simples3dms-migration-report-v1"
_TAG: Final = b"simples3dms-migration-report-line-v1\x00"
_TRAILER: Final = {
    *("bytes", "digest", "format", "items", "key_id", "migration_id", "proven", "signature", "tenant_id"),
    *("unproven", "waived"),
}


@dataclass(slots=True)
class Tally:
    """What the lines so far add up to. `grade`: how well each item was to be proven."""

    grade: Proof = READ_BACK
    items: int = 0
    size_bytes: int = 0
    proven: int = 0
    waived: int = 0
    read_back: int = 0
    """Of those that are proven, the ones whose bytes were read at the target."""
    hash: bytes = bytes(32)

    @property
    def unproven(self) -> int:
        return self.items - self.proven - self.waived

    def add(self, item: Mapping[str, Any]) -> None:
        self.items += 1
        self.size_bytes += int(item["size_bytes"])
        if item["waived"] is not None:
            self.waived += 1
        elif item["proof"] is not None:
            kind = item["proof"]["kind"]
            self.proven += self.grade.accepts(kind, UUID(item["blob_id"]))
            self.read_back += kind == READ_BACK_EVIDENCE

    def totals(self) -> dict[str, Any]:
        return {
            "bytes": self.size_bytes,
            "digest": self.hash.hex(),
            "items": self.items,
            "proven": self.proven,
            "unproven": self.unproven,
            "waived": self.waived,
        }

    def link(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """The line with its hash, which the next one follows."""
        self.hash = hashlib.sha256(_TAG + self.hash + chain.canonical(content).encode("ascii")).digest()
        return {**content, "hash": self.hash.hex()}


@dataclass(frozen=True, slots=True)
class Breach:
    """What is wrong first: a stable code, the line of the file, and one sentence."""

    code: str
    line: int
    message: str


@dataclass(slots=True)
class Verdict:
    """What was checked. `is_signed`: the signature was checked, and is that of a key that was given."""

    migration_id: str | None = None
    tenant_id: str | None = None
    items: int = 0
    size_bytes: int = 0
    proof: str | None = None
    proven: int = 0
    read_back: int = 0
    waived: int = 0
    unproven: int = 0
    is_signed: bool = False
    breach: Breach | None = None


class _Wrong(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass(slots=True)
class _Reader:
    keys: Mapping[str, bytes] | None
    verdict: Verdict = field(default_factory=Verdict)
    tally: Tally = field(default_factory=Tally)
    number: int = 0
    is_ended: bool = False

    def feed(self, line: bytes) -> None:
        self.number += 1
        if not line.endswith(b"\n"):
            raise _Wrong("line_broken", "the line does not end in a line feed: the report was broken off")
        if self.is_ended:
            raise _Wrong("line_unexpected", "something stands after the trailer")
        try:
            document = chain.parse(line[:-1])
        except chain.NotCanonical as error:
            raise _Wrong("line_malformed", str(error)) from None
        kinds = {"report": self._begin, "item": self._item, "trailer": self._end}
        kind = next((name for name in kinds if isinstance(document, dict) and isinstance(document.get(name), dict)), "")
        if not kind or (kind == "report") != (self.number == 1):
            raise _Wrong("line_malformed", "the line is not the one that belongs here")
        kinds[kind](document)

    def _begin(self, document: dict[str, Any]) -> None:
        report = document["report"]
        if report.get("format") != FORMAT or set(document) != {"report", "hash"}:
            raise _Wrong("header_malformed", "this is no report of a migration")
        self._follow(document)
        try:
            # Reports from before there were grades name none: all was to be read back.
            self.tally.grade = parse(report.get("proof", str(READ_BACK)))
        except (TypeError, ValueError):
            raise _Wrong("header_malformed", "the header names no proof that there is") from None
        self.verdict.proof = str(self.tally.grade)
        self.verdict.migration_id, self.verdict.tenant_id = report.get("migration_id"), report.get("tenant_id")

    def _item(self, document: dict[str, Any]) -> None:
        if set(document) != {"item", "hash", "n"}:
            raise _Wrong("line_malformed", "the line is no item of a report")
        expected = str(self.tally.items + 1)
        if document["n"] != expected:
            raise _Wrong("item_misplaced", f"item {document['n']} stands where {expected} must")
        self._follow(document)
        try:
            self.tally.add(document["item"])
        except (AttributeError, KeyError, TypeError, ValueError):  # the first is UUID's, of what is no text
            raise _Wrong("line_malformed", "the line is no item of a report") from None

    def _follow(self, document: dict[str, Any]) -> None:
        content = {name: value for name, value in document.items() if name != "hash"}
        if self.tally.link(content)["hash"] != document["hash"]:
            raise _Wrong("hash_wrong", "the line, or what it follows, was changed")

    def _end(self, document: dict[str, Any]) -> None:
        trailer = document["trailer"]
        if set(document) != {"trailer"} or set(trailer) != _TRAILER or trailer["format"] != FORMAT:
            raise _Wrong("trailer_malformed", "the line is no trailer of a report")
        for name, value in self.tally.totals().items():
            if trailer[name] != str(value):
                raise _Wrong(
                    "totals_differ", f"the lines add up to {name} {value}, and the trailer says {trailer[name]}"
                )
        if (trailer["migration_id"], trailer["tenant_id"]) != (self.verdict.migration_id, self.verdict.tenant_id):
            raise _Wrong("trailer_malformed", "the trailer is that of another report")
        self._check_signature(trailer)
        self.is_ended = True

    def _check_signature(self, trailer: dict[str, Any]) -> None:
        if self.keys is None:
            return
        key = self.keys.get(str(trailer["key_id"]))
        if key is None:
            raise _Wrong("key_unknown", f"the report is signed with {trailer['key_id']}, which was not given")
        unsigned = {name: value for name, value in trailer.items() if name != "signature"}
        try:
            signature = bytes.fromhex(trailer["signature"])
        except (ValueError, TypeError):
            signature = b""
        if not is_signed(key, chain.canonical(unsigned).encode("ascii"), signature):
            raise _Wrong("signature_wrong", "the trailer does not bear the signature of its key")
        self.verdict.is_signed = True


def verify_report(lines: Iterable[bytes], *, keys: Mapping[str, bytes] | None = None) -> Verdict:
    """Check a report, line by line; the first line that is wrong ends it. `keys`: public keys by id, which must have
    signed it; without them, a report made anew would look the same."""
    reader = _Reader(keys)
    verdict, tally = reader.verdict, reader.tally
    try:
        for line in lines:
            reader.feed(line)
        if not reader.is_ended:
            reader.number += 1
            raise _Wrong("tail_missing", "the report ends without its trailer")
    except _Wrong as wrong:
        verdict.breach = Breach(wrong.code, reader.number, wrong.message)
        verdict.is_signed = False
    verdict.items, verdict.size_bytes = tally.items, tally.size_bytes
    verdict.proven, verdict.waived, verdict.unproven = tally.proven, tally.waived, tally.unproven
    verdict.read_back = tally.read_back
    return verdict
