"""store."""

from __future__ import annotations

import json
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from simples3dms.cli.output import console, done, show_json, show_one, show_rows
from simples3dms.cli.session import JsonFlag, TenantOption, connect, require_tenant
from simples3dms.errors import Invalid
from simples3dms.kit.secret import Secret
from simples3dms.schemas.stores import Probe

_SECRET_WORDS = ("secret", "key", "token", "password")
store_app = typer.Typer(help="Stores (operators).", no_args_is_help=True)


def parse_settings(pairs: list[str]) -> dict[str, object]:
    settings: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"--set takes NAME=VALUE, not {pair!r}.")
        if any(word in name for word in _SECRET_WORDS) and not name.endswith("_id"):
            raise typer.BadParameter(
                f"{name} is secret: give it with --credential-file (or `-` for standard input), not here."
            )
        settings[name] = value
    return settings


def ask_credential(kind: str, file: str | None) -> dict[str, Secret | str]:
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


@dataclass(frozen=True)
class StoreConfig:
    """A store in a file: the same TOML as the conformance suite takes."""

    kind: str
    settings: dict[str, object]
    credential: dict[str, Secret | str]


def read_store_config(path: Path) -> StoreConfig:
    """Raises Invalid for what is no such file."""
    try:
        given = tomllib.loads(path.read_text())
        kind, settings, credential = str(given["kind"]), dict(given.get("settings", {})), given.get("credential", {})
        return StoreConfig(kind, settings, {str(key): Secret(str(value)) for key, value in credential.items()})
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} can't be read: {getattr(error, 'strerror', None) or 'it is no text'}.") from error
    except (tomllib.TOMLDecodeError, KeyError, ValueError, AttributeError) as error:
        raise Invalid(f'{path} must be TOML with kind = "...", [settings] and [credential].') from error


CredentialFile = Annotated[
    str | None, typer.Option(help="JSON file with the credential, or - for standard input. Asked for if not given.")
]


@store_app.command("add")
def add_store(
    name: str,
    kind: Annotated[str, typer.Option(help="s3, b2 or local.")],
    settings: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE; may be repeated.")] = None,
    credential_file: CredentialFile = None,
    cache_max_bytes: Annotated[
        int | None, typer.Option(min=1, help="Make it a cache of up to so many bytes, in front of other stores.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Add a store, once it has been seen to work."""
    chosen = parse_settings(settings or [])
    credential = ask_credential(kind, credential_file)
    with connect() as client:
        added = client.add_store(
            name, kind=kind, settings=chosen, credential=credential, cache_max_bytes=cache_max_bytes
        )
        show_one(added, as_json=as_json)


@store_app.command("list")
def list_stores(tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """All stores, or with --tenant those that a tenant may use."""
    empty = "No stores yet: add one with `simples3dms store add NAME --kind s3 --set bucket=...`."
    with connect() as client:
        if tenant:
            rows = client.list_granted_stores(tenant)
            columns = ["name", "kind", "prefix", "jurisdiction", "is_own", "is_outside", "is_cache"]
            show_rows(rows, columns, as_json=as_json, empty="No stores are granted to it yet.")
        else:
            show_rows(
                client.list_stores(),
                [
                    "name",
                    "kind",
                    "settings",
                    "jurisdiction",
                    "probe_verdict",
                    "untrusted_at",
                    "cache_max_bytes",
                    "created_at",
                ],
                as_json=as_json,
                empty=empty,
            )


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


@store_app.command("probe")
def probe_store(
    name: Annotated[str | None, typer.Argument(help="A store that is saved.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file instead: kind, [settings], [credential]; nothing is saved.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """See what a store does where others have lost data; exit code 1 if anything is red."""
    if (name is None) == (config is None):
        raise Invalid("Give the NAME of a store, or --config FILE.")
    with connect() as client:
        if config is not None:
            given = read_store_config(config)
            probe = client.probe_config(kind=given.kind, settings=given.settings, credential=given.credential)
        else:
            assert name is not None
            probe = client.probe_store(name)
    if as_json:
        show_json(probe)
    else:
        show_probe(probe)
    if probe.verdict in ("red", "unreachable"):
        raise typer.Exit(1)


def show_probe(probe: Probe) -> None:
    marks = {"green": "[green]green[/green]", "amber": "[yellow]amber[/yellow]", "red": "[red]red[/red]"}
    table = Table(box=None, pad_edge=False)
    for heading in ("", "what", "meaning", "found"):
        table.add_column(heading, overflow="fold")
    for finding in probe.findings:
        table.add_row(marks[finding.verdict], *map(escape, (finding.name, finding.meaning, finding.detail)))
    console.print(table)
    amber = sum(finding.verdict == "amber" for finding in probe.findings)
    red = sum(finding.verdict == "red" for finding in probe.findings)
    said = "Fit for use" if not red else "Not fit for use"
    console.print(f"{said}: {len(probe.findings) - amber - red} green, {amber} amber, {red} red.")


@store_app.command("tune")
def tune_store(
    name: str,
    values: Annotated[list[str] | None, typer.Option("--set", help="NAME=NUMBER; all others go back.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Give a store timeouts, retries and limits of its own; without --set, the installation's hold again."""
    with connect() as client:
        show_one(client.set_tuning(name, read_tuning(values or [])), as_json=as_json)


def read_tuning(pairs: list[str]) -> dict[str, object]:
    tuning: dict[str, object] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        try:
            tuning[key] = {"true": True, "false": False}[value] if value in ("true", "false") else _number(value)
        except ValueError:
            equals = ""
        if not equals:
            raise typer.BadParameter(f"--set takes NAME=NUMBER, not {pair!r}.")
    return tuning


def _number(text: str) -> float | int:
    return int(text) if text.lstrip("-").isdigit() else float(text)


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


@store_app.command("revoke")
def revoke_grant(name: str, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Let a tenant use a store no more; refused while the tenant needs it."""
    whose = require_tenant(tenant)
    with connect() as client:
        client.revoke_grant(whose, name)
    done(f"{whose} may use {name} no more.", as_json=as_json, store=name, tenant=whose, revoked=True)


@store_app.command("disable")
def disable_store(name: str, as_json: JsonFlag = False) -> None:
    """Offer a store to nobody any more. What it holds can still be read and moved away."""
    with connect() as client:
        show_one(client.disable_store(name), as_json=as_json)


@store_app.command("resize-cache")
def set_cache_size(
    name: str,
    max_bytes: Annotated[int, typer.Argument(min=1, help="How much the cache may hold, of all its tenants together.")],
    as_json: JsonFlag = False,
) -> None:
    """Make a cache larger or smaller; what is too much goes in the background."""
    with connect() as client:
        show_one(client.set_cache_size(name, max_bytes), as_json=as_json)


@store_app.command("jurisdiction")
def set_jurisdiction(
    name: Annotated[str, typer.Argument(help="A store's name, or the id of one that a tenant brought.")],
    code: Annotated[str, typer.Argument(help="A country's code such as DE, EU, EEA, or `unknown`.")],
    as_json: JsonFlag = False,
) -> None:
    """Say under whose law a store's bytes lie."""
    with connect() as client:
        show_one(client.set_jurisdiction(name, None if code == "unknown" else code.upper()), as_json=as_json)
