"""takeout: create, list, download, verify, import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from simples3dms.cli.output import done, show_one, show_rows, transfer_progress
from simples3dms.cli.session import JsonFlag, TenantOption, connect, require_tenant
from simples3dms.client.takeouts import Summary, download_takeout, import_takeout, verify_takeout

app = typer.Typer(help="Take everything out of a tenant, and bring it back into one.", no_args_is_help=True)


@app.command("create")
def create_takeout(tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Draw the line: what was uploaded up to now belongs to the takeout."""
    with connect() as client:
        show_one(client.create_takeout(require_tenant(tenant)), as_json=as_json)


@app.command("list")
def list_takeouts(tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Takeouts, newest first."""
    with connect() as client:
        rows = client.iter_takeouts(require_tenant(tenant))
        show_rows(rows, ["id", "created_at", "created_by"], as_json=as_json, empty="No takeouts.")


@app.command("download")
def download(
    directory: Annotated[Path, typer.Argument(help="Where to: an empty directory, or one to go on with.")],
    takeout: Annotated[UUID | None, typer.Option(help="Which one; a new one by default.")] = None,
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Fetch all versions of all documents, or what is lacking of them, and verify each."""
    with connect() as client, transfer_progress() as progress:
        task = progress.add_task("Fetching", total=None)
        found = download_takeout(
            client,
            require_tenant(tenant),
            directory,
            takeout_id=takeout,
            progress=lambda count: progress.advance(task, count),
        )
    _tell("fetched", found, directory, as_json=as_json)


@app.command("verify")
def verify(directory: Path, as_json: JsonFlag = False) -> None:
    """Compare every file of a takeout with its manifest."""
    _tell("verified", verify_takeout(directory), directory, as_json=as_json)


@app.command("import")
def import_(directory: Path, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Upload a takeout's documents into a tenant, each version once; run it again to go on."""
    with connect() as client, transfer_progress() as progress:
        task = progress.add_task("Uploading", total=None)
        found = import_takeout(
            client, require_tenant(tenant), directory, progress=lambda count: progress.advance(task, count)
        )
    _tell("uploaded", found, directory, as_json=as_json)


def _tell(verb: str, found: Summary, directory: Path, *, as_json: bool) -> None:
    text = f"{directory}: {found.versions} versions, {found.size_bytes} bytes, all right"
    if verb != "verified":
        text += f"; {found.moved} {verb} now"
    if found.missing:
        text += f"; {found.missing} not there (see missing.jsonl)"
    done(
        text + ".",
        as_json=as_json,
        versions=found.versions,
        size_bytes=found.size_bytes,
        moved=found.moved,
        missing=found.missing,
    )
