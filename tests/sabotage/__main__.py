"""``python -m tests.sabotage [--simulation] [name ...]``: break each guarantee on purpose; somebody must notice.

Every file in ``patches/`` is one sabotage: a text in one file is replaced by another in a copy of the tree, and the
named test is run there. First all named tests are run as they are: they have to pass. With ``--simulation`` it is the
simulation (``tests.simulation``) that must find the fault, within some seeds.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.sabotage.sabotages import PATCHES, ROOT, Sabotage, copy_tree, load

TIMEOUT = 900
#: Random histories that the tests play, as many times those of the suite (``tests.seeds``).
TIMES = 4
#: The simulation must find a planted fault within so many seeds.
SEEDS = 200


def run_python(tree: Path, *arguments: str) -> tuple[int, str]:
    """Run Python in a tree; return its exit code and output."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "P2P_SEEDS": str(TIMES)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    return done.returncode, done.stdout + done.stderr


def run_tests(tree: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Return pytest's exit code (1: a test failed) and its output."""
    return run_python(tree, "-m", "pytest", "-q", "-x", "-p", "no:randomly", "-p", "no:cacheprovider", *tests)


def run_simulation(tree: Path) -> tuple[int, str]:
    return run_python(tree, "-m", "tests.simulation", "--seeds", str(SEEDS), "--until-failure", "--processes", "1")


def fails_its_test(tree: Path, patch: Sabotage) -> tuple[bool, str]:
    """Tell whether the test noticed the sabotage; and what happened."""
    code, output = run_tests(tree, [patch.test])
    if code == 1:
        return True, "noticed"
    if code == 0:
        return False, f"went unnoticed by {patch.test}"
    return False, f"pytest ended with {code} instead of a failed test:\n{output[-2000:]}"


def fails_in_simulation(tree: Path, patch: Sabotage) -> tuple[bool, str]:
    """Tell whether a seed of the simulation found the sabotage; and which."""
    code, output = run_simulation(tree)
    found = re.search(r"^seed (\d+) FAILED \((.*?)\): (.*)", output, re.MULTILINE)
    if code == 1 and found:
        return True, f"found by seed {found[1]} ({found[2]}): {found[3][:100]}"
    if code == 0:
        return False, f"was not found within {SEEDS} seeds"
    return False, f"the simulation ended with {code}:\n{output[-2000:]}"


def try_sabotage(patch: Sabotage, look: Callable[[Path, Sabotage], tuple[bool, str]]) -> tuple[bool, str]:
    """Apply a patch to a copy of the tree and look there."""
    with tempfile.TemporaryDirectory(prefix="p2p-sabotage-") as folder:
        copy_tree(Path(folder))
        patch.apply(Path(folder))
        return look(Path(folder), patch)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sabotage", description=__doc__)
    parser.add_argument("--simulation", action="store_true", help="the simulation has to find them, not the tests")
    parser.add_argument("names", nargs="*", help="names of sabotages; all without any")
    options = parser.parse_args(arguments)
    patches = load(options.names)
    if options.simulation:
        patches = [patch for patch in patches if patch.is_simulated]
    if not patches:
        raise SystemExit(f"There is no such sabotage in {PATCHES.relative_to(ROOT)}.")
    began = time.monotonic()
    if options.simulation:
        look, (code, output) = fails_in_simulation, run_simulation(ROOT)
    else:
        look, (code, output) = fails_its_test, run_tests(ROOT, sorted({patch.test for patch in patches}))
    if code != 0:
        print(output[-4000:])
        print("The tree does not pass as it is.")
        return 1
    noticed = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for patch, (is_noticed, what) in zip(
            patches, pool.map(lambda patch: try_sabotage(patch, look), patches), strict=True
        ):
            print(f"guarantee {patch.guarantee}  {patch.name:32} {what}", flush=True)
            noticed += is_noticed
    print(f"{noticed} of {len(patches)} sabotages noticed, {time.monotonic() - began:.0f} s")
    return 0 if noticed == len(patches) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
