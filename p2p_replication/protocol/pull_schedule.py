"""Which peer is asked, and when: one peer at a time in a pool, so that a change crosses to this replica about once.

A pull at every announcement would bring 14 to 20 copies of a change in a pool of 25; waiting a short grace, and
asking one peer at a time, brings 1.00 to 1.05 (DESIGN 4). That peer is asked for all the models it may have news of:
what was written to several of them in one transaction comes together.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

#: A relayed announcement waits so long for the origin's own push, in seconds.
GRACE = 0.15


class Pull(NamedTuple):
    """A peer to ask for these models, in this order; ``initial`` tells which of them are asked for in any case."""

    peer: Hashable
    models: dict[str, bool]


@dataclass
class _Wish:
    peer: Hashable
    model: str
    order: tuple[int, int]
    due: float
    initial: bool


class PullSchedule:
    """The wishes to pull, by peer and model; parents' models (lower rank) first."""

    def __init__(self) -> None:
        self._wishes: dict[tuple[Hashable, str], _Wish] = {}
        self._active: set[tuple[Hashable, str]] = set()
        self._count = 0

    def want(self, peer: Hashable, model: str, rank: int, now: float, *, initial: bool, direct: bool) -> None:
        """Note that a peer may have something we lack. ``direct``: it is the origin itself."""
        self._count += 1
        known = self._wishes.get((peer, model))
        due = now if initial or direct else now + GRACE
        if known is not None:
            known.due, known.initial = min(known.due, due), known.initial or initial
        else:
            self._wishes[peer, model] = _Wish(peer, model, (rank, self._count), due, initial)

    def next(self, now: float) -> Pull | None:
        """Return what to pull now, if nothing is being pulled; it counts as being pulled from here."""
        if self._active:
            return None
        due = [wish for wish in self._wishes.values() if wish.due <= now]
        if not due:
            return None
        peer = min(due, key=lambda wish: (not wish.initial, wish.order)).peer
        # What is not due yet goes along: it may be of one transaction with what is.
        wishes = sorted((wish for wish in self._wishes.values() if wish.peer == peer), key=lambda wish: wish.order)
        for wish in wishes:
            self._active.add((peer, wish.model))
            del self._wishes[peer, wish.model]
        return Pull(peer, {wish.model: wish.initial for wish in wishes})

    def done(self, peer: Hashable, model: str) -> None:
        """The pull of this model has ended (or was not needed)."""
        self._active.discard((peer, model))

    def gone(self, peer: Hashable) -> None:
        """The peer has left: forget its wishes and its pulls."""
        self._wishes = {key: wish for key, wish in self._wishes.items() if wish.peer != peer}
        self._active = {key for key in self._active if key[0] != peer}

    def next_due(self) -> float | None:
        """Return when ``next`` may have something, None if nothing is waiting or something is being pulled."""
        if self._active or not self._wishes:
            return None
        return min(wish.due for wish in self._wishes.values())
