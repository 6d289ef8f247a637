"""Check an export against its own chain, and against checkpoints that somebody has kept. It needs no server.

The first thing that is wrong ends it. Memory stays the same however long the export is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from simples3dms.audit import chain
from simples3dms.audit.values import Checkpoint, Cut
from simples3dms.crypto.signing import is_signed, key_id_of

_HEADER: Final = {"after_hash", "after_seq", "cut", "format", "tenant_id"}
_EVENT: Final = {
    "action",
    "at",
    "details",
    "id",
    "outcome",
    "principal_id",
    "principal_name",
    "target_id",
    "target_type",
}


@dataclass(frozen=True, slots=True)
class Breach:
    """What is wrong first: a stable code, the number of the event, the line of the file, and one sentence."""

    code: str
    seq: int | None
    line: int | None
    message: str


@dataclass(slots=True)
class Verdict:
    """What was checked. `is_proven`: some checkpoint vouches for the end; `is_signed`: its signature was checked."""

    tenant_id: UUID | None = None
    first_seq: int = 0
    last_seq: int = 0
    last_hash: bytes = b""
    event_count: int = 0
    checkpoint_count: int = 0
    given_count: int = 0
    proven_seq: int = 0
    is_signed: bool = False
    breach: Breach | None = None

    @property
    def is_good(self) -> bool:
        return self.breach is None


class _Wrong(Exception):
    def __init__(self, code: str, message: str, seq: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.seq = seq


@dataclass(slots=True)
class Verifier:
    """Feed it the lines of an export, each with its line feed, and `finish`.

    `checkpoints` are those that one trusts or, with `keys` (public keys by id), those that must be signed.
    """

    checkpoints: Iterable[Checkpoint] = ()
    keys: Mapping[str, bytes] | None = None
    verdict: Verdict = field(default_factory=Verdict)
    _by_seq: dict[int, Checkpoint] = field(default_factory=dict)
    _hash: bytes = chain.GENESIS
    _seq: int = 0
    _line: int = 0
    _is_start_proven: bool = False

    def __post_init__(self) -> None:
        self.verdict.is_signed = self.keys is not None
        try:
            for checkpoint in self.checkpoints:
                self._take(checkpoint)
        except _Wrong as wrong:
            self._stop(wrong)

    def feed(self, line: bytes) -> bool:
        """One line; False once something is wrong, and more lines make no difference."""
        if self.verdict.breach is not None:
            return False
        self._line += 1
        try:
            if not line.endswith(b"\n"):
                raise _Wrong("line_broken", "the line does not end in a line feed: the export was broken off")
            try:
                document = chain.parse(line[:-1])
            except chain.NotCanonical as error:
                raise _Wrong("line_malformed", str(error), self._seq + 1 if self._line > 1 else None) from None
            if self._line == 1:
                self._begin(document)
            else:
                self._check(document)
        except _Wrong as wrong:
            self._stop(wrong)
            return False
        return True

    def finish(self) -> Verdict:
        """After the last line: does the export reach as far as the checkpoints say, from where it must?"""
        if self.verdict.breach is None:
            try:
                self._end()
            except _Wrong as wrong:
                self._line = 0
                self._stop(wrong)
        return self.verdict

    def _stop(self, wrong: _Wrong) -> None:
        self.verdict.breach = Breach(wrong.code, wrong.seq, self._line or None, wrong.message)

    def _take(self, checkpoint: Checkpoint) -> None:
        message = chain.checkpoint_message(checkpoint)
        self._require_signature(checkpoint.key_id, message, checkpoint.signature, f"checkpoint {checkpoint.seq}")
        self.verdict.given_count += checkpoint.seq not in self._by_seq
        known = self._by_seq.setdefault(checkpoint.seq, checkpoint)
        if (known.hash, known.tenant_id) != (checkpoint.hash, checkpoint.tenant_id):
            raise _Wrong("checkpoints_differ", "two checkpoints of the same number tell different hashes", known.seq)

    def _require_signature(self, key_id: str, message: bytes, signature: bytes, what: str) -> None:
        if self.keys is None:
            return
        public = self.keys.get(key_id)
        if public is None or key_id_of(public) != key_id:
            raise _Wrong("key_unknown", f"the {what} is signed with the key {key_id}, which is not among those given")
        if not is_signed(public, message, signature):
            raise _Wrong("signature_wrong", f"the signature of the {what} is wrong")

    def _begin(self, header: Any) -> None:
        try:
            if set(header) != _HEADER or header["format"] != chain.EXPORT_FORMAT:
                raise ValueError
            tenant_id, self._seq = UUID(header["tenant_id"]), int(header["after_seq"])
            self._hash = bytes.fromhex(header["after_hash"])
            cut = None if header["cut"] is None else chain.parse_cut(header["cut"])
            again = chain.header_line(tenant_id, after_seq=self._seq, after_hash=self._hash, cut=cut)
        except (ValueError, TypeError, AttributeError):
            raise _Wrong("header_malformed", "the first line is no header of an export") from None
        if again != chain.canonical(header):
            raise _Wrong("header_malformed", "the first line is spelled differently than a header is")
        self.verdict.tenant_id, self.verdict.first_seq = tenant_id, self._seq + 1
        if any(checkpoint.tenant_id != tenant_id for checkpoint in self._by_seq.values()):
            raise _Wrong("other_tenant", "the checkpoints are another tenant's")
        self._prove_start(tenant_id, cut)
        self._compare()

    def _prove_start(self, tenant_id: UUID, cut: Cut | None) -> None:
        """From the very first event, or from a signed cut; anywhere else only a checkpoint can tell, later."""
        if self._seq == 0:
            if self._hash != chain.GENESIS or cut is not None:
                raise _Wrong("start_wrong", "the export begins with the first event, and names something before it")
            self._is_start_proven = True
        if cut is None:
            return
        self._require_signature(cut.key_id, chain.cut_message(cut), cut.signature, f"cut at {cut.seq}")
        if cut.tenant_id != tenant_id or cut.seq > self._seq or (cut.seq == self._seq and cut.hash != self._hash):
            raise _Wrong("cut_wrong", "the cut is not where the export begins")
        if cut.seq == self._seq and self.keys is not None:
            self._is_start_proven = True

    def _check(self, document: Any) -> None:
        expected = self._seq + 1
        if not isinstance(document, dict) or set(document) != {"event", "hash", "seq"}:
            raise _Wrong("line_malformed", "the line is no event of an export", expected)
        event, seq = document["event"], document["seq"]
        if not isinstance(event, dict) or set(event) != _EVENT or not isinstance(seq, chain.Number):
            raise _Wrong("line_malformed", "the line is no event of an export", expected)
        if seq != str(expected):
            raise _Wrong(*_misplaced(str(seq), expected))
        assert self.verdict.tenant_id is not None
        found = chain.link(self._hash, expected, self.verdict.tenant_id, chain.canonical(event))
        if found.hex() != document["hash"]:
            raise _Wrong(
                "hash_wrong",
                f"event {expected} does not hash to what is recorded: it, or what it follows, was changed",
                expected,
            )
        self._seq, self._hash = expected, found
        self.verdict.event_count += 1
        self._compare()

    def _compare(self) -> None:
        checkpoint = self._by_seq.get(self._seq)
        if checkpoint is None:
            return
        if checkpoint.hash != self._hash:
            since = self.verdict.proven_seq + 1
            raise _Wrong(
                "checkpoint_differs",
                f"the checkpoint of event {self._seq} tells another hash: one of the events {since} to {self._seq} "
                "was changed and the chain computed anew",
                max(since, self.verdict.first_seq),
            )
        self.verdict.proven_seq = self._seq
        self.verdict.checkpoint_count += 1
        self._is_start_proven = True

    def _end(self) -> None:
        if self._line == 0:
            raise _Wrong("header_malformed", "the export is empty")
        self.verdict.last_seq, self.verdict.last_hash = self._seq, self._hash
        newest = max(self._by_seq, default=0)
        if newest > self._seq:
            raise _Wrong(
                "tail_missing",
                f"the export ends with event {self._seq}, and a checkpoint vouches for {newest}",
                self._seq + 1,
            )
        if not self._is_start_proven:
            raise _Wrong(
                "start_unproven",
                f"nothing proves what came before event {self.verdict.first_seq}: "
                "give a checkpoint of it or of a later event, or the public keys if the trail was cut",
                self.verdict.first_seq,
            )


def _misplaced(seq: str, expected: int) -> tuple[str, str, int]:
    if seq.isdecimal() and int(seq) > expected:
        return "event_missing", f"event {expected} is missing: {seq} stands in its place", expected
    return "event_misplaced", f"event {seq} stands where {expected} must", expected


def verify(
    lines: Iterable[bytes], *, checkpoints: Iterable[Checkpoint] = (), keys: Mapping[str, bytes] | None = None
) -> Verdict:
    """Check an export, line by line."""
    verifier = Verifier(checkpoints, keys)
    for line in lines:
        if not verifier.feed(line):
            break
    return verifier.finish()
