"""``python -m benchmarks.plots``: draw the plots of docs/performance.md from ``results.json``."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "p2p_replication"
import matplotlib.pyplot as plt  # noqa: E402

from benchmarks import figures  # noqa: E402

FOLDER = figures.FOLDER.parent / "docs" / "performance"
PLOTS = {
    figures.BY_ROWS: ("rows", "rows in the table", "rows a second", True),
    figures.BY_FIELDS: ("fields", "fields of a row", "rows a second", False),
    figures.BYTES_BY_FIELDS: ("bytes", "fields of a row", "bytes on the channel a row", False),
    figures.BY_POOL: ("pool", "replicas in the pool", "seconds", False),
}


def draw(results: Path = figures.FOLDER / "results.json", folder: Path = FOLDER) -> None:
    """Draw each plot there are figures for."""
    found = json.loads(results.read_text())["figures"]
    folder.mkdir(parents=True, exist_ok=True)
    for part, (name, below, beside, is_logarithmic) in PLOTS.items():
        points = sorted(
            (float(figure["name"].replace(",", "")), figure["value"]) for figure in found if figure["part"] == part
        )
        if not points:
            continue
        plot, axes = plt.subplots(figsize=(6, 3.4))
        axes.plot(*zip(*points, strict=True), marker="o")
        axes.set(xlabel=below, ylabel=beside, ylim=(0, None))
        if is_logarithmic:
            axes.set_xscale("log")
        axes.grid(alpha=0.3)
        plot.tight_layout()
        plot.savefig(folder / f"{name}.svg", metadata={"Date": None})
        plt.close(plot)


if __name__ == "__main__":
    draw()
