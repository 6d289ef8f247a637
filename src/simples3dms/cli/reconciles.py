"""reconcile: start, list, show, findings, remove, schedule; store price."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated
from uuid import UUID

import typer

from simples3dms.cli.output import console, plain, show_json, show_one, show_rows, size
from simples3dms.cli.session import JsonFlag, TenantOption, connect, require_tenant
from simples3dms.client import Client
from simples3dms.errors import NotFound
from simples3dms.schemas.costs import OwnPrices
from simples3dms.schemas.upkeep import Reconcile, StoreSchedule

app = typer.Typer(help="Compare what a store lists with the records.", no_args_is_help=True)

ReconcileId = Annotated[UUID | None, typer.Argument(help="Its id; the tenant's newest.")]
_NONE = "This tenant has no reconcile yet: begin one with `simples3dms reconcile start STORE`."


def install(store_app: typer.Typer) -> None:
    """Add `store price`."""
    store_app.command("price")(set_price)


def _which(client: Client, tenant: str, reconcile_id: UUID | None) -> UUID:
    if reconcile_id is not None:
        return reconcile_id
    newest = next(client.iter_reconciles(tenant), None)
    if newest is None:
        raise NotFound(_NONE)
    return newest.id


def _show(found: Reconcile, *, as_json: bool) -> None:
    if as_json:
        show_json(found)
        return
    console.print(f"{found.store}: {found.state}", style="bold")
    console.print(f"  id           {found.id}")
    console.print(f"  listed       {found.listed_count} objects, {size(found.listed_bytes)}")
    cost = "" if found.cost_per_month is None else f", with hidden ones {found.cost_per_month} a month"
    console.print(f"  unexplained  {found.unexplained_count} objects, {size(found.unexplained_bytes)}{cost}")
    console.print(f"  hidden       {found.hidden_count} versions, {size(found.hidden_bytes)}")
    console.print(f"  unfinished   {found.unfinished_count} uploads")
    if found.is_sorted:
        console.print(f"  missing      {found.missing_count} of {found.compared_count} replicas")
    else:
        console.print("  missing      not looked for, since the store lists in its own order: run a scrub")
    if found.removed_count or found.kept_count:
        console.print(f"  removed      {found.removed_count}, kept {found.kept_count}")
    if found.error_message:
        console.print(f"  waits        {plain(found.error_message)}", soft_wrap=True, markup=False)


@app.command("start")
def start_reconcile(
    store: str,
    older_than_days: Annotated[float, typer.Option(min=0, help="Pass over what came later than that.")] = 7,
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Compare what a store lists of the tenant with the records, in both directions. Nothing is removed."""
    with connect() as client:
        begun = client.start_reconcile(require_tenant(tenant), store=store, older_than_days=older_than_days)
        _show(begun, as_json=as_json)


@app.command("list")
def list_reconciles(tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """The tenant's, newest first."""
    columns = ["id", "store", "state", "unexplained_count", "unexplained_bytes", "hidden_count", "missing_count"]
    with connect() as client:
        rows = client.iter_reconciles(require_tenant(tenant))
        show_rows(rows, [*columns, "created_at"], as_json=as_json, empty=_NONE)


@app.command("show")
def show_reconcile(reconcile_id: ReconcileId = None, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """One, with what it found."""
    name = require_tenant(tenant)
    with connect() as client:
        _show(client.get_reconcile(name, _which(client, name, reconcile_id)), as_json=as_json)


@app.command("findings")
def list_findings(reconcile_id: ReconcileId = None, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """What no record explains, by key."""
    name = require_tenant(tenant)
    columns = ["kind", "key", "version_id", "size_bytes", "modified_at", "state", "error"]
    with connect() as client:
        rows = client.iter_reconcile_findings(name, _which(client, name, reconcile_id))
        show_rows(rows, columns, as_json=as_json, empty="Everything is explained.")


@app.command("remove")
def remove_unexplained(
    reconcile_id: ReconcileId = None,
    count: Annotated[int | None, typer.Option(help="How many things that are; asked for if not given.")] = None,
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Remove what was found that no record explains (operators). Type back how much that is."""
    name = require_tenant(tenant)
    with connect() as client:
        chosen = _which(client, name, reconcile_id)
        if count is None:
            _show(client.get_reconcile(name, chosen), as_json=False)
            count = typer.prompt("How many things are to be removed", type=int, err=True)
        _show(client.remove_unexplained(name, chosen, count=count), as_json=as_json)


@app.command("schedule")
def schedule_reconciles(
    store: Annotated[str, typer.Argument(help="A store; one that a tenant brought by its id.")],
    every_days: Annotated[
        float | None, typer.Option("--every-days", min=0.01, help="Each tenant's place so often.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Only by hand from now on.")] = False,
    older_than_days: Annotated[float, typer.Option(min=0, help="Pass over what came later than that.")] = 7,
    as_json: JsonFlag = False,
) -> None:
    """Have a store reconciled by itself (operators); without an option, show its schedule and what was found."""
    if off and every_days is not None:
        raise typer.BadParameter("Give --every-days or --off, not both.")
    with connect() as client:
        if off or every_days is not None:
            found = client.set_reconcile_schedule(store, every_days=every_days, older_than_days=older_than_days)
        else:
            found = client.get_reconcile_schedule(store)
    if as_json:
        show_json(found)
        return
    _show_schedule(found)


def _show_schedule(found: StoreSchedule) -> None:
    schedule, places = found.schedule, found.places
    words = "only by hand" if schedule is None else f"every {schedule.every_days:g} days"
    console.print(f"{plain(found.store)}: reconciled {words}", style="bold", markup=False)
    console.print(f"  places  {places.place_count}, {places.due_count} due, {places.running_count} under way")
    if schedule is not None and places.due_count:
        console.print(f"  next    not before {schedule.next_at.astimezone():%Y-%m-%d %H:%M}")
    columns = ["tenant", "finished_at", "unexplained_count", "unexplained_bytes", "hidden_count", "unfinished_count"]
    empty = "Nothing there has been reconciled yet."
    show_rows(found.results, [*columns, "missing_count", "reconcile_id"], as_json=False, empty=empty)


def set_price(
    store: str,
    price: Annotated[str, typer.Argument(help="What a GiB costs there a month, such as 0.006; - as listed.")],
    egress: Annotated[str | None, typer.Option(help="What a GiB costs that is read out of it.")] = None,
    writes: Annotated[str | None, typer.Option(help="What 1,000 calls cost that write.")] = None,
    reads: Annotated[str | None, typer.Option(help="What 1,000 calls cost that read.")] = None,
    deletes: Annotated[str | None, typer.Option(help="What 1,000 calls cost that delete.")] = None,
    least_days: Annotated[int | None, typer.Option(min=0, help="What is deleted earlier is paid for so long.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what a store costs, for plans of migrations and for `reconcile`. What is left out is as listed."""
    others = OwnPrices(
        egress_per_gib=_amount(egress),
        write_per_1000=_amount(writes),
        read_per_1000=_amount(reads),
        delete_per_1000=_amount(deletes),
        least_days=least_days,
    )
    with connect() as client:
        show_one(client.set_price(store, _amount(price), others), as_json=as_json)


def _amount(text: str | None) -> Decimal | None:
    try:
        return None if text in (None, "-") else Decimal(str(text))
    except InvalidOperation:
        raise typer.BadParameter("A price is a number, such as 0.006.") from None
