"""For the whole test run: who runs which tests where, and a run in which no test passed is a failure.

The tests are shared out among a few processes (`make test`), each with servers of its own: no test may count on
another to have run before it, or to be alone on the machine.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from uuid import UUID

import pytest
import structlog

_NO_TESTS = int(pytest.ExitCode.NO_TESTS_COLLECTED)
#: Processes beyond the number of CPUs, as tests also wait; and so many at most, as each has a PostgreSQL of its own.
_MORE_THAN_CPUS, _MOST_PROCESSES = 2, 8
_ROOMY_BYTES = 6 * 1024**3
#: Files that take a minute or more, the longest first.
_LONGEST = (
    *(
        "test_kill_moves",
        "test_conformance",
        "test_kill_looks",
        "test_kill",
        "test_kill_keys",
        "test_attacks",
        "test_rights",
        "test_canaries",
    ),
    *("test_rotation_under_load", "test_mutants", "test_life", "test_tutorial"),
    *("test_brought_doors", "test_audit_doors"),
)


def _use_memory_for_files() -> None:
    """Put temporary files into memory where there is a lot of it: a database is three hundred files, and a disk's
    file system may take a second to make them where as many were just removed."""
    memory = Path("/dev/shm")  # noqa: S108  only a place; names in it are made as safely as anywhere
    if "TMPDIR" in os.environ or not memory.is_dir():
        return
    found = os.statvfs(memory)
    if found.f_bavail * found.f_frsize >= _ROOMY_BYTES and not found.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = str(memory)
        tempfile.tempdir = None


class _Passed:
    """Counts the tests that passed, in whichever process."""

    count = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.count += report.when == "call" and report.passed


def _log_aside() -> None:
    """What is logged is kept with a test's output, and not among what `capsys` reads: a server that works in the same
    process would log into the middle of what a command prints."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.__stderr__))


def pytest_configure(config: pytest.Config) -> None:
    _use_memory_for_files()
    _log_aside()
    config.pluginmanager.register(_Passed(), "simples3dms-passed")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means here."""
    return min(len(os.sched_getaffinity(0)) + _MORE_THAN_CPUS, _MOST_PROCESSES)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Ids are the same in each process, or the tests could not be shared out: no made-up id is part of one."""
    try:
        UUID(str(val))
    except ValueError:
        return None
    return argname


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, as a file's tests stay in one process (`--dist loadfile`): what its servers
    take to start is paid once."""
    items.sort(key=lambda item: _LONGEST.index(item.path.stem) if item.path.stem in _LONGEST else len(_LONGEST))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Turn "all skipped" into the exit code of "nothing collected"."""
    passed = session.config.pluginmanager.get_plugin("simples3dms-passed")
    if exitstatus == 0 and not session.config.option.collectonly and not passed.count:
        session.exitstatus = _NO_TESTS
