"""invitation: invite people to a tenant, accept, and use a reset link."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from simples3dms.cli.account import account_app, read_secret
from simples3dms.cli.output import console, done, say, show_json, show_one, show_rows
from simples3dms.cli.session import DEFAULT_URL, JsonFlag, TenantOption, connect, require_tenant
from simples3dms.client import Client
from simples3dms.kit.secret import Secret
from simples3dms.schemas.invitations import HandOver

invitation_app = typer.Typer(help="Places in a tenant for people who are not there yet.", no_args_is_help=True)
UrlArgument = Annotated[str, typer.Argument(help="The server's address.")]


def show_hand_over(made: HandOver, *, as_json: bool) -> None:
    if as_json:
        show_json(made)
        return
    say("Hand this over to whom it is for; it is shown this once:")
    console.print(made.link or made.token, soft_wrap=True, markup=False)


def _read_token() -> Secret:
    """A whole link will do: the secret is what stands after its `#`."""
    return Secret(read_secret("Link, or token").reveal().rpartition("#")[2])


@invitation_app.command("create")
def invite(email: str, role: str, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Invite an address: by mail where the server sends mail, else by a link that you hand over."""
    with connect() as client:
        made = client.create_invitation(require_tenant(tenant), email, role)
    if as_json:
        show_json(made)
    elif made.hand_over is None:
        show_one(made.invitation, as_json=False)
        say("The invitation is sent by mail.")
    else:
        show_hand_over(made.hand_over, as_json=False)


@invitation_app.command("list")
def list_invitations(tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """The tenant's invitations, newest first."""
    with connect() as client:
        rows = client.iter_invitations(require_tenant(tenant))
        columns = ["id", "email", "role", "expires_at", "accepted_at", "revoked_at"]
        show_rows(rows, columns, as_json=as_json, empty="None yet.")


@invitation_app.command("revoke")
def revoke_invitation(invitation_id: UUID, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Make an invitation useless."""
    with connect() as client:
        client.revoke_invitation(require_tenant(tenant), invitation_id)
    done("Revoked.", as_json=as_json, id=str(invitation_id), revoked=True)


@invitation_app.command("accept")
def accept_invitation(url: UrlArgument = DEFAULT_URL, as_json: JsonFlag = False) -> None:
    """Make the account that an invitation is for, with a password of your choice."""
    token, password = _read_token(), read_secret("New password")
    with Client(url, tries=1) as client:
        email = client.accept_invitation(token, password)
    done(f"{email} can sign in now.", as_json=as_json, email=email)


@invitation_app.command("join")
def join_tenant(as_json: JsonFlag = False) -> None:
    """Take the place that an invitation gives as who you are signed in as."""
    token = _read_token()
    with connect() as client:
        tenant_id = client.join_tenant(token)
    done("Joined.", as_json=as_json, tenant_id=str(tenant_id))


@account_app.command("request-reset")
def request_reset(email: str, url: UrlArgument = DEFAULT_URL, as_json: JsonFlag = False) -> None:
    """Have a link sent by which you set a new password."""
    with Client(url, tries=1) as client:
        client.request_reset(email)
    done("If there is such a user, a link is on its way.", as_json=as_json, requested=True)


@account_app.command("use-reset")
def use_reset(url: UrlArgument = DEFAULT_URL, as_json: JsonFlag = False) -> None:
    """Set a new password by a link that you were given."""
    token, password = _read_token(), read_secret("New password")
    with Client(url, tries=1) as client:
        client.use_reset(token, password)
    done("Changed: sign in.", as_json=as_json, changed=True)
