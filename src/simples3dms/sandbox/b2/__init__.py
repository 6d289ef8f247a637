"""A B2 server on the loopback interface that speaks the native API, in a process of its own."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from simples3dms.errors import Unavailable
from simples3dms.sandbox.processes import ServerProcess, free_port_block

_START_SECONDS = 40.0
_TRIES = 3


class B2Sandbox:
    """One account with one key. Starting it again in the same directory brings its files back."""

    def __init__(self, directory: Path, *, buckets: Sequence[str] = ("docs",)) -> None:
        self._directory = directory
        self._buckets = tuple(buckets)
        self._process: ServerProcess | None = None
        self._control_token = secrets.token_hex(16)
        self.application_key_id = "005" + secrets.token_hex(11)
        self.application_key = "K005" + secrets.token_urlsafe(20)
        self.url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers. Raises Unavailable with the end of its log."""
        self._directory.mkdir(parents=True, exist_ok=True)
        tail = ""
        for _ in range(_TRIES):
            port = free_port_block(1)
            self.url = f"http://127.0.0.1:{port}"
            self._process = ServerProcess(
                [sys.executable, "-m", "simples3dms.sandbox.b2", str(self._directory), str(port)],
                self._directory / "b2.log",
                environment={
                    "SANDBOX_B2_KEY_ID": self.application_key_id,
                    "SANDBOX_B2_KEY": self.application_key,
                    "SANDBOX_B2_CONTROL": self._control_token,
                },
            )
            if self._process.wait_until(self._answers, seconds=_START_SECONDS):
                for bucket in self._buckets:
                    self.create_bucket(bucket)
                return
            tail = self._process.log_tail()
            self.kill()
        raise Unavailable(f"The B2 sandbox did not start. The end of its log:\n{tail}")

    def _answers(self) -> bool:
        try:
            self._control("calls")
        except httpx.HTTPError:
            return False
        return True

    def _control(self, action: str, body: Any = None) -> Any:
        headers = {"Authorization": self._control_token}
        with httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=10) as client:
            response = client.post(f"/sandbox/{action}", json=body)
            response.raise_for_status()
            return response.json()

    def create_bucket(self, name: str) -> None:
        """Make a bucket; one that is there already is fine."""
        with httpx.Client(base_url=self.url, trust_env=False, timeout=10) as client:
            key = httpx.BasicAuth(self.application_key_id, self.application_key)
            token = client.post("/b2api/v4/b2_authorize_account", auth=key).json()["authorizationToken"]
            answer = client.post(
                "/b2api/v4/b2_create_bucket", json={"bucketName": name}, headers={"Authorization": token}
            )
        if answer.is_error and answer.json()["code"] != "duplicate_bucket_name":
            raise Unavailable(f"The B2 sandbox did not make the bucket {name!r}.")

    def inject(
        self,
        call: str,
        *,
        mode: str = "status",
        status: int = 503,
        code: str = "service_unavailable",
        times: int = 1,
        after: int = 0,
    ) -> None:
        """Have the next calls of this API name fail; see `faults.Fault`."""
        fault = {"call": call, "mode": mode, "status": status, "code": code, "times": times, "after": after}
        self._control("inject", fault)

    def clear_faults(self) -> None:
        self._control("clear")

    def expire_tokens(self) -> None:
        """As if a day had passed: every token is refused as expired."""
        self._control("expire")

    def calls(self) -> list[str]:
        """The names of the API calls that came, oldest first."""
        found: list[str] = self._control("calls")
        return found

    def kill(self) -> None:
        """End it like a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    stop = kill
