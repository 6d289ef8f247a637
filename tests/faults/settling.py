"""The end of a soak: once nothing is hurt any more everything converges, and every promise is looked at."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import psycopg
from psycopg.rows import scalar_row
from tests.faults.installation import eventually
from tests.faults.soaking import TENANTS, Soak, Tenant
from tests.faults.workload import GaveUp

from simples3dms.audit.verifier import verify
from simples3dms.bootstrap import Services, build_services
from simples3dms.client import Client
from simples3dms.settings import Settings
from simples3dms.storage.upkeep import repository as upkeep

STORES = ("s3", "b2", "disk")
_KINDS = ("writing", "retiring", "transfers", "failed", "uploads")


def converge(soak: Soak, *, seconds: float) -> float:
    """Wait until nothing is under way or due; how long it took. Raises GaveUp with what is left."""
    return asyncio.run(_converge(soak, seconds))


async def _converge(soak: Soak, seconds: float) -> float:
    environment = {name.removeprefix("SIMPLES3DMS_").lower(): value for name, value in soak.environment().items()}
    fields = {name: environment[name] for name in Settings.model_fields if name in environment}
    services = build_services(Settings.model_validate(fields))
    begun = time.monotonic()
    try:
        await services.open()
        while left := await _left(services):
            if time.monotonic() - begun > seconds:
                raise GaveUp(f"{left} after {seconds} s")
            await asyncio.sleep(0.3)
        return time.monotonic() - begun
    finally:
        await services.close()


async def _left(services: Services) -> dict[str, int]:
    left: dict[str, int] = {}
    for tenant in await services.tenants.list_tenants():
        async with services.database.tenant(tenant.id) as uow:
            counts = await upkeep.count_pending(uow)
        found = {f"{tenant.slug} {kind}": getattr(counts, kind) for kind in _KINDS}
        left |= {name: count for name, count in found.items() if count}
    return left


def jobs_without_worker(soak: Soak) -> list[str]:
    """Tasks of jobs that say `doing` while nobody who lives does them: the watchdog forgets them after a minute."""
    with psycopg.connect(soak.urls.owner_url, row_factory=scalar_row) as connection:
        return connection.execute(
            """SELECT task_name FROM procrastinate_jobs j WHERE status = 'doing' AND NOT EXISTS (
                 SELECT 1 FROM procrastinate_workers w WHERE w.id = j.worker_id
                   AND w.last_heartbeat > now() - interval '60 seconds')"""
        ).fetchall()


def list_final(soak: Soak) -> None:
    """Note in the history what each tenant has, all versions by their digests."""
    for tenant in TENANTS:
        act = soak.history.begin("final", tenant=tenant.name)
        client = soak.client(soak.servers[0])
        found = [
            {
                "document": str(document.id),
                "name": document.name,
                "place": "trash" if trash else "live",
                "digests": [one.sha256 for one in reversed(client.list_versions(tenant.name, document.id))],
            }
            for trash in (False, True)
            for document in client.iter_documents(tenant.name, trash=trash)
        ]
        act.ok(documents=found)


def list_misplaced(soak: Soak) -> list[str]:
    """Versions that are not exactly where their tenant's placement wants them, or that are in doubt."""
    client = soak.client(soak.servers[0])
    found: list[str] = []
    for tenant in TENANTS:
        placement = client.get_placement(tenant.name)
        wanted = {placement.write, *placement.copies}
        found += [f"{tenant.name}: {one}" for one in client.iter_doubtful_replicas(tenant.name)]
        for trash in (False, True):
            for document in client.iter_documents(tenant.name, trash=trash):
                found += _misplaced(client, tenant, document.id, wanted)
    return found


def _misplaced(client: Client, tenant: Tenant, document_id: Any, wanted: set[str]) -> list[str]:
    replicas = client.list_replicas(tenant.name, document_id)
    found = []
    for number in {one.version_number for one in replicas}:
        stores = {one.store for one in replicas if one.version_number == number and one.state == "live"}
        if stores != wanted:
            found.append(f"{tenant.name} {document_id}/{number}: in {sorted(stores)}, wanted in {sorted(wanted)}")
    return found


def remove_unexplained(soak: Soak) -> Counter[str]:
    """What docs/explanation/promises.md says may be left of frozen workers and of lost answers: reconciled away."""
    client = soak.client(soak.servers[0])
    counts: Counter[str] = Counter()
    for tenant in TENANTS:
        for store in STORES:
            begun = client.start_reconcile(tenant.name, store=store, older_than_days=0)

            def state(tenant: Tenant = tenant, number: Any = begun.id) -> str:
                return client.get_reconcile(tenant.name, number).state

            eventually(lambda state=state: state() == "done")
            found = client.get_reconcile(tenant.name, begun.id)
            for kind in ("unexplained", "hidden", "unfinished", "missing", "lost"):
                counts[f"{store} {kind}"] += getattr(found, f"{kind}_count")
            if found.removable_count:
                client.remove_unexplained(tenant.name, begun.id, count=found.removable_count)
                eventually(lambda state=state: state() == "removed")
    return +counts


def fsck(soak: Soak) -> list[Any]:
    """The findings of `simples3dms fsck --read-data`, as an operator runs it."""
    status, report = soak.run("fsck", "--read-data", "--json")
    assert (status == 0) == report["clean"]
    findings: list[Any] = report["findings"]
    return findings


def check_audits(soak: Soak, acts: dict[str, Counter[str]]) -> list[str]:
    """Each tenant's exported chain holds, and has one event for each thing that was done (`acts`), no more."""
    client = soak.client(soak.servers[0])
    keys = {key.key_id: bytes.fromhex(key.public_key) for key in client.list_audit_keys()}
    found: list[str] = []
    for tenant in TENANTS:
        client.create_audit_checkpoint(tenant.name)
        eventually(lambda name=tenant.name: all(event.seq for event in client.iter_audit_events(name)))
        verdict = verify(client.iter_audit_export(tenant.name), keys=keys)
        if verdict.breach is not None:
            found.append(f"{tenant.name}: {verdict.breach}")
        done = Counter(
            event.action for event in client.iter_audit_events(tenant.name) if event.action.startswith("document.")
        )
        if done != acts[tenant.name]:
            found.append(f"{tenant.name}: the audit has {dict(done)}, done was {dict(acts[tenant.name])}")
    return found
