"""provider: identity providers (OpenID Connect) by which people sign in."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from simples3dms.cli.account import read_secret
from simples3dms.cli.output import done, show_one, show_rows
from simples3dms.cli.services import PlatformFlag
from simples3dms.cli.session import JsonFlag, TenantOption, connect, require_tenant

provider_app = typer.Typer(help="Identity providers by which people sign in.", no_args_is_help=True)


@provider_app.command("add")
def add_provider(
    name: str,
    issuer: Annotated[str, typer.Argument(help="Its issuer, such as https://login.example.org.")],
    client_id: Annotated[str, typer.Argument(help="Who this installation is to it.")],
    public: Annotated[bool, typer.Option("--public", help="A public client: there is no secret.")] = False,
    link_by_email: Annotated[
        bool, typer.Option("--link-by-email", help="An address that it has verified makes one the user who has it.")
    ] = False,
    create_users: Annotated[
        bool, typer.Option("--create-users", help="A verified address that nobody has makes a user.")
    ] = False,
    default_role: Annotated[str | None, typer.Option(help="The place in the tenant of who is made so.")] = None,
    tenant: TenantOption = None,
    platform: PlatformFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Add one; the client secret is asked for, or read from standard input."""
    secret = None if public else read_secret("Client secret")
    with connect() as client:
        made = client.add_provider(
            None if platform else require_tenant(tenant),
            name,
            issuer=issuer,
            client_id=client_id,
            client_secret=secret,
            links_by_email=link_by_email,
            creates_users=create_users,
            default_role=default_role,
        )
    show_one(made, as_json=as_json)


@provider_app.command("list")
def list_providers(tenant: TenantOption = None, platform: PlatformFlag = False, as_json: JsonFlag = False) -> None:
    """Identity providers; never a secret."""
    with connect() as client:
        rows = client.list_providers(None if platform else require_tenant(tenant))
        columns = ["name", "issuer", "client_id", "id", "links_by_email", "creates_users", "default_role"]
        show_rows(rows, columns, as_json=as_json, empty="None yet.")


@provider_app.command("remove")
def remove_provider(
    provider_id: UUID, tenant: TenantOption = None, platform: PlatformFlag = False, as_json: JsonFlag = False
) -> None:
    """Remove one: whoever came in by it is out."""
    with connect() as client:
        client.remove_provider(None if platform else require_tenant(tenant), provider_id)
    done("Removed.", as_json=as_json, id=str(provider_id), removed=True)
