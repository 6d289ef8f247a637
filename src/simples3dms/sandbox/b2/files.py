"""The records of files, hide markers, unfinished large files and their parts."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from simples3dms.sandbox.b2.blobs import Blobs, Segment
from simples3dms.sandbox.b2.records import Records, now_ms

Action = Literal["start", "upload", "hide"]
_COLUMNS = "seq, id, bucket_id, name, action, size, content_type, sha1, info, encryption, uploaded_at"
_SELECT = f"SELECT {_COLUMNS} FROM file"  # noqa: S608 constants


@dataclass(frozen=True, slots=True)
class NewFile:
    """What a file is to be, before it has an id."""

    bucket_id: str
    name: str
    action: Action
    content_type: str | None = None
    size: int = 0
    sha1: str | None = None
    info: dict[str, str] = field(default_factory=dict)
    encryption: str | None = None
    uploaded_at: int | None = None


@dataclass(frozen=True, slots=True)
class File:
    """One file version as recorded; `sha1` is the vendor's form: hex, `unverified:` and hex, or `none`."""

    seq: int
    id: str
    bucket_id: str
    name: str
    action: Action
    size: int
    content_type: str | None
    sha1: str | None
    info: dict[str, str]
    encryption: str | None
    uploaded_at: int


@dataclass(frozen=True, slots=True)
class Lock:
    """What keeps a file version: a retention (`until` in milliseconds), a legal hold (`on`, `off`), or neither."""

    mode: str | None = None
    until: int | None = None
    hold: str | None = None

    @property
    def is_retained(self) -> bool:
        return self.until is not None and self.until > now_ms()


@dataclass(frozen=True, slots=True)
class Part:
    """A part that was received; B2's limit is 10,000 of them."""

    number: int
    size: int
    sha1: str
    uploaded_at: int


class Files:
    """File versions by id and by (bucket, name). A blob lives for as long as any segment is in it."""

    def __init__(self, records: Records, blobs: Blobs) -> None:
        self._records = records
        self._connection = records.connection
        self._blobs = blobs
        row = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'file'").fetchone()
        self._last_seq: int = row[0] if row else 0

    def add(self, new: NewFile, segments: Sequence[Segment] = ()) -> File:
        self._last_seq += 1
        uploaded_at = new.uploaded_at or now_ms()
        file_id = _file_id(new.bucket_id, self._last_seq, uploaded_at)
        what = (new.bucket_id, new.name, new.action, new.size, new.content_type, new.sha1)
        file = File(self._last_seq, file_id, *what, new.info, new.encryption, uploaded_at)
        row = (file.seq, file_id, *what, json.dumps(new.info), new.encryption, uploaded_at)
        with self._records.transaction() as connection:
            connection.execute(f"INSERT INTO file ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?)", row)  # noqa: S608
            _add_segments(connection, file_id, 0, segments)
        return file

    def find(self, file_id: str) -> File | None:
        row = self._connection.execute(f"{_SELECT} WHERE id = ?", (file_id,)).fetchone()
        return None if row is None else _file(row)

    def find_newest(self, bucket_id: str, name: str) -> File | None:
        """What the name stands for now: a file, or the marker that hides it."""
        row = self._connection.execute(
            f"{_SELECT} WHERE bucket_id = ? AND name = ? AND action != 'start'"
            " ORDER BY uploaded_at DESC, seq DESC LIMIT 1",
            (bucket_id, name),
        ).fetchone()
        return None if row is None else _file(row)

    def iter_from(self, bucket_id: str, start: str, end: str | None) -> Iterator[File]:
        """Every version with a name from `start` on and before `end`: by name, then newest first."""
        # U+10FFFF sorts after every name that B2 allows.
        rows = self._connection.execute(
            f"{_SELECT} WHERE bucket_id = ? AND name >= ? AND name < ? ORDER BY name, uploaded_at DESC, seq DESC",
            (bucket_id, start, "\U0010ffff" if end is None else end),
        )
        return map(_file, rows)

    def has_visible(self, bucket_id: str, start: str, end: str) -> bool:
        """Whether a folder shows: one with hidden names only does not in a list of names."""
        last = None
        for file in self.iter_from(bucket_id, start, end):
            if file.action != "start" and file.name != last:
                last = file.name
                if file.action == "upload":
                    return True
        return False

    def list_unfinished(self, bucket_id: str, prefix: str, start_seq: int, limit: int) -> list[File]:
        rows = self._connection.execute(
            f"{_SELECT} WHERE bucket_id = ? AND action = 'start' AND seq >= ? AND substr(name, 1, ?) = ?"
            " ORDER BY seq LIMIT ?",
            (bucket_id, start_seq, len(prefix), prefix, limit),
        )
        return [_file(row) for row in rows]

    def is_empty(self, bucket_id: str) -> bool:
        found = self._connection.execute("SELECT 1 FROM file WHERE bucket_id = ? LIMIT 1", (bucket_id,))
        return found.fetchone() is None

    def segments(self, file_id: str) -> list[Segment]:
        rows = self._connection.execute(
            "SELECT blob, start, length FROM segment WHERE file_id = ? ORDER BY part, position", (file_id,)
        )
        return [Segment(*row) for row in rows]

    def put_part(self, file_id: str, part: Part, segments: Sequence[Segment]) -> None:
        """A part sent again replaces the one before it."""
        with self._records.transaction() as connection:
            orphans = _drop_segments(connection, file_id, part.number)
            row = (file_id, part.number, part.size, part.sha1, part.uploaded_at)
            connection.execute("INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?, ?)", row)
            _add_segments(connection, file_id, part.number, segments)
        self._blobs.remove(orphans)

    def list_parts(self, file_id: str, start: int, limit: int) -> list[Part]:
        rows = self._connection.execute(
            "SELECT number, size, sha1, uploaded_at FROM part WHERE file_id = ? AND number >= ?"
            " ORDER BY number LIMIT ?",
            (file_id, start, limit),
        )
        return [Part(*row) for row in rows]

    def drop_unused(self, segments: Sequence[Segment]) -> None:
        """Remove the blobs of content that came too late to be recorded."""
        self._blobs.remove(_unused(self._connection, {segment.blob for segment in segments}))

    def finish(self, file: File, size: int) -> None:
        """An unfinished large file becomes a file, made of the parts that it has."""
        with self._records.transaction() as connection:
            connection.execute("UPDATE file SET action = 'upload', size = ? WHERE id = ?", (size, file.id))
            connection.execute("DELETE FROM part WHERE file_id = ?", (file.id,))

    def find_lock(self, file_id: str) -> Lock:
        row = self._connection.execute("SELECT mode, until, hold FROM lock WHERE file_id = ?", (file_id,)).fetchone()
        return Lock() if row is None else Lock(*row)

    def put_lock(self, file_id: str, lock: Lock) -> None:
        row = (file_id, lock.mode, lock.until, lock.hold)
        self._connection.execute("INSERT OR REPLACE INTO lock VALUES (?, ?, ?, ?)", row)

    def delete(self, file: File) -> None:
        with self._records.transaction() as connection:
            orphans = _drop_segments(connection, file.id, None)
            connection.execute("DELETE FROM part WHERE file_id = ?", (file.id,))
            connection.execute("DELETE FROM lock WHERE file_id = ?", (file.id,))
            connection.execute("DELETE FROM file WHERE id = ?", (file.id,))
        self._blobs.remove(orphans)


def position_of(file_id: str) -> tuple[int, int]:
    """(uploaded_at, seq) of a file id, also of one that is gone: a listing goes on from there."""
    _, _, rest = file_id.rpartition("_t")
    seq, _, uploaded_at = rest.partition("_u")
    return int(uploaded_at), int(seq)


def _file_id(bucket_id: str, seq: int, uploaded_at: int) -> str:
    day = time.strftime("d%Y%m%d_m%H%M%S", time.gmtime(uploaded_at / 1000))
    return f"4_z{bucket_id}_f{secrets.token_hex(8)}_{day}_c001_v0001000_t{seq:04d}_u{uploaded_at:014d}"


def _file(row: tuple[Any, ...]) -> File:
    seq, file_id, bucket_id, name, action, size, content_type, sha1, info, encryption, uploaded_at = row
    what = (bucket_id, name, action, size, content_type, sha1)
    return File(seq, file_id, *what, json.loads(info), encryption, uploaded_at)


def _add_segments(connection: sqlite3.Connection, file_id: str, part: int, segments: Iterable[Segment]) -> None:
    rows = [(file_id, part, position, *segment) for position, segment in enumerate(segments)]
    if rows:
        connection.executemany("INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?)", rows)


def _drop_segments(connection: sqlite3.Connection, file_id: str, part: int | None) -> list[str]:
    """Remove a file's segments, or those of one part; the blobs that nobody refers to any more."""
    where, values = ("file_id = ?", [file_id]) if part is None else ("file_id = ? AND part = ?", [file_id, part])
    blobs = [row[0] for row in connection.execute(f"SELECT DISTINCT blob FROM segment WHERE {where}", values)]  # noqa: S608
    connection.execute(f"DELETE FROM segment WHERE {where}", values)  # noqa: S608
    return _unused(connection, blobs)


def _unused(connection: sqlite3.Connection, blobs: Iterable[str]) -> list[str]:
    used = "SELECT 1 FROM segment WHERE blob = ? LIMIT 1"
    return [blob for blob in blobs if connection.execute(used, (blob,)).fetchone() is None]
