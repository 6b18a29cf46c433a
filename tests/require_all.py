"""With ``P2P_REQUIRE_ALL=1`` a skipped test is a failure: CI has everything, so nothing may drop out unseen.

A pytest plugin, loaded by ``addopts`` in setup.cfg.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TypeVar

import pytest

_Report = TypeVar("_Report", pytest.TestReport, pytest.CollectReport)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _failed_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _failed_if_skipped((yield))


def _failed_if_skipped(report: _Report) -> _Report:
    if report.skipped and os.environ.get("P2P_REQUIRE_ALL") == "1":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"P2P_REQUIRE_ALL=1 lets no test drop out. {reason}"
    return report
