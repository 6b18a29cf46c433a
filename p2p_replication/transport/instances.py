"""Which members of a room are which remote instance. An instance is ``"<replica id>:<start>"``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from p2p_replication.transport.base import RemotePeer


def key_of(member: RemotePeer) -> str:
    """Return what the link to a member goes by: its instance, or its peer id if the server tells no instance."""
    return member.instance or f"peer:{member.peer_id}"


def replica_of(instance: str) -> str:
    """Return the replica id of an instance, empty if there is none."""
    return instance.rpartition(":")[0]


def is_other_start(one: str, other: str) -> bool:
    """Tell whether two instances are different starts of the same replica."""
    return one != other and replica_of(one) == replica_of(other) != ""


def choose_peer_ids(
    members: Iterable[RemotePeer], *, known_ids: Collection[str], linked_ids: Mapping[str, str]
) -> dict[str, RemotePeer]:
    """Return one member per key, by key.

    An instance is listed twice while the server has not noticed that its earlier socket is dead. Then the id that was
    not known before is the living one; without a new one, the id that its link uses stays; else the last listed counts.

    Args:
        members: the room without ourselves, in the server's order.
        known_ids: the peer ids that were in the room before.
        linked_ids: the peer id that each existing link uses, by key.
    """
    listed: dict[str, list[RemotePeer]] = {}
    for member in members:
        listed.setdefault(key_of(member), []).append(member)
    chosen = {}
    for key, candidates in listed.items():
        new = [member for member in candidates if member.peer_id not in known_ids]
        linked = [member for member in candidates if member.peer_id == linked_ids.get(key)]
        chosen[key] = (new or linked or candidates)[-1]
    return chosen


__all__ = ["choose_peer_ids", "is_other_start", "key_of", "replica_of"]
