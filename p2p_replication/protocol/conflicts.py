"""What a join loses: values that were overwritten, or deleted, by somebody who did not know of them.

Last-writer-wins takes the later of two writes, whether its writer had seen the earlier one or not. To tell the two
apart, a write carries its *past*: for each other writer of what it overwrote, the greatest clock (a version vector per
field, kept short; Parker et al., 1983). The writer's mark is in the clock, so a writer's own earlier writes need not
be named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from p2p_replication.protocol.clock import ADOPTED, NEVER, writer_of
from p2p_replication.protocol.row_state import DELETE, RowState, same_value

#: Writers that a past names. With more, the oldest are left out: an edit of theirs may then count as not known.
MAX_PAST = 16


class LostEdit(NamedTuple):
    """A value that a join has not kept, and whose loss nobody decided on."""

    field: str
    clock: int
    value: Any
    #: The clock of the write that won: of the field, or of the delete.
    won_by: int
    #: It was lost to a delete of the row.
    is_deleted: bool


def past_of(mark: int, known: Iterable[int]) -> tuple[int, ...]:
    """Return the past of a write by the replica with this mark, which knew of these clocks (their pasts included)."""
    latest: dict[int, int] = {}
    for clock in known:
        writer = writer_of(clock)
        if writer != mark and clock > latest.get(writer, ADOPTED - 1):
            latest[writer] = clock
    return tuple(sorted(latest.values(), reverse=True)[:MAX_PAST])


def overwrite(clocks: dict[str, int], past: dict[str, tuple[int, ...]], field: str, clock: int) -> None:
    """Give a field of a live row a new clock: its writer knew what was there."""
    if field in clocks and clocks[field] != clock:
        seen = past_of(writer_of(clock), [clocks[field], *past.pop(field, ())])
        if seen:
            past[field] = seen
    clocks[field] = clock


def end_life(clocks: dict[str, int], past: dict[str, tuple[int, ...]], earlier: int, deleted: int) -> None:
    """Delete a row (``earlier``: its ``deleted`` so far): its deleter knew all that was written into it."""
    known = [*clocks.values(), *(clock for seen in past.values() for clock in seen)]
    if known and earlier != NEVER:
        known.append(earlier)
    clocks.clear()
    past.clear()
    if seen := past_of(writer_of(deleted), known):
        past[DELETE] = seen


def begin_life(
    clocks: dict[str, int], past: dict[str, tuple[int, ...]], fields: Iterable[str], deleted: int, clock: int
) -> None:
    """Insert a row, perhaps after a delete: its writer knew of that, and of what the deleter knew."""
    known = past_of(writer_of(clock), [deleted, *past.get(DELETE, ())]) if deleted != NEVER else ()
    for field in fields:
        clocks[field] = clock
        if known:
            past[field] = known


def knew(clock: int, past: Iterable[int], other: int) -> bool:
    """Tell whether the one who wrote at ``clock``, with this past, knew of the write with the clock ``other``."""
    writer = writer_of(other)
    if writer == writer_of(clock):
        return other <= clock
    return any(writer == writer_of(seen) and other <= seen for seen in past)


def lost_edits(side: RowState, joined: RowState) -> Iterator[LostEdit]:
    """Yield what one side of a join had and the result has not, without what the winner knew of.

    A value that the winner has as well is not lost.
    """
    result = joined.fields()
    for name, (clock, value) in side.fields().items():
        kept = result.get(name)
        if kept is None:
            if not knew(joined.deleted, joined.past.get(DELETE, ()), clock):
                yield LostEdit(name, clock, value, joined.deleted, True)
        elif not same_value(value, kept[1]) and not (
            kept[0] != clock and knew(kept[0], joined.past.get(name, ()), clock)
        ):
            yield LostEdit(name, clock, value, kept[0], False)
