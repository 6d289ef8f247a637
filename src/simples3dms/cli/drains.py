"""store drain, and drain: show, tenants, confirm, pause, resume, cancel."""

from __future__ import annotations

from typing import Annotated

import typer

from simples3dms.cli.output import console, plain, show_json, show_rows, size
from simples3dms.cli.schedules import ProofOption, seconds_of
from simples3dms.cli.session import JsonFlag, connect
from simples3dms.schemas.drains import Drain, StartDrain

app = typer.Typer(help="Empty a store of all its tenants, step by step (operators).", no_args_is_help=True)
_NEXT = {
    "confirming": "look at what was moved, then `drain confirm` begins the next step",
    "paused": "`drain resume` goes on",
    "halted": "see `drain tenants`; mend the cause, then `drain resume`, or `drain cancel`",
}


def _show(drain: Drain, *, as_json: bool) -> None:
    if as_json:
        show_json(drain)
        return
    progress = drain.progress
    console.print(f"{drain.store} -> {drain.target}: {drain.state.replace('_', ' ')}", style="bold")
    console.print(f"  step     {drain.percent} % of the tenants, of steps {', '.join(map(str, drain.steps))}")
    console.print(
        f"  tenants  {progress.waiting} waiting, {progress.moving} moving, {progress.cut_over} cut over, "
        f"{progress.moved} moved, {progress.failed} failed, {progress.blocked} blocked, "
        f"{progress.stepped_back} stepped back"
    )
    console.print(f"  copied   {size(progress.copied_bytes)} of {size(progress.total_bytes)}")
    if drain.reason:
        console.print(f"  reason   {plain(drain.reason)}", style="red", soft_wrap=True, markup=False)
    if drain.state in _NEXT:
        console.print(f"  next     {_NEXT[drain.state]}", soft_wrap=True)


def start(
    name: Annotated[str, typer.Argument(help="The store to empty.")],
    to: Annotated[str, typer.Option("--to", help="The store to move everything to.")],
    percent: Annotated[
        list[int] | None, typer.Option(help="A step: up to this share of the tenants. Any number; the last is 100.")
    ] = None,
    automatic: Annotated[bool, typer.Option("--automatic", help="Begin each step by itself.")] = False,
    at_once: Annotated[int, typer.Option(help="So many tenants move bytes at once.")] = 4,
    finalize_after: Annotated[
        str | None, typer.Option(help="Roll-back window of each tenant, such as 7d.", metavar="DURATION")
    ] = None,
    most_failed: Annotated[int, typer.Option(help="Percent of failures in a step that halt it.")] = 10,
    most_read_ms: Annotated[int | None, typer.Option(help="Slower reads at the target halt it.")] = None,
    proof: ProofOption = "read-back",
    as_json: JsonFlag = False,
) -> None:
    """Move every tenant of a store to another one (operators). It is granted to nobody meanwhile."""
    body = StartDrain(
        target=to,
        steps=sorted({*(percent or []), 100}),
        automatic=automatic,
        most_active=at_once,
        finalize_after_seconds=None if finalize_after is None else seconds_of(finalize_after),
        most_failed_percent=most_failed,
        most_read_ms=most_read_ms,
        proof=proof,
    )
    with connect() as client:
        _show(client.start_drain(name, body), as_json=as_json)


@app.command("show")
def show(store: str, as_json: JsonFlag = False) -> None:
    """The store's newest drain, and what to do next."""
    with connect() as client:
        _show(client.get_drain(store), as_json=as_json)


@app.command("tenants")
def list_tenants(
    store: str,
    state: Annotated[str | None, typer.Option(help="Only these: blocked, failed, ...")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Its tenants, with what is in the way of each."""
    with connect() as client:
        columns = ["slug", "step", "state", "migration_id", "code", "message"]
        show_rows(client.iter_drain_tenants(store, state=state), columns, as_json=as_json, empty="None.")


@app.command("confirm")
def confirm(store: str, as_json: JsonFlag = False) -> None:
    """Begin the next step."""
    with connect() as client:
        _show(client.confirm_drain(store), as_json=as_json)


@app.command("pause")
def pause(store: str, as_json: JsonFlag = False) -> None:
    """Begin no more tenants; what was begun goes on."""
    with connect() as client:
        _show(client.pause_drain(store), as_json=as_json)


@app.command("resume")
def resume(store: str, as_json: JsonFlag = False) -> None:
    """Go on, and try again who was blocked or stepped back."""
    with connect() as client:
        _show(client.resume_drain(store), as_json=as_json)


@app.command("cancel")
def cancel(store: str, as_json: JsonFlag = False) -> None:
    """End it where it is; nothing is moved back."""
    with connect() as client:
        _show(client.cancel_drain(store), as_json=as_json)
