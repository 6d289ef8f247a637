"""own-store: the stores that a tenant brings, and the operator's rules for them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from simples3dms.cli.credentials import end_rotation
from simples3dms.cli.output import console, done, say, show_json, show_one, show_rows
from simples3dms.cli.session import JsonFlag, TenantOption, connect, require_tenant
from simples3dms.cli.stores import CredentialFile, ask_credential, parse_settings, read_tuning, show_probe

app = typer.Typer(help="Stores that a tenant brings.", no_args_is_help=True)
rule_app = typer.Typer(help="What tenants may bring (operators).", no_args_is_help=True)
app.add_typer(rule_app, name="rule")


@app.command("add")
def add_own_store(
    name: str,
    kind: Annotated[str, typer.Option(help="s3 or b2, as the operator allows.")],
    settings: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE; may be repeated.")] = None,
    credential_file: CredentialFile = None,
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Bring a store, once it has been seen to work. It is granted to the tenant at once."""
    whose, chosen = require_tenant(tenant), parse_settings(settings or [])
    credential = ask_credential(kind, credential_file)
    with connect() as client:
        show_one(client.add_own_store(whose, name, kind=kind, settings=chosen, credential=credential), as_json=as_json)


@app.command("list")
def list_own_stores(tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """The stores that the tenant has brought."""
    with connect() as client:
        show_rows(
            client.list_own_stores(require_tenant(tenant)),
            ["name", "kind", "settings", "jurisdiction", "probe_verdict", "created_at", "disabled_at"],
            as_json=as_json,
            empty="It has brought none. What it may bring: `simples3dms own-store rules`.",
        )


@app.command("rules")
def list_rules(tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """What the tenant may bring."""
    with connect() as client:
        show_rows(
            client.list_rules_for_own_stores(require_tenant(tenant)),
            ["kind", "hosts", "regions", "most_per_tenant", "bounds"],
            as_json=as_json,
            empty="Nothing: ask the operator.",
        )


@app.command("show")
def show_own_store(name: str, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """One of them."""
    with connect() as client:
        show_one(client.get_own_store(require_tenant(tenant), name), as_json=as_json)


@app.command("test")
def check_own_store(name: str, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """See whether it works now; exit code 1 if not."""
    with connect() as client:
        check = client.check_own_store(require_tenant(tenant), name)
    if as_json:
        show_json(check)
    else:
        console.print("It works." if check.ok else f"{check.message} ({check.code})", soft_wrap=True, markup=False)
    if not check.ok:
        raise typer.Exit(1)


@app.command("probe")
def probe_own_store(name: str, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """See what it does where others have lost data; exit code 1 if anything is red."""
    with connect() as client:
        probe = client.probe_own_store(require_tenant(tenant), name)
    if as_json:
        show_json(probe)
    else:
        show_probe(probe)
    if probe.verdict in ("red", "unreachable"):
        raise typer.Exit(1)


@app.command("tune")
def tune_own_store(
    name: str,
    values: Annotated[list[str] | None, typer.Option("--set", help="NAME=NUMBER; all others go back.")] = None,
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Give it timeouts, retries and limits of its own, within the operator's bounds."""
    with connect() as client:
        show_one(client.set_own_tuning(require_tenant(tenant), name, read_tuning(values or [])), as_json=as_json)


@app.command("credential")
def set_own_credential(
    name: str, credential_file: CredentialFile = None, tenant: TenantOption = None, as_json: JsonFlag = False
) -> None:
    """Replace its credential, once the new one has been seen to work."""
    whose = require_tenant(tenant)
    with connect() as client:
        kind = client.get_own_store(whose, name).kind
        changed = client.set_own_credential(whose, name, ask_credential(kind, credential_file))
    if as_json:
        show_json(changed)
    else:
        say("Replaced.")


@app.command("rotate")
def rotate_own_credential(
    name: str,
    credential_file: CredentialFile = None,
    grace_hours: Annotated[float | None, typer.Option(help="How long the old one is kept.")] = None,
    expires_at: Annotated[datetime | None, typer.Option(help="When the new one expires (UTC).")] = None,
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Try a new credential, switch to it, and keep the old one for a while: there is a way back."""
    whose = require_tenant(tenant)
    with connect() as client:
        rotation = client.start_own_rotation(
            whose,
            name,
            ask_credential(client.get_own_store(whose, name).kind, credential_file),
            grace_seconds=None if grace_hours is None else grace_hours * 3600,
            expires_at=expires_at,
        )
    end_rotation(rotation, as_json=as_json)


@app.command("rotation")
def show_own_rotation(name: str, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """How its newest rotation stands."""
    with connect() as client:
        end_rotation(client.get_own_rotation(require_tenant(tenant), name), as_json=as_json)


@app.command("roll-back")
def roll_back_own_rotation(name: str, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Back to the old credential, while it is kept."""
    with connect() as client:
        end_rotation(client.roll_back_own_rotation(require_tenant(tenant), name), as_json=as_json)


@app.command("finish")
def finish_own_rotation(name: str, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """End the grace: the old credential goes now. Delete it at the provider then."""
    with connect() as client:
        end_rotation(client.finalize_own_rotation(require_tenant(tenant), name), as_json=as_json)


@app.command("disable")
def disable_own_store(name: str, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Use it for nothing new. What it holds can still be read and moved away."""
    with connect() as client:
        show_one(client.disable_own_store(require_tenant(tenant), name), as_json=as_json)


@rule_app.command("list")
def list_all_rules(as_json: JsonFlag = False) -> None:
    """The rules of all kinds."""
    with connect() as client:
        show_rows(
            client.list_own_store_rules(),
            ["kind", "hosts", "regions", "most_per_tenant", "bounds", "updated_at"],
            as_json=as_json,
            empty="No rules: tenants may bring no stores.",
        )


@rule_app.command("set")
def set_rule(
    kind: str,
    host: Annotated[list[str], typer.Option(help="host, *.host, http://host:9000, or * for anywhere; repeatable.")],
    region: Annotated[list[str] | None, typer.Option(help="Any if not given; repeatable.")] = None,
    most: Annotated[int, typer.Option(help="How many a tenant may bring.")] = 1,
    bound: Annotated[list[str] | None, typer.Option(help="NAME=FROM..TO that a tenant may tune; repeatable.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Let tenants bring stores of a kind. The kind's rollout must let them attach it, too."""
    bounds = dict(_bound(text) for text in bound or [])
    with connect() as client:
        rule = client.set_own_store_rule(kind, hosts=host, regions=region or [], most_per_tenant=most, bounds=bounds)
        show_one(rule, as_json=as_json)


@rule_app.command("remove")
def remove_rule(kind: str, as_json: JsonFlag = False) -> None:
    """Let tenants bring no more of a kind; what they have brought stays."""
    with connect() as client:
        client.remove_own_store_rule(kind)
    done(f"Tenants may bring no more stores of the kind {kind}.", as_json=as_json, kind=kind, removed=True)


def _bound(text: str) -> tuple[str, tuple[float, float]]:
    name, equals, span = text.partition("=")
    low, dots, high = span.partition("..")
    try:
        if equals and dots:
            return name, (float(low), float(high))
    except ValueError:
        pass
    raise typer.BadParameter(f"--bound takes NAME=FROM..TO, not {text!r}.")
