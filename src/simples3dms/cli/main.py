"""The command tree, and how failures end: one line on standard error, never a stack trace."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import Annotated

import structlog
import typer
from pydantic import ValidationError

from simples3dms.cli import (
    admin,
    documents,
    drains,
    holds,
    host,
    keys,
    lifecycle,
    migrations,
    own_stores,
    persons,
    reconciles,
    replication,
    residency,
    rollouts,
    stores,
    takeouts,
    upkeep,
)
from simples3dms.cli.output import console, messages, plain
from simples3dms.cli.session import TenantOption
from simples3dms.client import ApiProblem, ServerUnreachable
from simples3dms.errors import Failure

app = typer.Typer(
    name="simples3dms",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        console.print(f"simples3dms {version('simples3dms')}", markup=False, highlight=False)
        raise typer.Exit


@app.callback()
def root(
    tenant: TenantOption = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Documents of many tenants, in the object storage that each of them chooses."""
    if tenant:
        # Where each command's own --tenant looks next.
        os.environ["SIMPLES3DMS_TENANT"] = tenant


app.command()(host.serve)
app.command()(host.worker)
app.command(cls=host.FsckCommand)(host.fsck)
app.command()(upkeep.repair)
app.command()(host.recover)
app.add_typer(host.db_app, name="db")
app.add_typer(keys.keys_app, name="keys")
admin.install(app)
app.add_typer(own_stores.app, name="own-store")
app.add_typer(residency.app, name="residency")
app.add_typer(rollouts.app, name="rollout")
app.add_typer(drains.app, name="drain")
stores.store_app.command("drain")(drains.start)
app.add_typer(documents.app, name="doc")
app.add_typer(migrations.app, name="migration")
app.add_typer(holds.hold_app, name="hold")
app.add_typer(holds.retention_app, name="retention")
app.add_typer(takeouts.app, name="takeout")
app.add_typer(upkeep.scrub_app, name="scrub")
app.add_typer(reconciles.app, name="reconcile")
reconciles.install(stores.store_app)
app.add_typer(upkeep.upkeep_app, name="upkeep")
upkeep.install(stores.store_app)
app.add_typer(replication.app, name="replication")
replication.install(upkeep.upkeep_app)
lifecycle.install(admin.tenant_app)
persons.install(admin.user_app)


@app.command()
def demo(
    once: bool = typer.Option(False, "--once", help="Exit when done, with a last line of JSON."),
    keep: bool = typer.Option(False, "--keep", help="Keep the throw-away directory for a look."),
) -> None:
    """Show a tenant moved live between two clouds, and back, on servers started for the purpose."""
    try:
        # The demo alone needs the stand-ins, which a lean installation leaves out.
        from simples3dms.cli.demo.command import run_demo
    except ModuleNotFoundError as error:
        messages.print(
            f"The demo needs the extra 'sandbox' (missing: {error.name}): pip install 'simples3dms[sandbox]'."
        )
        raise typer.Exit(2) from error
    run_demo(once=once, keep=keep)


def main() -> None:
    """Run the command line. Whatever goes wrong is said in a line; 1 for what failed, 2 for what was asked wrongly."""
    try:
        app()
    except (Failure, ApiProblem, ServerUnreachable) as error:
        _tell(error)
        sys.exit(2 if isinstance(error, Failure) and error.problem_code == "settings_invalid" else 1)
    except ValidationError as error:
        for item in error.errors(include_input=False, include_url=False):
            _say_wrong(f"{'.'.join(map(str, item['loc']))}: {item['msg']}")
        sys.exit(2)
    except OSError as error:
        _say_wrong(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if structlog.is_configured():
            # A host command: its log is where an operator looks.
            structlog.get_logger(__name__).error("command.crashed", exc_info=error)
        elif os.environ.get("SIMPLES3DMS_LOG_LEVEL") == "debug":
            raise
        first = str(error).partition("\n")[0]
        _say_wrong(f"Unexpected {type(error).__name__}: {first} (SIMPLES3DMS_LOG_LEVEL=debug shows where)")
        sys.exit(1)


def _tell(error: Failure | ApiProblem | ServerUnreachable) -> None:
    _say_wrong(error.message if isinstance(error, Failure) else str(error))
    if isinstance(error, ApiProblem):
        for field in error.problem.fields or []:
            messages.print(f"  {plain(field.field)}: {plain(field.message)}", soft_wrap=True, markup=False)
        for one in error.problem.extra.get("hindrances", []):
            told = f"document {one['document_id']}, version {one['version']}: {one['state']} at the target"
            messages.print(f"  {plain(told)}", soft_wrap=True, markup=False)


def _say_wrong(text: str) -> None:
    lines = "\n".join(plain(line) for line in text.splitlines())
    messages.print(lines, style="red", soft_wrap=True, markup=False)
