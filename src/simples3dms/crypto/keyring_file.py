"""Changes to the key ring's file: one at a time, seen whole or not at all, and safe on disk before they count."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simples3dms.crypto.keyring import (
    KEY_ID,
    new_key_id,
    new_local_key,
    parse_document,
    read_file,
    sync_directory,
    unreadable,
    write_draft,
)
from simples3dms.crypto.places import check_description
from simples3dms.errors import Conflict, Invalid


def add_key(path: Path, key_id: str | None = None, description: Mapping[str, Any] | None = None) -> str:
    """Add a fresh key, or one that a service keeps; its id. It seals nothing yet. Blocks.

    Raises Invalid (`key_invalid`), Conflict (`key_exists`), KeyringFailed.
    """
    chosen = key_id or new_key_id()
    if not KEY_ID.fullmatch(chosen):
        raise Invalid("A key's id has lower-case letters, digits and hyphens.", code="key_invalid")
    if description is not None:
        try:
            check_description(description)
        except (ValueError, KeyError, TypeError):
            raise Invalid(
                "A key of AWS KMS needs its key and region, one of a transit engine its key and address.",
                code="key_invalid",
            ) from None
    with _changing(path) as document:
        if chosen in document["keys"]:
            raise Conflict(f"The key ring holds a key {chosen!r} already.", code="key_exists")
        document["keys"][chosen] = new_local_key() if description is None else dict(description)
    return chosen


def set_primary(path: Path, key_id: str) -> None:
    """Have a first start with this file seal under that key, if it holds it. Blocks."""
    with _changing(path) as document:
        if key_id in document["keys"]:
            document["primary"] = key_id


def remove_key(path: Path, key_id: str) -> None:
    """Take a key out of the file, if it is there; the primary one stays. Blocks."""
    with _changing(path) as document:
        if document["primary"] != key_id:
            document["keys"].pop(key_id, None)


@contextmanager
def _changing(path: Path) -> Iterator[dict[str, Any]]:
    """The file's content, to be changed within the block; it replaces the file at its end."""
    try:
        with path.with_name(f".{path.name}.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            document = parse_document(read_file(path))
            before = path.stat()
            yield document
            if any(not isinstance(key, str) for key in document["keys"].values()):
                document["format"] = 2
            draft = write_draft(path, document)
            try:
                if os.geteuid() == 0:
                    # As root, for a server that runs as somebody else.
                    os.chown(draft, before.st_uid, before.st_gid)
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
            sync_directory(path.parent)
    except OSError as error:
        raise unreadable(path, error) from error
