"""Run the conformance suite over every server that can be started here, and write docs/reference/conformance.md."""

from __future__ import annotations

import asyncio
import secrets
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from simples3dms.providers.conformance import BEHAVIOURS, Outcome, run_conformance
from simples3dms.providers.registry import get_kind
from simples3dms.providers.stack import StackSettings, build_stack
from simples3dms.sandbox.b2 import B2Sandbox
from simples3dms.sandbox.processes import ServerProcess
from simples3dms.sandbox.seaweedfs import SeaweedServer

TARGET = Path(__file__).parents[1] / "docs" / "reference" / "conformance.md"
BUCKET = "conformance"
SIGNS = {"ok": "yes", "declared": "·", "failed": "**no**"}


@dataclass(frozen=True)
class Candidate:
    """A column of the table."""

    title: str
    kind: str
    settings: Mapping[str, object]
    credential: Mapping[str, str]


@contextmanager
def candidates() -> Iterator[list[Candidate]]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="simples3dms-matrix-")))
        directory.chmod(0o755)
        b2 = stack.enter_context(B2Sandbox(directory / "b2", buckets=(BUCKET,)))
        weed = stack.enter_context(SeaweedServer(directory / "weed", buckets=(BUCKET,)))
        rclone = stack.enter_context(_rclone(directory))
        (directory / "local").mkdir()
        keys = {"access_key_id": weed.access_key, "secret_access_key": weed.secret_key}
        yield [
            Candidate("memory", "memory", {"name": "plain", "parts": False}, {}),
            Candidate("memory, versions and parts", "memory", {"name": "versions", "versions": True}, {}),
            Candidate("local", "local", {"path": str(directory / "local")}, {}),
            Candidate(
                "b2 (sandbox)",
                "b2",
                {"realm": b2.url, "bucket": BUCKET, "prefix": "here"},
                {"application_key_id": b2.application_key_id, "application_key": b2.application_key},
            ),
            Candidate(
                "s3 (SeaweedFS)", "s3", {"endpoint": weed.endpoint, "bucket": BUCKET, "service": "seaweedfs"}, keys
            ),
            Candidate(
                "s3 (SeaweedFS, crc32c)",
                "s3",
                {"endpoint": weed.endpoint, "bucket": BUCKET, "prefix": "crc", "checksum": "crc32c"},
                keys,
            ),
            rclone,
        ]


@contextmanager
def _rclone(directory: Path) -> Iterator[Candidate]:
    """`rclone serve s3`: a careless server, to see what that costs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (directory / "rclone" / BUCKET).mkdir(parents=True)
    key, secret = secrets.token_hex(10), secrets.token_hex(20)
    binary = str(Path(sys.executable).with_name("rclone"))
    command = [binary, "--config", "/dev/null", "serve", "s3", "--addr", f"127.0.0.1:{port}"]
    command += ["--auth-key", f"{key},{secret}", "--vfs-cache-mode", "off", str(directory / "rclone")]
    process = ServerProcess(command, directory / "rclone.log")
    try:
        if not process.wait_until(lambda: _listens(port), seconds=20):
            raise RuntimeError(process.log_tail())
        settings = {"endpoint": f"http://127.0.0.1:{port}", "bucket": BUCKET}
        yield Candidate("s3 (rclone serve s3)", "s3", settings, {"access_key_id": key, "secret_access_key": secret})
    finally:
        process.kill()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


async def _run(candidate: Candidate) -> list[Outcome]:
    provider = get_kind(candidate.kind).create(candidate.settings, candidate.credential)
    store = build_stack(provider, StackSettings(retry_attempts=2, retry_base_seconds=0.05))
    try:
        return await run_conformance(store)
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
    with candidates() as found:
        for candidate in found:
            began = time.monotonic()
            results[candidate.title] = asyncio.run(_run(candidate))
            counts = Counter(outcome.verdict for outcome in results[candidate.title])
            sys.stderr.write(f"{candidate.title}: {dict(counts)} in {time.monotonic() - began:.0f} s\n")
    TARGET.write_text(page(results))
    # Ours must be whole; what rclone does is its own affair, and stands in the table.
    ours = [outcome for title, outcomes in results.items() if "rclone" not in title for outcome in outcomes]
    return 1 if any(outcome.verdict == "failed" for outcome in ours) else 0


if __name__ == "__main__":
    sys.exit(main())
