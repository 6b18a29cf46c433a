"""Signaling: device tokens and who is in which room."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from p2p_replication.models.own_tables import PrimaryManager, ReplicaState


class DeviceToken(models.Model):
    """A secret that lets a device join as its user. Only a hash of it is stored."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(_("device"), max_length=200)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True)

    objects = PrimaryManager()

    class Meta:
        verbose_name = _("device token")
        verbose_name_plural = _("device tokens")

    def __str__(self) -> str:
        return self.name


class RoomMember(ReplicaState):
    """Presence: a connected signaling client in a room."""

    #: Hash of the room key.
    room = models.CharField(max_length=64, db_index=True)
    peer_id = models.CharField(max_length=99)
    channel_name = models.CharField(max_length=200)
    #: ``"<replica id>:<start>"`` as the client says; empty for clients that say none.
    instance = models.CharField(max_length=99, blank=True, default="")
    name = models.CharField(max_length=200, blank=True, default="")
    user = models.CharField(max_length=200, blank=True, default="")
    #: The server process that holds the socket.
    server = models.CharField(max_length=64)
    joined_at = models.DateTimeField(auto_now_add=True)
    last_seen = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["room", "peer_id"], name="p2p_room_member_key")]

    def __str__(self) -> str:
        return f"{self.peer_id} in {self.room}"
