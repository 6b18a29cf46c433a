"""Who is in which room, as rows that all server processes share.

Everything here is synchronous and meant for the database thread. A process's own memory is the truth about its sockets,
the rows are its mirror: what could not be written (``database is locked``) is put right by the next ``reconcile``.
Ages are measured by the database's clock, so that servers whose clocks differ don't sweep each other's members.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from django.db import router, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from p2p_replication.models.signaling import RoomMember
from p2p_replication.signaling.messages import PeerInfo
from p2p_replication.signaling.refusals import Code, Refusal
from p2p_replication.signaling.server_process import is_dead


@dataclass(frozen=True)
class Member:
    """One socket in one room."""

    room: str
    peer_id: str
    channel_name: str
    server: str
    instance: str = ""
    name: str = ""
    user: str = ""

    @property
    def info(self) -> PeerInfo:
        return PeerInfo(self.peer_id, self.instance, self.name, self.user)


_FIELDS = ("room", "peer_id", "channel_name", "server", "instance", "name", "user")


def join(member: Member, peers_per_room: int, stale_after: float) -> None:
    """Enter a room. Raises Refusal if it is full."""
    with transaction.atomic(using=router.db_for_write(RoomMember)):
        # The write comes first: on SQLite a transaction that begins by reading may not turn into a writing one.
        _write([member])
        if _fresh(stale_after).filter(room=member.room).count() > peers_per_room:
            raise Refusal(Code.LIMIT, f"The room has {peers_per_room} peers already, which is its limit.")


def leave(server: str, peer_id: str, room: str | None = None) -> None:
    """Leave one room, or all of them."""
    rows = RoomMember.objects.filter(server=server, peer_id=peer_id)
    (rows if room is None else rows.filter(room=room)).delete()


def members(rooms: Collection[str], stale_after: float) -> dict[str, list[Member]]:
    """The living members of these rooms, in the order in which they joined."""
    found: dict[str, list[Member]] = {room: [] for room in rooms}
    alive: dict[str, bool] = {}
    rows = _fresh(stale_after).filter(room__in=rooms).order_by("joined_at", "pk")
    for values in rows.values_list(*_FIELDS):
        member = Member(*values)
        if member.server not in alive:
            alive[member.server] = not is_dead(member.server)
        if alive[member.server]:
            found[member.room].append(member)
    return found


def sweep(stale_after: float) -> set[str]:
    """Remove members whose server stopped beating or is known to be dead. Returns the rooms that changed."""
    servers = RoomMember.objects.values_list("server", flat=True).distinct()
    gone = [server for server in servers if is_dead(server)]
    rows = RoomMember.objects.filter(server__in=gone) | _stale(stale_after)
    rooms = set(rows.values_list("room", flat=True))
    if rooms:
        rows.delete()
    return rooms


def reconcile(server: str, local: Iterable[Member], *, beat: bool) -> set[str]:
    """Make this server's rows what its sockets are; with ``beat``, also say that they live.

    Returns:
        The rooms that changed.
    """
    wanted = {(member.room, member.peer_id): member for member in local}
    mine = RoomMember.objects.filter(server=server)
    present = {(row[1], row[2]): row[0] for row in mine.values_list("pk", "room", "peer_id")}
    ghosts = [key for key in present if key not in wanted]
    missing = [key for key in wanted if key not in present]
    if ghosts:
        RoomMember.objects.filter(pk__in=[present[key] for key in ghosts]).delete()
    if missing:
        _write([wanted[key] for key in missing])
    if beat:
        mine.update(last_seen=Now())
    return {room for room, _ in [*ghosts, *missing]}


def _write(new: Iterable[Member]) -> None:
    """One upsert: no read before the write, and a row that is there already keeps its ``joined_at``."""
    RoomMember.objects.bulk_create(
        [
            RoomMember(
                room=member.room,
                peer_id=member.peer_id,
                channel_name=member.channel_name,
                server=member.server,
                instance=member.instance,
                name=member.name,
                user=member.user,
                last_seen=Now(),
            )
            for member in new
        ],
        update_conflicts=True,
        unique_fields=["room", "peer_id"],
        update_fields=["channel_name", "server", "instance", "name", "user", "last_seen"],
    )


def _stale(stale_after: float) -> QuerySet[RoomMember]:
    return RoomMember.objects.filter(last_seen__lt=Now() - datetime.timedelta(seconds=stale_after))


def _fresh(stale_after: float) -> QuerySet[RoomMember]:
    return RoomMember.objects.filter(last_seen__gte=Now() - datetime.timedelta(seconds=stale_after))
