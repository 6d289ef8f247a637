"""The demo's script: a tenant moved live from B2 to S3, back, and over for good, with proof."""

from __future__ import annotations

import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from simples3dms.cli.demo.cast import Ledger, People, read_digest, upload
from simples3dms.cli.demo.proof import Verdict, prove
from simples3dms.cli.demo.stage import BUCKET, Stage, set_up
from simples3dms.client import Client
from simples3dms.errors import Failure
from simples3dms.sandbox.samples import Sample, write_samples
from simples3dms.schemas.migrations import Migration

_FILES = 320
_LARGE_BYTES = 201 * 1024 * 1024
_LEAST_READS = 1000
_LONGEST_STEP_SECONDS = 600.0
_SOAK_SECONDS = 3.0
_MB = 1_000_000


def run_demo(*, once: bool, keep: bool) -> None:
    """Run the demo; leaves with exit code 1 if anything it promises did not hold."""
    console = Console(highlight=False)
    with ExitStack() as stack:
        if keep:
            directory = Path(tempfile.mkdtemp(prefix="simples3dms-demo-"))
            console.print(f"Everything is kept in {directory}")
        else:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="simples3dms-demo-")))
        # As root the database's own user has to pass through; it stays the owner's to write to.
        directory.chmod(0o755)
        try:
            passed = _Demo(console, stack, directory).run(once=once)
        except Failure as failure:
            console.print(f"[red]The demo stopped:[/] {failure.message}")
            raise typer.Exit(1) from failure
    if not passed:
        raise typer.Exit(1)


@dataclass
class _Demo:
    """One run of the script."""

    console: Console
    stack: ExitStack
    directory: Path

    def run(self, *, once: bool) -> bool:
        began = time.monotonic()
        self._say("[bold]SimpleS3DMS[/]: two tenants, two clouds, one of the tenants moved live, and back")
        self._say("Starting a Backblaze B2 and an S3 server, PostgreSQL, the API and two workers ...")
        stage = self.stack.enter_context(set_up(self.directory))
        client = self.stack.enter_context(stage.connect())
        ledger, acme_id = self._furnish(stage, client)
        globex = self._fill(stage, client, ledger)
        with People(stage.connect, "acme", ledger, self.directory) as people:
            self._move(client, people, last=False)
            moved = self._move(client, people, last=True)
            while people.counts.reads < _LEAST_READS:
                time.sleep(0.1)
        self._say("Proving it: every byte read back and compared, both buckets listed ...")
        verdict = prove(stage, client, "acme", str(acme_id), ledger)
        verdict.lost.extend(self._check_bystander(client, globex))
        summary = self._tell(verdict, people, moved, time.monotonic() - began)
        passed = not any(summary[name] for name in ("failed_reads", "lost", "resurrected", "leftover_objects"))
        if not once:
            self._stay(stage)
        self.console.print(json.dumps(summary), soft_wrap=True)
        return passed

    def _say(self, text: str) -> None:
        self.console.print(text)

    def _furnish(self, stage: Stage, client: Client) -> tuple[Ledger, UUID]:
        b2, s3 = stage.b2, stage.s3
        client.add_store(
            "b2-main",
            kind="b2",
            settings={"bucket": BUCKET, "realm": b2.url},
            credential={"application_key_id": b2.application_key_id, "application_key": b2.application_key},
        )
        client.add_store(
            "s3-eu",
            kind="s3",
            settings={"bucket": BUCKET, "endpoint": s3.endpoint, "region": s3.region},
            credential={"access_key_id": s3.access_key, "secret_access_key": s3.secret_key},
        )
        acme = client.create_tenant("acme", "Acme Ltd")
        client.create_tenant("globex", "Globex Corp")
        for tenant in ("acme", "globex"):
            for store in ("b2-main", "s3-eu"):
                client.grant_store(tenant, store)
            client.set_placement(tenant, write="b2-main")
        self._say("Tenants [cyan]acme[/] and [cyan]globex[/]; stores [cyan]b2-main[/] (B2) and [cyan]s3-eu[/] (S3)")
        return Ledger(), acme.id

    def _fill(self, stage: Stage, client: Client, ledger: Ledger) -> Ledger:
        samples = write_samples(self.directory / "files", count=_FILES, large_bytes=_LARGE_BYTES)
        globex = Ledger()
        total = sum(sample.size_bytes for sample in samples)
        with self._bar("Uploading to b2-main", total) as progress, ThreadPoolExecutor(4) as pool:
            task = progress.task_ids[0]

            def one(sample: Sample) -> None:
                with stage.connect() as own:
                    upload(own, "acme", sample.path, ledger, content_type=sample.content_type)
                progress.advance(task, sample.size_bytes)

            list(pool.map(one, samples))
            for sample in samples[:20]:
                upload(client, "globex", sample.path, globex, content_type=sample.content_type)
        self._say(
            f"acme: {len(samples)} documents, {total / _MB:.0f} MB; globex: 20 documents, which stay where they are"
        )
        return globex

    def _bar(self, title: str, total: int) -> Progress:
        progress = Progress(
            TextColumn(title),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        progress.add_task(title, total=total)
        return progress

    def _move(self, client: Client, people: People, *, last: bool) -> Migration:
        """One migration while people work: to the end of it, or back again."""
        planned = client.plan_migration("acme", target="s3-eu")
        size = planned.plan.size_bytes / _MB
        self._say(f"[bold]Moving acme[/] to s3-eu: {planned.plan.blob_count} blobs, {size:.0f} MB, people at work")
        began = time.monotonic()
        client.start_migration("acme", planned.id)
        ready = self._watch(client, planned.id, "ready")
        self._say(f"  copied and proven: {ready.copied_count} blobs, each read back ({time.monotonic() - began:.1f} s)")
        client.cut_over_migration("acme", planned.id)
        self._say(f"  [green]cut over[/]: writes and reads now go to {client.get_placement('acme').write}")
        time.sleep(_SOAK_SECONDS)
        if last:
            client.finalize_migration("acme", planned.id)
            moved = self._watch(client, planned.id, "done")
            self._say("  [green]finalized[/]: nothing of acme is left at b2-main")
        else:
            client.roll_back_migration("acme", planned.id)
            moved = self._watch(client, planned.id, "rolled_back")
            self._say(f"  [yellow]rolled back[/]: writes and reads go to {client.get_placement('acme').write} again")
        counts = people.counts
        self._say(f"  meanwhile: {counts.reads} reads, {counts.failed_reads} failed; {counts.writes} writes")
        return moved

    def _watch(self, client: Client, migration_id: UUID, wanted: str) -> Migration:
        progress = Progress(
            TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), console=self.console, transient=True
        )
        deadline = time.monotonic() + _LONGEST_STEP_SECONDS
        with progress:
            task = progress.add_task("starting", total=None)
            while time.monotonic() < deadline:
                migration = client.get_migration("acme", migration_id)
                progress.update(
                    task,
                    description=migration.state.replace("_", " "),
                    completed=migration.copied_count,
                    total=migration.total_count,
                )
                if migration.state == wanted:
                    return migration
                if migration.state == "failed":
                    raise Failure(f"The migration failed: {migration.error_message}")
                time.sleep(0.1)
        raise Failure(f"The migration did not become {wanted} in time.")

    def _check_bystander(self, client: Client, globex: Ledger) -> list[str]:
        return [
            f"globex: {version.document_id}"
            for version in globex.expectations()
            if read_digest(client, "globex", version) != version.sha256
        ]

    def _tell(self, verdict: Verdict, people: People, moved: Migration, seconds: float) -> dict[str, int]:
        counts = people.counts
        for title, items in (
            ("lost", verdict.lost),
            ("came back", verdict.resurrected),
            ("left over", verdict.leftover),
            ("failed", counts.failures),
        ):
            for item in items[:10]:
                self._say(f"  [red]{title}:[/] {item}")
        self._say(
            f"[bold]{verdict.documents} documents, {verdict.bytes_read / _MB:.0f} MB[/] read back; "
            f"{counts.reads} reads and {counts.writes} writes during the moves, {counts.failed_reads} failed; "
            f"{len(verdict.lost)} lost, {len(verdict.resurrected)} came back, {len(verdict.leftover)} left over "
            f"({seconds:.0f} s)"
        )
        return {
            "documents": verdict.documents,
            "bytes": verdict.bytes_read,
            "migrated": moved.copied_count,
            "reads_during": counts.reads,
            "failed_reads": counts.failed_reads,
            "lost": len(verdict.lost),
            "resurrected": len(verdict.resurrected),
            "leftover_objects": len(verdict.leftover),
        }

    def _stay(self, stage: Stage) -> None:
        self._say(f"\nStill up for a look around: [bold]{stage.url}/api/v1/openapi.json[/]")
        self._say(f"  simples3dms login {stage.url} --email {stage.email}   (password: {stage.password.reveal()})")
        self._say("Ctrl-C ends it and removes everything.")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            self._say("")
