"""What a B2 account holds: buckets, file versions, unfinished large files; contents on disk, records in SQLite.

b2sdk's own simulator keeps bodies in memory, counts file ids per bucket and stops after 9,999 files, so the semantics
are written here anew, on disk: large files work, and the server may be killed and started again.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (id TEXT PRIMARY KEY, name TEXT UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS files (
  id TEXT PRIMARY KEY, seq INTEGER NOT NULL, bucket_id TEXT NOT NULL, name TEXT NOT NULL, action TEXT NOT NULL,
  size INTEGER NOT NULL, sha1 TEXT, content_type TEXT, info TEXT NOT NULL, uploaded_at INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS files_by_name ON files (bucket_id, name, seq DESC);
CREATE TABLE IF NOT EXISTS parts (
  file_id TEXT NOT NULL, number INTEGER NOT NULL, size INTEGER NOT NULL, sha1 TEXT NOT NULL,
  PRIMARY KEY (file_id, number));
"""
LEAST_PART_BYTES = 5_000_000


class B2Failure(Exception):
    """An answer with an error in it, as B2 words them."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.status = status
        self.code = code


class State:
    """One account's contents."""

    def __init__(self, directory: Path) -> None:
        self.blobs = directory / "blobs"
        self.blobs.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(directory / "state.sqlite", isolation_level=None)
        self._db.row_factory = sqlite3.Row
        # A kill loses nothing with a write-ahead log; only the machine's own crash could, and this is a sandbox.
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;" + _SCHEMA)
        self._seq = int(self._db.execute("SELECT coalesce(max(seq), 0) FROM files").fetchone()[0])

    # buckets

    def create_bucket(self, name: str) -> dict[str, Any]:
        if self.find_bucket(name) is not None:
            raise B2Failure(400, "duplicate_bucket_name", "Bucket name is already in use.")
        self._db.execute("INSERT INTO buckets VALUES (?, ?)", (secrets.token_hex(12), name))
        found = self.find_bucket(name)
        assert found is not None
        return found

    def find_bucket(self, name: str) -> dict[str, Any] | None:
        row = self._db.execute("SELECT * FROM buckets WHERE name = ?", (name,)).fetchone()
        return dict(row) if row else None

    def list_buckets(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self._db.execute("SELECT * FROM buckets ORDER BY name")]

    def require_bucket(self, bucket_id: str) -> None:
        if self._db.execute("SELECT 1 FROM buckets WHERE id = ?", (bucket_id,)).fetchone() is None:
            raise B2Failure(400, "bad_bucket_id", f"Bucket does not exist: {bucket_id}")

    def delete_bucket(self, bucket_id: str) -> None:
        if self._db.execute("SELECT 1 FROM files WHERE bucket_id = ? LIMIT 1", (bucket_id,)).fetchone():
            raise B2Failure(400, "cannot_delete_non_empty_bucket", "Cannot delete non-empty bucket")
        self._db.execute("DELETE FROM buckets WHERE id = ?", (bucket_id,))

    # files

    def path(self, file_id: str, part: int | None = None) -> Path:
        return self.blobs / (file_id if part is None else f"{file_id}.{part}")

    def add_file(
        self,
        bucket_id: str,
        name: str,
        action: str,
        *,
        size: int = 0,
        sha1: str | None = None,
        content_type: str | None = None,
        info: dict[str, str] | None = None,
        draft: Path | None = None,
    ) -> dict[str, Any]:
        """Record a file version; its contents are moved into place first."""
        self._seq += 1
        file_id = f"4_z{bucket_id}_f{secrets.token_hex(8)}_{self._seq:012d}"
        if draft is not None:
            draft.rename(self.path(file_id))
        self._db.execute(
            "INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                file_id,
                self._seq,
                bucket_id,
                name,
                action,
                size,
                sha1,
                content_type,
                json.dumps(info or {}),
                int(time.time() * 1000),
            ),
        )
        return self.get_file(file_id)

    def get_file(self, file_id: str) -> dict[str, Any]:
        row = self._db.execute("SELECT * FROM files WHERE id = ?", (file_id,)).fetchone()
        if row is None:
            raise B2Failure(404, "not_found", f"File not present: {file_id}")
        return dict(row)

    def find_newest(self, bucket_id: str, name: str) -> dict[str, Any] | None:
        row = self._db.execute(
            "SELECT * FROM files WHERE bucket_id = ? AND name = ? AND action <> 'start' ORDER BY seq DESC LIMIT 1",
            (bucket_id, name),
        ).fetchone()
        return dict(row) if row else None

    def list_versions(
        self, bucket_id: str, prefix: str, start_name: str, start_id: str | None, count: int
    ) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        """A page by name, newest version first, and the first one of the next page."""
        start_seq = self._seq_of(start_id) if start_id else None
        rows = self._db.execute(
            """SELECT * FROM files WHERE bucket_id = :bucket AND action <> 'start'
                 AND name >= :start AND substr(name, 1, length(:prefix)) = :prefix
                 AND (name > :start OR :seq IS NULL OR seq <= :seq)
               ORDER BY name, seq DESC LIMIT :count""",
            {
                "bucket": bucket_id,
                "prefix": prefix,
                "start": max(start_name, prefix),
                "seq": start_seq,
                "count": count + 1,
            },
        ).fetchall()
        files = [dict(row) for row in rows]
        return files[:count], files[count] if len(files) > count else None

    def _seq_of(self, file_id: str) -> int | None:
        row = self._db.execute("SELECT seq FROM files WHERE id = ?", (file_id,)).fetchone()
        return int(row["seq"]) if row else None

    def list_names(
        self, bucket_id: str, prefix: str, start_name: str, count: int
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A page of the newest versions, hidden files left out, and the name that the next page begins with."""
        rows = self._db.execute(
            """SELECT f.* FROM files f WHERE bucket_id = :bucket AND action = 'upload' AND name >= :start
                 AND substr(name, 1, length(:prefix)) = :prefix
                 AND seq = (SELECT max(seq) FROM files n WHERE n.bucket_id = f.bucket_id AND n.name = f.name
                            AND n.action <> 'start')
               ORDER BY name LIMIT :count""",
            {"bucket": bucket_id, "prefix": prefix, "start": max(start_name, prefix), "count": count + 1},
        ).fetchall()
        files = [dict(row) for row in rows]
        return files[:count], files[count]["name"] if len(files) > count else None

    def delete_version(self, file_id: str, name: str) -> None:
        row = self._db.execute("SELECT name FROM files WHERE id = ?", (file_id,)).fetchone()
        if row is None or row["name"] != name:
            raise B2Failure(400, "file_not_present", f"file not present: {name} {file_id}")
        self._db.execute("DELETE FROM files WHERE id = ?", (file_id,))
        self.path(file_id).unlink(missing_ok=True)

    # large files

    def require_unfinished(self, file_id: str) -> dict[str, Any]:
        row = self._db.execute("SELECT * FROM files WHERE id = ? AND action = 'start'", (file_id,)).fetchone()
        if row is None:
            raise B2Failure(400, "bad_request", f"No active upload for: {file_id}")
        return dict(row)

    def list_unfinished(self, bucket_id: str, prefix: str, start_id: str, count: int) -> list[dict[str, Any]]:
        rows = self._db.execute(
            """SELECT * FROM files WHERE bucket_id = ? AND action = 'start'
                 AND substr(name, 1, length(?)) = ? AND id >= ? ORDER BY id LIMIT ?""",
            (bucket_id, prefix, prefix, start_id, count),
        )
        return [dict(row) for row in rows]

    def add_part(self, file_id: str, number: int, size: int, sha1: str, draft: Path) -> None:
        """A second upload of the same number replaces the first."""
        self.require_unfinished(file_id)
        draft.rename(self.path(file_id, number))
        self._db.execute("INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?)", (file_id, number, size, sha1))

    def list_parts(self, file_id: str) -> list[dict[str, Any]]:
        rows = self._db.execute("SELECT * FROM parts WHERE file_id = ? ORDER BY number", (file_id,))
        return [dict(row) for row in rows]

    def finish(self, file_id: str, digests: list[str]) -> dict[str, Any]:
        """Join the parts into the file."""
        self.require_unfinished(file_id)
        parts = self.list_parts(file_id)
        if [part["number"] for part in parts] != list(range(1, len(digests) + 1)):
            raise B2Failure(400, "missing_part", "Part number has not been uploaded")
        if [part["sha1"] for part in parts] != digests:
            raise B2Failure(400, "part_sha1_mismatch", "Part number has a different SHA1")
        if any(part["size"] < LEAST_PART_BYTES for part in parts[:-1]):
            raise B2Failure(400, "bad_request", "Part size is too small")
        with self.path(file_id).open("wb") as whole:
            for part in parts:
                with self.path(file_id, part["number"]).open("rb") as piece:
                    shutil.copyfileobj(piece, whole, 1 << 20)
        size = sum(part["size"] for part in parts)
        # The version's place among others of its name is that of its finish.
        self._seq += 1
        self._db.execute(
            "UPDATE files SET action = 'upload', size = ?, seq = ? WHERE id = ?", (size, self._seq, file_id)
        )
        self._drop_parts(file_id)
        return self.get_file(file_id)

    def cancel(self, file_id: str) -> dict[str, Any]:
        file = self.require_unfinished(file_id)
        self._db.execute("DELETE FROM files WHERE id = ?", (file_id,))
        self._drop_parts(file_id)
        return file

    def _drop_parts(self, file_id: str) -> None:
        for part in self.list_parts(file_id):
            self.path(file_id, part["number"]).unlink(missing_ok=True)
        self._db.execute("DELETE FROM parts WHERE file_id = ?", (file_id,))
