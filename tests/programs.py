"""Our program in processes of its own, started quickly: each is forked from one that has loaded it all.

Loading takes a program two to three seconds of CPU, and the tests start hundreds. What runs is the same: a process
with an environment, a log and an exit status of its own, that can be killed.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path


class Program:
    """One process, with what tests use of `subprocess.Popen`."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """The exit status, or None while it runs: minus a signal's number, if one ended it."""
        return self._process.exitcode

    def wait(self, seconds: float) -> int:
        self._process.join(seconds)
        status = self._process.exitcode
        if status is None:
            raise subprocess.TimeoutExpired("simples3dms", seconds)
        return status

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


def start(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    output: Path,
    errors: Path | None = None,
    first: Callable[[], None] | None = None,
) -> Program:
    """Start `simples3dms COMMAND`; what it says is added to these files, or all of it to `output`.

    `first`: what makes the process another one than it would be, such as one of an older version.
    """
    process = _forking().Process(
        target=_main, args=(list(command), dict(environment), str(output), str(errors or output), first), daemon=False
    )
    process.start()
    return Program(process)


def run(command: Sequence[str], environment: Mapping[str, str], *, seconds: float) -> subprocess.CompletedProcess[str]:
    """`simples3dms COMMAND` to its end. Raises subprocess.TimeoutExpired, and kills it then."""
    with tempfile.TemporaryDirectory(prefix="simples3dms-said-") as name:
        output, errors = Path(name) / "output", Path(name) / "errors"
        program = start(command, environment, output=output, errors=errors)
        try:
            status = program.wait(seconds)
        finally:
            program.kill()
        return subprocess.CompletedProcess(list(command), status, output.read_text(), errors.read_text())


@cache
def _forking() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.loaded"])
    return context


def _main(
    command: list[str], environment: dict[str, str], output: str, errors: str, first: Callable[[], None] | None
) -> None:
    for path, target in ((output, 1), (errors, 2)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["simples3dms", *command]
    if first is not None:
        first()
    from simples3dms.cli.main import main

    main()
