"""tenant settings, tenant limits: what is set for a tenant."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from simples3dms.cli.output import show_one
from simples3dms.cli.session import JsonFlag, connect
from simples3dms.errors import Invalid

_NONE = "none"


def install(tenant_app: typer.Typer) -> None:
    tenant_app.command("settings")(settings)
    tenant_app.command("limits")(limits)


def settings(
    tenant: str,
    trash_days: Annotated[str | None, typer.Option(help="Days until what is in the trash is purged.")] = None,
    retention_days: Annotated[str | None, typer.Option(help="Days that each new version is retained for.")] = None,
    retention_mode: Annotated[str | None, typer.Option(help="governance or compliance.")] = None,
    region: Annotated[str | None, typer.Option(help="A word that the operator allows.")] = None,
    jurisdictions: Annotated[str | None, typer.Option(help="Where bytes may be, by commas: DE,FR or EU.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what is set for a tenant, or set what is given; `none` takes a setting away."""
    codes = None if jurisdictions is None else _or_none(jurisdictions)
    given = {
        "trash_days": _number(trash_days, float),
        "retention_days": _number(retention_days, int),
        "retention_mode": retention_mode,
        "region": region,
        "allowed_jurisdictions": [code.strip() for code in codes.split(",")] if codes else codes,
    }
    named = {
        "trash_days": trash_days,
        "retention_days": retention_days,
        "retention_mode": retention_mode,
        "region": region,
        "allowed_jurisdictions": jurisdictions,
    }
    changes = {name: _or_none(given[name]) for name, value in named.items() if value is not None}
    with connect() as client:
        found = client.set_settings(tenant, **changes) if changes else client.get_settings(tenant)
        show_one(found, as_json=as_json)


def limits(
    tenant: str,
    largest_upload_bytes: Annotated[str | None, typer.Option(help="Largest document.")] = None,
    most_documents: Annotated[str | None, typer.Option(help="Documents at a time.")] = None,
    most_bytes: Annotated[
        str | None, typer.Option(help="Bytes at a time, all versions and the trash included.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Set how much a tenant may keep (operators); `none` takes a limit away."""
    named = {
        "largest_upload_bytes": largest_upload_bytes,
        "most_documents": most_documents,
        "most_bytes": most_bytes,
    }
    changes = {name: _number(value, int) for name, value in named.items() if value is not None}
    with connect() as client:
        show_one(client.set_limits(tenant, **changes), as_json=as_json)


def _or_none(value: Any) -> Any:
    return None if value == _NONE else value


def _number(text: str | None, kind: type[int] | type[float]) -> int | float | None:
    if text is None or text == _NONE:
        return None
    try:
        return kind(text)
    except ValueError:
        raise Invalid(f"{text!r} is no number; `none` takes the setting away.", code="number_invalid") from None
