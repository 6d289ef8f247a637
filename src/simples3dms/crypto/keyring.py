"""The key ring: the keys that wrap data keys, kept in one file that only its owner can read."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from simples3dms.crypto.errors import KeyringFailed, SealKeyUnknown

KEY_BYTES: Final = 32
_FORMAT: Final = 1
_LARGEST_FILE_BYTES: Final = 65_536
_KEY_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Keyring:
    """Key-encrypting keys by id. New values are sealed under the primary one; old ones open under the key they name."""

    __slots__ = ("_keys", "primary_id")

    def __init__(self, keys: Mapping[str, bytes], primary_id: str) -> None:
        if primary_id not in keys:
            raise KeyringFailed("The key ring does not hold its primary key.")
        for key_id, key in keys.items():
            if not _KEY_ID.fullmatch(key_id) or len(key) != KEY_BYTES:
                raise KeyringFailed(f"Every key of the key ring has an id and {KEY_BYTES} bytes.")
        self._keys = dict(keys)
        self.primary_id = primary_id

    def __repr__(self) -> str:
        return f"Keyring(ids={self.ids}, primary_id={self.primary_id!r})"

    @property
    def ids(self) -> list[str]:
        return sorted(self._keys)

    def get_key(self, key_id: str) -> bytes:
        """The key's bytes, for sealing and unsealing only. Raises SealKeyUnknown."""
        key = self._keys.get(key_id)
        if key is None:
            raise SealKeyUnknown(
                f"The key ring holds no key {key_id!r}; put back the key ring file that this value was sealed with.",
                key_id=key_id,
            )
        return key


def load_or_create_keyring(path: Path) -> Keyring:
    """The key ring in the file at `path`; made with one fresh key and mode 0600 if there is no file. Blocks.

    Two processes that start at once end with the same key ring. Raises KeyringFailed: `keyring_too_open` when
    anyone but the owner may read the file, `keyring_unreadable`, `keyring_malformed`.
    """
    try:
        if not path.exists():
            _create(path)
        return _parse(_read(path))
    except OSError as error:
        raise KeyringFailed(
            f"The key ring file {path} can't be read or written: {error.strerror}.", code="keyring_unreadable"
        ) from error


def _create(path: Path) -> None:
    """Write beside and link into place: the file is never seen half written, and never replaces another's."""
    key_id = f"k-{secrets.token_hex(4)}"
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump({"format": _FORMAT, "primary": key_id, "keys": {key_id: key}}, file)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink(missing_ok=True)
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise KeyringFailed(
                f"The key ring file {path} is open to others than its owner; run `chmod 600 {path}`.",
                code="keyring_too_open",
            )
        content = file.read(_LARGEST_FILE_BYTES + 1)
    if len(content) > _LARGEST_FILE_BYTES:
        raise KeyringFailed(f"The key ring file {path} is too large to be one.")
    return content


def _parse(content: bytes) -> Keyring:
    try:
        document: Any = json.loads(content, object_pairs_hook=_without_repeats)
        if document["format"] != _FORMAT:
            raise ValueError("format")
        keys = {str(key_id): base64.b64decode(key, validate=True) for key_id, key in document["keys"].items()}
        return Keyring(keys, str(document["primary"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error):
        # `from None`: the original message may quote the file.
        raise KeyringFailed("The key ring file is not a key ring; put back the right file from a backup.") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice")
    return found
