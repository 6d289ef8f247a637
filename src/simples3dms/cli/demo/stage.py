"""The demo's stage: a B2 server, an S3 server, the product with a further worker, all on free loopback ports."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from simples3dms.client import Client
from simples3dms.errors import Unavailable
from simples3dms.kit.secret import Secret
from simples3dms.sandbox.b2 import B2Sandbox
from simples3dms.sandbox.seaweedfs import SeaweedServer

BUCKET = "demo-documents"
_START_SECONDS = 120.0
_STOP_SECONDS = 40.0


@dataclass(frozen=True)
class Stage:
    """What is running, and how to sign in."""

    directory: Path
    url: str
    email: str
    password: Secret
    token: Secret
    b2: B2Sandbox
    s3: SeaweedServer

    def connect(self) -> Client:
        """A client of the first administrator."""
        return Client(self.url, token=self.token)


@contextmanager
def set_up(directory: Path) -> Iterator[Stage]:
    """Start everything; stop everything at the end, whatever happened."""
    with ExitStack() as stack:
        b2 = stack.enter_context(B2Sandbox(directory / "b2", buckets=(BUCKET,)))
        s3 = stack.enter_context(SeaweedServer(directory / "s3", buckets=(BUCKET,)))
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SIMPLES3DMS_")},
            "SIMPLES3DMS_DATA_DIR": str(directory / "var"),
            "SIMPLES3DMS_LOG_LEVEL": "warning",
        }
        port = _free_port()
        first = directory / "first-administrator.json"
        command = ["serve", "--port", str(port), "--first-administrator-file", str(first)]
        server = stack.enter_context(_process(command, environment, directory / "serve.log"))
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url, server, directory / "serve.log")
        stack.enter_context(_process(["worker"], environment, directory / "worker.log"))
        account: dict[str, Any] = json.loads(first.read_text())
        first.unlink()
        password = Secret(account["password"])
        with Client(url) as client:
            made = client.log_in(account["email"], password, token_name="demo")  # noqa: S106 a label
        yield Stage(directory, url, account["email"], password, Secret(made.token), b2, s3)


@contextmanager
def _process(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        process = _start(command, environment, file)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start(command: list[str], environment: dict[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 our own program
        [sys.executable, "-m", "simples3dms", *command], env=environment, stdout=log, stderr=log
    )


def _wait_until_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    with Client(url) as client:
        while time.monotonic() < deadline:
            if server.poll() is not None:
                break
            if client.is_ready():
                return
            time.sleep(0.1)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    raise Unavailable(f"The server did not start. The end of its log:\n{tail}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
