"""replication: lag, failures, retry, stores; upkeep: health, metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from simples3dms.cli.output import console, done, messages, plain, show_json, show_rows, size
from simples3dms.cli.session import JsonFlag, TenantOption, connect, require_tenant
from simples3dms.schemas.replication import Lag, StoreLag

app = typer.Typer(help="How far stores are behind what they are to hold.", no_args_is_help=True)
StoreName = Annotated[str, typer.Argument(help="The store, by its name or id.")]
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def install(upkeep_app: typer.Typer) -> None:
    """Add `upkeep health` and `upkeep metrics`."""
    upkeep_app.command("health")(show_health)
    upkeep_app.command("metrics")(print_metrics)


def _age(seconds: float) -> str:
    if not seconds:
        return "-"
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def _table(first: str, lags: Sequence[tuple[str, Lag]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in (first, "pending", "bytes", "lag", "failed", "waived"):
        table.add_column(title)
    for name, lag in lags:
        late = " late" if isinstance(lag, StoreLag) and lag.is_late else ""
        row = (str(lag.pending_count), size(lag.pending_bytes), f"{_age(lag.lag_seconds)}{late}")
        table.add_row(plain(name), *row, str(lag.failed_count), str(lag.waived_count), style="red" if late else "")
    console.print(table)


@app.command("lag")
def show_lag(tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """How many copies of the tenant's documents each of its stores is owed, and for how long."""
    with connect() as client:
        found = client.get_tenant_replication(require_tenant(tenant))
    if as_json:
        show_json(found)
        return
    _table("store", [(lag.store, lag) for lag in found.stores])
    if found.is_surveying:
        messages.print("The placement was changed: documents that are there are being looked at, more may come.")


@app.command("failures")
def list_failures(store: StoreName, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Copies towards a store that are tried no more by themselves, with the reason."""
    with connect() as client:
        rows = client.iter_failed_copies(require_tenant(tenant), store)
        columns = ["document_name", "document_id", "error_kind", "error_message", "attempt", "state"]
        show_rows(rows, columns, as_json=as_json, empty="Nothing has failed.")


@app.command("retry")
def retry(store: StoreName, tenant: TenantOption = None, as_json: JsonFlag = False) -> None:
    """Have them tried again, once what was wrong is mended."""
    with connect() as client:
        count = client.retry_failed_copies(require_tenant(tenant), store)
    done(f"{count} copies will be tried again.", as_json=as_json, count=count)


@app.command("stores")
def show_stores(
    store: Annotated[str | None, typer.Argument(help="One of them, with its tenants. A tenant's: by its id.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """The same over all tenants (operators); of one store also whose documents it is behind with."""
    with connect() as client:
        if store is None:
            every = client.get_replication()
            if as_json:
                show_json(every)
            else:
                _table("store", [(lag.store, lag) for lag in every.stores])
            return
        one = client.get_store_replication(store)
    if as_json:
        show_json(one)
        return
    _table("store", [(one.store.store, one.store)])
    if one.tenants:
        console.print()
        _table("tenant", [(lag.tenant, lag) for lag in one.tenants])


def show_health(as_json: JsonFlag = False) -> None:
    """What is wrong, by name (operators). It ends with 1 if anything is."""
    with connect() as client:
        found = client.get_health()
    if as_json:
        show_json(found)
    else:
        columns = ["code", "store", "since", "message"]
        show_rows(found.degradations, columns, as_json=False, empty="Nothing is wrong.")
    if found.degradations:
        raise typer.Exit(1)


def print_metrics() -> None:
    """The numbers that Prometheus reads at `/api/v1/metrics` (operators)."""
    with connect() as client:
        console.print(client.get_metrics(), end="", markup=False, soft_wrap=True)
