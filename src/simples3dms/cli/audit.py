"""audit: list, export, verify, checkpoint, checkpoints, keys, rotate-key, retention."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from simples3dms.audit import chain
from simples3dms.audit.values import Checkpoint
from simples3dms.audit.verifier import Verdict, verify
from simples3dms.cli.output import done, plain, say, show_json, show_one, show_rows
from simples3dms.cli.session import JsonFlag, TenantOption, connect, require_tenant
from simples3dms.crypto.signing import key_id_of, public_key_from_pem
from simples3dms.errors import Invalid

app = typer.Typer(help="Who did what, and proof of it.", no_args_is_help=True)

#: More than any line of an export has.
_LONGEST_LINE = 64 * 1024 * 1024

PlatformFlag = Annotated[bool, typer.Option("--platform", help="The platform's own audit instead of a tenant's.")]
_COLUMNS = ["seq", "at", "principal_name", "action", "target_id", "outcome"]


class VerifyReport(BaseModel):
    """What `audit verify` found."""

    ok: bool
    tenant_id: str | None
    first_seq: int
    last_seq: int
    events: int
    hash: str
    checkpoints_given: int
    checkpoints_matched: int
    proven_to_seq: int
    signatures_checked: bool
    code: str | None = None
    bad_seq: int | None = None
    bad_line: int | None = None
    message: str | None = None


def _whose(tenant: str | None, platform: bool) -> str | None:
    return None if platform else require_tenant(tenant)


@app.command("list")
def list_events(
    tenant: TenantOption = None,
    platform: PlatformFlag = False,
    who: Annotated[str | None, typer.Option(help="Only this user: an id, or a name.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this, such as `document.deleted` or `document.*`.")] = None,
    target: Annotated[str | None, typer.Option(help="Only what was done to this id.")] = None,
    target_type: Annotated[str | None, typer.Option(help="Only what was done to such things.")] = None,
    outcome: Annotated[str | None, typer.Option(help="done, refused or failed.")] = None,
    since: Annotated[datetime | None, typer.Option(help="From then on, in local time.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Before then, in local time.")] = None,
    oldest: Annotated[bool, typer.Option("--oldest", help="Oldest first.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most to show.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """Who did what, newest first."""
    with connect() as client:
        found = client.iter_audit_events(
            _whose(tenant, platform),
            principal=who,
            action=action,
            target_id=target,
            target_type=target_type,
            outcome=outcome,
            since=since.astimezone() if since else None,
            until=until.astimezone() if until else None,
            oldest_first=oldest,
        )
        show_rows(islice(found, limit), _COLUMNS, as_json=as_json, empty="Nothing like that.")


@app.command("export")
def export(
    file: Annotated[Path, typer.Argument(help="The file to write; a hyphen: standard output.")],
    tenant: TenantOption = None,
    platform: PlatformFlag = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="For spreadsheets; it can't be verified.")] = False,
    after: Annotated[int | None, typer.Option(min=0, help="Only events after this number.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the chain to a file, as JSON lines that `audit verify` reads."""
    with connect() as client:
        whose = _whose(tenant, platform)
        lines = (
            client.iter_audit_csv(whose, after_seq=after)
            if as_csv
            else client.iter_audit_export(whose, after_seq=after)
        )
        if str(file) == "-":
            for line in lines:
                sys.stdout.buffer.write(line)
            return
        count = -1
        draft = file.with_name(f".{file.name}.part")
        with draft.open("wb") as out:
            for line in lines:
                out.write(line)
                count += 1
        draft.replace(file)
    done(f"{count} events in {file}.", as_json=as_json, file=str(file), events=count)


@app.command("verify")
def verify_audit(
    file: Annotated[Path | None, typer.Argument(help="An export; none: the server's chain, as it is now.")] = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="A checkpoint that you have kept; any number of them.")
    ] = None,
    public_key: Annotated[
        list[Path] | None, typer.Option(help="The keys that sign: from `audit keys --json`, or PEM.")
    ] = None,
    tenant: TenantOption = None,
    platform: PlatformFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Check a chain, and name the first bad event. A file needs no server. The exit code is 1 if it is wrong."""
    checkpoints = [one for path in checkpoint or [] for one in _read_checkpoints(path)]
    keys = {key_id: key for path in public_key or [] for key_id, key in read_keys(path).items()}
    if file is not None:
        with file.open("rb") as source:
            verdict = verify(
                iter(lambda: source.readline(_LONGEST_LINE), b""), checkpoints=checkpoints, keys=keys or None
            )
    else:
        verdict = _verify_server(_whose(tenant, platform), checkpoints, keys)
    report = _report(verdict)
    if as_json:
        show_json(report)
    else:
        _tell(report, has_checkpoints=bool(checkpoints) or file is None)
    if not report.ok:
        raise typer.Exit(1)


def _verify_server(tenant: str | None, checkpoints: list[Checkpoint], keys: dict[str, bytes]) -> Verdict:
    """What the server gives, checked here: against its own checkpoints too, of those that are not before a cut."""
    with connect() as client:
        first = client.get_audit_trail(tenant).first_seq
        theirs = [
            chain.parse_checkpoint(chain.loads(one.model_dump_json()))
            for one in client.iter_audit_checkpoints(tenant)
            if one.seq >= first - 1
        ]
        keys = keys or {key.key_id: bytes.fromhex(key.public_key) for key in client.list_audit_keys()}
        return verify(client.iter_audit_export(tenant), checkpoints=[*checkpoints, *theirs], keys=keys)


def _read_checkpoints(path: Path) -> Iterator[Checkpoint]:
    """One, a list of them, or one a line."""
    text = path.read_text()
    try:
        try:
            found = chain.loads(text)
        except chain.NotCanonical:
            found = [chain.loads(line) for line in text.splitlines() if line.strip()]
        for document in found if isinstance(found, list) else [found]:
            yield chain.parse_checkpoint(document)
    except chain.NotCanonical:
        raise Invalid(f"{path} holds no checkpoint of an audit.", code="checkpoint_malformed") from None


def read_keys(path: Path) -> dict[str, bytes]:
    """Public keys by id, from `audit keys --json` or from PEM."""
    text = path.read_bytes()
    pem = public_key_from_pem(text)
    if pem is not None:
        return {key_id_of(pem): pem}
    try:
        found = chain.loads(text.decode())
        keys = [bytes.fromhex(one["public_key"]) for one in (found if isinstance(found, list) else [found])]
    except (ValueError, TypeError, KeyError):
        raise Invalid(f"{path} holds no public key of an audit.", code="audit_key_malformed") from None
    return {key_id_of(key): key for key in keys}


def _report(verdict: Verdict) -> VerifyReport:
    breach = verdict.breach
    return VerifyReport(
        ok=breach is None,
        tenant_id=None if verdict.tenant_id is None else str(verdict.tenant_id),
        first_seq=verdict.first_seq,
        last_seq=verdict.last_seq,
        events=verdict.event_count,
        hash=verdict.last_hash.hex(),
        checkpoints_given=verdict.given_count,
        checkpoints_matched=verdict.checkpoint_count,
        proven_to_seq=verdict.proven_seq,
        signatures_checked=verdict.is_signed,
        code=breach.code if breach else None,
        bad_seq=breach.seq if breach else None,
        bad_line=breach.line if breach else None,
        message=breach.message if breach else None,
    )


def _tell(report: VerifyReport, *, has_checkpoints: bool) -> None:
    if not report.ok:
        where = "".join(
            [
                f" at event {report.bad_seq}" if report.bad_seq is not None else "",
                f" (line {report.bad_line})" if report.bad_line is not None else "",
            ]
        )
        say(f"WRONG{where}: {plain(report.message or '')} [{report.code}]")
        say(f"{report.events} events before it follow one another.")
        return
    say(f"Good: {report.events} events, {report.first_seq} to {report.last_seq}, each follows the one before.")
    if not has_checkpoints:
        say("No checkpoint was given: a chain computed anew, or one that lacks its end, would look the same.")
        return
    say(
        f"{report.checkpoints_matched} of {report.checkpoints_given} checkpoints match (the others are from before its "
        f"beginning); what is proven goes up to event {report.proven_to_seq}."
        if report.checkpoints_matched < report.checkpoints_given
        else f"{report.checkpoints_matched} checkpoints match; what is proven goes up to event {report.proven_to_seq}."
    )
    if not report.signatures_checked:
        say("No public key was given: the checkpoints were taken as they are.")


@app.command("checkpoint")
def create_checkpoint(tenant: TenantOption = None, platform: PlatformFlag = False, as_json: JsonFlag = False) -> None:
    """Sign the chain as it is now. Keep what is printed (with --json) where the server's owner can't change it."""
    with connect() as client:
        show_one(client.create_audit_checkpoint(_whose(tenant, platform)), as_json=as_json)


@app.command("checkpoints")
def list_checkpoints(
    tenant: TenantOption = None,
    platform: PlatformFlag = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most to show.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """Signed checkpoints, newest first."""
    with connect() as client:
        rows = islice(client.iter_audit_checkpoints(_whose(tenant, platform)), limit)
        empty = "None yet: `simples3dms audit checkpoint` makes one."
        show_rows(rows, ["seq", "at", "hash", "key_id"], as_json=as_json, empty=empty)


@app.command("keys")
def list_keys(as_json: JsonFlag = False) -> None:
    """The public keys that signed checkpoints. Keep them (with --json) beside your checkpoints."""
    with connect() as client:
        columns = ["key_id", "public_key", "created_at", "retired_at"]
        show_rows(client.list_audit_keys(), columns, as_json=as_json, empty="None yet: nothing has been signed.")


@app.command("rotate-key")
def rotate_key(as_json: JsonFlag = False) -> None:
    """Sign with a fresh key from now on (operators). Old checkpoints are checked with the old key's public half."""
    with connect() as client:
        show_one(client.rotate_audit_key(), as_json=as_json)


@app.command("retention")
def set_retention(
    days: Annotated[str | None, typer.Argument(help="Days, or `forever`; none: show it.")] = None,
    tenant: TenantOption = None,
    platform: PlatformFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """For how long events are kept. Older ones are removed under a signed cut, from which the rest is proven on."""
    if days is not None and days != "forever" and not days.isdecimal():
        raise typer.BadParameter("Give a number of days, or `forever`.")
    with connect() as client:
        whose = _whose(tenant, platform)
        if days is None:
            show_one(client.get_audit_trail(whose), as_json=as_json)
        else:
            chosen = None if days == "forever" else int(days)
            show_one(client.set_audit_retention(whose, chosen), as_json=as_json)
