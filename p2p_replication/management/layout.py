"""How subcommands lay out what they say: tables of at most 100 columns, times, keys."""

from __future__ import annotations

import datetime
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from django.utils import timezone

from p2p_replication.protocol.clock import ADOPTED, NEVER, milliseconds_of

WIDTH = 100
GAP = "  "
COMMAND = re.compile(r"manage\.py .*$")
UNBROKEN = "\0"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], indent: str = "  ") -> Iterator[str]:
    """Yield the lines of a table; the last column goes on in further lines where it is long."""
    cells = [[printable(str(cell)) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head) - 1)]
    for row in cells:
        start = indent + "".join(cell.ljust(width) + GAP for cell, width in zip(row, widths, strict=False))
        yield from wrapped(row[-1], start)


def wrapped(text: str, start: str = "") -> Iterator[str]:
    """Yield a text behind ``start``, its further lines below its first one."""
    room = max(WIDTH - len(start), 30)
    # A command at the end stays in one piece, to be copied.
    text = COMMAND.sub(lambda command: command[0].replace(" ", UNBROKEN), printable(text))
    lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
    for line in lines:
        yield (start + line).rstrip().replace(UNBROKEN, " ")
        start = " " * len(start)


def printable(text: str) -> str:
    """Return a text, of a peer perhaps, as it may go to a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def when(moment: datetime.datetime | None) -> str:
    """Return a time as people read it, in the project's time zone."""
    if moment is None:
        return "never"
    if timezone.is_aware(moment):
        moment = timezone.localtime(moment)
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def iso(moment: datetime.datetime | None) -> str | None:
    """Return a time for ``--json``."""
    return moment.isoformat() if moment is not None else None


def clock_time(clock: int) -> datetime.datetime | None:
    """Return when a row's clock says that it was; None for those that name no time."""
    if clock in (ADOPTED, NEVER):
        return None
    try:
        return datetime.datetime.fromtimestamp(milliseconds_of(clock) / 1000, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return None


def clock_text(clock: int) -> str:
    """Return a row's clock as people read it."""
    if clock == ADOPTED:
        return "before replication"
    if clock == NEVER:
        return "never"
    moment = clock_time(clock)
    return when(moment) if moment is not None else f"clock {clock}"


def replica_name(replica_id: str, name: str = "") -> str:
    """Return how a replica is called in texts: its name and the beginning of its id."""
    return f"{name} ({replica_id[:8]})" if name and name != replica_id else replica_id[:8]
