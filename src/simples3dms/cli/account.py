"""account: one's own password, and where one is signed in."""

from __future__ import annotations

import sys
from uuid import UUID

import typer

from simples3dms.cli.output import console, done, say, show_json, show_one, show_rows
from simples3dms.cli.session import JsonFlag, connect, forget_session
from simples3dms.kit.secret import Secret

account_app = typer.Typer(help="How you sign in yourself.", no_args_is_help=True)


def read_secret(prompt: str) -> Secret:
    """From the terminal without echo, or the next line of standard input."""
    if sys.stdin.isatty():
        return Secret(typer.prompt(prompt, hide_input=True, err=True))
    return Secret(sys.stdin.readline().rstrip("\n"))


@account_app.command("show")
def show_caller(as_json: JsonFlag = False) -> None:
    """Who you are to the server."""
    with connect() as client:
        show_one(client.get_caller(), as_json=as_json)


@account_app.command("password")
def change_password(as_json: JsonFlag = False) -> None:
    """Change your password: all of your tokens and sessions end, this one too."""
    old, new = read_secret("Password"), read_secret("New password")
    with connect() as client:
        client.change_password(old, new)
    forget_session()
    done("Changed. Sign in again: `simples3dms login`.", as_json=as_json, changed=True)


@account_app.command("sessions")
def list_sessions(as_json: JsonFlag = False) -> None:
    """Browsers in which you are signed in."""
    with connect() as client:
        columns = ["id", "address", "agent", "created_at", "last_seen_at", "expires_at"]
        show_rows(client.list_sessions(), columns, as_json=as_json, empty="In none.")


@account_app.command("end-session")
def end_session(session_id: UUID, as_json: JsonFlag = False) -> None:
    """Sign one browser out."""
    with connect() as client:
        client.end_session(session_id)
    done("Ended.", as_json=as_json, id=str(session_id), ended=True)


@account_app.command("end-sessions")
def end_sessions(as_json: JsonFlag = False) -> None:
    """Sign all browsers out."""
    with connect() as client:
        count = client.end_sessions()
    done(f"{count} ended.", as_json=as_json, count=count)


@account_app.command("factors")
def list_factors(as_json: JsonFlag = False) -> None:
    """Your second factors."""
    with connect() as client:
        found = client.list_factors()
    if as_json:
        show_json(found)
        return
    say(f"App: {'on' if found.has_totp else 'off'}. Recovery codes left: {found.recovery_codes}.")
    show_rows(found.passkeys, ["id", "name", "created_at", "last_used_at"], as_json=False, empty="No passkeys.")


@account_app.command("add-app")
def add_app() -> None:
    """Set up an authenticator app as a second factor."""
    password = read_secret("Password")
    with connect() as client:
        made = client.begin_totp(password)
        say("Add this to your app:")
        console.print(made.uri, soft_wrap=True, markup=False)
        codes = client.confirm_totp(read_secret("Code of the app"))
    _show_codes(codes)


def _show_codes(codes: list[str]) -> None:
    if codes:
        say("On. Keep these recovery codes; each signs you in once, and they are shown this once:")
        for code in codes:
            console.print(code, markup=False)


@account_app.command("remove-app")
def remove_app(as_json: JsonFlag = False) -> None:
    """Use the authenticator app no more."""
    password = read_secret("Password")
    with connect() as client:
        client.remove_totp(password)
    done("Removed.", as_json=as_json, removed=True)


@account_app.command("remove-passkey")
def remove_passkey(passkey_id: UUID, as_json: JsonFlag = False) -> None:
    """Use a passkey no more. Passkeys are made in a browser."""
    password = read_secret("Password")
    with connect() as client:
        client.remove_passkey(passkey_id, password)
    done("Removed.", as_json=as_json, id=str(passkey_id), removed=True)


@account_app.command("recovery-codes")
def create_recovery_codes() -> None:
    """Make fresh recovery codes; the old ones are worth nothing any more."""
    password = read_secret("Password")
    with connect() as client:
        _show_codes(client.create_recovery_codes(password))
