"""The B2 sandbox keeps no body in memory, however large."""

from __future__ import annotations

import hashlib
import io
import random
from pathlib import Path

from b2sdk.v3 import B2Api, InMemoryAccountInfo

from simples3dms.sandbox.b2 import B2Sandbox

SIZE = 300_000_000
BLOCK = 1_000_000


def peak_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])


class Hasher(io.RawIOBase):
    """A target that keeps the digest only."""

    def __init__(self) -> None:
        self.digest = hashlib.sha1()

    def write(self, data: object) -> int:
        self.digest.update(data)  # type: ignore[arg-type]
        return len(data)  # type: ignore[arg-type]

    def writable(self) -> bool:
        return True


def test_300_megabytes_up_and_down_in_flat_memory(tmp_path: Path) -> None:
    chance = random.Random(1)
    path, digest = tmp_path / "file", hashlib.sha1()
    with path.open("wb") as file:
        for _ in range(SIZE // BLOCK):
            block = chance.randbytes(BLOCK)
            digest.update(block)
            file.write(block)
    with B2Sandbox(tmp_path / "server") as server:
        api = B2Api(InMemoryAccountInfo())
        api.authorize_account(server.application_key_id, server.application_key, realm=server.url)
        bucket = api.get_bucket_by_name("docs")
        bucket.upload_bytes(b"warm up", "small")
        before = peak_kib(server.pid)
        bucket.upload_local_file(str(path), "file", sha1_sum=digest.hexdigest())
        target = Hasher()
        bucket.download_file_by_name("file").save(target)
        assert target.digest.hexdigest() == digest.hexdigest()
        assert peak_kib(server.pid) - before < 64 * 1024
