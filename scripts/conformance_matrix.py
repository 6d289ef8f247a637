"""Run the conformance suite over every server that can be started here, and write docs/reference/conformance.md."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import trustme

from simples3dms.egress import Destination, EgressGuard, EgressPolicy
from simples3dms.providers.base import StorageProvider
from simples3dms.providers.conformance import BEHAVIOURS, Outcome, run_conformance
from simples3dms.providers.layers.breaker import BreakerLayer
from simples3dms.providers.layers.concurrency import ConcurrencyLayer
from simples3dms.providers.layers.fault import FaultLayer
from simples3dms.providers.layers.integrity import IntegrityLayer
from simples3dms.providers.layers.meter import Metered, MeterLayer
from simples3dms.providers.layers.observe import Observations, ObserveLayer
from simples3dms.providers.layers.ratelimit import RateLimitLayer
from simples3dms.providers.layers.retry import RetryLayer
from simples3dms.providers.layers.timeout import TimeoutLayer
from simples3dms.providers.registry import BuildOptions, get_kind
from simples3dms.providers.stack import StackSettings, build_stack
from simples3dms.sandbox.b2 import B2Sandbox
from simples3dms.sandbox.faultproxy import FaultProxy
from simples3dms.sandbox.s3servers import JuiceFS, Ministack, Moto, RcloneServe, S3Server
from simples3dms.sandbox.seaweedfs import SeaweedServer

TARGET = Path(__file__).parents[1] / "docs" / "reference" / "conformance.md"
BUCKET = "conformance"
SIGNS = {"ok": "yes", "declared": "·", "failed": "**no**"}


@dataclass(frozen=True)
class Candidate:
    """A column of the table: a store, in all its layers or in one."""

    title: str
    kind: str
    settings: Mapping[str, object]
    credential: Mapping[str, str] = field(default_factory=dict)
    options: BuildOptions = field(default_factory=BuildOptions)
    layer: Callable[[StorageProvider], StorageProvider] | None = None

    def open_store(self) -> StorageProvider:
        provider = get_kind(self.kind).create(self.settings, self.credential, options=self.options)
        if self.layer is not None:
            # Digests are compared by the integrity layer, which every store has.
            return IntegrityLayer(self.layer(provider))
        return build_stack(provider, StackSettings(retry_attempts=2, retry_base_seconds=0.05))


Opened = Callable[[Path], AbstractContextManager[Candidate]]


def _memory(directory: Path, **settings: object) -> Candidate:
    return Candidate("memory", "memory", {"name": str(directory), **settings})


@contextmanager
def plain_memory(directory: Path) -> Iterator[Candidate]:
    yield replace(_memory(directory, parts=False), title="memory")


@contextmanager
def whole_memory(directory: Path) -> Iterator[Candidate]:
    yield replace(_memory(directory, object_lock="compliance"), title="memory, versions, parts and locks")


@contextmanager
def local(directory: Path) -> Iterator[Candidate]:
    yield Candidate("local", "local", {"path": str(directory)})


@contextmanager
def b2(directory: Path) -> Iterator[Candidate]:
    with B2Sandbox(directory, locked=(BUCKET,), buckets=()) as server:
        yield _b2(server, server.url, "b2 (sandbox)")


@contextmanager
def b2_guarded(directory: Path) -> Iterator[Candidate]:
    with B2Sandbox(directory, locked=(BUCKET,), buckets=()) as server, _guarded(server.url) as options:
        yield replace(_b2(server, server.url, "b2 (sandbox), egress guard"), options=options)


def _b2(server: B2Sandbox, realm: str, title: str) -> Candidate:
    credential = {"application_key_id": server.application_key_id, "application_key": server.application_key}
    settings = {"realm": realm, "bucket": BUCKET, "prefix": "here", "object_lock": "compliance"}
    return Candidate(title, "b2", settings, credential)


@contextmanager
def seaweedfs(directory: Path) -> Iterator[Candidate]:
    with SeaweedServer(directory, buckets=(BUCKET,)) as server:
        yield _weed(server, server.endpoint, "s3: SeaweedFS")


@contextmanager
def seaweedfs_crc32c(directory: Path) -> Iterator[Candidate]:
    with SeaweedServer(directory, buckets=(BUCKET,)) as server:
        yield _weed(server, server.endpoint, "s3: SeaweedFS, crc32c", checksum="crc32c")


@contextmanager
def seaweedfs_locked(directory: Path) -> Iterator[Candidate]:
    with SeaweedServer(directory, buckets=(), locked=(BUCKET,)) as server:
        yield _weed(server, server.endpoint, "s3: SeaweedFS, object lock", object_lock="compliance")


@contextmanager
def seaweedfs_guarded(directory: Path) -> Iterator[Candidate]:
    with (
        SeaweedServer(directory, buckets=(BUCKET,)) as server,
        _tls(server.port, directory) as (url, authority),
        _guarded(url, ca_file=authority) as options,
    ):
        yield replace(_weed(server, url, "s3: SeaweedFS, TLS, egress guard"), options=options)


def _weed(server: SeaweedServer, endpoint: str, title: str, **settings: str) -> Candidate:
    chosen = {"endpoint": endpoint, "bucket": BUCKET, "service": "seaweedfs", "prefix": "here", **settings}
    credential = {"access_key_id": server.access_key, "secret_access_key": server.secret_key}
    return Candidate(title, "s3", chosen, credential)


@contextmanager
def _guarded(url: str, ca_file: str | None = None) -> Iterator[BuildOptions]:
    """Reached through the egress guard only, which lets through this one address."""
    destination = Destination.of(url)
    guard = EgressGuard(EgressPolicy.parse(allow=f"{destination.host}:{destination.port}"))
    try:
        yield BuildOptions(proxy_url=guard.proxy_url([destination]), ca_file=ca_file)
    finally:
        guard.close()


@contextmanager
def _tls(port: int, directory: Path) -> Iterator[tuple[str, str]]:
    """The server behind TLS with a certificate of a throw-away authority: its address, and the authority's file."""
    authority, bundle = trustme.CA(), directory / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    before = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = str(bundle)  # where obstore looks
    try:
        with FaultProxy(port, tls=context) as front:
            yield front.url, str(bundle)
    finally:
        if before is None:
            del os.environ["SSL_CERT_FILE"]
        else:
            os.environ["SSL_CERT_FILE"] = before


def _other(server_class: type[S3Server], **settings: object) -> Opened:
    @contextmanager
    def opened(directory: Path) -> Iterator[Candidate]:
        with server_class(directory, bucket=BUCKET) as server:
            yield Candidate(f"s3: {server.name}", "s3", {**server.settings, **settings}, server.credential)

    return opened


def _layered(name: str, layer: Callable[[StorageProvider], StorageProvider]) -> Opened:
    @contextmanager
    def opened(directory: Path) -> Iterator[Candidate]:
        yield replace(_memory(directory, object_lock="compliance"), title=f"memory, {name}", layer=layer)

    return opened


#: Each store by its name in test ids. A server's own `signing` is off where it does not compare signatures, or wrongly.
CANDIDATES: dict[str, Opened] = {
    "memory": plain_memory,
    "memory-versions": whole_memory,
    "local": local,
    "b2": b2,
    "b2-guarded": b2_guarded,
    "seaweedfs": seaweedfs,
    "seaweedfs-crc32c": seaweedfs_crc32c,
    "seaweedfs-guarded": seaweedfs_guarded,
    "seaweedfs-locked": seaweedfs_locked,
    "ministack": _other(Ministack, signing=False),
    "moto": _other(Moto, signing=False),
    "juicefs": _other(JuiceFS, service="minio"),
    "rclone": _other(RcloneServe, service="rclone"),
}
#: Each layer alone, under integrity.
LAYERED: dict[str, Opened] = {
    "meter": _layered("meter", lambda inner: MeterLayer(inner, Metered())),
    "retry": _layered("retry", partial(RetryLayer, attempts=3, base_seconds=0.01, longest_seconds=1)),
    "observe": _layered("observe", lambda inner: ObserveLayer(inner, Observations())),
    "breaker": _layered("breaker", lambda inner: BreakerLayer(inner, failures=10, cool_seconds=1)),
    "concurrency": _layered("concurrency", lambda inner: ConcurrencyLayer(inner, most=4)),
    "rate": _layered("rate", partial(RateLimitLayer, requests_per_second=1e4, bytes_per_second=1e10)),
    "timeout": _layered(
        "timeout",
        partial(TimeoutLayer, answer_seconds=10, read_seconds=10, call_seconds=10),
    ),
    "fault": _layered("fault", FaultLayer),
}


async def _run(candidate: Candidate) -> list[Outcome]:
    store = candidate.open_store()
    try:
        return await run_conformance(store, candidate.options)
    finally:
        await store.close()


def page(results: Mapping[str, list[Outcome]]) -> str:
    lines = [
        "<!-- Written by scripts/conformance_matrix.py (`make conformance`): run it, don't edit this page. -->\n",
        "# Conformance\n",
        f"{len(BEHAVIOURS)} behaviours over {len(results)} stores, each in all its layers. yes: it does; ·: its "
        "capabilities declare that it does not offer this; **no**: it does not, and the note below says what it did. "
        "Run it against a store of your own: [write a provider](../howto/write-a-provider.md#prove-it).\n",
        "## Counts\n",
        "| store | yes | declared | no |",
        "| --- | --- | --- | --- |",
    ]
    for title, outcomes in results.items():
        counts = Counter(outcome.verdict for outcome in outcomes)
        lines.append(f"| {title} | {counts['ok']} | {counts['declared']} | {counts['failed']} |")
    notes: list[str] = []
    lines += ["\n## Behaviours\n", f"| behaviour | {' | '.join(results)} |", f"| --- {'| --- ' * len(results)}|"]
    for index, behaviour in enumerate(BEHAVIOURS):
        row = []
        for title, outcomes in results.items():
            outcome = outcomes[index]
            row.append(SIGNS[outcome.verdict])
            if outcome.verdict == "failed":
                notes.append(f"- **{title}**, {behaviour.name.replace('_', ' ')}: {outcome.detail}")
        lines.append(f"| **{behaviour.group}**: {behaviour.meaning} | {' | '.join(row)} |")
    if notes:
        lines += ["\n## What the others did\n", *notes]
    return "\n".join(lines) + "\n"


def main() -> int:
    results: dict[str, list[Outcome]] = {}
    with tempfile.TemporaryDirectory(prefix="simples3dms-matrix-") as directory:
        Path(directory).chmod(0o755)
        for name, opened in CANDIDATES.items():
            began = time.monotonic()
            (place := Path(directory) / name).mkdir()
            with opened(place) as candidate:
                results[candidate.title] = asyncio.run(_run(candidate))
            counts = Counter(outcome.verdict for outcome in results[candidate.title])
            sys.stderr.write(f"{candidate.title}: {dict(counts)} in {time.monotonic() - began:.0f} s\n")
    TARGET.write_text(page(results))
    return 1 if any(outcome.verdict == "failed" for outcomes in results.values() for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
