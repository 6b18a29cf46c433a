"""Comparing a pool's content with its connected peers, model by model, and naming rows that differ."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from p2p_replication.pool.part import Part, ranks
from p2p_replication.protocol.content_digest import MAX_ASKED
from p2p_replication.protocol.conversation import shown
from p2p_replication.protocol.messages import Digest
from p2p_replication.protocol.verification import Comparison, Outcome, compare, differences, refusal

if TYPE_CHECKING:
    from p2p_replication.pool.live_pool import LivePool
    from p2p_replication.pool.replicator import Replicator

logger = logging.getLogger("p2p_replication.pool")

#: Seconds before each new try, while changes are under way.
PAUSES = (0.3, 0.7, 1.5, 3.0)
#: Keys that are named of each kind.
NAMED = 10


@dataclass(frozen=True)
class Verified:
    """How one model stands between this replica and one peer. Keys are texts, as the ledger has them."""

    replica: str
    name: str
    model: str
    #: The value of an ``Outcome``.
    outcome: str
    text: str = ""
    only_here: tuple[str, ...] = ()
    only_there: tuple[str, ...] = ()
    different: tuple[str, ...] = ()
    #: More rows differ than are named.
    more: bool = False


async def verify_pool(pool: LivePool, timeout: float) -> list[Verified]:
    """Compare all models with all connected peers within ``timeout`` seconds.

    All are asked once before any is asked again: a model that never comes to rest takes no time from the others.
    """
    deadline = time.monotonic() + timeout
    peers = [replicator for replicator in pool.replicators if replicator.is_open]
    order = ranks(pool.parts)
    labels = sorted(pool.parts, key=lambda label: (order[label], label))
    compared: dict[tuple[str, Replicator], Comparison] = {}
    left = {label: list(peers) for label in labels}
    for pause in (0.0, *PAUSES):
        if not any(left.values()) or time.monotonic() + pause > deadline:
            break
        await asyncio.sleep(pause)
        for label in labels:
            answers = await _compare(pool, label, left[label], deadline)
            # A try that fails takes nothing from what an earlier one has found.
            compared |= {
                (label, peer): answer
                for peer, answer in answers.items()
                if answer.outcome is not Outcome.FAILED or (label, peer) not in compared
            }
            left[label] = [peer for peer in peers if compared[label, peer].outcome is Outcome.UNDER_WAY]
    found = [await _described(pool, label, peer, answer, deadline) for (label, peer), answer in compared.items()]
    return sorted(found, key=lambda verified: (verified.name, verified.replica))


async def _compare(
    pool: LivePool, label: str, peers: Sequence[Replicator], deadline: float
) -> dict[Replicator, Comparison]:
    """Compare a model with these peers once."""
    reasons = {peer: peer.session.why_no_digest(label) if peer.is_open else "" for peer in peers}
    compared = {peer: Comparison(Outcome.LEFT_OUT, why) for peer, why in reasons.items() if why}
    asked = [peer for peer in peers if peer not in compared]
    if asked:
        ours, *theirs = await _ask(pool, label, asked, (), deadline)
        compared |= {peer: compare(ours, answer) for peer, answer in zip(asked, theirs, strict=True)}
    return compared


async def _ask(
    pool: LivePool, label: str, peers: Sequence[Replicator], buckets: Sequence[int], deadline: float
) -> list[Digest]:
    """Return our own digest and the peers', read at about the same time."""
    left = max(deadline - time.monotonic(), 0.1)
    asked = [peer.digests.ask(label, buckets, left) for peer in peers]
    return list(await asyncio.gather(_own(pool, label, buckets, left), *asked))


async def _own(pool: LivePool, label: str, buckets: Sequence[int], timeout: float) -> Digest:
    try:
        async with asyncio.timeout(timeout):
            return await pool.thread.read(pool.parts[label].digest, buckets)
    except TimeoutError:
        return refusal("reading the table here took too long: allow more time with --timeout")
    except Exception as error:
        logger.exception("reading digests of %s failed", label)
        return refusal(f"reading failed here: {type(error).__name__}: {error}")


async def _described(pool: LivePool, label: str, peer: Replicator, result: Comparison, deadline: float) -> Verified:
    """Say how it stands; where rows differ, name some."""
    name = peer.session.peer.name if peer.session.peer is not None else ""
    found = Verified(peer.peer_id, name, label, result.outcome.value, result.text)
    if not result.buckets:
        return found
    buckets = result.buckets[:MAX_ASKED]
    for pause in (0.0, *PAUSES):
        await asyncio.sleep(min(pause, max(deadline - time.monotonic(), 0)))
        ours, theirs = await _ask(pool, label, [peer], buckets, deadline)
        rows = differences(ours, theirs)
        if rows is not None:
            kinds = (rows.only_here, rows.only_there, rows.different)
            here, there, both = (tuple(_text(pool.parts[label], key) for key in keys[:NAMED]) for keys in kinds)
            more = len(buckets) < len(result.buckets) or not rows.complete or any(len(keys) > NAMED for keys in kinds)
            if not more and not any(kinds):
                return replace(found, outcome=Outcome.UNDER_WAY.value, text="they were different, and are no more")
            return replace(found, only_here=here, only_there=there, different=both, more=more)
        if time.monotonic() >= deadline:
            break
    return replace(found, text="which rows could not be found out, as changes came in between", more=True)


def _text(part: Part, key: Any) -> str:
    try:
        return part.stream.table.key_from_wire(key)
    except ValueError:
        return shown(str(key))
