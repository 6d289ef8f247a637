"""Host commands for the keys that seal secrets: list, add, rotate, retire."""

from __future__ import annotations

from typing import Annotated

import typer

keys_app = typer.Typer(help="The keys that seal secrets in the database.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@keys_app.command("list")
def list_keys(as_json: Json = False) -> None:
    """The keys, which of them seals what is new, and how many sealed rows name each. No key is ever shown."""
    from simples3dms.cli import keyring

    keyring.list_keys(as_json=as_json)


@keys_app.command("add")
def add_key(
    key_id: Annotated[str | None, typer.Option("--id", help="What to call it; a random id if not given.")] = None,
    kms: Annotated[str | None, typer.Option(help="A key that AWS KMS keeps: its ARN or id.")] = None,
    region: Annotated[str | None, typer.Option(help="The region of that key.")] = None,
    transit: Annotated[str | None, typer.Option(help="A key that a transit engine keeps: its name.")] = None,
    address: Annotated[str | None, typer.Option(help="The address of that Vault or OpenBao server.")] = None,
    mount: Annotated[str | None, typer.Option(help="Where the engine is mounted; `transit` if not given.")] = None,
    namespace: Annotated[str | None, typer.Option(help="The namespace that it is in.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="An endpoint of KMS other than AWS's own.")] = None,
    as_json: Json = False,
) -> None:
    """Put a key into the key ring's file. It seals nothing before `keys rotate --to` names it."""
    from simples3dms.cli import keyring

    keyring.add_key(
        key_id,
        {
            "aws-kms": {"key": kms, "region": region, "endpoint": endpoint},
            "transit": {"key": transit, "address": address, "mount": mount, "namespace": namespace},
        },
        as_json=as_json,
    )


@keys_app.command("rotate")
def rotate_keys(
    to: Annotated[str | None, typer.Option(help="A key of the key ring; a fresh one if not given.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Bring the rows over here, or leave that.")] = True,
    as_json: Json = False,
) -> None:
    """Seal under another key from now on, and bring every sealed row under it while everything goes on."""
    from simples3dms.cli import keyring

    keyring.rotate(to, wait=wait, as_json=as_json)


@keys_app.command("retire")
def retire_key(key_id: str) -> None:
    """Forget a key that no sealed row names any more."""
    from simples3dms.cli import keyring

    keyring.retire(key_id)
