"""store, placement."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from simples3dms.cli.output import console, say, show_json, show_one, show_rows
from simples3dms.cli.session import JsonFlag, TenantOption, connect, require_tenant
from simples3dms.errors import Invalid
from simples3dms.kit.secret import Secret

_SECRET_WORDS = ("secret", "key", "token", "password")
store_app = typer.Typer(help="Stores (operators).", no_args_is_help=True)
placement_app = typer.Typer(help="Where a tenant's documents go.", no_args_is_help=True)


def _settings(pairs: list[str]) -> dict[str, object]:
    settings: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"--set takes NAME=VALUE, not {pair!r}.")
        if any(word in name for word in _SECRET_WORDS):
            raise typer.BadParameter(
                f"{name} is secret: give it with --credential-file (or `-` for standard input), not here."
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
        console.print("It works." if check.ok else f"{check.message} ({check.code})", soft_wrap=True, markup=False)
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
def set_credential(name: str, credential_file: CredentialFile = None, as_json: JsonFlag = False) -> None:
    """Replace a store's credential, once the new one has been seen to work."""
    with connect() as client:
        kind = client.get_store(name).kind
        changed = client.set_credential(name, _credential(kind, credential_file))
    if as_json:
        show_json(changed)
    else:
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
