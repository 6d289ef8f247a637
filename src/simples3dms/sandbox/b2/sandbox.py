"""The B2 server as a context manager: its process, its credentials, and the ordering of faults."""

from __future__ import annotations

import http.client
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from simples3dms.errors import Unavailable
from simples3dms.sandbox.b2.account import CREDENTIALS_FILE, Credentials
from simples3dms.sandbox.b2.faults import Action, Call
from simples3dms.sandbox.ports import LOOPBACK, listen
from simples3dms.sandbox.processes import ServerProcess

_START_SECONDS = 30.0


class B2Sandbox:
    """A B2 service of its own. `url` is the realm to give to b2sdk.

    The same directory brings back its files, credentials and tokens; a server started again after `kill` has the
    same address, too, as long as nobody has taken the port.
    """

    def __init__(self, directory: Path, *, buckets: Sequence[str] = ("docs",), locked: Sequence[str] = ()) -> None:
        """`locked`: buckets with Object Lock, beside the others."""
        self._directory = directory
        self._buckets = {name: name in locked for name in (*buckets, *locked)}
        self._process: ServerProcess | None = None
        self._port = 0
        self._credentials = _credentials(directory)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    @property
    def application_key_id(self) -> str:
        return self._credentials.application_key_id

    @property
    def application_key(self) -> str:
        return self._credentials.application_key

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
        """Start it and wait until it answers. Raises Unavailable with the end of its log."""
        assert self._process is None or not self._process.is_running(), "it is running already"
        with listen(self._port) as listener:
            self._port = listener.getsockname()[1]
            descriptor = listener.fileno()
            command = [sys.executable, "-m", "simples3dms.sandbox.b2", str(self._directory), str(descriptor)]
            process = ServerProcess(command, self._directory / "server.log", pass_fds=(descriptor,))
        if not process.wait_until(self._answers, seconds=_START_SECONDS):
            process.kill()
            raise Unavailable(f"The B2 sandbox did not start. The end of its log:\n{process.log_tail()}")
        self._process = process
        for bucket, object_lock in self._buckets.items():
            self.create_bucket(bucket, object_lock=object_lock)

    def _answers(self) -> bool:
        try:
            self._control("ready")
        except (OSError, http.client.HTTPException):
            return False
        return True

    def kill(self) -> None:
        """End it as kill -9 does. What was acknowledged stays."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    # There is nothing that a polite stop would save.
    stop = kill

    def create_bucket(self, name: str, *, object_lock: bool = False) -> None:
        """Make a private bucket; one that is there already is fine."""
        self._control("bucket", {"name": name, "object_lock": object_lock}, accept=("duplicate_bucket_name",))

    def inject(
        self,
        call: str,
        *,
        action: Action = "error",
        status: int = 503,
        code: str = "service_unavailable",
        headers: Mapping[str, str] | None = None,
        times: int = 1,
        after: int = 0,
        seconds: float | None = None,
    ) -> None:
        """Let the next `times` calls of that name ("*": any) go wrong, after `after` good ones; see Fault."""
        fault = {"call": call, "action": action, "status": status, "code": code, "headers": dict(headers or {})}
        self._control("inject", {**fault, "times": times, "after": after, "seconds": seconds})

    def clear_faults(self) -> None:
        self._control("clear")

    def expire_tokens(self) -> None:
        """Every token given out so far, of any kind, is answered with expired_auth_token from now on."""
        self._control("expire")

    def calls(self) -> list[Call]:
        """The last calls (10,000 at most) since it was started, oldest first."""
        return [Call(**fields) for fields in self._control("calls")]

    def _control(self, what: str, params: Mapping[str, Any] | None = None, *, accept: Sequence[str] = ()) -> Any:
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=10)
        try:
            headers = {"Authorization": f"Bearer {self._credentials.control_token}"}
            connection.request("POST", f"/sandbox/{what}", json.dumps(params or {}), headers)
            response = connection.getresponse()
            value = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200 and value["code"] not in accept:
            raise Unavailable(f"The B2 sandbox refused '{what}': {value['message']}")
        return value


def _credentials(directory: Path) -> Credentials:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / CREDENTIALS_FILE
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return Credentials.parse(path.read_text())
    made = Credentials.make()
    with os.fdopen(descriptor, "w") as file:
        file.write(made.dump())
    return made
