"""What is measured, what it is to reach, and how it is told: a table, ``RESULTS.md`` and ``results.json``."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
#: The page of the documentation that has the table, and the comments around it.
PAGE = FOLDER.parent / "docs" / "performance.md"
BEGIN, END = "<!-- the table of make bench -->", "<!-- the end of the table -->"
#: Parts that are plots: a figure's name is its place on the x axis (a number, with separators).
BY_ROWS = "rows/s by rows in the table"
BY_FIELDS = "rows/s by fields of a row"
BYTES_BY_FIELDS = "bytes on the channel a row, by fields of a row"
BY_POOL = "seconds until all have 1,000 rows, by replicas in the pool"


@dataclass(frozen=True)
class Figure:
    """One figure: the median of some runs.

    Attributes:
        goal: what it is to reach; None for what is only told. ``at_most``: the goal is a limit, not a floor.
        beside: what it is compared with, by name: a ratio of 4 says that the other takes four times as much.
    """

    part: str
    name: str
    unit: str
    runs: Sequence[float]
    goal: float | None = None
    at_most: bool = True
    beside: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def value(self) -> float:
        return statistics.median(self.runs)

    @property
    def holds(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    @property
    def shown_goal(self) -> str:
        return "" if self.goal is None else f"{'≤' if self.at_most else '≥'} {shown(self.goal)}"


def shown(value: float) -> str:
    """Return a number with three figures that count."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| part | what | median | spread | goal | |", "|---|---|---|---|---|---|"]
    for figure in figures:
        verdict = {None: "", True: "holds", False: "**missed**"}[figure.holds]
        spread = f"{shown(min(figure.runs))} to {shown(max(figure.runs))}" if len(figure.runs) > 1 else ""
        beside = "".join(f"; {name}: {shown(ratio)} times" for name, ratio in figure.beside.items())
        note = f" ({figure.note})" if figure.note else ""
        lines.append(
            f"| {figure.part} | {figure.name}{note} | {shown(figure.value)} {figure.unit}{beside} | {spread} "
            f"| {figure.shown_goal} | {verdict} |"
        )
    return "\n".join(lines)


def write(
    figures: Sequence[Figure],
    machine: Mapping[str, Any],
    versions: Mapping[str, str],
    seconds: float,
    failed: Sequence[str] = (),
) -> None:
    """Write ``RESULTS.md``, ``results.json`` and the table in the documentation.

    Args:
        failed: parts that have no figures, as they failed.
    """
    about = ", ".join(f"{name} {value}" for name, value in (*machine.items(), *versions.items()))
    text = f"# Results\n\nThe last full run of `make bench`, {seconds / 60:.0f} minutes: {about}.\n\n{table(figures)}\n"
    if failed:
        text += f"\nParts that failed: {', '.join(failed)}.\n"
    (FOLDER / "RESULTS.md").write_text(text)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(figures)}\n\n{END}{rest.partition(END)[2]}")
    targets = {
        f"{figure.part}: {figure.name}": {"value": figure.value, "goal": figure.goal, "holds": figure.holds}
        for figure in figures
        if figure.goal is not None
    }
    others = [
        {
            "part": figure.part,
            "name": figure.name,
            "unit": figure.unit,
            "value": figure.value,
            "runs": list(figure.runs),
        }
        for figure in figures
    ]
    found = {"targets": targets, "machine": dict(machine), "versions": dict(versions), "figures": others}
    (FOLDER / "results.json").write_text(json.dumps(found, indent=1) + "\n")
