"""rollout: for whom each kind of store is there."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from simples3dms.cli.output import console, show_json, show_one, show_rows
from simples3dms.cli.session import JsonFlag, connect
from simples3dms.schemas.rollout import RolloutPreview

app = typer.Typer(help="For whom each kind of store is there (operators).", no_args_is_help=True)


@app.command("list")
def list_rollouts(as_json: JsonFlag = False) -> None:
    """All kinds."""
    with connect() as client:
        columns = ["kind", "reach", "percent", "attach", "version", "updated_at"]
        show_rows(client.list_rollouts(), columns, as_json=as_json, empty="There are no kinds.")


@app.command("show")
def show_rollout(kind: str, as_json: JsonFlag = False) -> None:
    """One kind."""
    with connect() as client:
        show_one(client.get_rollout(kind), as_json=as_json)


@app.command("set")
def set_rollout(
    kind: str,
    off: Annotated[bool, typer.Option("--off", help="For nobody.")] = False,
    everyone: Annotated[bool, typer.Option("--everyone", help="For every tenant.")] = False,
    percent: Annotated[float | None, typer.Option(help="For this share of tenants; a greater one holds it.")] = None,
    choose: Annotated[list[str] | None, typer.Option(help="A tenant that has it in any case; repeatable.")] = None,
    attach: Annotated[
        str | None, typer.Option(help="Who may add a store of it: operators or tenants. As it is, if not given.")
    ] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Only say what would change.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Change it, after a look at what that does. What is in use goes on working."""
    change = _change(off=off, everyone=everyone, percent=percent, chosen=choose or [])
    with connect() as client:
        change["attach"] = attach or client.get_rollout(kind).attach
        found = client.plan_rollout(kind, **change)
        if preview:
            if as_json:
                show_json(found)
            else:
                _say(kind, found)
            return
        if not yes:
            _say(kind, found)
            typer.confirm("Change it?", abort=True, err=True)
        show_one(client.set_rollout(kind, **change, expected_version=found.version), as_json=as_json)


def _change(*, off: bool, everyone: bool, percent: float | None, chosen: list[str]) -> dict[str, Any]:
    if off + everyone + (percent is not None) > 1 or not (off or everyone or percent is not None or chosen):
        raise typer.BadParameter("Give one of --off, --everyone, --percent and --choose (which goes with --percent).")
    if chosen and (off or everyone):
        raise typer.BadParameter("--choose goes with --percent or alone.")
    reach = "off" if off else "everyone" if everyone else "chosen" if percent is None else "percent"
    return {"reach": reach, "percent": percent or 0, "tenants": chosen}


def _say(kind: str, found: RolloutPreview) -> None:
    text = f"{found.gained} tenants would gain {kind}, {found.lost} would lose it"
    if found.kept:
        text += f" ({found.kept} of them have it in use, and keep that)"
    console.print(f"{text}; {found.reached} of {found.tenants} would have it.", soft_wrap=True, markup=False)
