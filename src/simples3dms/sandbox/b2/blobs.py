"""The bytes of files, in files of the host: written and hashed block by block, shared by copies, read as ranges."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_BLOCK_BYTES = 256 * 1024


class Segment(NamedTuple):
    """A stretch of one blob. A file's content is a sequence of them: one per part, or per copied piece of a part."""

    blob: str
    start: int
    length: int


def slice_segments(segments: Sequence[Segment], start: int, length: int) -> list[Segment]:
    """The segments that make up `length` bytes from `start` on."""
    found: list[Segment] = []
    for segment in segments:
        if length <= 0:
            break
        if start >= segment.length:
            start -= segment.length
            continue
        taken = min(segment.length - start, length)
        found.append(Segment(segment.blob, segment.start + start, taken))
        start, length = 0, length - taken
    return found


class Blobs:
    """The directory of blobs. What was being written when the server died is cleared at the next start."""

    def __init__(self, directory: Path) -> None:
        self._kept = directory / "blobs"
        self._incoming = directory / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        for number in range(256):
            (self._kept / f"{number:02x}").mkdir(parents=True, exist_ok=True)
        for left in self._incoming.iterdir():
            left.unlink()

    def write(self) -> BlobWriter:
        return BlobWriter(self._incoming, self._kept)

    def read(self, segments: Iterable[Segment]) -> Iterator[bytes]:
        for segment in segments:
            yield from self._read_segment(segment)

    def _read_segment(self, segment: Segment) -> Iterator[bytes]:
        with (self._kept / segment.blob[:2] / segment.blob).open("rb", buffering=0) as file:
            file.seek(segment.start)
            left = segment.length
            while left:
                block = file.read(min(left, _BLOCK_BYTES))
                if not block:
                    raise OSError(f"blob {segment.blob} is shorter than recorded")
                left -= len(block)
                yield block

    def sha1(self, segments: Iterable[Segment]) -> str:
        """Takes as long as reading takes: call it in a thread."""
        digest = hashlib.sha1(usedforsecurity=False)
        for block in self.read(segments):
            digest.update(block)
        return digest.hexdigest()

    def remove(self, blobs: Iterable[str]) -> None:
        for blob in blobs:
            (self._kept / blob[:2] / blob).unlink(missing_ok=True)


class BlobWriter:
    """One blob being received: `append`, then `keep` it before its record is made, or `drop` it."""

    def __init__(self, incoming: Path, kept: Path) -> None:
        self.name = secrets.token_hex(16)
        self.size = 0
        self._digest = hashlib.sha1(usedforsecurity=False)
        self._path = f"{incoming}/{self.name}"
        self._target = f"{kept}/{self.name[:2]}/{self.name}"
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def append(self, block: bytes) -> None:
        self._digest.update(block)
        self.size += len(block)
        view = memoryview(block)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def sha1(self) -> str:
        return self._digest.hexdigest()

    def keep(self) -> Segment:
        os.close(self._descriptor)
        os.rename(self._path, self._target)
        return Segment(self.name, 0, self.size)

    def drop(self) -> None:
        os.close(self._descriptor)
        os.unlink(self._path)
