"""hold, retention: what keeps documents."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer

from simples3dms.cli.output import show_one, show_rows
from simples3dms.cli.session import JsonFlag, TenantOption, connect, require_tenant

hold_app = typer.Typer(help="Legal holds on documents.", no_args_is_help=True)
retention_app = typer.Typer(help="How long documents are retained.", no_args_is_help=True)
_COLUMNS = ["id", "document_id", "name", "placed_at", "placed_by", "released_at"]
Reason = Annotated[str, typer.Option(help="Why: it goes into the audit.")]


@hold_app.command("place")
def place_hold(
    name: Annotated[str, typer.Argument(help="The matter, such as case-2026-17.")],
    documents: Annotated[list[UUID], typer.Argument(help="The documents to keep.")],
    reason: Reason,
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Keep documents until the hold is released."""
    with connect() as client:
        rows = [client.place_hold(require_tenant(tenant), each, name=name, reason=reason) for each in documents]
    show_rows(rows, _COLUMNS, as_json=as_json, empty="")


@hold_app.command("release")
def release_hold(
    document: UUID, hold: UUID, reason: Reason, tenant: TenantOption = None, as_json: JsonFlag = False
) -> None:
    """End a hold."""
    with connect() as client:
        show_one(client.release_hold(require_tenant(tenant), document, hold, reason=reason), as_json=as_json)


@hold_app.command("list")
def list_holds(
    document: Annotated[UUID | None, typer.Option(help="Of one document, released ones too.")] = None,
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Holds in force in the tenant, or all of a document's."""
    with connect() as client:
        chosen = require_tenant(tenant)
        rows = client.list_holds(chosen, document) if document else client.iter_tenant_holds(chosen)
        show_rows(rows, _COLUMNS, as_json=as_json, empty="No holds.")


@retention_app.command("show")
def show_retention(document: UUID, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """What keeps a document."""
    with connect() as client:
        show_one(client.get_retention(require_tenant(tenant), document), as_json=as_json)


@retention_app.command("set")
def set_retention(
    document: UUID,
    until: Annotated[datetime, typer.Argument(help="Until when, as 2036-12-31 or with a time of day.")],
    compliance: Annotated[
        bool, typer.Option("--compliance", help="Nobody may shorten it, ever; else an owner may, with a reason.")
    ] = False,
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Retain a document, or for longer."""
    with connect() as client:
        retention = client.set_retention(
            require_tenant(tenant),
            document,
            until=until.astimezone(),
            mode="compliance" if compliance else "governance",
        )
        show_one(retention, as_json=as_json)


@retention_app.command("lift")
def lift_retention(
    document: UUID,
    reason: Reason,
    until: Annotated[datetime | None, typer.Option(help="An earlier end; none at all by default.")] = None,
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """End a retention early (owners; not one for compliance)."""
    with connect() as client:
        earlier = until.astimezone() if until else None
        show_one(client.lift_retention(require_tenant(tenant), document, until=earlier, reason=reason), as_json=as_json)
