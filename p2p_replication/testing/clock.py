"""The clock of a local pool: it stands still until it is told to go on."""

from __future__ import annotations

import datetime
from collections.abc import Callable

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class Clock:
    """One time for all replicas of a pool, and how far each one's own clock is off.

    Writes between two moves of the clock are made at the same time: of two edits of one field that of the replica which
    the pool names later wins.

    Attributes:
        now: the time, as an aware datetime.
    """

    def __init__(self, before_move: Callable[[], None]) -> None:
        self.now = START
        self._before_move = before_move
        self._skews: dict[str, datetime.timedelta] = {}

    def advance(self, by: float | datetime.timedelta) -> None:
        """Let time pass (seconds, or a timedelta): what was written before is older than what comes."""
        self._before_move()
        self.now += _delta(by)

    def skew(self, replica: str, by: float | datetime.timedelta) -> None:
        """Put one replica's clock ahead of the others by so much (seconds, or a timedelta; behind, if negative)."""
        self._before_move()
        self._skews[replica] = _delta(by)

    def now_ms(self, replica: str) -> int:
        """Return what a replica's clock shows, in milliseconds since the epoch."""
        return int((self.now + self._skews.get(replica, datetime.timedelta())).timestamp() * 1000)


def _delta(by: float | datetime.timedelta) -> datetime.timedelta:
    return by if isinstance(by, datetime.timedelta) else datetime.timedelta(seconds=by)
