"""login, logout, tenant, user, member, token."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from simples3dms.cli import audit, credentials, placements, stores
from simples3dms.cli.account import account_app, read_secret
from simples3dms.cli.invitations import invitation_app, show_hand_over
from simples3dms.cli.letters import letter_app
from simples3dms.cli.output import console, done, say, show_json, show_one, show_rows
from simples3dms.cli.providers import provider_app
from simples3dms.cli.services import ScopeOption, service_app
from simples3dms.cli.session import (
    DEFAULT_URL,
    JsonFlag,
    Session,
    TenantOption,
    connect,
    forget_session,
    require_tenant,
    save_session,
)
from simples3dms.client import ApiProblem, Client
from simples3dms.kit.secret import Secret

tenant_app = typer.Typer(help="Tenants.", no_args_is_help=True)
user_app = typer.Typer(help="Users (operators).", no_args_is_help=True)
member_app = typer.Typer(help="Who belongs to a tenant.", no_args_is_help=True)
token_app = typer.Typer(help="API tokens of your own.", no_args_is_help=True)


def install(app: typer.Typer) -> None:
    app.command()(login)
    app.command()(logout)
    credentials.install(stores.store_app)
    for name, group in (
        ("tenant", tenant_app),
        ("user", user_app),
        ("member", member_app),
        ("token", token_app),
        ("account", account_app),
        ("service", service_app),
        ("invitation", invitation_app),
        ("letter", letter_app),
        ("provider", provider_app),
        ("store", stores.store_app),
        ("placement", placements.placement_app),
        ("audit", audit.app),
    ):
        app.add_typer(group, name=name)


def login(
    url: Annotated[str, typer.Argument(help="The server's address.")] = DEFAULT_URL,
    email: Annotated[str, typer.Option(help="Your e-mail address.")] = "admin@localhost",
    as_json: JsonFlag = False,
) -> None:
    """Sign in; the token is kept in a file that only you can read."""
    password = read_secret("Password")
    with Client(url, tries=1) as client:
        try:
            made = client.log_in(email, password, token_name="command line")  # noqa: S106 a label
        except ApiProblem as problem:
            if problem.code != "second_factor_required":
                raise
            code = read_secret("Code of your app, or a recovery code")
            made = client.log_in(email, password, token_name="command line", code=code)  # noqa: S106 a label
    save_session(Session(url, Secret(made.token)))
    expires = made.expires_at.isoformat() if made.expires_at else None
    done(f"Signed in to {url} as {email}.", as_json=as_json, url=url, email=email, expires_at=expires)


def logout(as_json: JsonFlag = False) -> None:
    """Forget the token on this machine. `token revoke` makes one useless everywhere."""
    forget_session()
    done("Signed out.", as_json=as_json, signed_out=True)


@tenant_app.command("create")
def create_tenant(
    slug: Annotated[str, typer.Argument(help="Short name: letters, digits, hyphens.")],
    name: Annotated[str | None, typer.Option(help="Full name; the short one by default.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a tenant."""
    with connect() as client:
        show_one(client.create_tenant(slug, name or slug), as_json=as_json)


@tenant_app.command("list")
def list_tenants(as_json: JsonFlag = False) -> None:
    """All tenants."""
    with connect() as client:
        empty = "No tenants yet: make one with `simples3dms tenant create NAME`."
        show_rows(
            client.iter_tenants(), ["slug", "name", "id", "created_at", "suspended_at"], as_json=as_json, empty=empty
        )


@tenant_app.command("show")
def show_tenant(tenant: str, as_json: JsonFlag = False) -> None:
    """One tenant."""
    with connect() as client:
        show_one(client.get_tenant(tenant), as_json=as_json)


@tenant_app.command("suspend")
def suspend_tenant(
    tenant: str,
    reason: Annotated[str, typer.Option(help="Why: it goes into the audit.")],
    as_json: JsonFlag = False,
) -> None:
    """Serve its documents no longer; nothing is lost."""
    with connect() as client:
        show_one(client.suspend_tenant(tenant, reason), as_json=as_json)


@tenant_app.command("resume")
def resume_tenant(tenant: str, as_json: JsonFlag = False) -> None:
    """Serve it again."""
    with connect() as client:
        show_one(client.resume_tenant(tenant), as_json=as_json)


@user_app.command("create")
def create_user(
    email: str,
    generate: Annotated[bool, typer.Option("--generate", help="Generate the password and print it once.")] = False,
    platform_role: Annotated[
        str | None, typer.Option(help="operator or auditor of the platform; none by default.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a user; the password is asked for, or read from standard input."""
    password = None if generate else read_secret("Password for the new user")
    with connect() as client:
        made = client.create_user(email, password, platform_role=platform_role)
    if as_json:
        show_json(made)
    else:
        console.print(f"{made.user.email} ({made.user.id})", markup=False)
        if made.password:
            console.print(f"Password, shown this once: {made.password}", soft_wrap=True, markup=False)


@user_app.command("list")
def list_users(as_json: JsonFlag = False) -> None:
    """All users."""
    with connect() as client:
        columns = ["email", "is_operator", "is_auditor", "id", "created_at", "disabled_at"]
        show_rows(client.iter_users(), columns, as_json=as_json, empty="No users.")


@user_app.command("disable")
def disable_user(user_id: UUID, as_json: JsonFlag = False) -> None:
    """Keep a user out, at once and everywhere."""
    with connect() as client:
        show_one(client.disable_user(user_id), as_json=as_json)


@user_app.command("enable")
def enable_user(user_id: UUID, as_json: JsonFlag = False) -> None:
    """Let a user in again; they sign in anew."""
    with connect() as client:
        show_one(client.enable_user(user_id), as_json=as_json)


@user_app.command("set-role")
def set_platform_role(
    user_id: UUID,
    role: Annotated[str, typer.Argument(help="operator, auditor, or none.")],
    as_json: JsonFlag = False,
) -> None:
    """Make a user an operator or an auditor of the platform, or neither; they sign in anew."""
    with connect() as client:
        show_one(client.set_platform_role(user_id, None if role == "none" else role), as_json=as_json)


@user_app.command("reset")
def create_reset(user_id: UUID, as_json: JsonFlag = False) -> None:
    """Make a link by which a user sets a new password; hand it over, it is shown once."""
    with connect() as client:
        made = client.create_reset(user_id)
    show_hand_over(made, as_json=as_json)


@user_app.command("remove-factors")
def remove_factors(user_id: UUID, as_json: JsonFlag = False) -> None:
    """Remove all second factors of a user who has lost them."""
    with connect() as client:
        client.remove_factors(user_id)
    done("Removed.", as_json=as_json, id=str(user_id), removed=True)


@member_app.command("set")
def set_member(email: str, role: str, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Give a user a place in the tenant: owner, administrator, editor, viewer or auditor."""
    with connect() as client:
        show_one(client.set_member(require_tenant(tenant), email, role), as_json=as_json)


@member_app.command("list")
def list_members(tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """The tenant's members."""
    with connect() as client:
        rows = client.list_members(require_tenant(tenant))
        empty = "No members yet: add one with `simples3dms member set EMAIL owner`."
        show_rows(rows, ["email", "role", "created_at"], as_json=as_json, empty=empty)


@member_app.command("remove")
def remove_member(email: str, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Take a user out of the tenant."""
    with connect() as client:
        client.remove_member(require_tenant(tenant), email)
    done(f"{email} is no member any more.", as_json=as_json, email=email, removed=True)


@token_app.command("create")
def create_token(
    name: str,
    days: Annotated[
        float | None, typer.Option(help="Days until it expires; by default never, or with the token that makes it.")
    ] = None,
    scope: ScopeOption = None,
    only_tenant: Annotated[str | None, typer.Option(help="The only tenant in which it is good for anything.")] = None,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Give your password: the token may outlive your sign-in.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make a token; it is shown once."""
    password = read_secret("Password") if confirm else None
    with connect() as client:
        made = client.create_token(name, expires_in_days=days, scopes=scope, tenant=only_tenant, password=password)
    if as_json:
        show_json(made)
    else:
        say("The token is shown this once:")
        console.print(made.token, soft_wrap=True, markup=False)


@token_app.command("list")
def list_tokens(as_json: JsonFlag = False) -> None:
    """Your tokens, without the secrets."""
    with connect() as client:
        columns = ["id", "name", "created_at", "expires_at", "last_used_at", "revoked_at", "scopes"]
        show_rows(client.list_tokens(), columns, as_json=as_json, empty="No tokens.")


@token_app.command("revoke")
def revoke_token(token_id: UUID, as_json: JsonFlag = False) -> None:
    """Make a token useless at once."""
    with connect() as client:
        client.revoke_token(token_id)
    done("Revoked.", as_json=as_json, id=str(token_id), revoked=True)
