"""login, tenant, user, member, token, store, placement, audit."""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from simples3dms.cli.output import console, say, show_json, show_one, show_rows
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
from simples3dms.client import Client
from simples3dms.errors import Invalid
from simples3dms.kit.secret import Secret

_SECRET_WORDS = ("secret", "key", "token", "password")
tenant_app = typer.Typer(help="Tenants.", no_args_is_help=True)
user_app = typer.Typer(help="Users (operators).", no_args_is_help=True)
member_app = typer.Typer(help="Who belongs to a tenant.", no_args_is_help=True)
token_app = typer.Typer(help="API tokens of your own.", no_args_is_help=True)
store_app = typer.Typer(help="Stores (operators).", no_args_is_help=True)
placement_app = typer.Typer(help="Where a tenant's documents go.", no_args_is_help=True)
audit_app = typer.Typer(help="Who did what.", no_args_is_help=True)


def install(app: typer.Typer) -> None:
    app.command()(login)
    app.command()(logout)
    for name, group in (
        ("tenant", tenant_app),
        ("user", user_app),
        ("member", member_app),
        ("token", token_app),
        ("store", store_app),
        ("placement", placement_app),
        ("audit", audit_app),
    ):
        app.add_typer(group, name=name)


def _read_password(prompt: str = "Password") -> Secret:
    """From the terminal without echo, or the first line of standard input."""
    if sys.stdin.isatty():
        return Secret(typer.prompt(prompt, hide_input=True, err=True))
    return Secret(sys.stdin.readline().rstrip("\n"))


def login(
    url: Annotated[str, typer.Argument(help="The server's address.")] = DEFAULT_URL,
    email: Annotated[str, typer.Option(help="Your e-mail address.")] = "admin@localhost",
) -> None:
    """Sign in; the token is kept in a file that only you can read."""
    password = _read_password()
    with Client(url, tries=1) as client:
        made = client.log_in(email, password, token_name="command line")  # noqa: S106 a label
    save_session(Session(url, Secret(made.token)))
    say(f"Signed in to {url} as {email}.")


def logout() -> None:
    """Forget the token on this machine."""
    forget_session()
    say("Signed out.")


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
        show_rows(client.iter_tenants(), ["slug", "name", "id", "created_at"], as_json=as_json, empty=empty)


@tenant_app.command("show")
def show_tenant(tenant: str, as_json: JsonFlag = False) -> None:
    """One tenant."""
    with connect() as client:
        show_one(client.get_tenant(tenant), as_json=as_json)


@user_app.command("create")
def create_user(
    email: str,
    generate: Annotated[bool, typer.Option("--generate", help="Generate the password and print it once.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make a user; the password is asked for, or read from standard input."""
    password = None if generate else _read_password("Password for the new user")
    with connect() as client:
        made = client.create_user(email, password)
    if as_json:
        show_json(made)
    else:
        console.print(f"{made.user.email} ({made.user.id})")
        if made.password:
            console.print(f"Password, shown this once: {made.password}", soft_wrap=True)


@user_app.command("list")
def list_users(as_json: JsonFlag = False) -> None:
    """All users."""
    with connect() as client:
        columns = ["email", "is_operator", "id", "created_at"]
        show_rows(client.iter_users(), columns, as_json=as_json, empty="No users.")


@member_app.command("set")
def set_member(email: str, role: str, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Give a user a place in the tenant: admin or member."""
    with connect() as client:
        show_one(client.set_member(require_tenant(tenant), email, role), as_json=as_json)


@member_app.command("list")
def list_members(tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """The tenant's members."""
    with connect() as client:
        rows = client.list_members(require_tenant(tenant))
        empty = "No members yet: add one with `simples3dms member set EMAIL admin`."
        show_rows(rows, ["email", "role", "created_at"], as_json=as_json, empty=empty)


@member_app.command("remove")
def remove_member(email: str, tenant: TenantOption = None) -> None:
    """Take a user out of the tenant."""
    with connect() as client:
        client.remove_member(require_tenant(tenant), email)
    say(f"{email} is no member any more.")


@token_app.command("create")
def create_token(
    name: str,
    days: Annotated[float | None, typer.Option(help="Days until it expires; never by default.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a token; it is shown once."""
    with connect() as client:
        made = client.create_token(name, expires_in_days=days)
    if as_json:
        show_json(made)
    else:
        say("The token is shown this once:")
        console.print(made.token, soft_wrap=True)


@token_app.command("list")
def list_tokens(as_json: JsonFlag = False) -> None:
    """Your tokens, without the secrets."""
    with connect() as client:
        columns = ["id", "name", "created_at", "expires_at", "last_used_at", "revoked_at"]
        show_rows(client.list_tokens(), columns, as_json=as_json, empty="No tokens.")


@token_app.command("revoke")
def revoke_token(token_id: UUID) -> None:
    """Make a token useless at once."""
    with connect() as client:
        client.revoke_token(token_id)
    say("Revoked.")


def _settings(pairs: list[str]) -> dict[str, object]:
    settings: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise Invalid(f"--set takes NAME=VALUE, not {pair!r}.", code="setting_malformed")
        if any(word in name for word in _SECRET_WORDS):
            raise Invalid(
                f"{name} is secret: give it with --credential-file (or `-` for standard input), not here.",
                code="secret_on_command_line",
            )
        settings[name] = value
    return settings


def _credential(kind: str, file: str | None) -> dict[str, Secret | str]:
    """From a JSON file, standard input, or asked for; never from the command line, where others can read it."""
    fields = {"s3": ("access_key_id", "secret_access_key"), "b2": ("application_key_id", "application_key")}
    if file is not None:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
        try:
            given = json.loads(text)
        except ValueError:
            given = None
        if not isinstance(given, dict):
            raise Invalid('The credential must be a JSON object, such as {"access_key_id": ...}.')
        return {str(name): Secret(str(value)) for name, value in given.items()}
    return {name: Secret(typer.prompt(name, hide_input=True, err=True)) for name in fields.get(kind, ())}


CredentialFile = Annotated[
    str | None, typer.Option(help="JSON file with the credential, or - for standard input. Asked for if not given.")
]


@store_app.command("add")
def add_store(
    name: str,
    kind: Annotated[str, typer.Option(help="s3, b2 or local.")],
    settings: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE; may be repeated.")] = None,
    credential_file: CredentialFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Add a store, once it has been seen to work."""
    chosen = _settings(settings or [])
    credential = _credential(kind, credential_file)
    with connect() as client:
        show_one(client.add_store(name, kind=kind, settings=chosen, credential=credential), as_json=as_json)


@store_app.command("list")
def list_stores(tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """All stores, or with --tenant those that a tenant may use."""
    empty = "No stores yet: add one with `simples3dms store add NAME --kind s3 --set bucket=...`."
    with connect() as client:
        if tenant:
            rows = client.list_granted_stores(tenant)
            show_rows(rows, ["name", "kind", "prefix"], as_json=as_json, empty="No stores are granted to it yet.")
        else:
            show_rows(client.list_stores(), ["name", "kind", "settings", "created_at"], as_json=as_json, empty=empty)


@store_app.command("test")
def check_store(name: str, as_json: JsonFlag = False) -> None:
    """See whether a store works now; exit code 1 if not."""
    with connect() as client:
        check = client.check_store(name)
    if as_json:
        show_json(check)
    else:
        console.print("It works." if check.ok else f"{check.message} ({check.code})", soft_wrap=True)
    if not check.ok:
        raise typer.Exit(1)


@store_app.command("grant")
def grant_store(
    name: str,
    tenant: TenantOption = None,
    prefix: Annotated[str | None, typer.Option(help="The tenant's place in it; its own by default.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Let a tenant use a store."""
    with connect() as client:
        show_one(client.grant_store(require_tenant(tenant), name, prefix=prefix), as_json=as_json)


@store_app.command("credential")
def set_credential(name: str, credential_file: CredentialFile = None) -> None:
    """Replace a store's credential, once the new one has been seen to work."""
    with connect() as client:
        kind = next((store.kind for store in client.list_stores() if store.name == name), "")
        client.set_credential(name, _credential(kind, credential_file))
    say("Replaced.")


@placement_app.command("show")
def show_placement(tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Where new documents go, and what is read first."""
    with connect() as client:
        show_one(client.get_placement(require_tenant(tenant)), as_json=as_json)


@placement_app.command("set")
def set_placement(
    write: Annotated[str, typer.Option(help="The store that new documents are written to.")],
    copy: Annotated[list[str] | None, typer.Option(help="A store that holds a copy; may be repeated.")] = None,
    read: Annotated[list[str] | None, typer.Option(help="Read order; may be repeated.")] = None,
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Set it for what is written from now on. Existing documents are moved by `simples3dms migration`."""
    with connect() as client:
        placement = client.set_placement(require_tenant(tenant), write=write, copies=copy or [], read=read or [])
        show_one(placement, as_json=as_json)


@audit_app.command("list")
def list_audit(
    tenant: TenantOption = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: JsonFlag = False,
) -> None:
    """Who did what in a tenant, newest first."""
    with connect() as client:
        rows = islice(client.iter_audit_events(require_tenant(tenant)), limit)
        columns = ["at", "principal_name", "action", "target_type", "target_id", "outcome"]
        show_rows(rows, columns, as_json=as_json, empty="Nothing yet.")
