"""``make simulate``: run seeds of the simulation, or replay one.

Every seed is a history of a few replicas (its scenario follows from its number) that ends in peace; then all must hold
the same. A seed that fails is named with the command that replays it. With ``--schemas`` the replicas are real
databases, with relations, clashes, merges, filters and the like.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

from tests.memory_folder import MEMORY
from tests.simulation import scenarios

SEEDS = 2000
SCHEMA_SEEDS = 144
PROCESSES = 2
#: Seeds that a process is given at a time.
CHUNK = 20
SCHEMA_CHUNK = 3
#: Seconds between two words on the progress.
PROGRESS = 15.0


@dataclass(frozen=True)
class Histories:
    """One kind of histories. ``run`` returns what went wrong, an empty text if nothing did."""

    names: Sequence[str]
    run: Callable[[int, list[str] | None], str]
    argument: str = ""

    def name_of(self, seed: int) -> str:
        return self.names[seed % len(self.names)]

    def replay_command(self, seed: int) -> str:
        return f'make simulate ARGS="{self.argument}--seed {seed} --trace"'


@cache
def histories(schemas: bool) -> Histories:
    """Return the histories of the simulation, or those of real databases, for which Django is set up."""
    if not schemas:
        return Histories([scenario.name for scenario in scenarios.SCENARIOS], scenarios.run_seed)
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    if MEMORY.is_dir():
        tempfile.tempdir = str(MEMORY)
    from tests.simulation.schemas import SCHEMAS, run_seed

    return Histories([schema.name for schema in SCHEMAS], run_seed, "--schemas ")


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    kind = histories(options.schemas)
    if options.list:
        for i, name in enumerate(kind.names):
            print(f"seeds {i}, {i + len(kind.names)}, ...  {name}")
        return 0
    if options.seed is not None:
        return replay(kind, options.seed, trace=options.trace)
    count = options.seeds or (SCHEMA_SEEDS if options.schemas else SEEDS)
    seeds = range(options.first, options.first + count)
    return run(kind, seeds, processes=options.processes, until_failure=options.until_failure)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schemas", action="store_true", help="play on real databases, with real schemas")
    parser.add_argument("--seeds", type=int, help=f"how many seeds are run ({SEEDS}; with --schemas {SCHEMA_SEEDS})")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default 0)")
    parser.add_argument("--seed", type=int, help="run this one")
    parser.add_argument("--trace", action="store_true", help="with --seed: print what happened")
    parser.add_argument("--until-failure", action="store_true", help="stop at the first seed that fails")
    parser.add_argument("--processes", type=int, default=PROCESSES, help=f"default {PROCESSES}")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    return parser.parse_args(arguments)


def replay(kind: Histories, seed: int, *, trace: bool) -> int:
    history: list[str] | None = [] if trace else None
    problem = kind.run(seed, history)
    for line in history or ():
        print(line)
    print(f"seed {seed} ({kind.name_of(seed)}): {problem or 'holds'}")
    return 1 if problem else 0


def run(kind: Histories, seeds: range, *, processes: int, until_failure: bool) -> int:
    """Run seeds in some processes; return the exit code."""
    began = told = time.monotonic()
    chunk = SCHEMA_CHUNK if kind.argument else CHUNK
    chunks = [seeds[i : i + chunk] for i in range(0, len(seeds), chunk)]
    done = failed = 0
    with concurrent.futures.ProcessPoolExecutor(processes) as pool:
        for problems in pool.map(partial(_run_chunk, bool(kind.argument)), chunks):
            for seed, problem in problems:
                done += 1
                if problem:
                    failed += 1
                    print(f"seed {seed} FAILED ({kind.name_of(seed)}): {problem}\n    {kind.replay_command(seed)}")
            if failed and until_failure:
                pool.shutdown(wait=False, cancel_futures=True)
                break
            if time.monotonic() - told >= PROGRESS:
                told = time.monotonic()
                print(f"{done} of {len(seeds)} seeds, {failed} failed, {told - began:.0f} s", flush=True)
    print(f"{done} seeds, {failed} failed, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


def _run_chunk(schemas: bool, seeds: range) -> list[tuple[int, str]]:
    return [(seed, _run_one(histories(schemas), seed)) for seed in seeds]


def _run_one(kind: Histories, seed: int) -> str:
    try:
        return kind.run(seed, None)
    except Exception:
        return traceback.format_exc()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
