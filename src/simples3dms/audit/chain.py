"""The chain, to the byte: canonical JSON, an event's hash, an export's lines; `docs/explanation/audit.md` tells it.

Nothing here knows the database: who only has an export and a checkpoint needs no more than this and SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, TypeVar
from uuid import UUID

from simples3dms.audit.values import ChainedEvent, Checkpoint, Cut

S = TypeVar("S", Checkpoint, Cut)
EXPORT_FORMAT: Final = "simples3dms-audit-export-v1"
CHECKPOINT_FORMAT: Final = "simples3dms-audit-checkpoint-v1"
CUT_FORMAT: Final = "simples3dms-audit-cut-v1"
#: What the first event follows.
GENESIS: Final = bytes(32)
_EVENT_TAG: Final = b"simples3dms-audit-event-v1\x00"


class Number(str):
    """A number of JSON as it was spelled: two spellings of one value are two texts, and must not have one hash."""

    __slots__ = ()


class NotCanonical(ValueError):
    """The text is no JSON, or has another spelling of the same value."""


def canonical(value: Any) -> str:
    """JSON with sorted names, no space, and ASCII only: one value, one text, one line.

    A string has `\\"`, `\\\\`, `\\b`, `\\f`, `\\n`, `\\r`, `\\t`, and `\\uxxxx` (lower case, surrogates in pairs) for
    every other character below U+0020 and above U+007E.
    """
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        members = (f"{json.dumps(name)}:{canonical(value[name])}" for name in sorted(value))
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    raise TypeError(f"{type(value).__name__} has no canonical JSON")


def loads(text: str) -> Any:
    """Any JSON, its numbers as they are spelled. Raises NotCanonical for what is none, or names a member twice."""
    try:
        return json.loads(
            text, parse_int=Number, parse_float=Number, parse_constant=_refuse, object_pairs_hook=_without_repeats
        )
    except (ValueError, RecursionError):
        raise NotCanonical("this is no JSON") from None


def parse(line: bytes) -> Any:
    """A line, without its line feed, that must be canonical. Raises NotCanonical."""
    try:
        text = line.decode("ascii")
    except UnicodeDecodeError:
        raise NotCanonical("canonical JSON is ASCII only") from None
    value = loads(text)
    if canonical(value) != text:
        raise NotCanonical("this is another spelling than the canonical one")
    return value


def _refuse(_constant: str) -> NoReturn:
    raise ValueError


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def spell_time(at: datetime) -> str:
    """UTC with six decimals: `2026-01-02T03:04:05.000006Z`."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def event_document(event: ChainedEvent) -> dict[str, Any]:
    """The event as it is hashed and exported."""
    return {
        "action": event.action,
        "at": spell_time(event.at),
        "details": loads(event.details),
        "id": str(event.id),
        "outcome": event.outcome,
        "principal_id": None if event.principal_id is None else str(event.principal_id),
        "principal_name": event.principal_name,
        "target_id": event.target_id,
        "target_type": event.target_type,
    }


def link(previous: bytes, seq: int, tenant_id: UUID, event: str) -> bytes:
    """The hash of the event number `seq`: over the tag, the hash before (32 bytes), the number (8, big-endian), the
    tenant (16) and the event's canonical JSON. All but the last have a fixed length, so no two inputs look alike."""
    return hashlib.sha256(
        _EVENT_TAG + previous + seq.to_bytes(8, "big") + tenant_id.bytes + event.encode("ascii")
    ).digest()


def header_line(tenant_id: UUID, *, after_seq: int, after_hash: bytes, cut: Cut | None) -> str:
    """The first line of an export: whose it is, and what its first event follows."""
    return canonical(
        {
            "after_hash": after_hash.hex(),
            "after_seq": after_seq,
            "cut": None if cut is None else cut_document(cut),
            "format": EXPORT_FORMAT,
            "tenant_id": str(tenant_id),
        }
    )


def event_line(event: ChainedEvent) -> str:
    """A line of an export. `{"event":` and the rest: whoever hashes it needs no parser."""
    assert event.seq is not None
    assert event.hash is not None
    return canonical({"event": event_document(event), "hash": event.hash.hex(), "seq": event.seq})


def checkpoint_document(checkpoint: Checkpoint) -> dict[str, Any]:
    return _unsigned_checkpoint(checkpoint) | {"signature": checkpoint.signature.hex()}


def cut_document(cut: Cut) -> dict[str, Any]:
    return _unsigned_cut(cut) | {"signature": cut.signature.hex()}


def checkpoint_message(checkpoint: Checkpoint) -> bytes:
    """What is signed: the document's canonical JSON without the signature."""
    return canonical(_unsigned_checkpoint(checkpoint)).encode("ascii")


def cut_message(cut: Cut) -> bytes:
    return canonical(_unsigned_cut(cut)).encode("ascii")


def _unsigned_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "at": spell_time(checkpoint.at),
        "format": CHECKPOINT_FORMAT,
        "hash": checkpoint.hash.hex(),
        "key_id": checkpoint.key_id,
        "seq": checkpoint.seq,
        "tenant_id": str(checkpoint.tenant_id),
    }


def _unsigned_cut(cut: Cut) -> dict[str, Any]:
    return {
        "at": spell_time(cut.at),
        "days": cut.days,
        "format": CUT_FORMAT,
        "hash": cut.hash.hex(),
        "key_id": cut.key_id,
        "seq": cut.seq,
        "tenant_id": str(cut.tenant_id),
    }


def parse_checkpoint(document: Any) -> Checkpoint:
    """Raises NotCanonical for what is no checkpoint."""
    checkpoint = Checkpoint(**_fields(document, CHECKPOINT_FORMAT))
    return _same(checkpoint, checkpoint_document(checkpoint), document)


def parse_cut(document: Any) -> Cut:
    """Raises NotCanonical for what is no cut."""
    cut = Cut(**_fields(document, CUT_FORMAT))
    return _same(cut, cut_document(cut), document)


def _same(value: S, spelled: dict[str, Any], document: Any) -> S:
    """Only one spelling of it counts: in another, a byte has been changed that no signature would show."""
    if canonical(spelled) != canonical(document):
        raise NotCanonical("this is another spelling than the canonical one")
    return value


def _fields(document: Any, wanted: str) -> dict[str, Any]:
    names = {"at", "format", "hash", "key_id", "seq", "signature", "tenant_id"}
    names |= {"days"} if wanted == CUT_FORMAT else set()
    try:
        if set(document) != names or document["format"] != wanted:
            raise ValueError
        found: dict[str, Any] = {
            "tenant_id": UUID(document["tenant_id"]),
            "seq": int(document["seq"]),
            "hash": bytes.fromhex(document["hash"]),
            "at": datetime.fromisoformat(document["at"]),
            "key_id": str(document["key_id"]),
            "signature": bytes.fromhex(document["signature"]),
        }
        if wanted == CUT_FORMAT:
            found["days"] = int(document["days"])
    except (ValueError, TypeError, KeyError, AttributeError):
        raise NotCanonical(f"this is no {wanted}") from None
    return found
