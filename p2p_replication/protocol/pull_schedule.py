"""Which peer is asked, and when: one outstanding pull in a pool, so that a change crosses to this replica about once.

A pull at every announcement would bring 14 to 20 copies of a change in a pool of 25; waiting a short grace, and
asking one peer at a time, brings 1.00 to 1.05 (DESIGN 4).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

#: A relayed announcement waits so long for the origin's own push, in seconds.
GRACE = 0.15


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
        self._active: tuple[Hashable, str] | None = None
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

    def next(self, now: float) -> tuple[Hashable, str, bool] | None:
        """Return ``(peer, model, initial)`` to pull now, if none is under way; it counts as under way from here."""
        if self._active is not None:
            return None
        due = [wish for wish in self._wishes.values() if wish.due <= now]
        if not due:
            return None
        wish = min(due, key=lambda w: (not w.initial, w.order))
        self._active = (wish.peer, wish.model)
        del self._wishes[wish.peer, wish.model]
        return wish.peer, wish.model, wish.initial

    def done(self, peer: Hashable, model: str) -> None:
        """The pull has ended (or was not needed)."""
        if self._active == (peer, model):
            self._active = None

    def gone(self, peer: Hashable) -> None:
        """The peer has left: forget its wishes and its pull."""
        self._wishes = {key: wish for key, wish in self._wishes.items() if wish.peer != peer}
        if self._active is not None and self._active[0] == peer:
            self._active = None

    def next_due(self) -> float | None:
        """Return when ``next`` may have something, None if nothing is waiting or a pull is under way."""
        if self._active is not None or not self._wishes:
            return None
        return min(wish.due for wish in self._wishes.values())
