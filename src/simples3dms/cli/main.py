"""The command tree, and how failures end: one line on standard error, never a stack trace."""

from __future__ import annotations

import sys

import typer
from pydantic import ValidationError

from simples3dms.cli import admin, documents, host, migrations
from simples3dms.cli.output import messages
from simples3dms.client import ApiProblem, ServerUnreachable
from simples3dms.errors import Failure

app = typer.Typer(
    name="simples3dms",
    help="Documents of many tenants, in the object storage that each of them chooses.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(host.serve)
app.command()(host.worker)
app.command()(host.fsck)
app.add_typer(host.db_app, name="db")
admin.install(app)
app.add_typer(documents.app, name="doc")
app.add_typer(migrations.app, name="migration")


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
    """Run the command line."""
    try:
        app()
    except (Failure, ApiProblem, ServerUnreachable) as error:
        _tell(error)
        sys.exit(1)
    except ValidationError as error:
        for item in error.errors(include_input=False, include_url=False):
            name = "SIMPLES3DMS_" + "_".join(str(part) for part in item["loc"]).upper()
            messages.print(f"{name}: {item['msg']}")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _tell(error: Failure | ApiProblem | ServerUnreachable) -> None:
    text = error.message if isinstance(error, Failure) else str(error)
    messages.print(text, style="red", soft_wrap=True, markup=False)
    if isinstance(error, ApiProblem):
        for field in error.problem.fields or []:
            messages.print(f"  {field.field}: {field.message}", soft_wrap=True, markup=False)
