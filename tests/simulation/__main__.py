"""``make simulate``: run seeds of the simulation, or replay one.

Every seed is a history of a few replicas (its scenario follows from its number) that ends in peace; then all must hold
the same. A seed that fails is named with the command that replays it.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import sys
import time
import traceback
from collections.abc import Sequence

from tests.simulation.scenarios import SCENARIOS, replay_command, run_seed, scenario_of

SEEDS = 2000
PROCESSES = 2
#: Seeds that a process is given at a time.
CHUNK = 20
#: Seconds between two words on the progress.
PROGRESS = 15.0


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    if options.list:
        for i, scenario in enumerate(SCENARIOS):
            print(f"seeds {i}, {i + len(SCENARIOS)}, ...  {scenario.name}")
        return 0
    if options.seed is not None:
        return replay(options.seed, trace=options.trace)
    seeds = range(options.first, options.first + options.seeds)
    return run(seeds, processes=options.processes, until_failure=options.until_failure)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"how many seeds are run (default {SEEDS})")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default 0)")
    parser.add_argument("--seed", type=int, help="run this one")
    parser.add_argument("--trace", action="store_true", help="with --seed: print what happened")
    parser.add_argument("--until-failure", action="store_true", help="stop at the first seed that fails")
    parser.add_argument("--processes", type=int, default=PROCESSES, help=f"default {PROCESSES}")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    return parser.parse_args(arguments)


def replay(seed: int, *, trace: bool) -> int:
    history: list[str] | None = [] if trace else None
    problem = run_seed(seed, history)
    for line in history or ():
        print(line)
    print(f"seed {seed} ({scenario_of(seed).name}): {problem or 'holds'}")
    return 1 if problem else 0


def run(seeds: range, *, processes: int, until_failure: bool) -> int:
    """Run seeds in some processes; return the exit code."""
    began = told = time.monotonic()
    chunks = [seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)]
    done = failed = 0
    with concurrent.futures.ProcessPoolExecutor(processes) as pool:
        for problems in pool.map(_run_chunk, chunks):
            for seed, problem in problems:
                done += 1
                if problem:
                    failed += 1
                    print(f"seed {seed} FAILED ({scenario_of(seed).name}): {problem}\n    {replay_command(seed)}")
            if failed and until_failure:
                pool.shutdown(wait=False, cancel_futures=True)
                break
            if time.monotonic() - told >= PROGRESS:
                told = time.monotonic()
                print(f"{done} of {len(seeds)} seeds, {failed} failed, {told - began:.0f} s", flush=True)
    print(f"{done} seeds, {failed} failed, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


def _run_chunk(seeds: range) -> list[tuple[int, str]]:
    return [(seed, _run_one(seed)) for seed in seeds]


def _run_one(seed: int) -> str:
    try:
        return run_seed(seed)
    except Exception:
        return traceback.format_exc()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
