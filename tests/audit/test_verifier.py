"""The verifier, offline: whatever is done to an export is found, and the first bad event named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simples3dms.audit import chain
from simples3dms.audit.values import ChainedEvent, Checkpoint, Cut
from simples3dms.audit.verifier import Verdict, verify
from simples3dms.crypto.signing import key_id_of, new_key_pair, sign

TENANT, OTHER = UUID(int=7), UUID(int=8)
PAIR, FOREIGN = new_key_pair(), new_key_pair()
KEYS = {key_id_of(PAIR.public): PAIR.public}
AT = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)


@dataclass(frozen=True)
class Kept:
    """An export with the checkpoint of its end and one of its middle."""

    lines: list[bytes]
    end: Checkpoint
    middle: Checkpoint
    start: int = 0

    def verdict(self, lines: list[bytes] | None = None, *, signed: bool = True) -> Verdict:
        given = self.lines if lines is None else lines
        return verify(given, checkpoints=[self.middle, self.end], keys=KEYS if signed else None)


def event(number: int, *, name: str = "anna@example.org") -> ChainedEvent:
    details = json.dumps({"size_bytes": number, "name": f"r\u00e9sum\u00e9\u2028{number}\x1b[31m\r\n", "rate": 1.5})
    return ChainedEvent(
        UUID(int=number),
        AT,
        UUID(int=1),
        name,
        "document.uploaded",
        "document",
        f"d{number}",
        "done",
        details,
        None,
        None,
    )


def sealed(count: int, *, tenant: UUID = TENANT, start: int = 0, before: bytes = chain.GENESIS) -> list[ChainedEvent]:
    events = []
    for number in range(start + 1, start + count + 1):
        one = event(number)
        before = chain.link(before, number, tenant, chain.canonical(chain.event_document(one)))
        events.append(replace(one, seq=number, hash=before))
    return events


def sign_off(one: ChainedEvent, *, tenant: UUID = TENANT, pair: object = PAIR) -> Checkpoint:
    assert one.seq is not None
    assert one.hash is not None
    unsigned = Checkpoint(tenant, one.seq, one.hash, AT, key_id_of(PAIR.public), b"")
    return replace(unsigned, signature=sign(getattr(pair, "private"), chain.checkpoint_message(unsigned)))  # noqa: B009


def lines_of(events: list[ChainedEvent], *, tenant: UUID = TENANT, cut: Cut | None = None) -> list[bytes]:
    first = (events[0].seq or 1) - 1
    header = chain.header_line(tenant, after_seq=first, after_hash=cut.hash if cut else chain.GENESIS, cut=cut)
    return [line.encode() + b"\n" for line in (header, *map(chain.event_line, events))]


def kept(*, with_cut: bool = False) -> Kept:
    if not with_cut:
        events = sealed(6)
        return Kept(lines_of(events), sign_off(events[-1]), sign_off(events[2]))
    before = sealed(4)
    last = before[-1].hash
    assert last is not None
    unsigned = Cut(TENANT, 4, last, AT, 365, key_id_of(PAIR.public), b"")
    cut = replace(unsigned, signature=sign(PAIR.private, chain.cut_message(unsigned)))
    events = sealed(6, start=4, before=last)
    return Kept(lines_of(events, cut=cut), sign_off(events[-1]), sign_off(events[2]), start=4)


@pytest.mark.parametrize("with_cut", [False, True])
def test_what_was_not_touched_is_good(with_cut: bool) -> None:
    whole = kept(with_cut=with_cut)
    verdict = whole.verdict()
    assert verdict.breach is None
    assert (verdict.event_count, verdict.checkpoint_count, verdict.given_count) == (6, 2, 2)
    assert verdict.proven_seq == verdict.last_seq == whole.start + 6
    assert verdict.last_hash == whole.end.hash
    assert whole.verdict(signed=False).is_good


def rehashed(lines: list[bytes], *, tenant: UUID = TENANT) -> list[bytes]:
    """The chain computed anew over what the lines say now."""
    header, before = lines[0], chain.GENESIS
    out = [header]
    for number, line in enumerate(lines[1:], 1):
        document = json.loads(line, parse_float=chain.Number)
        before = chain.link(before, number, tenant, chain.canonical(document["event"]))
        out.append(chain.canonical(document | {"seq": number, "hash": before.hex()}).encode() + b"\n")
    return out


def edited(line: bytes) -> bytes:
    return line.replace(b"anna@", b"eve.@")


FOREIGN_LINES = lines_of(sealed(6, tenant=OTHER), tenant=OTHER)
#: What is done -> how, the code, and the number of the first bad event.
DONE: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str, int | None]] = {
    "edit": (lambda it: [*it[:4], edited(it[4]), *it[5:]], "hash_wrong", 4),
    "edit of the first": (lambda it: [it[0], edited(it[1]), *it[2:]], "hash_wrong", 1),
    "edit of the last": (lambda it: [*it[:6], edited(it[6])], "hash_wrong", 6),
    "deletion in the middle": (lambda it: [*it[:3], *it[4:]], "event_missing", 3),
    "deletion of the first": (lambda it: [it[0], *it[2:]], "event_missing", 1),
    "cut tail": (lambda it: it[:-2], "tail_missing", 5),
    "everything cut": (lambda it: it[:1], "tail_missing", 1),
    "re-order": (lambda it: [*it[:2], it[3], it[2], *it[4:]], "event_missing", 2),
    "insertion of a copy": (lambda it: [*it[:3], it[2], *it[3:]], "event_misplaced", 3),
    "insertion with a number": (
        lambda it: [*it[:3], it[2].replace(b'"seq":2}', b'"seq":3}'), *it[3:]],
        "hash_wrong",
        3,
    ),
    "another tenant's rows": (lambda it: [*it[:3], *FOREIGN_LINES[3:]], "hash_wrong", 3),
    "another tenant's export": (lambda _: FOREIGN_LINES, "other_tenant", None),
    "another tenant's rows under our name": (lambda it: [it[0], *FOREIGN_LINES[1:]], "hash_wrong", 1),
    "re-hashed after an edit": (
        lambda it: rehashed([*it[:5], edited(it[5]), *it[6:]]),
        "checkpoint_differs",
        4,
    ),
    "re-hashed after a deletion": (lambda it: rehashed([*it[:2], *it[3:]]), "checkpoint_differs", 1),
    "re-hashed after an insertion": (lambda it: rehashed([*it[:2], it[2], *it[2:]]), "checkpoint_differs", 1),
    "re-hashed after a re-order": (lambda it: rehashed([*it[:5], it[6], it[5]]), "checkpoint_differs", 4),
    "no header": (lambda it: it[1:], "header_malformed", None),
    "nothing": (lambda _: [], "header_malformed", None),
    "broken off": (lambda it: [*it[:6], it[6][:-1]], "line_broken", None),
    "more after the end": (lambda it: [*it, b"\n"], "line_malformed", 7),
    "another spelling": (lambda it: [*it[:2], it[2].replace(b'"seq":2', b'"seq": 2'), *it[3:]], "line_malformed", 2),
    "a member named twice": (
        lambda it: [*it[:2], it[2].replace(b'"seq":2}', b'"seq":2,"seq":2}'), *it[3:]],
        "line_malformed",
        2,
    ),
}


@pytest.mark.parametrize("name", DONE)
def test_s44_what_is_done_to_an_export_is_found(name: str) -> None:
    do, code, seq = DONE[name]
    for signed in (True, False):
        whole = kept()
        breach = whole.verdict(do(whole.lines), signed=signed).breach
        assert breach is not None
        assert (breach.code, breach.seq) == (code, seq), breach.message


@given(st.data(), st.booleans())
def test_s44_any_change_of_any_byte_is_found(data: st.DataObject, with_cut: bool) -> None:
    """Changed, removed or inserted, in the header, the cut, an event, a hash, a number or a line feed."""
    whole = kept(with_cut=with_cut)
    export = b"".join(whole.lines)
    at = data.draw(st.integers(0, len(export) - 1))
    kind = data.draw(st.sampled_from(["change", "remove", "insert"]))
    byte = bytes([data.draw(st.integers(0, 255))])
    tail = export[at:] if kind == "insert" else export[at + 1 :]
    changed = export[:at] + (b"" if kind == "remove" else byte) + tail
    if changed == export:
        return
    lines = changed.splitlines(keepends=True) if b"\r" not in changed else changed.split(b"\n")
    whole_lines = (
        [line if line.endswith(b"\n") else line + b"\n" for line in lines if line] if b"\r" in changed else lines
    )
    assert whole.verdict(whole_lines).breach is not None


@given(st.integers(0, 5), st.integers(0, 5))
def test_any_exchange_of_two_events_is_found(one: int, two: int) -> None:
    whole = kept()
    lines = list(whole.lines)
    lines[one + 1], lines[two + 1] = lines[two + 1], lines[one + 1]
    assert whole.verdict(lines).is_good == (one == two)


def test_a_checkpoint_must_be_signed_with_a_key_that_is_known() -> None:
    events = sealed(3)
    good, lines = sign_off(events[-1]), lines_of(events)
    forged = sign_off(events[-1], pair=FOREIGN)
    assert (verify(lines, checkpoints=[forged], keys=KEYS).breach or good).code == "signature_wrong"  # type: ignore[union-attr]
    for altered in (replace(good, at=AT.replace(year=2027)), replace(good, seq=2), replace(good, hash=bytes(32))):
        breach = verify(lines, checkpoints=[altered], keys=KEYS).breach
        assert breach is not None
        assert breach.code == "signature_wrong"
    breach = verify(lines, checkpoints=[good], keys={}).breach
    assert breach is not None
    assert breach.code == "key_unknown"
    # An id follows from its key: another key can't take it.
    breach = verify(lines, checkpoints=[forged], keys={forged.key_id: FOREIGN.public}).breach
    assert breach is not None
    assert breach.code == "key_unknown"


def test_two_checkpoints_that_contradict_each_other_are_found() -> None:
    """A server that shows different chains to different people."""
    events, others = sealed(3), sealed(3, before=bytes([1] * 32))
    breach = verify(lines_of(events), checkpoints=[sign_off(events[2]), sign_off(others[2])], keys=KEYS).breach
    assert breach is not None
    assert breach.code == "checkpoints_differ"


def test_a_part_is_proven_by_a_checkpoint_of_its_start_or_of_a_later_event() -> None:
    events = sealed(6)
    rest = events[3:]
    before = events[2]
    assert before.hash is not None
    header = chain.header_line(TENANT, after_seq=3, after_hash=before.hash, cut=None)
    lines = [line.encode() + b"\n" for line in (header, *map(chain.event_line, rest))]
    assert verify(lines, checkpoints=[sign_off(before)], keys=KEYS).is_good
    assert verify(lines, checkpoints=[sign_off(events[4])], keys=KEYS).is_good
    breach = verify(lines, keys=KEYS).breach
    assert breach is not None
    assert (breach.code, breach.seq) == ("start_unproven", 4)


def test_a_cut_proves_the_start_only_with_its_signature() -> None:
    whole = kept(with_cut=True)
    assert verify(whole.lines, keys=KEYS).is_good
    breach = verify(whole.lines).breach
    assert breach is not None
    assert breach.code == "start_unproven"


def test_the_recipe_of_the_documentation_gives_the_same_hash() -> None:
    """With nothing but SHA-256 and the bytes of the line, as `docs/explanation/audit.md` tells it."""
    import hashlib

    before = bytes(32)
    for number, line in enumerate(kept().lines[1:], 1):
        text = line.decode("ascii").rstrip("\n")
        body = text[len('{"event":') : text.rindex(',"hash":"')]
        given_hash = text[text.rindex(',"hash":"') + 9 :][:64]
        before = hashlib.sha256(
            b"simples3dms-audit-event-v1\x00" + before + number.to_bytes(8, "big") + TENANT.bytes + body.encode()
        ).digest()
        assert before.hex() == given_hash


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_canonical_json_is_one_ascii_line_that_says_the_same(value: object) -> None:
    text = chain.canonical(value)
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text) == value
    assert chain.canonical(chain.loads(text)) == text


def test_s43_an_event_is_one_line_whatever_is_in_its_fields() -> None:
    hostile = 'a\r\n{"seq":9}\x1b[2J\u2028\u2029\x85\x7f\u202e=cmd()'
    one = replace(
        event(1, name=hostile), target_id=hostile, details=json.dumps({hostile: hostile}), seq=1, hash=bytes(32)
    )
    line = chain.event_line(one)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["event"]["principal_name"] == hostile
