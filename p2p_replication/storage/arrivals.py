"""What an incoming row comes to: the joined state, whether the table shows it, and whose version it is (DESIGN 4).

Where a model has no filter it is the plain rule: the local dots, the incoming ones, or both. A filter makes some
versions unknown to peers whose vectors seem to cover them; then the row gets a dot of this replica's own.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from p2p_replication.models.ledger import EntryStatus
from p2p_replication.protocol.field_merges import FieldMerge
from p2p_replication.protocol.merge import join_into
from p2p_replication.protocol.row_state import RowState
from p2p_replication.storage.ledger import Entry
from p2p_replication.storage.subsets import Share, Subset


class Dots(enum.Enum):
    """Whose version the result is."""

    LOCAL = enum.auto()
    INCOMING = enum.auto()
    BOTH = enum.auto()
    #: A new one of this replica.
    OWN = enum.auto()


class Arrival(NamedTuple):
    """``hides``: the row leaves the table, or stays out of it, without being deleted.

    ``is_same``: the incoming state is the local one.
    """

    state: RowState
    dots: Dots
    hides: bool
    is_news: bool
    is_same: bool = False


def arrival(
    entry: Entry | None,
    local: RowState | None,
    incoming: RowState,
    subset: Subset,
    others: Sequence[Subset],
    merges: Mapping[str, FieldMerge],
    *,
    is_leaving: bool = False,
) -> Arrival:
    """Decide about a row that came by a pool of ``subset``.

    Args:
        entry, local: what this replica has of the row, None if nothing.
        others: the other subsets that this replica takes part in.
        is_leaving: the row is parked and will be hidden.
    """
    if entry is None and subset.filter is None and not others:
        return Arrival(incoming, Dots.INCOMING, hides=False, is_news=True)  # As all rows of a first sync.
    is_same = False
    if entry is None or local is None:
        state, dots, is_news = incoming, Dots.INCOMING, True
    else:
        joined = join_into(local, incoming, merges)
        state, is_news, is_same = joined.state, not joined.is_local, joined.is_local and joined.is_incoming
        before = subset.share(entry.status, entry.subsets, local)
        if before is Share.NOTHING:
            # This pool's peers were told, by vectors, that they have all of this, without ever having got it.
            dots = Dots.INCOMING if joined.is_incoming else Dots.OWN
        elif joined.is_local:
            dots = Dots.LOCAL
        elif joined.is_incoming:
            dots = Dots.INCOMING
        else:
            comes_in = before is not Share.WHOLE and state.alive and subset.includes(state)
            # Those who have either version may have been told the fields of the filter only.
            dots = Dots.OWN if comes_in and subset.filter is not None else Dots.BOTH
    hides = _hides(entry, state, incoming, subset, others, is_leaving, is_news)
    status = _status(entry, state, hides)
    if entry is None or is_news or status != entry.status:
        for other in others:
            after = other.share(status, entry.subsets if entry is not None else 0, state)
            if after is not Share.NOTHING:
                dots = Dots.OWN  # The other pools' vectors will never speak of this pool's versions.
    return Arrival(state, dots, hides, is_news or entry is None, is_same)


def _hides(
    entry: Entry | None, state: RowState, incoming: RowState, subset: Subset, others: Sequence[Subset],
    is_leaving: bool, is_news: bool,
) -> bool:  # fmt: skip
    if not state.alive:
        return False
    is_hidden = is_leaving or (entry is not None and entry.status == EntryStatus.HIDDEN)
    if incoming.alive and not subset.includes(incoming):
        # A retraction: who has the row by another pool as well keeps it.
        if entry is None or is_hidden:
            return True
        return is_news and not any(one.includes(state) for one in (subset, *others))
    return is_hidden and not (incoming.alive and subset.includes(state))


def _status(entry: Entry | None, state: RowState, hides: bool) -> int:
    if not state.alive:
        return EntryStatus.DELETED
    if hides:
        return EntryStatus.HIDDEN
    return EntryStatus.PARKED if entry is not None and entry.status == EntryStatus.PARKED else EntryStatus.PRESENT
