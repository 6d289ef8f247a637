"""residency: where a tenant's documents may lie."""

from __future__ import annotations

from typing import Annotated

import typer

from simples3dms.cli.output import console, show_json, show_rows
from simples3dms.cli.session import JsonFlag, TenantOption, connect, require_tenant
from simples3dms.schemas.stores import Residency

app = typer.Typer(help="Where a tenant's documents may lie.", no_args_is_help=True)


@app.command("show")
def show_residency(tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Where they may, and what lies outside."""
    with connect() as client:
        _show(client.get_residency(require_tenant(tenant)), as_json=as_json)


@app.command("set")
def set_residency(
    allow: Annotated[list[str] | None, typer.Option(help="A country, EU or EEA; repeatable.")] = None,
    anywhere: Annotated[bool, typer.Option("--anywhere", help="No limit.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Only say what would be outside.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say where they may lie (operators), after a look at what is outside. Nothing is moved by itself."""
    if anywhere == bool(allow):
        raise typer.BadParameter("Give --allow CODE, or --anywhere.")
    whose, codes = require_tenant(tenant), None if anywhere else [code.upper() for code in allow or []]
    with connect() as client:
        if preview or not yes:
            found = client.plan_residency(whose, codes)
            if preview:
                _show(found, as_json=as_json)
                return
            if found.outside:
                names = ", ".join(one.store for one in found.outside)
                console.print(f"Outside, and not moved: {names}.", soft_wrap=True, markup=False)
                typer.confirm("Set it?", abort=True, err=True)
        _show(client.set_residency(whose, codes), as_json=as_json)


def _show(residency: Residency, *, as_json: bool) -> None:
    if as_json:
        show_json(residency)
        return
    where = "anywhere" if residency.allowed is None else ", ".join(residency.allowed)
    console.print(f"Documents may lie: {where}", soft_wrap=True, markup=False)
    show_rows(
        residency.outside,
        ["store", "jurisdiction", "is_in_use", "replica_count"],
        as_json=False,
        empty="Nothing lies outside.",
    )
