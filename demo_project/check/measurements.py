"""The measured parts: the first sync with saves in the web processes meanwhile, and the latency of single saves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from demo_project.check.bench import Bench
from demo_project.check.talk import StepFailed, start_watcher
from demo_project.check.web_saves import WebSaver, locked_lines

#: Single saves whose way to B is timed.
LIVE_SAVES = 120
#: Seconds between two of them.
LIVE_PACE = 0.02
MARK = "live-"


@dataclass(frozen=True)
class FirstSync:
    seconds: float
    rows: int
    web_save_milliseconds: list[float]


def first_sync(bench: Bench) -> FirstSync:
    """Start B's worker and wait for B's last place, while visitors save by the pages of both nodes.

    The time runs from the start of B's worker process to the last row's commit, as a third process sees it.
    """
    before = bench.reading(bench.b)
    if (before.places, before.observations) != (0, 0):
        raise StepFailed(f"B should start empty, and has {before.places} places, {before.observations} observations")
    # Without progress for this long, the rest won't come either.
    watcher = start_watcher("watch_rows.py", bench.b, bench.children, "survey_place", bench.places, bench.patience)
    savers = [WebSaver(node, link) for node, link in zip((bench.a, bench.b), bench.links, strict=True)]
    for saver in savers:
        saver.start()
    try:
        started = bench.start_worker(bench.b)
        # The watcher gives up by itself; this is for the case that rows trickle.
        outcome = watcher.json(timeout=10 * bench.patience)
    finally:
        for saver in savers:
            saver.finish()
    for worker in bench.workers.values():
        worker.require_alive()
    if outcome["rows"] != bench.places:
        raise StepFailed(
            f"B has {outcome['rows']:,} of {bench.places:,} places, and none came for {bench.patience:g} s"
        )
    failures = [failure for saver in savers for failure in saver.failures]
    failures += [line for node in (bench.a, bench.b) for line in locked_lines(node)]
    if failures:
        raise StepFailed(f"{len(failures)} saves by the pages failed: {'; '.join(failures[:3])}")
    milliseconds = [value for saver in savers for value in saver.milliseconds]
    for saver, node in zip(savers, (bench.a, bench.b), strict=True):
        bench.log(f"    {len(saver.milliseconds)} saves by {node.name}'s pages: {figures(saver.milliseconds)}")
    everyone = "SELECT count(*) FROM survey_observation WHERE species LIKE 'web-%'"
    bench.expect_both("the saves by both nodes' pages", everyone, [len(milliseconds)])
    return FirstSync((outcome["ns"] - started) / 1e9, outcome["rows"], milliseconds)


def live_latency(bench: Bench) -> list[float]:
    """Milliseconds from the commit of each single ``save()`` on A until another process can read it on B."""
    watcher = start_watcher("watch_marks.py", bench.b, bench.children, MARK, LIVE_SAVES, bench.patience)
    committed = bench.on_a("save_marked", prefix=MARK, count=LIVE_SAVES, pace=LIVE_PACE)
    seen = watcher.json(timeout=2 * bench.patience)
    if missing := sorted(set(committed) - set(seen)):
        raise StepFailed(f"{len(missing)} of {len(committed)} single saves have not arrived, {missing[0]} for one")
    # B may show a row before A's process has looked at its watch.
    return [max(0.0, (seen[mark] - committed[mark]) / 1e6) for mark in committed]


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that ``share`` of the values do not exceed (nearest rank); None if there are none."""
    if not values:
        return None
    return round(sorted(values)[math.ceil(share * len(values)) - 1], 1)


def figures(values: Sequence[float]) -> str:
    return f"p50 {percentile(values, 0.5)} ms, p99 {percentile(values, 0.99)} ms, max {percentile(values, 1)} ms"
