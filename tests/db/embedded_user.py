"""A process that uses the embedded server, as a program (told what to do on standard input) and as a handle on one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

DEADLINE_SECONDS = 30.0


def eventually(check: Callable[[], Any], *, within: float = DEADLINE_SECONDS) -> Any:
    """The first true answer of `check`; fails when there is none in time."""
    deadline = time.monotonic() + within
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"did not come true within {within} s"
        time.sleep(0.02)


class User:
    """The handle. `with` ends the process the polite way; `kill` is kill -9."""

    def __init__(
        self, data_dir: Path, embedded_dir: Path, *, environ: Mapping[str, str] | None = None, **popen: Any
    ) -> None:
        command = [popen.pop("python", sys.executable), __file__, str(data_dir), str(embedded_dir)]
        environment = {**os.environ, **(environ or {})}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, **popen
        )

    def __enter__(self) -> User:
        self.wait_until_up()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def wait_until_up(self) -> None:
        said = self._hear()
        assert said == "up", said

    def ask(self, verb: str, text: str = "") -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([verb, text]) + "\n")
        self.process.stdin.flush()
        return self._hear()

    def sql(self, text: str) -> Any:
        return self.ask("sql", text)

    def _hear(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the user process ended"
        return json.loads(line)

    def leave(self) -> None:
        if self.process.poll() is None:
            self.process.communicate(timeout=60)
        self._close()

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._close()

    def _close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()


def _say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


def _main(data_dir: str, embedded_dir: str) -> None:
    import psycopg

    from simples3dms.db.embedded import EmbeddedPostgres, EmbeddedPostgresError

    def answer(verb: str, text: str) -> object:
        if verb == "ensure":
            server.ensure_running()
        elif verb == "fork":
            if os.fork() == 0:
                time.sleep(float(text))
                os._exit(0)
        elif verb == "sql":
            with psycopg.connect(server.superuser_dsn(), autocommit=True) as connection:
                cursor = connection.execute(text.encode())
                return cursor.fetchall() if cursor.description else None
        return None

    server = EmbeddedPostgres(Path(data_dir), embedded_dir=Path(embedded_dir), fsync=False)
    try:
        server.start()
    except EmbeddedPostgresError as error:
        _say(f"{error}")
        return
    _say("up")
    for line in sys.stdin:
        try:
            _say(answer(*json.loads(line)))
        except (psycopg.Error, EmbeddedPostgresError) as error:
            _say(f"error: {error}")
    server.stop()


if __name__ == "__main__":
    _main(*sys.argv[1:])
