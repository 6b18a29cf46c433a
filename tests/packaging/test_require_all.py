"""P2P_REQUIRE_ALL: where everything has to be there, a skip is a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPTIONS = ["-q", "-ra", "-p", "no:randomly", "-p", "no:django", "-p", "tests.require_all"]
SKIPPED_TEST = """
import pytest

def test_needs_what_is_not_there():
    pytest.skip("no such thing here")
"""
SKIPPED_MODULE = """
import pytest

pytest.importorskip("there_is_no_such_module")
"""


@pytest.mark.parametrize("source", [SKIPPED_TEST, SKIPPED_MODULE], ids=["test", "module"])
@pytest.mark.parametrize("required", ["", "1"])
def test_a_skip_fails_only_where_everything_is_required(tmp_path: Path, source: str, required: str) -> None:
    (tmp_path / "test_it.py").write_text(source)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    outcome = subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "P2P_REQUIRE_ALL": required, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    output = outcome.stdout + outcome.stderr
    if required:
        assert outcome.returncode in (1, 2), output
        assert "P2P_REQUIRE_ALL=1 lets no test drop out" in output
    else:
        # pytest's code 5: a module that is skipped whole leaves no test at all.
        assert outcome.returncode == (0 if source is SKIPPED_TEST else 5), output
        assert "1 skipped" in output
