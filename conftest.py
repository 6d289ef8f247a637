"""For the whole test run: who runs which tests where, and a run in which no test passed is a failure.

The tests are shared out among a few processes (`make test`), each with servers of its own: no test may count on
another to have run before it, or to be alone on the machine.
"""

from __future__ import annotations

import os
from uuid import UUID

import pytest

_NO_TESTS = int(pytest.ExitCode.NO_TESTS_COLLECTED)
#: Processes beyond the number of CPUs, as tests also wait; and so many at most, as each has a PostgreSQL of its own.
_MORE_THAN_CPUS, _MOST_PROCESSES = 1, 8


class _Passed:
    """Counts the tests that passed, in whichever process."""

    count = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.count += report.when == "call" and report.passed


def pytest_configure(config: pytest.Config) -> None:
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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that share a module's servers stay in one process, so that these are started once."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        definitions = getattr(item, "_fixtureinfo").name2fixturedefs  # noqa: B009 (no public way in)
        if any(one[-1].scope in ("class", "module") for one in definitions.values()):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Turn "all skipped" into the exit code of "nothing collected"."""
    passed = session.config.pluginmanager.get_plugin("simples3dms-passed")
    if exitstatus == 0 and not session.config.option.collectonly and not passed.count:
        session.exitstatus = _NO_TESTS
