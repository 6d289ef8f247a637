"""Nothing of the sandbox is left running: after a stop, and after its owner was killed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from simples3dms.errors import Unavailable
from simples3dms.sandbox.b2 import B2Sandbox
from simples3dms.sandbox.ports import free_port_block, listen
from simples3dms.sandbox.processes import ServerProcess
from simples3dms.sandbox.seaweedfs import SeaweedServer

OWNER = """
import json, sys, threading
from pathlib import Path
from simples3dms.sandbox.b2 import B2Sandbox
from simples3dms.sandbox.seaweedfs import SeaweedServer
directory = Path(sys.argv[1])
servers = [B2Sandbox(directory / "b2"), SeaweedServer(directory / "s3")]
for server in servers:
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
print(json.dumps([server.pid for server in servers]), flush=True)
sys.stdin.read()
"""


def is_alive(pid: int) -> bool:
    """A zombie that nobody has collected yet is not alive."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 60
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "a server is left running"
        time.sleep(0.02)


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_servers_end_with_their_owner(tmp_path: Path, how: str) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    assert owner.stdin is not None
    pids = json.loads(owner.stdout.readline())
    # The threads that called start() have ended by now, and the servers live on.
    assert all(is_alive(pid) for pid in pids)
    if how == "killed":
        owner.kill()
    owner.stdin.close()
    owner.wait(60)
    owner.stdout.close()
    wait_until_gone(pids)


def test_stop_leaves_nothing(tmp_path: Path) -> None:
    with B2Sandbox(tmp_path / "b2") as b2, SeaweedServer(tmp_path / "s3") as s3:
        pids = [b2.pid, s3.pid]
    assert not any(is_alive(pid) for pid in pids)


def test_a_server_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    server = SeaweedServer(tmp_path)
    (tmp_path / "data").write_text("a file where a directory should be")
    with pytest.raises(Unavailable, match=r"The end of its log:\n"):
        server.start()
    b2 = B2Sandbox(tmp_path / "b2")
    (tmp_path / "b2" / "blobs").write_text("here, too")
    with pytest.raises(Unavailable, match=r"(?s)The end of its log:.*NotADirectoryError"):
        b2.start()


def test_starting_from_many_threads(tmp_path: Path) -> None:
    found: list[ServerProcess] = []

    def start(number: int) -> None:
        found.append(ServerProcess([sys.executable, "-c", "input()"], tmp_path / f"{number}.log"))

    threads = [threading.Thread(target=start, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({process.pid for process in found}) == 8
    for process in found:
        process.kill()


def test_port_blocks_are_free_at_every_offset() -> None:
    base = free_port_block(6, also=(0, 10_000))
    with listen(base + 10_003) as taken:
        assert taken.getsockname()[1] == base + 10_003
        assert free_port_block(6, also=(0, 10_000), preferred=base) != base
    assert free_port_block(6, also=(0, 10_000), preferred=base) == base
