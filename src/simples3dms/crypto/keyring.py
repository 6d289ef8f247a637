"""The key ring: the keys that wrap data keys, from a file that only its owner can read, or from the environment."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from simples3dms.crypto.errors import KeyringFailed, SealKeyUnknown
from simples3dms.crypto.places import NO_ACCESS, ServiceAccess, wrapper_of
from simples3dms.crypto.wrapping import KEY_BYTES, KeyWrapper, LocalKey

#: Format 1 holds keys only; format 2, which is written as soon as it is needed, also keys that a service keeps.
FORMATS: Final = (1, 2)
LARGEST_FILE_BYTES: Final = 65_536
KEY_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Keyring:
    """Key-encrypting keys by id. New values are sealed under the primary one; old ones open under the key they name."""

    def __init__(
        self,
        keys: Mapping[str, bytes | KeyWrapper],
        primary_id: str,
        *,
        reread: Callable[[], Keyring | None] | None = None,
    ) -> None:
        """`reread`: the key ring as it is now, if it has changed since; asked when a key is missing."""
        self._keys = {key_id: _as_wrapper(key_id, key) for key_id, key in keys.items()}
        if primary_id not in self._keys:
            raise KeyringFailed("The key ring does not hold its primary key.")
        self.primary_id = primary_id
        self._reread = reread

    def __repr__(self) -> str:
        return f"Keyring(ids={self.ids}, primary_id={self.primary_id!r})"

    @property
    def ids(self) -> list[str]:
        return sorted(self._keys)

    def get_key(self, key_id: str) -> KeyWrapper:
        """The key's wrapper, for sealing and unsealing only. Raises SealKeyUnknown."""
        if key_id not in self._keys:
            self.refresh()
        key = self._keys.get(key_id)
        if key is None:
            raise SealKeyUnknown(
                f"The key ring holds no key {key_id!r}; put back the key ring that this value was sealed with.",
                key_id=key_id,
            )
        return key

    def choose(self, primary_id: str) -> None:
        """Seal what is new under this key from now on. Raises SealKeyUnknown."""
        if primary_id != self.primary_id:
            self.primary_id = self.get_key(primary_id).key_id

    def refresh(self) -> None:
        """Take up keys that the file has gained or lost. Which key is primary stays: the database says that."""
        found = self._reread() if self._reread else None
        if found is not None:
            kept = {self.primary_id: self._keys[self.primary_id]}
            self._keys = kept | found._keys


def _as_wrapper(key_id: str, key: bytes | KeyWrapper) -> KeyWrapper:
    wrong_bytes = isinstance(key, bytes) and len(key) != KEY_BYTES
    if not KEY_ID.fullmatch(key_id) or wrong_bytes:
        raise KeyringFailed(f"Every key of the key ring has an id and {KEY_BYTES} bytes.")
    return LocalKey(key_id, key) if isinstance(key, bytes) else key


def new_key_id() -> str:
    return f"k-{secrets.token_hex(4)}"


def load_keyring(text: str, access: ServiceAccess = NO_ACCESS) -> Keyring:
    """A key ring given as text (the same JSON as in the file). Raises KeyringFailed."""
    return _parse(text.encode(), access)


def load_or_create_keyring(path: Path, access: ServiceAccess = NO_ACCESS) -> Keyring:
    """The key ring in the file at `path`; made with one fresh key and mode 0600 if there is no file. Blocks.

    Two processes that start at once end with the same key ring. Keys that the file gains later are taken up when one
    of them is asked for. Raises KeyringFailed: `keyring_too_open` when anyone but the owner may read the file,
    `keyring_unreadable`, `keyring_malformed`.
    """
    try:
        if not path.exists():
            _create(path)
        seen = _mark(path)
        found = _parse(read_file(path), access)
    except OSError as error:
        raise unreadable(path, error) from error

    def reread() -> Keyring | None:
        nonlocal seen
        try:
            now = _mark(path)
            if now == seen:
                return None
            changed = _parse(read_file(path), access)
        except OSError as error:
            raise unreadable(path, error) from error
        seen = now
        return changed

    found._reread = reread
    return found


def unreadable(path: Path, error: OSError) -> KeyringFailed:
    message = f"The key ring file {path} can't be read or written: {error.strerror}."
    return KeyringFailed(message, code="keyring_unreadable")


def _mark(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _create(path: Path) -> None:
    """Write beside and link into place: the file is never seen half written, and never replaces another's."""
    key_id = new_key_id()
    document = {"format": 1, "primary": key_id, "keys": {key_id: new_local_key()}}
    draft = write_draft(path, document)
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink(missing_ok=True)
    sync_directory(path.parent)


def new_local_key() -> str:
    """A fresh key, as the file spells it."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def write_draft(path: Path, document: Mapping[str, Any]) -> Path:
    """The document in a file of its owner's beside `path`, safe on disk."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    return draft


def sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_file(path: Path) -> bytes:
    """The file's content, if it is its owner's alone and of a sensible size. Raises KeyringFailed, OSError."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise KeyringFailed(
                f"The key ring file {path} is open to others than its owner; run `chmod 600 {path}`.",
                code="keyring_too_open",
            )
        content = file.read(LARGEST_FILE_BYTES + 1)
    if len(content) > LARGEST_FILE_BYTES:
        raise KeyringFailed(f"The key ring file {path} is too large to be one.")
    return content


def parse_document(content: bytes) -> dict[str, Any]:
    """The JSON of a key ring, its outer shape checked. Raises KeyringFailed, which quotes nothing of it."""
    try:
        document: Any = json.loads(content, object_pairs_hook=_without_repeats)
        if document["format"] not in FORMATS or not isinstance(document["keys"], dict):
            raise ValueError("format")
        return {"format": document["format"], "primary": str(document["primary"]), "keys": document["keys"]}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        # `from None`: the original message may quote the file.
        raise KeyringFailed("The key ring is not a key ring; put back the right one from a backup.") from None


def _parse(content: bytes, access: ServiceAccess) -> Keyring:
    document = parse_document(content)
    try:
        keys = {key_id: wrapper_of(key_id, given, access) for key_id, given in document["keys"].items()}
        return Keyring(keys, document["primary"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise KeyringFailed("The key ring is not a key ring; put back the right one from a backup.") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice")
    return found
