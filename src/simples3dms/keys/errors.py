"""What stands in the way of a start, or of a change of keys."""

from __future__ import annotations

from collections.abc import Sequence

from simples3dms.errors import Conflict, Invalid, NotFound, Unavailable


def incomplete(missing: Sequence[str]) -> Unavailable:
    return Unavailable(
        f"Secrets in the database are sealed under keys that this key ring lacks: {', '.join(missing)}. "
        "Bring back the key ring that has them.",
        code="keyring_incomplete",
    )


def differs(wrong: Sequence[str]) -> Unavailable:
    return Unavailable(
        f"This key ring holds other keys than the database was sealed with, under the same ids: {', '.join(wrong)}. "
        "Give every process the key ring of this installation.",
        code="keyring_differs",
    )


def key_unknown(key_id: str) -> NotFound:
    return NotFound(f"The key ring holds no key {key_id!r}: see `simples3dms keys list`.", code="key_not_found")


def key_retired() -> Unavailable:
    return Unavailable("The key that sealed this was retired meanwhile; try again.", code="seal_key_retired")


def in_use(key_id: str, count: int) -> Conflict:
    return Conflict(
        f"{count} sealed rows name the key {key_id!r}: run `simples3dms keys rotate` first, and wait until it is done. "
        "Rows that were being written when it was changed follow within a minute.",
        code="key_in_use",
    )


def is_primary(key_id: str) -> Conflict:
    return Conflict(
        f"The key {key_id!r} seals what is new: choose another with `simples3dms keys rotate` first.",
        code="key_is_primary",
    )


def running() -> Conflict:
    return Conflict("Rows are being brought under a key already; wait until that is done.", code="rewrap_running")


def not_a_file() -> Invalid:
    return Invalid(
        "The key ring comes from SIMPLES3DMS_KEYRING and is not ours to write: change the variable, start all "
        "processes anew, then run `simples3dms keys rotate --to KEY`.",
        code="keyring_read_only",
    )


def not_started() -> NotFound:
    return NotFound("No change of keys has been started yet.", code="rewrap_not_found")
