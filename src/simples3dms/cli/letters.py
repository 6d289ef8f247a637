"""letter: letters that could not be sent."""

from __future__ import annotations

from uuid import UUID

import typer

from simples3dms.cli.output import done, show_one, show_rows
from simples3dms.cli.session import JsonFlag, connect

letter_app = typer.Typer(help="Letters that could not be sent.", no_args_is_help=True)


@letter_app.command("list")
def list_letters(as_json: JsonFlag = False) -> None:
    """Letters that were tried and could not be sent, and why."""
    with connect() as client:
        columns = ["id", "kind", "email", "state", "attempt", "last_error", "created_at"]
        show_rows(client.iter_letters(), columns, as_json=as_json, empty="Every letter was sent.")


@letter_app.command("retry")
def retry_letter(letter_id: UUID, as_json: JsonFlag = False) -> None:
    """Try to send one again now, once the cause is mended."""
    with connect() as client:
        show_one(client.retry_letter(letter_id), as_json=as_json)


@letter_app.command("drop")
def drop_letter(letter_id: UUID, as_json: JsonFlag = False) -> None:
    """Send it no more."""
    with connect() as client:
        client.drop_letter(letter_id)
    done("Dropped.", as_json=as_json, id=str(letter_id), dropped=True)
