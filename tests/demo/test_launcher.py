"""The launcher: ports, its folder, and children that never outlive it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from demo_project.__main__ import parse
from demo_project.launcher.errors import DemoError
from demo_project.launcher.folder import Folder
from demo_project.launcher.node import ROOT
from demo_project.launcher.ports import free_ports, require_free
from demo_project.launcher.processes import Child, Children


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "demo_project", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def sleeper(tmp_path: Path, code: str = "import time; time.sleep(60)") -> Child:
    return Child("a sleeper", [sys.executable, "-c", code], env=os.environ, log=tmp_path / "log", cwd=tmp_path)


def is_alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_busy_port_is_said_plainly_with_the_remedy(tmp_path: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        outcome = run_demo("--port", str(port), "--folder", str(tmp_path / "demo"))
    assert outcome.returncode == 1
    assert f"Port {port} is busy" in outcome.stderr and "--port" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_free_ports_are_free_and_different() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5
    require_free(*ports)


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_out_of_range_is_refused(port: int) -> None:
    with pytest.raises(DemoError, match=str(port)):
        require_free(port)


def test_two_demos_do_not_share_a_folder(tmp_path: Path) -> None:
    first = Folder(tmp_path)
    first.claim()
    with pytest.raises(DemoError, match="runs in"):
        Folder(tmp_path).claim()
    assert Folder(tmp_path).is_claimed_by_another


def test_reset_empties_a_demo_folder_and_refuses_any_other(tmp_path: Path) -> None:
    made = Folder(tmp_path / "demo")
    made.claim()
    made.nodes((1, 2))
    (made.path / "a.sqlite3").write_text("rows")
    (made.path / "more").mkdir()
    made.release()
    again = Folder(made.path)
    again.claim(reset=True)
    assert [entry.name for entry in made.path.iterdir()] == ["lock"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("years of work")
    with pytest.raises(DemoError, match="no demo made"):
        Folder(tmp_path / "other").claim(reset=True)
    assert (tmp_path / "other" / "thesis.txt").exists()


def test_keys_outlive_a_restart_and_are_nobody_elses_to_read(tmp_path: Path) -> None:
    first, second = Folder(tmp_path).nodes((1, 2)), Folder(tmp_path).nodes((3, 4))
    assert [node.secret_key for node in first] == [node.secret_key for node in second]
    assert first[0].secret_key != first[1].secret_key
    assert (tmp_path / "demo.json").stat().st_mode & 0o077 == 0


def test_links_of_a_demo_that_does_not_run_are_an_error(tmp_path: Path) -> None:
    outcome = run_demo("--links", "--folder", str(tmp_path))
    assert outcome.returncode == 1 and "No demo runs" in outcome.stderr


@pytest.mark.parametrize("arguments", [["--sabotage", "capture"], ["--check", "--sabotage", "x"], ["--places", "0"]])
def test_options_that_make_no_sense_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(arguments)
    assert arguments[-2] in capsys.readouterr().err


def test_stopping_ends_the_whole_group_even_if_it_does_not_want_to(tmp_path: Path) -> None:
    code = """
        import signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid, flush=True)
        time.sleep(60)
    """
    child = sleeper(tmp_path, textwrap.dedent(code))
    while not child.log.read_text().strip():
        time.sleep(0.02)
    grandchild = int(child.log.read_text())
    assert child.stop(timeout=0.3) is False
    deadline = time.monotonic() + 5
    while is_alive(grandchild) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not child.is_running and not is_alive(grandchild)


def test_a_child_that_dies_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    children = Children()
    child = children.add(sleeper(tmp_path, "import sys; print('what went wrong'); sys.exit(3)"))
    child.process.wait(10)
    with pytest.raises(DemoError, match=r"(?s)a sleeper ended with code 3.*what went wrong.*log"):
        children.require_alive()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_child_outlives_the_launcher(tmp_path: Path, number: signal.Signals) -> None:
    """Not even when the launcher is killed."""
    code = f"""
        import os, sys, time
        from pathlib import Path
        from demo_project.launcher.errors import StopRequested
        from demo_project.launcher.processes import Child, Children, stop_signals
        children = Children()
        with stop_signals(StopRequested):
            try:
                command = [sys.executable, "-c", "import time; time.sleep(60)"]
                log = Path({str(tmp_path / "log")!r})
                child = children.add(Child("x", command, env=os.environ, log=log, cwd=Path("/")))
                print(child.process.pid, flush=True)
                time.sleep(60)
            except StopRequested:
                children.stop()
    """
    launcher = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert launcher.stdout is not None
    child = int(launcher.stdout.readline())
    # The guard needs a moment to become the command.
    while b"sleep(60)" not in Path(f"/proc/{child}/cmdline").read_bytes().rpartition(b"\0-c\0")[2]:
        time.sleep(0.02)
    launcher.send_signal(number)
    launcher.wait(20)
    launcher.stdout.close()
    deadline = time.monotonic() + 5
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(child)
