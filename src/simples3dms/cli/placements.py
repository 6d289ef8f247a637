"""placement: show, explain, preview, set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from pydantic import TypeAdapter, ValidationError

from simples3dms.cli.costs import show_cost, show_moving
from simples3dms.cli.output import say, show_json, show_one, show_rows
from simples3dms.cli.session import JsonFlag, TenantOption, connect, require_tenant
from simples3dms.schemas.stores import PlacementRule, ReadPreference, SetPlacement, Spread

placement_app = typer.Typer(help="Where a tenant's documents go.", no_args_is_help=True)

Write = Annotated[str, typer.Option(help="The store that new documents are written to.")]
Copies = Annotated[list[str] | None, typer.Option(help="A store that holds a copy; may be repeated.")]
Read = Annotated[list[str] | None, typer.Option(help="Read order; may be repeated.")]
Shares = Annotated[
    list[str] | None, typer.Option(help="STORE=WEIGHT: its share of new documents; repeat, --write's too.")
]
SpreadCopies = Annotated[int, typer.Option(help="So many further copies, in stores drawn for each document.")]
Across = Annotated[str, typer.Option(help="What they differ in: stores, providers or jurisdictions.")]
MinAcks = Annotated[int, typer.Option(help="How many stores have the bytes before an upload is answered.")]
Rules = Annotated[Path | None, typer.Option(help="A JSON file with a list of rules.", dir_okay=False)]
Preference = Annotated[
    ReadPreference, typer.Option(help="Which copy is read first: listed, nearest, cheapest or fastest.")
]
Hedge = Annotated[bool, typer.Option("--hedge", help="Ask a second store when the first one is late.")]


@placement_app.command("show")
def show_placement(tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Where new documents go, and what is read first."""
    with connect() as client:
        show_one(client.get_placement(require_tenant(tenant)), as_json=as_json)


@placement_app.command("explain")
def explain_placement(
    document: UUID,
    version: Annotated[int | None, typer.Option(help="Which version; the newest by default.")] = None,
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Why a document's bytes are where they are."""
    with connect() as client:
        found = client.explain_placement(require_tenant(tenant), document, version=version)
    if as_json:
        show_json(found)
        return
    why = "its own layout holds, no rule does" if found.rule is None else f"its rule {found.rule} holds"
    what = f"{found.content_type}, {found.size_bytes:,} bytes, {found.age_days} days old"
    say(f"Version {found.version_number} ({what}): of placement {found.placement_version}, {why}.")
    if found.is_migrating:
        say("A migration is under way and owns the placement.")
    first = {"listed": "those listed first"}.get(found.read_preference, f"the {found.read_preference}")
    say(f"Of several copies, {first} come first.")
    columns = ["store", "role", "verdict", "state", "evidence", "evidence_at", "draw", "debt", "debt_reason"]
    columns += ["read_place", "read_reason"]
    show_rows(found.stores, columns, as_json=False, empty="It is nowhere, and belongs nowhere.")


@placement_app.command("preview")
def preview_placement(
    write: Write,
    copy: Copies = None,
    share: Shares = None,
    spread: SpreadCopies = 0,
    across: Across = "stores",
    rules: Rules = None,
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """What setting it would bring about for what is there: copies, what would be left, and money. Nothing changes."""
    wanted = SetPlacement(
        write=write,
        copies=copy or [],
        shares=_shares(share or []),
        spread=_spread(spread, across),
        rules=_rules(rules) if rules else [],
    )
    with connect() as client:
        found = client.preview_placement(require_tenant(tenant), wanted)
    if as_json:
        show_json(found)
        return
    told = f"estimated from {found.looked_at_count:,} of them" if found.is_estimate else "exact"
    say(f"{found.blob_count:,} blobs are there; what follows is {told}.")
    columns = ["store", "held_count", "held_bytes", "owed_count", "owed_bytes", "absent_count", "absent_bytes"]
    show_rows(found.stores, [*columns, "extra_count", "extra_bytes"], as_json=False, empty="Nothing is there yet.")
    say("owed: copied there by itself; absent: a migration moves it; extra: stays until a migration leaves the store.")
    show_cost(found.cost, in_full=True)
    show_moving(found.moving)


@placement_app.command("set")
def set_placement(
    write: Write,
    copy: Copies = None,
    read: Read = None,
    share: Shares = None,
    spread: SpreadCopies = 0,
    across: Across = "stores",
    min_acks: MinAcks = 1,
    rules: Rules = None,
    read_preference: Preference = "listed",
    hedge: Hedge = False,
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Set it for what is written from now on. Existing documents are moved by `simples3dms migration`."""
    with connect() as client:
        placement = client.set_placement(
            require_tenant(tenant),
            write=write,
            copies=copy or [],
            read=read or [],
            shares=_shares(share or []),
            spread=_spread(spread, across),
            min_acks=min_acks,
            rules=_rules(rules) if rules else [],
            read_preference=read_preference,
            hedge=hedge,
        )
        show_one(placement, as_json=as_json)


def _spread(copies: int, across: str) -> Spread | None:
    if across not in ("stores", "providers", "jurisdictions"):
        raise typer.BadParameter("--across takes stores, providers or jurisdictions.")
    return Spread.model_validate({"copies": copies, "across": across}) if copies else None


def _rules(path: Path) -> list[PlacementRule]:
    try:
        return TypeAdapter(list[PlacementRule]).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise typer.BadParameter(f"--rules: {error}") from None


def _shares(pairs: list[str]) -> dict[str, int]:
    shares: dict[str, int] = {}
    for pair in pairs:
        name, _, weight = pair.partition("=")
        if not name or not weight.isdecimal():
            raise typer.BadParameter(f"--share takes STORE=WEIGHT, not {pair!r}.")
        shares[name] = int(weight)
    return shares
