"""migration report, migration verify-report: what the records prove of a move, to be kept and checked by anybody."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from pydantic import BaseModel

from simples3dms.cli.audit import read_keys
from simples3dms.cli.output import done, plain, say, show_json, size
from simples3dms.cli.session import JsonFlag
from simples3dms.client import Client, ServerUnreachable
from simples3dms.storage.migrations.evidence import Verdict, verify_report

#: More than any line of a report has.
_LONGEST_LINE = 1024 * 1024


class VerifiedReport(BaseModel):
    """What `migration verify-report` found."""

    ok: bool
    migration_id: str | None
    tenant_id: str | None
    items: int
    size_bytes: int
    proof: str | None
    proven: int
    read_back: int
    waived: int
    unproven: int
    signature_checked: bool
    code: str | None = None
    bad_line: int | None = None
    message: str | None = None


def write_report(client: Client, tenant: str, migration_id: UUID, file: Path, *, as_json: bool) -> None:
    """Into the file when it is whole, and not before; a hyphen: as it comes."""
    lines = client.iter_report(tenant, migration_id)
    if str(file) == "-":
        for line in lines:
            sys.stdout.buffer.write(line)
        return
    draft = file.with_name(f".{file.name}.part")
    count = _write(lines, draft)
    draft.replace(file)
    done(f"{count} items in {file}.", as_json=as_json, file=str(file), items=count)


def _write(lines: Iterable[bytes], draft: Path) -> int:
    """The number of items: all lines but the first and the last, which must be a trailer."""
    count, last = -2, b""
    with draft.open("wb") as out:
        for line in lines:
            out.write(line)
            count, last = count + 1, line
    if not last.startswith(b'{"trailer":'):
        raise ServerUnreachable("The report was broken off before its end: ask again.")
    return count


def verify(
    file: Annotated[Path, typer.Argument(help="A report.")],
    public_key: Annotated[
        list[Path] | None, typer.Option(help="The keys that sign: from `audit keys --json`, or PEM.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check a report, without a server, and name the first bad line. The exit code is 1 if it is wrong."""
    keys = {key_id: key for path in public_key or [] for key_id, key in read_keys(path).items()}
    with file.open("rb") as source:
        verdict = verify_report(iter(lambda: source.readline(_LONGEST_LINE), b""), keys=keys or None)
    found = _found(verdict)
    if as_json:
        show_json(found)
    else:
        _tell(found)
    if not found.ok:
        raise typer.Exit(1)


def _found(verdict: Verdict) -> VerifiedReport:
    breach = verdict.breach
    return VerifiedReport(
        ok=breach is None,
        migration_id=verdict.migration_id,
        tenant_id=verdict.tenant_id,
        items=verdict.items,
        size_bytes=verdict.size_bytes,
        proof=verdict.proof,
        proven=verdict.proven,
        read_back=verdict.read_back,
        waived=verdict.waived,
        unproven=verdict.unproven,
        signature_checked=verdict.is_signed,
        code=breach.code if breach else None,
        bad_line=breach.line if breach else None,
        message=breach.message if breach else None,
    )


def _tell(found: VerifiedReport) -> None:
    if not found.ok:
        say(f"WRONG at line {found.bad_line}: {plain(found.message or '')} [{found.code}]")
        say(f"{found.items} items before it follow one another.")
        return
    say(f"Good: {found.items} items, {size(found.size_bytes)}, each line follows the one before.")
    say(f"{found.proven} are proven ({found.proof}), {found.waived} waived, {found.unproven} not proven.")
    say(f"{found.read_back} were read back at the target and compared.")
    if not found.signature_checked:
        say("No public key was given: a report made anew by somebody else would look the same.")
