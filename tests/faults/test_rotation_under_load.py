"""S-41: the key-encrypting key, a B2 key and an S3 key are rotated while uploads run: not one request fails."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from tests.faults.installation import Installation, installed
from tests.faults.key_stores import KeyStore, add_key_stores, list_keys, run_keys

PER_SECOND = 50
#: Uploads under way at a time: a machine that is too slow for the rate gets fewer.
AT_ONCE = 64
#: What a machine that is busy with other things manages still in that time. The figures are printed.
LEAST_COUNT = 100
_TIMES = {"credential_grace_seconds": "4", "credential_settle_seconds": "3"}


@pytest.fixture
def installation() -> Iterator[Installation]:
    directory = Path(tempfile.mkdtemp(prefix="simples3dms-load-"))
    with installed(directory) as found:
        found.serve(lease_seconds="30", **_TIMES)
        yield found
    shutil.rmtree(directory, ignore_errors=True)


@dataclass
class Traffic:
    """Uploads at a steady rate, alternating between tenants; each is one request, and nothing is tried again."""

    url: str
    token: str
    tenants: list[str]
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest_seconds: float = 0

    async def run(self, stop: asyncio.Event) -> None:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/octet-stream"}
        limits = httpx.Limits(max_connections=AT_ONCE)
        async with httpx.AsyncClient(
            base_url=self.url, headers=headers, trust_env=False, timeout=60, limits=limits
        ) as http:
            running: set[asyncio.Task[None]] = set()
            number, due = 0, time.monotonic()
            while not stop.is_set():
                if len(running) < AT_ONCE:
                    task = asyncio.create_task(self._upload(http, self.tenants[number % len(self.tenants)], number))
                    running.add(task)
                    task.add_done_callback(running.discard)
                    number += 1
                due = max(due + 1 / PER_SECOND, time.monotonic() - 1)
                await asyncio.sleep(max(0, due - time.monotonic()))
            await asyncio.gather(*running)

    async def _upload(self, http: httpx.AsyncClient, tenant: str, number: int) -> None:
        begun = time.monotonic()
        try:
            answer = await http.post(
                f"/api/v1/tenants/{tenant}/documents", params={"name": f"{number}.bin"}, content=os.urandom(2000)
            )
            outcome = "ok" if answer.status_code == 201 else f"{answer.status_code} {answer.text[:200]}"
        except httpx.HTTPError as error:
            outcome = type(error).__name__
        self.outcomes[outcome] += 1
        self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - begun)


async def _rotate_everything(installation: Installation, stores: dict[str, KeyStore]) -> None:
    """The store's keys at once, and the key-encrypting key meanwhile."""
    await asyncio.sleep(2)
    await asyncio.gather(
        *(asyncio.to_thread(_rotate, store) for store in stores.values()),
        asyncio.to_thread(_change_key, installation),
    )
    await asyncio.sleep(2)


def _rotate(store: KeyStore) -> None:
    with store.installation.connect() as client:
        rotation = client.start_rotation(store.name, deletes_old=True)
    assert rotation.state == "switched", rotation
    store.until("done", seconds=120)


def _change_key(installation: Installation) -> None:
    done = run_keys(installation, "rotate", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "done"


@pytest.mark.anyio
@pytest.mark.timeout(240)
async def test_s41_rotation_under_load_fails_no_request(installation: Installation) -> None:
    stores = await asyncio.to_thread(add_key_stores, installation)
    (old,) = [key["id"] for key in await asyncio.to_thread(list_keys, installation) if key["is_primary"]]
    before = {kind: store.provider.key_ids() for kind, store in stores.items()}
    assert installation.token is not None
    traffic = Traffic(installation.url, installation.token.reveal(), [store.name for store in stores.values()])
    stop, begun = asyncio.Event(), time.monotonic()
    running = asyncio.create_task(traffic.run(stop))
    try:
        await _rotate_everything(installation, stores)
    finally:
        stop.set()
        await running
    seconds = time.monotonic() - begun
    count = traffic.outcomes.total()
    print(f"{count} uploads in {seconds:.1f} s, {count / seconds:.1f}/s, slowest {traffic.slowest_seconds:.2f} s")
    assert set(traffic.outcomes) == {"ok"}
    assert count >= LEAST_COUNT
    for kind, store in stores.items():
        after = store.provider.key_ids()
        assert len(after) == len(before[kind])
        assert after != before[kind], "the old key is gone at the provider"
    # A key that was being written while the key-encrypting key changed follows within a round of the watchdog.
    async with asyncio.timeout(60):
        while (await asyncio.to_thread(run_keys, installation, "retire", old)).returncode != 0:
            await asyncio.sleep(0.2)
    keys = await asyncio.to_thread(list_keys, installation)
    assert [(key["is_primary"], key["sealed_count"]) for key in keys] == [(True, 4)]
    await asyncio.to_thread(installation.assert_clean)
