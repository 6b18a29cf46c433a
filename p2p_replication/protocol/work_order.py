"""In what order a connection's work is done: what is live goes before a long pull."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from p2p_replication.protocol import effects as fx

Work = fx.PeerIntroduced | fx.ReadChanges | fx.ReadPush | fx.ApplyChanges


def put_in_order(waiting: deque[Work], work: Work, families: Mapping[str, str]) -> None:
    """Add work to what waits: a push, or the reading of one, passes what belongs to pulls of other families of models.

    A first sync of one model must not keep others waiting that are written to now.
    """
    place = len(waiting)
    while place and _may_pass(work, waiting[place - 1], families):
        place -= 1
    waiting.insert(place, work)


def _is_push(work: Work) -> bool:
    return isinstance(work, fx.ApplyChanges) and all(changes.round == 0 for changes in work.batches)


def _may_pass(work: Work, other: Work, families: Mapping[str, str]) -> bool:
    if not isinstance(work, fx.ReadPush) and not _is_push(work):
        return False
    if isinstance(other, fx.ReadChanges):
        return True
    if not isinstance(other, fx.ApplyChanges) or _is_push(other):
        return False
    # A push of a model counts only after what was sent of it before, or has to be pulled once more; and children would
    # be parked until their parents come.
    return isinstance(work, fx.ReadPush) or not _families_of(work, families) & _families_of(other, families)


def _families_of(work: Work, families: Mapping[str, str]) -> set[str]:
    if not isinstance(work, fx.ApplyChanges):
        return set()
    return {families.get(changes.model, changes.model) for changes in work.batches}
