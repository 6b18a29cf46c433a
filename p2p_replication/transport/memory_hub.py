"""Where ``MemoryHandler`` members of one process meet, and the faults that tests can give to the paths between them."""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from p2p_replication.transport.backoff import Backoff
from p2p_replication.transport.base import Connection, RemotePeer
from p2p_replication.transport.instances import is_other_start, replica_of
from p2p_replication.transport.memory_connection import MemoryConnection, Wire, connection_pair

HandOver = Callable[[Connection], Coroutine[Any, Any, None]]


@dataclass(eq=False)
class Member:
    """One handler in one topic."""

    topic: str
    remote: RemotePeer
    hand_over: HandOver
    #: A newer start of the same replica has come.
    superseded: bool = False
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def instance(self) -> str:
        return self.remote.instance


@dataclass(eq=False)
class _Link:
    members: tuple[Member, Member]
    wire: Wire
    backoff: Backoff
    ends: tuple[MemoryConnection, MemoryConnection] | None = None
    opened_at: float = 0.0
    retry: asyncio.TimerHandle | None = None


class MemoryHub:
    """Connects all members of a topic with each other, once.

    Members are named by their instance or by its replica id in all methods.

    Args:
        latency: seconds that each frame takes; may be changed at any time.
        retry_first: seconds until a lost connection is tried again; doubles up to ``retry_max``.
    """

    def __init__(self, *, latency: float = 0.0, retry_first: float = 0.05, retry_max: float = 1.0) -> None:
        self.latency = latency
        self._retry = (retry_first, retry_max)
        self._members: list[Member] = []
        self._links: dict[frozenset[Member], _Link] = {}
        self._groups: list[set[str]] = []
        self._numbers = itertools.count(1)

    # Faults

    def cut(self, one: str, other: str) -> None:
        """Tear the connection between two members; both sides see it, and it is tried again."""
        for link in self._links.values():
            if _named(link.members[0], link.members[1], one, other) and link.ends is not None:
                for end in link.ends:
                    end.end("the connection was cut")

    def partition(self, *groups: Iterable[str]) -> None:
        """Let nothing pass between members of different groups, without telling them: frames wait for ``heal``.

        Members that no group names reach everybody.
        """
        self._groups = [set(group) for group in groups]
        self._apply_partition()

    def heal(self) -> None:
        """End all partitions."""
        self._groups = []
        self._apply_partition()

    def drop_signaling(self, name: str) -> None:
        """Let a member be found under a new peer id, as after a lost socket; its open connections stay."""
        for member in self._members:
            if name in (member.instance, replica_of(member.instance)):
                member.remote = self._renamed(member.remote)
                self._meet_everybody(member)

    # Members

    def join(self, topic: str, remote: RemotePeer, hand_over: HandOver) -> Member:
        """Bring a member in; it is handed over a connection to each other member from now on."""
        member = Member(topic, self._renamed(remote), hand_over)
        for other in self._members:
            if other.topic == topic and is_other_start(other.instance, member.instance):
                other.superseded = True
                self._unlink(other, "a new start of the same replica has come")
        self._members.append(member)
        self._meet_everybody(member)
        return member

    async def leave(self, member: Member) -> None:
        """Take a member out and close its connections."""
        self._members.remove(member)
        for other in self._members:
            # Its successor has gone, so it was no earlier start: somebody else lived under the same id.
            if other.topic == member.topic and is_other_start(other.instance, member.instance):
                other.superseded = any(self._supersedes(m, other) for m in self._members)
                self._meet_everybody(other)
        links = self._unlink(member, "")
        ends = [
            end for link in links if link.ends for m, end in zip(link.members, link.ends, strict=True) if m is member
        ]
        await asyncio.gather(*(end.close("this side is leaving") for end in ends))
        tasks = list(member.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _supersedes(self, one: Member, other: Member) -> bool:
        later = self._members.index(one) > self._members.index(other)
        return later and one.topic == other.topic and is_other_start(one.instance, other.instance)

    def _renamed(self, remote: RemotePeer) -> RemotePeer:
        peer_id = f"memory-{next(self._numbers)}"
        return RemotePeer(peer_id=peer_id, instance=remote.instance, user=remote.user, name=remote.name)

    # Links

    def _meet_everybody(self, member: Member) -> None:
        for other in self._members:
            same = other is member or (other.instance == member.instance != "")
            if not same and other.topic == member.topic:
                self._link(member, other)

    def _link(self, one: Member, other: Member) -> None:
        if (one.superseded or other.superseded) and not is_other_start(one.instance, other.instance):
            return
        pair = frozenset((one, other))
        link = self._links.get(pair)
        if link is None:
            link = self._links[pair] = _Link((one, other), Wire(lambda: self.latency), Backoff(*self._retry))
        if link.ends is None and link.retry is None and not self._apart(one, other):
            self._open(link)

    def _open(self, link: _Link) -> None:
        one, other = link.members
        loop = asyncio.get_running_loop()
        link.wire = Wire(lambda: self.latency)
        link.opened_at = loop.time()
        ends = connection_pair(one.remote, other.remote, link.wire, lambda: self._end_lost(link))
        link.ends = ends
        for member, end in zip(link.members, ends, strict=True):
            task = loop.create_task(member.hand_over(end))
            member.tasks.add(task)
            task.add_done_callback(member.tasks.discard)

    def _end_lost(self, link: _Link) -> None:
        if link.ends is None or (any(end.is_open for end in link.ends) and self._apart(*link.members)):
            # the other end does not know yet; it learns it when the partition has healed
            return
        loop = asyncio.get_running_loop()
        ends, link.ends = link.ends, None
        for end in ends:
            end.end("the other side closed the connection")
        if self._links.get(frozenset(link.members)) is link:
            link.backoff.reset_if_good(loop.time() - link.opened_at)
            link.retry = loop.call_later(link.backoff.next_delay(), self._retry_now, link)

    def _retry_now(self, link: _Link) -> None:
        link.retry = None
        self._link(*link.members)

    def _unlink(self, member: Member, reason: str) -> list[_Link]:
        """Forget all links of ``member``; with a reason, end their connections at once."""
        links = [link for pair, link in self._links.items() if member in pair]
        for link in links:
            del self._links[frozenset(link.members)]
            if link.retry is not None:
                link.retry.cancel()
            if reason and link.ends is not None:
                for end in link.ends:
                    end.end(reason)
        return links

    def _apart(self, one: Member, other: Member) -> bool:
        groups = [
            {index for index, group in enumerate(self._groups) if group & {m.instance, replica_of(m.instance)}}
            for m in (one, other)
        ]
        return bool(groups[0] and groups[1] and not groups[0] & groups[1])

    def _apply_partition(self) -> None:
        for link in list(self._links.values()):
            if self._apart(*link.members):
                link.wire.passable.clear()
            else:
                link.wire.passable.set()
                if link.ends is None:
                    self._link(*link.members)
                elif not all(end.is_open for end in link.ends):
                    self._end_lost(link)


def _named(a: Member, b: Member, one: str, other: str) -> bool:
    names_a, names_b = ({m.instance, replica_of(m.instance)} for m in (a, b))
    return (one in names_a and other in names_b) or (one in names_b and other in names_a)


_hubs: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, MemoryHub] = weakref.WeakKeyDictionary()


def default_hub() -> MemoryHub:
    """Return the hub of the running event loop."""
    return _hubs.setdefault(asyncio.get_running_loop(), MemoryHub())


__all__ = ["Member", "MemoryHub", "default_hub"]
