"""service: programs that act in a tenant, or on the platform, by tokens of their own."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from simples3dms.cli.output import console, done, say, show_json, show_one, show_rows
from simples3dms.cli.session import JsonFlag, TenantOption, connect, require_tenant

service_app = typer.Typer(help="Programs that act by tokens of their own.", no_args_is_help=True)
PlatformFlag = Annotated[bool, typer.Option("--platform", help="Of the platform, not of a tenant (operators).")]
ScopeOption = Annotated[
    list[str] | None, typer.Option("--scope", help="A permission that the token is bounded to; may be repeated.")
]


def _of(tenant: str | None, platform: bool) -> str | None:
    return None if platform else require_tenant(tenant)


@service_app.command("create")
def create_service(
    name: str,
    role: Annotated[str | None, typer.Argument(help="Its role in the tenant; on the platform: operator, auditor.")],
    tenant: TenantOption = None,
    platform: PlatformFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Make a service principal; it has no password, and acts by tokens."""
    with connect() as client:
        show_one(client.create_service(_of(tenant, platform), name, role), as_json=as_json)


@service_app.command("list")
def list_services(tenant: TenantOption = None, platform: PlatformFlag = False, as_json: JsonFlag = False) -> None:
    """Service principals."""
    with connect() as client:
        rows = client.iter_services(_of(tenant, platform))
        show_rows(rows, ["email", "role", "id", "created_at", "disabled_at"], as_json=as_json, empty="None yet.")


@service_app.command("disable")
def disable_service(
    service_id: UUID, tenant: TenantOption = None, platform: PlatformFlag = False, as_json: JsonFlag = False
) -> None:
    """Switch one off at once; its tokens are revoked for good."""
    with connect() as client:
        show_one(client.disable_service(_of(tenant, platform), service_id), as_json=as_json)


@service_app.command("enable")
def enable_service(
    service_id: UUID, tenant: TenantOption = None, platform: PlatformFlag = False, as_json: JsonFlag = False
) -> None:
    """Switch one on; it needs new tokens."""
    with connect() as client:
        show_one(client.enable_service(_of(tenant, platform), service_id), as_json=as_json)


@service_app.command("token")
def create_service_token(
    service_id: UUID,
    name: str,
    days: Annotated[float | None, typer.Option(help="Days until it expires; never by default.")] = None,
    scope: ScopeOption = None,
    tenant: TenantOption = None,
    platform: PlatformFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Make a token of it; it is shown once."""
    with connect() as client:
        of = _of(tenant, platform)
        made = client.create_service_token(of, service_id, name, expires_in_days=days, scopes=scope)
    if as_json:
        show_json(made)
    else:
        say("The token is shown this once:")
        console.print(made.token, soft_wrap=True, markup=False)


@service_app.command("tokens")
def list_service_tokens(service_id: UUID, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Tokens of a tenant's service, without the secrets."""
    with connect() as client:
        rows = client.list_service_tokens(require_tenant(tenant), service_id)
        columns = ["id", "name", "created_at", "expires_at", "last_used_at", "revoked_at", "scopes"]
        show_rows(rows, columns, as_json=as_json, empty="No tokens.")


@service_app.command("revoke")
def revoke_service_token(
    service_id: UUID, token_id: UUID, tenant: TenantOption = None, as_json: JsonFlag = False
) -> None:
    """Make one of its tokens useless at once."""
    with connect() as client:
        client.revoke_service_token(require_tenant(tenant), service_id, token_id)
    done("Revoked.", as_json=as_json, id=str(token_id), revoked=True)
