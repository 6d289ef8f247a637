"""The account, its keys and its buckets, in an SQLite file that a killed server finds again as it was."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# synchronous=OFF: a killed process loses nothing, only a power cut could; this is no place for what must survive one.
_SCHEMA = """
PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA cache_size = -16000;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bucket (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, settings TEXT NOT NULL,
    revision INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS key (id TEXT PRIMARY KEY, secret TEXT NOT NULL, name TEXT NOT NULL,
    capabilities TEXT NOT NULL, buckets TEXT, prefix TEXT, expires_at INTEGER);
CREATE TABLE IF NOT EXISTS file (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
    bucket_id TEXT NOT NULL, name TEXT NOT NULL, action TEXT NOT NULL, size INTEGER NOT NULL, content_type TEXT,
    sha1 TEXT, info TEXT NOT NULL, encryption TEXT, uploaded_at INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS file_listing ON file (bucket_id, name, uploaded_at DESC, seq DESC);
CREATE TABLE IF NOT EXISTS part (file_id TEXT NOT NULL, number INTEGER NOT NULL, size INTEGER NOT NULL,
    sha1 TEXT NOT NULL, uploaded_at INTEGER NOT NULL, PRIMARY KEY (file_id, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS segment (file_id TEXT NOT NULL, part INTEGER NOT NULL, position INTEGER NOT NULL,
    blob TEXT NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL,
    PRIMARY KEY (file_id, part, position)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lock (file_id TEXT PRIMARY KEY, mode TEXT, until INTEGER, hold TEXT) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS segment_blob ON segment (blob);
"""


def now_ms() -> int:
    return int(time.time() * 1000)


@dataclass(frozen=True, slots=True)
class Key:
    """An application key and what it may do; `bucket_ids` None means every bucket."""

    id: str
    secret: str
    name: str
    capabilities: frozenset[str]
    bucket_ids: tuple[str, ...] | None = None
    prefix: str | None = None
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket; `settings` are the vendor's field names (bucketType, bucketInfo, lifecycleRules ...)."""

    id: str
    name: str
    settings: dict[str, Any]
    revision: int

    @property
    def has_lock(self) -> bool:
        return bool(self.settings.get("fileLockEnabled"))

    @property
    def is_public(self) -> bool:
        return bool(self.settings["bucketType"] == "allPublic")


class Records:
    """Meta values, keys and buckets. Everything runs on the event loop's thread."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, cached_statements=256)
        self.connection.executescript(_SCHEMA)
        self._keys: dict[str, Key] = {}

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def get_meta(self, name: str, default: str) -> str:
        """The value, put down as `default` at first."""
        self.connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, default))
        row = self.connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return str(row[0])

    def set_meta(self, name: str, value: str) -> None:
        self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def find_key(self, key_id: str) -> Key | None:
        if key_id not in self._keys:
            row = self.connection.execute("SELECT * FROM key WHERE id = ?", (key_id,)).fetchone()
            if row is None:
                return None
            self._keys[key_id] = _key(row)
        return self._keys[key_id]

    def list_keys(self, start: str, limit: int) -> list[Key]:
        rows = self.connection.execute("SELECT * FROM key WHERE id >= ? ORDER BY id LIMIT ?", (start, limit))
        return [_key(row) for row in rows]

    def put_key(self, key: Key) -> None:
        self._keys.pop(key.id, None)
        bucket_ids = None if key.bucket_ids is None else json.dumps(key.bucket_ids)
        values = (key.id, key.secret, key.name, json.dumps(sorted(key.capabilities)), bucket_ids)
        self.connection.execute(
            "INSERT OR REPLACE INTO key VALUES (?, ?, ?, ?, ?, ?, ?)", (*values, key.prefix, key.expires_at)
        )

    def delete_key(self, key_id: str) -> None:
        self._keys.pop(key_id, None)
        self.connection.execute("DELETE FROM key WHERE id = ?", (key_id,))

    def find_bucket(self, *, bucket_id: str | None = None, name: str | None = None) -> Bucket | None:
        column, value = ("id", bucket_id) if bucket_id is not None else ("name", name)
        row = self.connection.execute(f"SELECT * FROM bucket WHERE {column} = ?", (value,)).fetchone()  # noqa: S608
        return None if row is None else _bucket(row)

    def list_buckets(self) -> list[Bucket]:
        return [_bucket(row) for row in self.connection.execute("SELECT * FROM bucket ORDER BY name")]

    def add_bucket(self, name: str, settings: dict[str, Any]) -> Bucket:
        """The name must be free."""
        bucket = Bucket(secrets.token_hex(12), name, settings, 1)
        self.connection.execute("INSERT INTO bucket VALUES (?, ?, ?, 1)", (bucket.id, name, json.dumps(settings)))
        return bucket

    def update_bucket(self, bucket: Bucket, changes: dict[str, Any]) -> Bucket:
        updated = Bucket(bucket.id, bucket.name, {**bucket.settings, **changes}, bucket.revision + 1)
        self.connection.execute(
            "UPDATE bucket SET settings = ?, revision = ? WHERE id = ?",
            (json.dumps(updated.settings), updated.revision, bucket.id),
        )
        return updated

    def delete_bucket(self, bucket_id: str) -> None:
        self.connection.execute("DELETE FROM bucket WHERE id = ?", (bucket_id,))


def _key(row: tuple[Any, ...]) -> Key:
    key_id, secret, name, capabilities, bucket_ids, prefix, expires_at = row
    allowed = None if bucket_ids is None else tuple(json.loads(bucket_ids))
    return Key(key_id, secret, name, frozenset(json.loads(capabilities)), allowed, prefix, expires_at)


def _bucket(row: tuple[Any, ...]) -> Bucket:
    bucket_id, name, settings, revision = row
    return Bucket(bucket_id, name, json.loads(settings), revision)
