"""scrub: start, list, show, pause, resume, doubtful; store trust; upkeep: status, confirm-restore."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from simples3dms.cli.output import console, done, show_json, show_one, show_rows, size
from simples3dms.cli.session import JsonFlag, TenantOption, connect, require_tenant
from simples3dms.client import Client
from simples3dms.errors import NotFound
from simples3dms.schemas.upkeep import Scrub

scrub_app = typer.Typer(help="Look at every replica in a store, or read it back.", no_args_is_help=True)
upkeep_app = typer.Typer(help="What holds the upkeep up (operators).", no_args_is_help=True)

ScrubId = Annotated[UUID | None, typer.Argument(help="Its id; the tenant's newest.")]
_NONE = "This tenant has no scrub yet: begin one with `simples3dms scrub start STORE`."


def install(store_app: typer.Typer) -> None:
    """Add `store trust`."""
    store_app.command("trust")(trust_store)


def _which(client: Client, tenant: str, scrub_id: UUID | None) -> UUID:
    if scrub_id is not None:
        return scrub_id
    newest = next(client.iter_scrubs(tenant), None)
    if newest is None:
        raise NotFound(_NONE)
    return newest.id


def _show(scrub: Scrub, *, as_json: bool) -> None:
    if as_json:
        show_json(scrub)
        return
    console.print(f"{scrub.store}: {scrub.level} scrub, {scrub.state}, {scrub.progress:.0%}", style="bold")
    console.print(f"  id       {scrub.id}")
    read = f", {size(scrub.checked_bytes)} read" if scrub.level == "deep" else ""
    console.print(f"  checked  {scrub.checked_count} replicas{read}")
    console.print(f"  bad      {scrub.suspect_count} suspect, {scrub.missing_count} missing")
    if scrub.lost_count:
        console.print(f"  lost     {scrub.lost_count} blobs without a good replica: see `scrub doubtful`", style="red")
    if scrub.error_message:
        console.print(f"  waits    {scrub.error_message}", soft_wrap=True, markup=False)


@scrub_app.command("start")
def start_scrub(
    store: str,
    deep: Annotated[bool, typer.Option("--deep", help="Read everything back, at the store's price.")] = False,
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Look at every replica of the tenant in a store: is it there, and of the right size?"""
    with connect() as client:
        begun = client.start_scrub(require_tenant(tenant), store=store, level="deep" if deep else "light")
        _show(begun, as_json=as_json)


@scrub_app.command("list")
def list_scrubs(tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """The tenant's, newest first."""
    columns = ["id", "store", "level", "state", "progress", "checked_count", "suspect_count", "missing_count"]
    with connect() as client:
        rows = client.iter_scrubs(require_tenant(tenant))
        show_rows(rows, [*columns, "lost_count", "created_at"], as_json=as_json, empty=_NONE)


@scrub_app.command("show")
def show_scrub(scrub_id: ScrubId = None, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """One, with its progress."""
    name = require_tenant(tenant)
    with connect() as client:
        _show(client.get_scrub(name, _which(client, name, scrub_id)), as_json=as_json)


@scrub_app.command("pause")
def pause_scrub(scrub_id: ScrubId = None, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Stop for a while."""
    name = require_tenant(tenant)
    with connect() as client:
        _show(client.pause_scrub(name, _which(client, name, scrub_id)), as_json=as_json)


@scrub_app.command("resume")
def resume_scrub(scrub_id: ScrubId = None, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Go on where it was."""
    name = require_tenant(tenant)
    with connect() as client:
        _show(client.resume_scrub(name, _which(client, name, scrub_id)), as_json=as_json)


@scrub_app.command("doubtful")
def list_doubtful(tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Replicas that were found wrong or gone, and have not been copied anew yet."""
    columns = ["document_name", "document_id", "store", "state", "error", "is_lost", "since"]
    with connect() as client:
        rows = client.iter_doubtful_replicas(require_tenant(tenant))
        show_rows(rows, columns, as_json=as_json, empty="Nothing is doubtful.")


def repair(
    store: Annotated[str | None, typer.Option(help="Only what is doubtful there.")] = None,
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Have the tenant's doubtful replicas copied anew, also those that were given up."""
    with connect() as client:
        count = client.repair_replicas(require_tenant(tenant), store=store)
    done(f"{count} replicas are to be copied anew.", as_json=as_json, count=count)


def trust_store(
    store: str,
    reason: Annotated[str, typer.Option(help="What was found out; it is kept in the audit.")],
    as_json: JsonFlag = False,
) -> None:
    """Let repairs at a store go on, after a scrub found too much bad there to mend it without a person."""
    with connect() as client:
        show_one(client.trust_store(store, reason=reason), as_json=as_json)


@upkeep_app.command("status")
def show_status(as_json: JsonFlag = False) -> None:
    """Whether removals from stores are held back, since the database was restored."""
    with connect() as client:
        show_one(client.get_restore(), as_json=as_json)


@upkeep_app.command("confirm-restore")
def confirm_restore(
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False, as_json: JsonFlag = False
) -> None:
    """Let removals go on after a restore, by the records as they are now."""
    with connect() as client:
        guard = client.get_restore()
        if guard.held_at is not None and not yes:
            console.print(guard.held_reason or "", soft_wrap=True, markup=False)
            typer.confirm("What these records call dead is removed from then on. Go on?", abort=True, err=True)
        show_one(client.confirm_restore(), as_json=as_json)
