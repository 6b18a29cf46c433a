"""``python -m tests.sabotage [name ...]``: break each guarantee on purpose; the test that names it must notice.

Every file in ``patches/`` is one sabotage: a text in one file is replaced by another in a copy of the tree, and the
named test is run there. First all named tests are run as they are: they have to pass.
"""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATCHES = Path(__file__).parent / "patches"
COPIED = ("p2p_replication", "tests", "demo_project", "manage.py", "setup.cfg", "pyproject.toml")
TIMEOUT = 300


@dataclass(frozen=True)
class Sabotage:
    """One patch, and the test that must fail with it."""

    name: str
    #: Number of the guarantee (docs/guarantees.md) that breaks.
    guarantee: int
    title: str
    file: str
    old: str
    new: str
    test: str

    def apply(self, tree: Path) -> None:
        path = tree / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise SystemExit(
                f"{self.name}: its text is {text.count(self.old)} times in {self.file}; it has to be there once. "
                "Bring the patch up to date."
            )
        path.write_text(text.replace(self.old, self.new))


def load(names: list[str]) -> list[Sabotage]:
    patches = [Sabotage(name=path.stem, **tomllib.loads(path.read_text())) for path in sorted(PATCHES.glob("*.toml"))]
    unknown = set(names) - {patch.name for patch in patches}
    if unknown:
        raise SystemExit(f"There is no sabotage {', '.join(sorted(unknown))}.")
    return [patch for patch in patches if not names or patch.name in names]


def run_tests(tree: Path, tests: list[str]) -> tuple[int, str]:
    """Return pytest's exit code (1: a test failed) and its output."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:randomly", "-p", "no:cacheprovider", *tests],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    return done.returncode, done.stdout + done.stderr


def copy_tree(target: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / name)


def try_sabotage(patch: Sabotage) -> tuple[Sabotage, str]:
    """Return an empty text if the test noticed the sabotage, else what happened instead."""
    with tempfile.TemporaryDirectory(prefix="p2p-sabotage-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        patch.apply(tree)
        code, output = run_tests(tree, [patch.test])
    if code == 1:
        return patch, ""
    if code == 0:
        return patch, f"went unnoticed by {patch.test}"
    return patch, f"pytest ended with {code} instead of a failed test:\n{output[-2000:]}"


def main(names: list[str]) -> int:
    patches = load(names)
    if not patches:
        raise SystemExit(f"There is no sabotage in {PATCHES.relative_to(ROOT)}.")
    began = time.monotonic()
    code, output = run_tests(ROOT, sorted({patch.test for patch in patches}))
    if code != 0:
        print(output[-4000:])
        print("The named tests do not pass as they are.")
        return 1
    unnoticed = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for patch, problem in pool.map(try_sabotage, patches):
            print(f"guarantee {patch.guarantee}  {patch.name:32} {problem or 'noticed'}", flush=True)
            unnoticed += bool(problem)
    print(f"{len(patches) - unnoticed} of {len(patches)} sabotages noticed, {time.monotonic() - began:.0f} s")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
