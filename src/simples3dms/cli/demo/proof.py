"""The demo's proof: every byte read back, both buckets listed with the vendors' own clients, nothing left over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from simples3dms.cli.demo.cast import Expectation, Ledger, read_digest
from simples3dms.cli.demo.stage import BUCKET, Stage
from simples3dms.client import ApiProblem, Client
from simples3dms.sandbox.listing import list_b2, list_s3


@dataclass
class Verdict:
    """What the proof found. All but the counts of documents and bytes must be zero."""

    documents: int = 0
    bytes_read: int = 0
    lost: list[str] = field(default_factory=list)
    resurrected: list[str] = field(default_factory=list)
    leftover: list[str] = field(default_factory=list)


def prove(stage: Stage, client: Client, tenant: str, tenant_id: str, ledger: Ledger) -> Verdict:
    """Hold the product against the ledger. The people have gone home; workers have nothing left to do."""
    verdict = Verdict(documents=len(ledger.live))
    expected = ledger.expectations()
    with ThreadPoolExecutor(4) as pool:
        for version, problem in pool.map(lambda version: _read(stage, tenant, version), expected):
            if problem is None:
                verdict.bytes_read += version.size_bytes
            else:
                verdict.lost.append(f"{version.document_id}/{version.number}: {problem}")
    _look_for_the_dead(client, tenant, ledger, verdict)
    _look_for_leftovers(stage, tenant_id, ledger, verdict)
    verdict.leftover.extend(_fsck(stage))
    return verdict


def _read(stage: Stage, tenant: str, version: Expectation) -> tuple[Expectation, str | None]:
    try:
        with stage.connect() as client:
            found = read_digest(client, tenant, version)
    except Exception as error:  # noqa: BLE001 whatever it is, the version could not be read
        return version, str(error)
    return version, None if found == version.sha256 else "other bytes"


def _look_for_the_dead(client: Client, tenant: str, ledger: Ledger, verdict: Verdict) -> None:
    listed = {document.id for document in client.iter_documents(tenant)}
    verdict.lost.extend(f"{document_id}: not listed" for document_id in ledger.live.keys() - listed)
    verdict.resurrected.extend(str(document_id) for document_id in listed - ledger.live.keys())
    for document_id in ledger.purged:
        try:
            client.get_document(tenant, document_id)
            verdict.resurrected.append(str(document_id))
        except ApiProblem as problem:
            if problem.code != "document_not_found":
                verdict.resurrected.append(f"{document_id}: {problem.code}")
    for document_id in list(ledger.trashed)[:1]:
        # What is in the trash can still be had back, also after the move.
        client.restore_document(tenant, document_id)
        for version in ledger.trashed[document_id]:
            if read_digest(client, tenant, version) != version.sha256:
                verdict.lost.append(f"{document_id}: in the trash, other bytes")
        client.delete_document(tenant, document_id)


def _look_for_leftovers(stage: Stage, tenant_id: str, ledger: Ledger, verdict: Verdict) -> None:
    """The left bucket holds nothing of the tenant; the new one exactly one object for each version kept."""
    prefix = f"t/{tenant_id}/"
    verdict.leftover.extend(f"b2: {name}" for name in list_b2(stage.b2, BUCKET, prefix))
    kept = sum(len(versions) for versions in (*ledger.live.values(), *ledger.trashed.values()))
    found = list_s3(stage.s3, BUCKET, prefix)
    if len(found) != kept:
        verdict.leftover.append(f"s3: {len(found)} objects for {kept} versions")


def _fsck(stage: Stage) -> list[str]:
    """The product's own check of its promises, over every byte of every tenant, as an operator runs it."""
    environment = {**os.environ, "SIMPLES3DMS_DATA_DIR": str(stage.directory / "var")}
    command = [sys.executable, "-m", "simples3dms", "fsck", "--read-data", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 ours
    report = json.loads(done.stdout)
    return [f"fsck: {finding['kind']} {finding['target']}" for finding in report["findings"]]
