"""Real files of mixed kind and size to try the product on, made on the spot."""

from __future__ import annotations

import hashlib
import io
import random
import sysconfig
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import docx
import openpyxl
from fpdf import FPDF
from PIL import Image

_WORDS = [
    "invoice",
    "offer",
    "contract",
    "delivery",
    "note",
    "report",
    "minutes",
    "budget",
    "forecast",
    "annex",
    "draft",
    "final",
    "signed",
    "copy",
    "archive",
    "tenant",
    "storage",
    "bucket",
    "region",
    "replica",
    "proof",
    "harbour",
    "lantern",
    "meadow",
    "orchard",
    "quarry",
    "river",
    "summit",
    "valley",
]
_BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """A file on disk with what its bytes are."""

    path: Path
    content_type: str
    size_bytes: int
    sha256: str


def write_samples(directory: Path, *, count: int, large_bytes: int, seed: int = 1) -> list[Sample]:
    """Write `count` files (text, PDF, pictures, Office) and one archive of over `large_bytes`; what they are."""
    directory.mkdir(parents=True, exist_ok=True)
    chance = random.Random(seed)  # noqa: S311 the same files for the same seed, no secret
    makers: tuple[tuple[str, str, Callable[[random.Random], bytes]], ...] = (
        ("pdf", "application/pdf", _pdf),
        ("png", "image/png", _picture("PNG")),
        ("jpg", "image/jpeg", _picture("JPEG")),
        ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", _word),
        ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", _sheet),
        ("txt", "text/plain", _text),
    )
    samples = [_write(directory / "empty.txt", "text/plain", b"")]
    sources = list(islice(_installed_sources(), max(0, count // 3)))
    samples += [
        _write(directory / f"source-{n:04}-{s.name}", "text/x-python", s.read_bytes()) for n, s in enumerate(sources)
    ]
    for number in range(count - len(samples)):
        suffix, content_type, make = makers[number % len(makers)]
        name = f"{chance.choice(_WORDS)}-{chance.choice(_WORDS)}-{number:04}.{suffix}"
        samples.append(_write(directory / name, content_type, make(chance)))
    samples.append(_archive(directory / "backup.tar", large_bytes, chance))
    return samples


def _write(path: Path, content_type: str, body: bytes) -> Sample:
    path.write_bytes(body)
    return Sample(path, content_type, len(body), hashlib.sha256(body).hexdigest())


def _installed_sources() -> Iterator[Path]:
    """Files that people really wrote: the standard library's modules."""
    yield from sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))


def _sentence(chance: random.Random) -> str:
    return " ".join(chance.choices(_WORDS, k=12)).capitalize() + "."


def _text(chance: random.Random) -> bytes:
    return "\n".join(_sentence(chance) for _ in range(chance.randint(1, 2000))).encode()


def _pdf(chance: random.Random) -> bytes:
    pdf = FPDF()
    pdf.set_font("Helvetica", size=11)
    for _ in range(chance.randint(1, 4)):
        pdf.add_page()
        for _ in range(20):
            pdf.multi_cell(0, 6, _sentence(chance), new_x="LMARGIN", new_y="NEXT")
    return bytes(pdf.output())


def _picture(form: str) -> Callable[[random.Random], bytes]:
    def make(chance: random.Random) -> bytes:
        width, height = chance.randint(64, 480), chance.randint(64, 360)
        picture = Image.frombytes("RGB", (width, height), chance.randbytes(width * height * 3))
        buffer = io.BytesIO()
        picture.save(buffer, form)
        return buffer.getvalue()

    return make


def _word(chance: random.Random) -> bytes:
    document = docx.Document()
    document.add_heading(chance.choice(_WORDS).title())
    for _ in range(chance.randint(3, 30)):
        document.add_paragraph(_sentence(chance))
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def _sheet(chance: random.Random) -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    for _ in range(chance.randint(5, 200)):
        sheet.append([chance.choice(_WORDS), chance.randint(1, 9999), round(chance.random() * 100, 2)])
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def _archive(path: Path, least_bytes: int, chance: random.Random) -> Sample:
    """A tar archive just over the size, of data that does not compress."""
    with tarfile.open(path, "w") as archive:
        for number in range(least_bytes // (16 * _BLOCK) + 1):
            member = tarfile.TarInfo(f"volume-{number:04}.bin")
            member.size = 16 * _BLOCK
            archive.addfile(member, io.BytesIO(chance.randbytes(member.size)))
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return Sample(path, "application/x-tar", path.stat().st_size, digest.hexdigest())
