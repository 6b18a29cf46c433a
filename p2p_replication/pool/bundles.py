"""What a pool's database thread does for one peer: batches of several models are read, and applied, together.

``parts`` are the pool's, by label. All of it happens in the database thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from p2p_replication.exceptions import ModifierFailed
from p2p_replication.pool.part import Part
from p2p_replication.protocol import effects as fx
from p2p_replication.protocol.changes import PushBatch, ReadBatch
from p2p_replication.protocol.messages import Changes
from p2p_replication.storage.applier import Applied
from p2p_replication.storage.bundles import apply_together
from p2p_replication.storage.changes import read_pulls, read_pushes


def read_for_pulls(parts: Mapping[str, Part], peer: str, wishes: Sequence[fx.PullWish]) -> list[ReadBatch]:
    """Read the batches that ``Session.pull_wishes`` asks for, or the first ones. Raises ModelFailed."""
    asked = [parts[wish.model] for wish in wishes]
    batches = read_pulls(asked[0].database, [part.pull_wish(wish) for part, wish in zip(asked, wishes, strict=True)])
    return [part.answer(peer, batch) for part, batch in zip(asked, batches, strict=False)]


def read_for_push(parts: Mapping[str, Part], peer: str, wishes: Mapping[str, int]) -> dict[str, PushBatch]:
    """Read the own changes that ``Session.push_wishes`` asks for. Raises ModelFailed."""
    asked = {label: parts[label] for label in wishes}
    database = next(iter(asked.values())).database
    batches = read_pushes(database, [part.push_wish(wishes[label]) for label, part in asked.items()])
    return {label: part.push(peer, batch) for (label, part), batch in zip(asked.items(), batches, strict=True)}


def apply_bundle(parts: Mapping[str, Part], peer: str, batches: Sequence[Changes]) -> list[Applied] | None:
    """Apply a peer's batches in one transaction; None if each of them has to be applied alone, in slices.

    That is so with a batch that more are to follow, as in a first sync. Raises RemoteProtocolError.
    """
    if any(changes.claim is None for changes in batches):
        return None
    asked = [parts[changes.model] for changes in batches]
    try:
        deliveries = [part.delivery(peer, changes) for part, changes in zip(asked, batches, strict=True)]
    except ModifierFailed:
        return None
    return apply_together(asked[0].database, peer, deliveries)
