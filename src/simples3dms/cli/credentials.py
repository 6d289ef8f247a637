"""store credential, store move: what a store signs with, and where it is."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from simples3dms.cli.output import console, say, show_json, show_one
from simples3dms.cli.session import JsonFlag, connect
from simples3dms.cli.stores import CredentialFile, ask_credential, parse_settings
from simples3dms.schemas.rotations import Rotation

credential_app = typer.Typer(help="What a store signs with. Never shown.", no_args_is_help=True)


@credential_app.command("show")
def show_credential(name: str, as_json: JsonFlag = False) -> None:
    """The versions that are kept, when they expire, the newest rotation, the schedule."""
    with connect() as client:
        found = client.get_credential(name)
    if as_json:
        show_json(found)
        return
    for version in found.versions:
        expiry = f", expires {version.expires_at:%Y-%m-%d}" if version.expires_at else ""
        console.print(f"version {version.version}: {version.state}, fingerprint {version.fingerprint}{expiry}")
    if found.rotation is not None:
        _tell(found.rotation)
    if found.schedule is not None and found.schedule.next_at is not None:
        console.print(f"rotated by itself; next on {found.schedule.next_at:%Y-%m-%d %H:%M} UTC")


@credential_app.command("replace")
def replace_credential(name: str, credential_file: CredentialFile = None, as_json: JsonFlag = False) -> None:
    """Put another in its place at once, once it has been seen to work; the old one is forgotten."""
    with connect() as client:
        changed = client.set_credential(name, ask_credential(client.get_store(name).kind, credential_file))
    if as_json:
        show_json(changed)
    else:
        say("Replaced.")


@credential_app.command("rotate")
def rotate_credential(
    name: str,
    made: Annotated[bool, typer.Option("--make", help="Have the provider make the new key.")] = False,
    credential_file: CredentialFile = None,
    delete_old: Annotated[
        bool | None, typer.Option("--delete-old/--keep-old", help="Also delete the old key at the provider.")
    ] = None,
    grace_hours: Annotated[float | None, typer.Option(help="How long the old one is kept.")] = None,
    expires_at: Annotated[datetime | None, typer.Option(help="When the new one expires (UTC).")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Try a new one, switch to it, and keep the old one for a while: no request fails, and there is a way back."""
    with connect() as client:
        given = None if made else ask_credential(client.get_store(name).kind, credential_file)
        rotation = client.start_rotation(
            name,
            given,
            deletes_old=delete_old,
            grace_seconds=None if grace_hours is None else grace_hours * 3600,
            expires_at=expires_at,
        )
    end_rotation(rotation, as_json=as_json)


@credential_app.command("roll-back")
def roll_back(name: str, as_json: JsonFlag = False) -> None:
    """Back to the old one, while it is kept."""
    with connect() as client:
        end_rotation(client.roll_back_rotation(name), as_json=as_json)


@credential_app.command("finish")
def finish(name: str, as_json: JsonFlag = False) -> None:
    """End the grace: the old one goes now."""
    with connect() as client:
        end_rotation(client.finalize_rotation(name), as_json=as_json)


@credential_app.command("schedule")
def schedule(
    name: str,
    every_days: Annotated[float | None, typer.Option(help="Rotate it by itself so often.")] = None,
    off: Annotated[bool, typer.Option("--off", help="Not by itself any more.")] = False,
    delete_old: Annotated[bool, typer.Option("--delete-old", help="Delete also a key that was entered.")] = False,
    manager_file: Annotated[
        str | None, typer.Option(help="JSON file with a credential that may manage keys, or - for standard input.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Have a store's key made anew at the provider from time to time: B2, and AWS IAM or what speaks it."""
    if (every_days is None) == (not off):
        raise typer.BadParameter("Give --every-days N, or --off.")
    with connect() as client:
        manager = None
        if manager_file is not None:
            manager = ask_credential(client.get_store(name).kind, manager_file)
        show_one(
            client.set_rotation_schedule(name, every_days=every_days, deletes_old=delete_old, manager=manager),
            as_json=as_json,
        )


def move_store(
    name: str,
    settings: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE; all of them, as for add.")] = None,
    credential_file: CredentialFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Say where a store is now: another endpoint, region or bucket that holds the same objects."""
    chosen = parse_settings(settings or [])
    with connect() as client:
        given = ask_credential(client.get_store(name).kind, credential_file)
        show_one(client.set_place(name, settings=chosen, credential=given), as_json=as_json)


def install(store_app: typer.Typer) -> None:
    """Put these below `store`."""
    store_app.add_typer(credential_app, name="credential")
    store_app.command("move")(move_store)


def end_rotation(rotation: Rotation, *, as_json: bool) -> None:
    """Show it; exit code 1 if it has come to nothing."""
    if as_json:
        show_json(rotation)
    else:
        _tell(rotation)
    if rotation.state in ("failed", "needs_attention"):
        raise typer.Exit(1)


def _tell(rotation: Rotation) -> None:
    why = f": {rotation.error_message} ({rotation.error_code})" if rotation.error_code else ""
    until = f"; the old one is kept until {rotation.grace_until:%Y-%m-%d %H:%M} UTC" if rotation.grace_until else ""
    kept = until if rotation.state == "switched" else ""
    console.print(
        f"rotation {rotation.from_version} to {rotation.to_version}: {rotation.state}{kept}{why}",
        soft_wrap=True,
        markup=False,
    )
