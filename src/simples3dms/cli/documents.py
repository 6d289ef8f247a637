"""doc: upload, list, get, download, delete, restore, purge, where."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from simples3dms.cli.output import done, plain, say, show_json, show_one, show_rows, transfer_progress
from simples3dms.cli.session import JsonFlag, TenantOption, connect, require_tenant
from simples3dms.client import ApiProblem, ServerUnreachable
from simples3dms.errors import Invalid
from simples3dms.schemas.documents import Document

app = typer.Typer(help="Documents.", no_args_is_help=True)
_COLUMNS = ["id", "name", "size_bytes", "version", "updated_at"]


@app.command("upload")
def upload(
    files: Annotated[list[Path], typer.Argument(help="Files to upload.", exists=True, dir_okay=False)],
    document: Annotated[UUID | None, typer.Option(help="Make the file this document's next version.")] = None,
    name: Annotated[str | None, typer.Option(help="The document's name; the file's by default.")] = None,
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Upload files."""
    if len(files) > 1 and (document or name):
        raise typer.BadParameter("--document and --name go with a single file.")
    uploaded: list[Document] = []
    chosen = require_tenant(tenant)
    try:
        with connect() as client, transfer_progress() as progress:
            task = progress.add_task("Uploading", total=sum(path.stat().st_size for path in files))

            def advance(count: int) -> None:
                progress.advance(task, count)

            for path in files:
                progress.update(task, description=plain(path.name[:40]))
                uploaded.append(client.upload_document(chosen, path, name=name, document_id=document, progress=advance))
    except (ApiProblem, ServerUnreachable):
        say(f"{len(uploaded)} of {len(files)} files were uploaded; {files[len(uploaded)]} was not:")
        raise
    finally:
        # Also of a run that failed half-way: those that are there are there.
        if uploaded or as_json:
            show_rows(uploaded, _COLUMNS, as_json=as_json, empty="")


@app.command("list")
def list_documents(
    tenant: TenantOption = None,
    trash: Annotated[bool, typer.Option("--trash", help="Those in the trash instead.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Most to show.")] = 100,
    as_json: JsonFlag = False,
) -> None:
    """Documents in the order they were made."""
    with connect() as client:
        rows = islice(client.iter_documents(require_tenant(tenant), trash=trash), limit)
        empty = "The trash is empty." if trash else "No documents yet: add one with `simples3dms doc upload FILE`."
        show_rows(rows, _COLUMNS, as_json=as_json, empty=empty)


@app.command("get")
def get_document(document: UUID, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """One document, with its versions."""
    with connect() as client:
        found = client.get_document(require_tenant(tenant), document)
        versions = client.list_versions(require_tenant(tenant), document)
    if as_json:
        show_json({**found.model_dump(mode="json"), "versions": [v.model_dump(mode="json") for v in versions]})
        return
    show_one(found, as_json=False)
    show_rows(versions, ["number", "size_bytes", "content_type", "created_at"], as_json=False, empty="")


@app.command("download")
def download(
    document: UUID,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to; the document's name here.")] = None,
    version: Annotated[int | None, typer.Option(min=1, help="Which version; the newest by default.")] = None,
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Download a document; the file appears once all of it has come and is right."""
    with connect() as client, transfer_progress() as progress:
        found = client.get_document(require_tenant(tenant), document)
        # A name is somebody else's text: only its last part may choose a file, and only here.
        path = output or Path(Path(found.name.replace("\\", "/")).name or str(document))
        if path.is_dir():
            path = path / (Path(found.name).name or str(document))
        if path.exists():
            raise Invalid(f"{path} exists; choose another with --output.", code="file_exists")
        task = progress.add_task(
            plain(path.name[:40]), total=found.size_bytes if version in (None, found.version) else None
        )
        digest = client.download_document(
            require_tenant(tenant),
            document,
            path,
            version=version,
            progress=lambda count: progress.advance(task, count),
        )
    done(str(path), as_json=as_json, path=str(path), sha256=digest)


@app.command("delete")
def delete_document(document: UUID, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Put a document into the trash."""
    with connect() as client:
        show_one(client.delete_document(require_tenant(tenant), document), as_json=as_json)


@app.command("restore")
def restore_document(document: UUID, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Take a document out of the trash."""
    with connect() as client:
        show_one(client.restore_document(require_tenant(tenant), document), as_json=as_json)


@app.command("purge")
def purge_document(document: UUID, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Remove a document in the trash for good, from every store."""
    with connect() as client:
        client.purge_document(require_tenant(tenant), document)
    done("Gone for good; its bytes are being removed.", as_json=as_json, id=str(document), purged=True)


@app.command("where")
def where(document: UUID, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Where a document's bytes are, and how that is known."""
    with connect() as client:
        rows = client.list_replicas(require_tenant(tenant), document)
        columns = ["version_number", "store", "state", "evidence", "evidence_at", "lock", "error"]
        show_rows(rows, columns, as_json=as_json, empty="It is nowhere.")
