"""For the whole test run: a run in which no test passed is a failure, whatever else was skipped or deselected."""

from __future__ import annotations

import pytest

_NO_TESTS = int(pytest.ExitCode.NO_TESTS_COLLECTED)


class _Passed:
    """Counts the tests that passed."""

    count = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.count += report.when == "call" and report.passed


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Passed(), "simples3dms-passed")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Turn "all skipped" into the exit code of "nothing collected"."""
    passed = session.config.pluginmanager.get_plugin("simples3dms-passed")
    if exitstatus == 0 and not session.config.option.collectonly and not passed.count:
        session.exitstatus = _NO_TESTS
