"""migration: plan, start, watch, pause, resume, cutover, rollback, finalize, failures, retry."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from simples3dms.cli.conditions import match_in_words, match_of
from simples3dms.cli.costs import show_plan
from simples3dms.cli.output import console, done, plain, show_json, show_rows, size, transfer_progress
from simples3dms.cli.reports import verify, write_report
from simples3dms.cli.schedules import ProofOption, seconds_of, window_in_words, window_of
from simples3dms.cli.session import JsonFlag, TenantOption, connect, require_tenant
from simples3dms.client import Client
from simples3dms.errors import NotFound
from simples3dms.schemas.migrations import Migration, Schedule

app = typer.Typer(help="Move a tenant to another store, live, with a way back.", no_args_is_help=True)

MigrationId = Annotated[UUID | None, typer.Argument(help="Its id; the tenant's active one, or its latest.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until it is through.")]
Automatic = Annotated[bool, typer.Option("--automatic-cutover", help="Cut over as soon as it is ready.")]
FinalizeAfter = Annotated[
    str | None, typer.Option(help="Finalize by itself so long after the cut-over, such as 7d.", metavar="DURATION")
]
Windows = Annotated[
    list[str] | None,
    typer.Option("--window", help="Move bytes only then, such as 'mon-fri 22:00-06:00 Europe/Vienna'."),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        help="Move only what meets all of these: content_type=image/* (repeat it: one is enough), min_size=10MiB, "
        "max_size, min_age=30d, max_age.",
        metavar="CONDITION",
    ),
]
_ACTIVE = frozenset({"copying", "ready", "soaking", "finalizing", "paused", "failed", "rolling_back"})
_PLANNED = frozenset({"planned"})
_OPEN = _ACTIVE | _PLANNED
_AT_REST = frozenset({"planned", "ready", "soaking", "done", "paused", "failed", "rolled_back", "cancelled"})
_NEXT = {
    "planned": "start it with `migration start`",
    "copying": "follow it with `migration watch`",
    "ready": "everything is proven: `migration cutover`, or `migration rollback`",
    "soaking": "new writes go to both: `migration finalize` when content, `migration rollback` to go back",
    "paused": "`migration resume` goes on",
    "failed": "mend the cause, then `migration resume`; `migration rollback` goes back",
}


def _which(client: Client, tenant: str, migration_id: UUID | None, among: frozenset[str] = _ACTIVE) -> UUID:
    """The one that was named; else the tenant's newest in one of these states; else its newest."""
    if migration_id is not None:
        return migration_id
    newest: UUID | None = None
    for migration in client.iter_migrations(tenant):
        if migration.state in among:
            return migration.id
        newest = newest or migration.id
    if newest is None:
        raise NotFound("This tenant has no migration yet: plan one with `simples3dms migration plan --to STORE`.")
    return newest


def _show(migration: Migration, *, as_json: bool) -> None:
    if as_json:
        show_json(migration)
        return
    console.print(f"{migration.source} -> {migration.target}: {migration.state.replace('_', ' ')}", style="bold")
    console.print(f"  id       {migration.id}")
    _show_plan(migration)
    if migration.started_at:
        console.print(f"  copied   {migration.copied_count} of {migration.total_count}, {size(migration.copied_bytes)}")
    if migration.pending_count or migration.failed_count:
        console.print(f"  waiting  {migration.pending_count}, failed {migration.failed_count}")
    _show_schedule(migration)
    if migration.waived_count:
        console.print(f"  waived   {migration.waived_count}, see `migration failures`")
    for blocker in migration.plan.blockers:
        console.print(f"  blocked  {plain(blocker)}", style="red", soft_wrap=True, markup=False)
    if migration.error_message:
        told = f"  error    {plain(migration.error_message)} ({migration.error_code})"
        console.print(told, style="red", soft_wrap=True, markup=False)
    if migration.failed_count:
        console.print("  next     see `migration failures`; `migration retry` once mended, or `migration waive`")
    elif migration.state in _NEXT:
        console.print(f"  next     {_NEXT[migration.state]}", soft_wrap=True)


def _show_plan(migration: Migration) -> None:
    if migration.only:
        console.print(f"  only     {plain(match_in_words(migration.only))}", soft_wrap=True, markup=False)
    show_plan(migration.plan, in_full=migration.state in _PLANNED)
    if migration.proof != "read-back":
        console.print(f"  proof    {migration.proof}: {migration.plan.read_back_percent} % are read back", markup=False)


def _show_schedule(migration: Migration) -> None:
    for window in migration.windows:
        console.print(f"  window   {plain(window_in_words(window))}", markup=False)
    if migration.resting:
        console.print(f"  rests    until {migration.opens_at or 'it is scheduled anew'}")
    if migration.finalize_at:
        console.print(f"  then     finalizes by itself at {migration.finalize_at}; `migration pause` stops that")


@app.command("plan")
def plan(
    to: Annotated[str, typer.Option("--to", help="The store to move to.")],
    source: Annotated[str | None, typer.Option("--from", help="The store to move from; the write target.")] = None,
    only: Only = None,
    automatic: Automatic = False,
    finalize_after: FinalizeAfter = None,
    window: Windows = None,
    canary: Annotated[bool, typer.Option("--canary", help="Try the target out with a few small objects.")] = False,
    proof: ProofOption = "read-back",
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Work out what a move would take. Nothing moves yet."""
    chosen = _schedule(automatic, finalize_after, window)
    with connect() as client:
        planned = client.plan_migration(
            require_tenant(tenant),
            target=to,
            source=source,
            only=match_of(only) if only else None,
            automatic_cutover=chosen.automatic_cutover,
            finalize_after_seconds=chosen.finalize_after_seconds,
            windows=chosen.windows,
            canary=canary,
            proof=proof,
        )
    _show(planned, as_json=as_json)


def _schedule(automatic: bool, finalize_after: str | None, window: list[str] | None) -> Schedule:
    return Schedule(
        automatic_cutover=automatic,
        finalize_after_seconds=None if finalize_after is None else seconds_of(finalize_after),
        windows=[window_of(text) for text in window or []],
    )


@app.command("schedule")
def schedule(
    migration: MigrationId = None,
    automatic: Automatic = False,
    finalize_after: FinalizeAfter = None,
    window: Windows = None,
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what it does by itself, and when it moves bytes: all of it, what is left out is off."""
    chosen = _schedule(automatic, finalize_after, window)
    with connect() as client:
        name = require_tenant(tenant)
        _show(client.set_schedule(name, _which(client, name, migration, _OPEN), chosen), as_json=as_json)


@app.command("list")
def list_migrations(tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """The tenant's migrations, newest first."""
    with connect() as client:
        columns = ["id", "source", "target", "state", "copied_bytes", "created_at"]
        empty = "No migrations yet: plan one with `simples3dms migration plan --to STORE`."
        show_rows(client.iter_migrations(require_tenant(tenant)), columns, as_json=as_json, empty=empty)


@app.command("show")
def show(migration: MigrationId = None, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """One migration, and what to do next."""
    with connect() as client:
        name = require_tenant(tenant)
        _show(client.get_migration(name, _which(client, name, migration)), as_json=as_json)


def _step(
    step: Callable[[Client], Callable[[str, UUID], Migration]],
    migration: UUID | None,
    tenant: str | None,
    *,
    as_json: bool,
    wait: bool = False,
    among: frozenset[str] = _ACTIVE,
) -> None:
    with connect() as client:
        name = require_tenant(tenant)
        moved = step(client)(name, _which(client, name, migration, among))
        if wait:
            moved = _follow(client, name, moved.id)
    _show(moved, as_json=as_json)
    _end(moved if wait else None)


def _end(followed: Migration | None) -> None:
    """Exit code 1 where what was waited for did not come."""
    if followed is not None and (followed.state == "failed" or followed.failed_count):
        raise typer.Exit(1)


@app.command("start")
def start(
    migration: MigrationId = None, wait: Wait = False, tenant: TenantOption = None, as_json: JsonFlag = False
) -> None:
    """Begin copying. People go on working; new documents gain a copy at the target."""
    _step(lambda client: client.start_migration, migration, tenant, as_json=as_json, wait=wait, among=_PLANNED)


@app.command("pause")
def pause(migration: MigrationId = None, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Stop for a while."""
    _step(lambda client: client.pause_migration, migration, tenant, as_json=as_json)


@app.command("resume")
def resume(
    migration: MigrationId = None, wait: Wait = False, tenant: TenantOption = None, as_json: JsonFlag = False
) -> None:
    """Go on after a pause or a failure."""
    _step(lambda client: client.resume_migration, migration, tenant, as_json=as_json, wait=wait)


@app.command("cutover")
def cutover(
    migration: MigrationId = None, wait: Wait = False, tenant: TenantOption = None, as_json: JsonFlag = False
) -> None:
    """Turn reads and writes to the target, if the records prove that everything is there."""
    _step(lambda client: client.cut_over_migration, migration, tenant, as_json=as_json, wait=wait)


@app.command("rollback")
def rollback(
    migration: MigrationId = None, wait: Wait = False, tenant: TenantOption = None, as_json: JsonFlag = False
) -> None:
    """Turn back to the source at once; nothing is lost, also not what was written since."""
    _step(lambda client: client.roll_back_migration, migration, tenant, as_json=as_json, wait=wait)


@app.command("finalize")
def finalize(
    migration: MigrationId = None, wait: Wait = False, tenant: TenantOption = None, as_json: JsonFlag = False
) -> None:
    """Empty the source. There is no way back afterwards."""
    _step(lambda client: client.finalize_migration, migration, tenant, as_json=as_json, wait=wait)


@app.command("cancel")
def cancel(migration: MigrationId = None, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Drop a migration that was never started."""
    _step(lambda client: client.cancel_migration, migration, tenant, as_json=as_json, among=_PLANNED)


@app.command("watch")
def watch(migration: MigrationId = None, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Follow it until a person is needed; exit code 1 if it failed."""
    with connect() as client:
        name = require_tenant(tenant)
        ended = _follow(client, name, _which(client, name, migration))
    _show(ended, as_json=as_json)
    _end(ended)


def _follow(client: Client, tenant: str, migration_id: UUID) -> Migration:
    with transfer_progress() as progress:
        by_size = progress.add_task("starting", total=None)
        while True:
            migration = client.get_migration(tenant, migration_id)
            description = f"{migration.state.replace('_', ' ')}: {migration.copied_count}/{migration.total_count}"
            progress.update(
                by_size, description=description, completed=migration.copied_bytes, total=migration.total_bytes or None
            )
            if migration.state in _AT_REST or (migration.failed_count and not migration.pending_count):
                return migration
            time.sleep(0.25)


@app.command("failures")
def failures(migration: MigrationId = None, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Items that were given up or left behind, with the reason."""
    with connect() as client:
        name = require_tenant(tenant)
        rows = client.iter_failures(name, _which(client, name, migration))
        columns = [
            "id",
            "document_name",
            "document_id",
            "error_kind",
            "error_message",
            "attempt",
            "state",
            "waived_reason",
        ]
        show_rows(rows, columns, as_json=as_json, empty="Nothing has failed.")


@app.command("report")
def report(
    file: Annotated[Path, typer.Option("--output", "-o", help="The file to write; a hyphen: standard output.")],
    migration: MigrationId = None,
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write down what the records prove of each item, signed, as JSON lines."""
    with connect() as client:
        name = require_tenant(tenant)
        write_report(client, name, _which(client, name, migration), file, as_json=as_json)


app.command("verify-report")(verify)


@app.command("retry")
def retry(
    migration: MigrationId = None,
    item: Annotated[list[UUID] | None, typer.Option(help="An item of `migration failures`; all by default.")] = None,
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Try given-up items again."""
    with connect() as client:
        name = require_tenant(tenant)
        count = client.retry_failures(name, _which(client, name, migration), item)
    done(f"{count} items will be tried again.", as_json=as_json, count=count)


@app.command("waive")
def waive(
    item: Annotated[list[UUID], typer.Argument(help="Items of `migration failures`.")],
    reason: Annotated[str, typer.Option(help="Why they may stay behind; it is kept in the audit.")],
    migration: Annotated[UUID | None, typer.Option(help="The migration; the active one, or the latest.")] = None,
    tenant: TenantOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Go on without items that can't be copied: they stay where they are."""
    with connect() as client:
        name = require_tenant(tenant)
        count = client.waive_failures(name, _which(client, name, migration), item, reason=reason)
    done(
        f"{count} items stay where they are; `migration retry --item ITEM` takes that back.",
        as_json=as_json,
        count=count,
    )
