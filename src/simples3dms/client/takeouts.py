"""Takeouts on this side: everything of a tenant into a directory, verified; and back into a tenant from one.

    DIR/takeout.json     what it is: the takeout's id, the tenant
    DIR/manifest.jsonl   a line for each version, and a last line
    DIR/files/D/N        the bytes of version N of document D
    DIR/missing.jsonl    versions that were purged before they were fetched
    DIR/digests.sha256   for `sha256sum -c`; it is there once all the rest is

Whatever is interrupted goes on where it was. Memory does not grow with the takeout.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from simples3dms.client.client import Client
from simples3dms.client.errors import ApiProblem, ServerUnreachable
from simples3dms.errors import Conflict, Invalid
from simples3dms.schemas.takeouts import End, Entry, Label, Moved, Takeout

L = TypeVar("L", bound=BaseModel)
Progress = Callable[[int], None]
_LONGEST_LINE = 64 * 1024
_BLOCK = 256 * 1024
_END = End().model_dump_json().encode() + b"\n"
#: Codes that say that a version is not there any more.
_GONE = frozenset({"document_not_found", "version_not_found", "document_deleted"})


@dataclass(frozen=True, slots=True)
class Summary:
    """What was done. `fetched` or `uploaded` in this run; the others were there already."""

    versions: int = 0
    size_bytes: int = 0
    moved: int = 0
    missing: int = 0


def _ignore(_count: int) -> None:
    return


def download_takeout(
    client: Client, tenant: str, directory: Path, *, takeout_id: UUID | None = None, progress: Progress = _ignore
) -> Summary:
    """Fetch a takeout (a new one by default) into a directory, or what is lacking of it; verify; write the digests."""
    directory.mkdir(parents=True, exist_ok=True)
    label = _label(client, tenant, directory, takeout_id)
    _fetch_manifest(client, tenant, label.takeout, directory / "manifest.jsonl")
    versions = size = moved = missing = 0
    draft, absent = directory / ".digests.part", directory / ".missing.part"
    with draft.open("wb") as digests, absent.open("wb") as gone:
        for entry in iter_manifest(directory):
            fetched = _ensure_file(client, tenant, directory, entry, progress)
            if fetched is None:
                missing += 1
                gone.write(entry.model_dump_json().encode() + b"\n")
                continue
            versions, size, moved = versions + 1, size + entry.size_bytes, moved + fetched
            digests.write(f"{entry.sha256}  {_relative(entry)}\n".encode())
        digests.write(f"{_digest_of(directory / 'manifest.jsonl')}  manifest.jsonl\n".encode())
    if missing:
        absent.replace(directory / "missing.jsonl")
    else:
        absent.unlink()
        (directory / "missing.jsonl").unlink(missing_ok=True)
    draft.replace(directory / "digests.sha256")
    return Summary(versions, size, moved, missing)


def _label(client: Client, tenant: str, directory: Path, takeout_id: UUID | None) -> Label:
    path = directory / "takeout.json"
    if path.exists():
        label = read_label(directory)
        if takeout_id not in (None, label.takeout):
            raise Conflict(f"{directory} holds another takeout, {label.takeout}.", code="takeout_differs")
        client.get_takeout(tenant, label.takeout)
        return label
    if any(directory.iterdir()):
        raise Conflict(f"{directory} is neither empty nor a takeout; choose another.", code="takeout_differs")
    takeout: Takeout = client.create_takeout(tenant) if takeout_id is None else client.get_takeout(tenant, takeout_id)
    label = Label(takeout=takeout.id, tenant=tenant, created_at=takeout.created_at)
    draft = directory / ".takeout.part"
    draft.write_text(label.model_dump_json(indent=2) + "\n")
    draft.replace(path)
    return label


def read_label(directory: Path) -> Label:
    """Raises Invalid (`takeout_invalid`) for what is no takeout."""
    path = directory / "takeout.json"
    if not path.is_file() or path.stat().st_size > _LONGEST_LINE:
        raise Invalid(f"{directory} holds no takeout: takeout.json is missing.", code="takeout_invalid")
    return _parse(Label, path.read_bytes(), "takeout.json")


def _fetch_manifest(client: Client, tenant: str, takeout_id: UUID, path: Path) -> None:
    """The whole manifest, from the last line that is there; each line is checked before it is kept."""
    attempt = 0
    with path.open("a+b") as file:
        while True:
            last = _cut_to_last_line(file)
            if last == _END:
                return
            after = _parse(Entry, last, "manifest.jsonl") if last else None
            cursor = f"{after.document}:{after.version}" if after else None
            attempt += 1
            came = 0
            try:
                with client.open_manifest(tenant, takeout_id, after=cursor) as lines:
                    for line in lines:
                        if line + b"\n" != _END:
                            _parse(Entry, line, "the server's manifest")
                        file.write(line + b"\n")
                        came += 1
                file.flush()
                os.fsync(file.fileno())
            except ServerUnreachable:
                attempt = 1 if came else attempt
                if attempt >= client.tries:
                    raise
                client.pause(attempt)


def _cut_to_last_line(file: BinaryIO) -> bytes:
    """Drop what was torn at the end; the last whole line, or nothing."""
    file.flush()
    size = file.seek(0, os.SEEK_END)
    begin = max(0, size - 2 * _LONGEST_LINE)
    file.seek(begin)
    tail = file.read(size - begin)
    whole = tail.rfind(b"\n") + 1
    if whole != len(tail):
        file.truncate(begin + whole)
    return tail[tail.rfind(b"\n", 0, whole - 1) + 1 : whole] if whole else b""


def iter_manifest(directory: Path) -> Iterator[Entry]:
    """The entries, in order. Raises Invalid (`takeout_invalid`, with the line) for whatever is not as it must be."""
    before: Entry | None = None
    with _open_regular(directory / "manifest.jsonl") as file:
        for number, line in _iter_lines(file):
            where = f"manifest.jsonl, line {number}"
            if line == _END:
                if file.read(1):
                    raise Invalid(f"{where}: there is more after the end.", code="takeout_invalid")
                return
            entry = _parse(Entry, line, where)
            follows = before is not None and entry.document == before.document and entry.version == before.version + 1
            begins = entry.version == 1 and (before is None or entry.document.bytes > before.document.bytes)
            if not follows and not begins:
                message = f"{where}: versions come in order, each once, from 1 on."
                raise Invalid(message, code="takeout_invalid")
            yield entry
            before = entry
    raise Invalid("manifest.jsonl has no last line: it is not whole; download it again.", code="takeout_invalid")


def _iter_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if not line.endswith(b"\n"):
            message = f"manifest.jsonl, line {number}: too long, or torn off."
            raise Invalid(message, code="takeout_invalid")
        yield number, line


def _parse(model: type[L], line: bytes, where: str) -> L:
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "it"
        raise Invalid(f"{where}: {field}: {first['msg']}.", code="takeout_invalid") from None


def _relative(entry: Entry) -> str:
    return f"files/{entry.document}/{entry.version}"


def _ensure_file(client: Client, tenant: str, directory: Path, entry: Entry, progress: Progress) -> bool | None:
    """Whether the bytes had to be fetched; None if the server has them no more. What is there is only verified."""
    path = directory / _relative(entry)
    if path.exists() and path.stat().st_size == entry.size_bytes and _digest_of(path) == entry.sha256:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        client.fetch_version(
            tenant,
            entry.document,
            entry.version,
            path,
            size_bytes=entry.size_bytes,
            sha256=entry.sha256,
            progress=progress,
        )
    except ApiProblem as problem:
        if problem.code not in _GONE:
            raise
        with suppress(OSError):
            path.parent.rmdir()
        return None
    return True


def verify_takeout(directory: Path, *, progress: Progress = _ignore) -> Summary:
    """Compare every file with the manifest. Raises Invalid (`takeout_invalid`) with the first that differs."""
    read_label(directory)
    absent = _iter_missing(directory)
    awaited = next(absent, None)
    versions = size = missing = 0
    for entry in iter_manifest(directory):
        if awaited is not None and (awaited.document, awaited.version) == (entry.document, entry.version):
            awaited, missing = next(absent, None), missing + 1
            continue
        with open_file(directory, entry) as file:
            digest = hashlib.sha256()
            while block := file.read(_BLOCK):
                digest.update(block)
                progress(len(block))
        if digest.hexdigest() != entry.sha256:
            raise Invalid(f"{_relative(entry)} differs from the manifest.", code="takeout_invalid")
        versions, size = versions + 1, size + entry.size_bytes
    return Summary(versions, size, 0, missing)


def _iter_missing(directory: Path) -> Iterator[Entry]:
    path = directory / "missing.jsonl"
    if path.exists():
        with _open_regular(path) as file:
            for number, line in _iter_lines(file):
                yield _parse(Entry, line, f"missing.jsonl, line {number}")


def open_file(directory: Path, entry: Entry) -> BinaryIO:
    """The bytes of an entry: a plain file of the right size, at a place that its ids alone decide."""
    path = directory / _relative(entry)
    if any(parent.is_symlink() for parent in (path.parent, path.parent.parent)):
        raise Invalid(f"{_relative(entry)} leads out of the takeout.", code="takeout_invalid")
    file = _open_regular(path)
    if os.fstat(file.fileno()).st_size != entry.size_bytes:
        file.close()
        raise Invalid(
            f"{_relative(entry)} has not the {entry.size_bytes} bytes of the manifest.", code="takeout_invalid"
        )
    return file


def _open_regular(path: Path) -> BinaryIO:
    """A plain file, and no link to another, which may lie anywhere."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        raise Invalid(f"{path} is missing, or no plain file.", code="takeout_invalid") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Invalid(f"{path} is no plain file.", code="takeout_invalid")
    return os.fdopen(descriptor, "rb")


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def import_takeout(client: Client, tenant: str, directory: Path, *, progress: Progress = _ignore) -> Summary:
    """Upload a takeout's documents into a tenant, each version once, as new documents.

    Nothing is uploaded unless all of the takeout is right. Names, content types and numbers are kept; the times when
    versions were made stand beside our own. Ids are not kept: those of a takeout mean nothing here.
    """
    label = read_label(directory)
    verified = verify_takeout(directory)
    target = client.get_tenant(tenant).id
    absent = _iter_missing(directory)
    awaited = next(absent, None)
    became: UUID | None = None
    broken: UUID | None = None
    moved = skipped = 0
    with (directory / f"imported-{target}.jsonl").open("a+b") as notes:
        _cut_to_last_line(notes)
        notes.seek(0)
        earlier = (_parse(Moved, line, "the notes of the import") for _, line in _iter_lines(notes))
        done = next(earlier, None)
        for entry in iter_manifest(directory):
            if awaited is not None and (awaited.document, awaited.version) == (entry.document, entry.version):
                awaited, broken = next(absent, None), entry.document
            if broken == entry.document:
                # A document that lost a version on the way is not put together again without it.
                skipped += 1
                continue
            if done is not None and (done.document, done.version) == (entry.document, entry.version):
                became, done = done.became, next(earlier, None)
                progress(entry.size_bytes)
                continue
            with open_file(directory, entry) as file:
                made = client.upload_document(
                    tenant,
                    file,
                    name=entry.name,
                    document_id=became if entry.version > 1 else None,
                    content_type=entry.content_type,
                    idempotency_key=f"takeout:{label.takeout}:{entry.document}:{entry.version}",
                    original_created_at=entry.created_at,
                    progress=progress,
                )
            became, moved = made.id, moved + 1
            note = Moved(document=entry.document, version=entry.version, became=made.id)
            notes.seek(0, os.SEEK_END)
            notes.write(json.dumps(note.model_dump(mode="json")).encode() + b"\n")
            notes.flush()
    return Summary(verified.versions, verified.size_bytes, moved, skipped)
