"""``python -m tests.packaging.wheel dist/*.whl``: does the built wheel work by itself, far from the work tree?

Compares what is in it with the files of the work tree, installs it into a fresh environment in a temporary folder,
and lets a new Django project use it there (``wheel_project.py``).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "p2p_replication"


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("Give one wheel: python -m tests.packaging.wheel dist/<name>.whl", file=sys.stderr)
        return 2
    wheel = Path(arguments[0]).resolve()
    if problems := contents_problems(wheel):
        print("\n".join(problems), file=sys.stderr)
        return 1
    print(f"{wheel.name} holds every file of the package, and nothing else.", flush=True)
    with tempfile.TemporaryDirectory(prefix="p2p-wheel-") as folder:
        return try_in(Path(folder), wheel)


def contents_problems(wheel: Path) -> list[str]:
    """Say what the wheel lacks or has too much, compared with the files of the work tree that git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", PACKAGE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    wanted = {name for name in listed if name and (ROOT / name).exists()}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    return [
        *(f"{name} is not in the wheel: see MANIFEST.in" for name in sorted(wanted - packed)),
        *(f"{name} is in the wheel, but not in the work tree" for name in sorted(packed - wanted)),
    ]


def try_in(folder: Path, wheel: Path) -> int:
    """Install the wheel into a new environment and run the project there. Returns its exit code."""
    print("Installing it into a fresh environment ...", flush=True)
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", wheel]
    subprocess.run(install, cwd=folder, check=True)
    shutil.copy(Path(__file__).with_name("wheel_project.py"), folder / "wheel_project.py")
    # -P and a folder of its own: nothing of the work tree can be imported by chance.
    return subprocess.run([python, "-P", "wheel_project.py"], cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
