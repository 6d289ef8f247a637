"""tenant settings, limits, delete: what is set for a tenant, and how one ends."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any
from uuid import UUID

import typer

from simples3dms.cli.output import done, show_json, show_one, show_rows
from simples3dms.cli.session import JsonFlag, connect
from simples3dms.errors import Invalid

_NONE = "none"


def install(tenant_app: typer.Typer) -> None:
    tenant_app.command("settings")(settings)
    tenant_app.command("limits")(limits)
    tenant_app.command("delete")(request_deletion)
    tenant_app.command("confirm-deletion")(confirm_deletion)
    tenant_app.command("cancel-deletion")(cancel_deletion)
    tenant_app.command("deletion")(show_deletion)
    tenant_app.command("deletions")(list_deletions)
    tenant_app.command("deletion-certificate")(show_certificate)
    tenant_app.command("deletion-audit")(list_audit)


def settings(
    tenant: str,
    trash_days: Annotated[str | None, typer.Option(help="Days until what is in the trash is purged.")] = None,
    retention_days: Annotated[str | None, typer.Option(help="Days that each new version is retained for.")] = None,
    retention_mode: Annotated[str | None, typer.Option(help="governance or compliance.")] = None,
    region: Annotated[str | None, typer.Option(help="A word that the operator allows.")] = None,
    jurisdictions: Annotated[str | None, typer.Option(help="Where bytes may be, by commas: DE,FR or EU.")] = None,
    migration_letters: Annotated[str | None, typer.Option(help="Mail about migrations: on or off.")] = None,
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
        "migration_letters": _switch(migration_letters),
    }
    named = {
        "trash_days": trash_days,
        "retention_days": retention_days,
        "retention_mode": retention_mode,
        "region": region,
        "allowed_jurisdictions": jurisdictions,
        "migration_letters": migration_letters,
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


ShortName = Annotated[
    str | None, typer.Option("--short-name", help="The tenant's short name again; asked for by default.")
]


def request_deletion(
    tenant: str,
    reason: Annotated[str, typer.Option(help="Why: it goes into the audit and the certificate.")],
    short_name: ShortName = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask for a tenant to be deleted; nothing happens until it is confirmed."""
    typed = short_name or typer.prompt("The tenant's short name, to be sure", err=True)
    with connect() as client:
        show_one(client.request_deletion(tenant, short_name=typed, reason=reason), as_json=as_json)


def confirm_deletion(tenant: str, short_name: ShortName = None, as_json: JsonFlag = False) -> None:
    """Delete the tenant and all that is its own, for good."""
    typed = short_name or typer.prompt("The tenant's short name, to be sure", err=True)
    with connect() as client:
        show_one(client.confirm_deletion(tenant, short_name=typed), as_json=as_json)


def cancel_deletion(tenant: str, as_json: JsonFlag = False) -> None:
    """Take the request back, as long as it was not confirmed."""
    with connect() as client:
        client.cancel_deletion(tenant)
    done("The tenant stays.", as_json=as_json, tenant=tenant, cancelled=True)


def show_deletion(tenant: str, as_json: JsonFlag = False) -> None:
    """How far a tenant's deletion is, and what holds it up."""
    with connect() as client:
        show_one(client.get_deletion(tenant), as_json=as_json)


def list_deletions(as_json: JsonFlag = False) -> None:
    """Deletions of tenants, newest first (operators)."""
    with connect() as client:
        columns = ["id", "tenant_id", "state", "requested_at", "requested_by_name", "finished_at"]
        show_rows(client.iter_deletions(), columns, as_json=as_json, empty="None.")


def show_certificate(deletion: UUID) -> None:
    """The certificate of a deletion that is done, as JSON (operators)."""
    with connect() as client:
        show_json(client.get_deletion_certificate(deletion).certificate)


def list_audit(
    deletion: UUID,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: JsonFlag = False,
) -> None:
    """The audit of a tenant that is not there any more, newest first (operators)."""
    with connect() as client:
        rows = islice(client.iter_deletion_audit(deletion), limit)
        columns = ["at", "principal_name", "action", "target_id", "outcome"]
        show_rows(rows, columns, as_json=as_json, empty="Nothing.")


def _or_none(value: Any) -> Any:
    return None if value == _NONE else value


def _switch(text: str | None) -> bool | None:
    if text is None or text == _NONE:
        return None
    if text not in ("on", "off"):
        raise Invalid(f"{text!r} is neither `on` nor `off`; `none` takes the setting away.", code="switch_invalid")
    return text == "on"


def _number(text: str | None, kind: type[int] | type[float]) -> int | float | None:
    if text is None or text == _NONE:
        return None
    try:
        return kind(text)
    except ValueError:
        raise Invalid(f"{text!r} is no number; `none` takes the setting away.", code="number_invalid") from None
