"""Host commands: serve, worker, db, fsck, recover. They run where the data directory is.

What they do is in `hosting`, imported when one of them runs: loading the server takes a second or two, and the commands
that only speak HTTP need not wait for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

db_app = typer.Typer(help="The database's schema.", no_args_is_help=True)


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="The port to listen on.")] = 8080,
    worker: Annotated[bool, typer.Option("--worker/--no-worker", help="Run a worker in this process too.")] = True,
    first_administrator_file: Annotated[
        Path | None,
        typer.Option(help="Write the first administrator's password here (mode 0600) instead of printing it."),
    ] = None,
) -> None:
    """Serve the HTTP API, with a worker in the same process."""
    from simples3dms.cli import serving

    serving.serve(host, port, with_worker=worker, password_file=first_administrator_file)


def worker(
    name: Annotated[str, typer.Option(help="How this worker calls itself in the log.")] = "worker",
) -> None:
    """Run a worker. Any number may run, on any number of machines that reach the database."""
    from simples3dms.cli import hosting

    hosting.work(name)


@db_app.command("upgrade")
def upgrade_database() -> None:
    """Bring the schema of your own PostgreSQL up to date, as its owner."""
    from simples3dms.cli import hosting

    hosting.upgrade_database()


@db_app.command("restored")
def declare_restored(
    reason: Annotated[str, typer.Option(help="Which backup, and why; it is kept in the audit.")],
) -> None:
    """Say that the database was restored from a backup: nothing is removed from stores until that is confirmed."""
    from simples3dms.cli import hosting

    hosting.declare_restored(reason)


@db_app.command("recount")
def recount() -> None:
    """Put right how many documents each tenant has, and where, if fsck found that wrong. Everything may go on."""
    from simples3dms.cli import hosting

    hosting.recount()


def fsck(
    read_data: Annotated[
        bool, typer.Option("--read-data", help="Read every replica back and compare; --read-data=5%: a sample.")
    ] = False,
    sample: Annotated[str, typer.Option(help="Of the replicas that are read, this share, such as 5%.")] = "100%",
    tenant: Annotated[str | None, typer.Option(help="Only this tenant: its slug or id.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Check the promises over the records and the stores' listings, and on demand over every byte."""
    from simples3dms.cli import hosting

    if not hosting.fsck(read_data=read_data, share=_share_of(sample), tenant=tenant, as_json=as_json):
        raise typer.Exit(1)


class FsckCommand(TyperCommand):
    """Takes `--read-data=5%` for `--read-data --sample 5%`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        spelled: list[str] = []
        for argument in args:
            name, equals, share = argument.partition("=")
            spelled += [name, "--sample", share] if name == "--read-data" and equals else [argument]
        return super().parse_args(ctx, spelled)


def _share_of(text: str) -> float:
    """From 0 to 1. Raises BadParameter for what is no percentage."""
    try:
        percent = float(text.removesuffix("%"))
    except ValueError:
        percent = -1
    if not 0 < percent <= 100:
        raise typer.BadParameter("A sample is a percentage over 0, such as 5%.")
    return percent / 100


def recover(
    email: Annotated[str, typer.Argument(help="The user's e-mail address.")] = "admin@localhost",
    remove_factors: Annotated[
        bool, typer.Option("--remove-factors", help="Remove the user's second factors as well.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Let a user in again who has lost the password: print a secret for `account use-reset`, good for a day."""
    from simples3dms.cli import hosting

    hosting.recover(email, remove_factors=remove_factors, as_json=as_json)
