"""A host that has only its loopback interface is a normal host."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import aioice.ice
import pytest

from p2p_replication.transport.loopback import enable_loopback_hosts, with_loopback_fallback

IN_NAMESPACE = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
UP = "ip link set lo up && exec"


def in_namespace(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*IN_NAMESPACE, "sh", "-c", f'{UP} "$@"', "sh", *command],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=Path(__file__).parents[2],
    )


@pytest.fixture
def namespace() -> None:
    if not shutil.which("unshare") or not shutil.which("ip") or in_namespace("true").returncode != 0:
        pytest.skip("network namespaces cannot be made here")


@pytest.mark.usefixtures("namespace")
def test_two_members_meet_where_only_loopback_exists() -> None:
    result = in_namespace(sys.executable, "-m", "tests.transport.loopback_only")
    assert result.stdout.strip() == "b'over loopback'", result.stderr


@pytest.mark.usefixtures("namespace")
def test_without_the_fallback_they_would_not() -> None:
    """Shows that the namespace is what it is meant to be: the test above proves something."""
    result = in_namespace(sys.executable, "-m", "tests.transport.loopback_only", "--without")
    assert result.stdout.strip() == ""
    assert "TimeoutError" in result.stderr


def test_only_a_host_without_addresses_falls_back() -> None:
    assert with_loopback_fallback(lambda v4, v6: ["10.0.0.5"])(True, True) == ["10.0.0.5"]
    assert with_loopback_fallback(lambda v4, v6: [])(True, True) == ["127.0.0.1"]
    assert with_loopback_fallback(lambda v4, v6: [])(False, True) == ["::1"]


def test_enabling_twice_wraps_once() -> None:
    enable_loopback_hosts()
    wrapped = aioice.ice.get_host_addresses
    enable_loopback_hosts()
    assert aioice.ice.get_host_addresses is wrapped
