"""Pools, what is declared in them, and what is known of their peers. Fields and queries, no protocol."""

from __future__ import annotations

import datetime
from typing import Any

from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from p2p_replication.conf import app_settings
from p2p_replication.models.doorbell import ring_doorbell
from p2p_replication.models.own_tables import PrimaryQuerySet, ReplicaState


class PoolQuerySet(PrimaryQuerySet["Pool"]):
    def active(self) -> PoolQuerySet:
        return self.filter(cancelled_at=None)


class Pool(ReplicaState):
    """A set of replicas that share a topic: ``(account, topic)``."""

    account = models.CharField(_("account"), max_length=100, default="default")
    topic = models.CharField(_("topic"), max_length=99)
    connection_handler = models.CharField(_("connection handler"), max_length=100, default="default")
    #: Dotted name of a callable that refuses peers.
    is_peer_valid = models.CharField(max_length=300, blank=True, default="")
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    cancelled_at = models.DateTimeField(_("cancelled"), null=True, blank=True)
    #: Raised to make the worker start the pool anew.
    generation = models.IntegerField(default=0)
    lease_holder = models.CharField(max_length=64, blank=True, default="")
    lease_until = models.DateTimeField(null=True, blank=True)
    #: What the worker last said of its connection to the signaling server.
    signaling_state = models.CharField(_("signaling"), max_length=200, blank=True, default="")

    objects = PoolQuerySet.as_manager()  # type: ignore[misc, assignment]

    class Meta:
        verbose_name = _("pool")
        verbose_name_plural = _("pools")
        constraints = [models.UniqueConstraint(fields=["account", "topic"], name="p2p_pool_key")]

    def __str__(self) -> str:
        return self.topic if self.account == "default" else f"{self.account}/{self.topic}"

    @property
    def has_live_worker(self) -> bool:
        if self.lease_until is None:
            return False
        # Nobody takes a lease for so long: it is from a clock that was ahead, and its worker is dead.
        left = (self.lease_until - timezone.now()).total_seconds()
        return bool(0 < left <= 2 * app_settings.LEASE_TTL)

    def cancel(self) -> None:
        """End the part of all models; the worker leaves the pool. Rows stay where they are.

        A pool that the code declares (``pools`` of a ``Replication`` class) comes back with the worker's next start.
        """
        with transaction.atomic():
            self.declarations.all().delete()
            self.cancelled_at = self.cancelled_at or timezone.now()
            self.save(update_fields=["cancelled_at"])
        ring_doorbell()

    def restart(self) -> None:
        """Let the worker close the pool's connections and open them anew."""
        Pool.objects.filter(pk=self.pk).update(generation=models.F("generation") + 1)
        ring_doorbell()


def filter_text_of(where: Any) -> str:
    """Return the canonical text of the filter in ``Declaration.where``, empty if there is none."""
    return where if isinstance(where, str) else ""


class Declaration(ReplicaState):
    """A model that takes part in a pool, with its options and this replica's version vector in it."""

    pool = models.ForeignKey(Pool, on_delete=models.CASCADE, related_name="declarations")
    #: ``app_label.ModelName``
    model = models.CharField(max_length=200)
    #: The filter's canonical text (``RowFilter.text``); ``{}`` if there is none.
    where = models.JSONField(default=dict, blank=True)
    #: Options as in RxDB; null switches the direction off.
    pull = models.JSONField(null=True, default=dict)
    push = models.JSONField(null=True, default=dict)
    #: ``"call"`` or the ``p2p.py`` module that declares it.
    source = models.CharField(max_length=200, default="call")
    #: The model without whose declaration this one would not be there; empty if it was declared on its own.
    comes_with = models.CharField(max_length=200, blank=True, default="")
    #: Digest of the canonical filter that ``vector`` belongs to, empty if there is none.
    filter_digest = models.CharField(max_length=64, blank=True, default="")
    #: JSON ``{origin id: counter}``: what was taken from peers. Own counters are in ``Stream.own_vector``.
    vector = models.JSONField(default=dict)
    #: Since when there are rows from pools with another filter, whose versions this one's vector may never speak of.
    takes_over_since = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    #: How often modifiers have refused a row, and the last one: ``{"key": str, "peer": replica id, "at": ISO time}``.
    refused_in = models.BigIntegerField(default=0)
    refused_out = models.BigIntegerField(default=0)
    last_refused_in = models.JSONField(default=dict)
    last_refused_out = models.JSONField(default=dict)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["pool", "model"], name="p2p_declaration_key")]

    def __str__(self) -> str:
        return f"{self.model} in {self.pool}"

    @property
    def filter_text(self) -> str:
        """The filter's canonical text, empty if there is none."""
        return filter_text_of(self.where)

    @property
    def direction(self) -> str:
        """A word for people on which way rows go: empty if both ways."""
        return "push only" if self.pull is None else "pull only" if self.push is None else ""

    def refusals(self) -> list[str]:
        """Say for people what modifiers have refused: how often, and the last row."""
        found = []
        for name, count, last in (
            ("pull.modifier", self.refused_in, self.last_refused_in),
            ("push.modifier", self.refused_out, self.last_refused_out),
        ):
            if count:
                peer, way = str(last.get("peer", ""))[:8], "of" if name == "pull.modifier" else "for"
                at = str(last.get("at", "")).replace("T", " ")[:16]
                found.append(f"{name} has refused {count} rows, the last one {last.get('key')} {way} {peer}, {at} UTC")
        return found


class PullCursor(ReplicaState):
    """How far this replica has read a peer's ledger: moved in the applying transaction."""

    declaration = models.ForeignKey(Declaration, on_delete=models.CASCADE, related_name="cursors")
    replica_id = models.CharField(max_length=32)
    #: The sender's start that ``sequence`` belongs to.
    start = models.CharField(max_length=16)
    sequence = models.BigIntegerField(default=0)
    #: Of a pull that has not reached its end, the last sequence number that the sender had given when its last batch
    #: was read; else 0. It goes on from here only with a sender that has all of that history.
    snapshot = models.BigIntegerField(default=0)
    #: Since when such a pull can't come to its end any more, as its sender has another start by now.
    broken_since = models.DateTimeField(null=True)
    #: Rows were taken from a pull that has not reached its end: the vector does not speak of them yet.
    unfinished_since = models.DateTimeField(null=True)
    #: The sender has given all that it had, up to here; else a modifier of its may have left something out.
    whole = models.BooleanField(default=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["declaration", "replica_id"], name="p2p_cursor_key")]

    def __str__(self) -> str:
        return f"{self.replica_id}: {self.start}/{self.sequence}"


class PeerState(models.TextChoices):
    CONNECTING = "connecting", _("connecting")
    CONNECTED = "connected", _("connected")
    GONE = "gone", _("gone")
    REFUSED = "refused", _("refused")


class PeerQuerySet(PrimaryQuerySet["Peer"]):
    def connected(self) -> PeerQuerySet:
        """Peers with an open link, as far as a live worker says so."""
        return self.filter(state=PeerState.CONNECTED, pool__lease_until__gt=timezone.now())


class Peer(ReplicaState):
    """Another replica of the pool, as the worker last saw it."""

    pool = models.ForeignKey(Pool, on_delete=models.CASCADE, related_name="peers")
    replica_id = models.CharField(_("replica"), max_length=32)
    #: Ed25519, hex; a replica that comes with another key later is refused.
    public_key = models.CharField(max_length=64, blank=True, default="")
    name = models.CharField(_("name"), max_length=200, blank=True, default="")
    user = models.CharField(_("user"), max_length=200, blank=True, default="")
    state = models.CharField(_("state"), max_length=20, choices=PeerState.choices, default=PeerState.CONNECTING)
    connected_since = models.DateTimeField(_("connected since"), null=True, blank=True)
    last_seen = models.DateTimeField(_("last seen"), null=True, blank=True)
    rows_in = models.BigIntegerField(_("rows in"), default=0)
    rows_out = models.BigIntegerField(_("rows out"), default=0)
    bytes_in = models.BigIntegerField(_("bytes in"), default=0)
    bytes_out = models.BigIntegerField(_("bytes out"), default=0)
    #: Rows the peer has announced and we have not applied.
    rows_behind = models.BigIntegerField(_("rows behind"), default=0)
    in_sync = models.BooleanField(_("in sync"), default=False)
    last_error = models.CharField(_("last error"), max_length=500, blank=True, default="")

    objects = PeerQuerySet.as_manager()  # type: ignore[misc, assignment]

    class Meta:
        verbose_name = _("peer")
        verbose_name_plural = _("peers")
        constraints = [models.UniqueConstraint(fields=["pool", "replica_id"], name="p2p_peer_key")]

    def __str__(self) -> str:
        return self.name or self.replica_id

    @property
    def is_connected(self) -> bool:
        """Connected is shown only while the worker's lease is fresh (DESIGN 7)."""
        return self.state == PeerState.CONNECTED and self.pool.has_live_worker


class PeerProgress(ReplicaState):
    """What one peer has acknowledged of one model, and what it has that we have not."""

    peer = models.ForeignKey(Peer, on_delete=models.CASCADE, related_name="progress")
    declaration = models.ForeignKey(Declaration, on_delete=models.CASCADE, related_name="progress")
    #: Own counters up to this one are acknowledged by the peer.
    acknowledged = models.BigIntegerField(default=0)
    #: JSON ``{origin id: counter}``: all that the peer has committed, by its own last word.
    confirmed = models.JSONField(default=dict)
    rows_behind = models.BigIntegerField(default=0)
    #: Everything the peer announced is applied here.
    complete = models.BooleanField(default=False)
    #: Whether this replica gives the peer rows: else there is nothing that it could acknowledge.
    gives = models.BooleanField(default=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["peer", "declaration"], name="p2p_progress_key")]

    def __str__(self) -> str:
        return f"{self.peer}: {self.declaration}"


class PoolError(ReplicaState):
    """Something that went wrong in a pool, for people to read."""

    pool = models.ForeignKey(Pool, on_delete=models.CASCADE, related_name="errors")
    replica_id = models.CharField(max_length=32, blank=True, default="")
    at = models.DateTimeField(auto_now_add=True)
    #: How often it was seen since ``at``.
    count = models.IntegerField(default=1)
    text = models.CharField(max_length=1000)

    class Meta:
        verbose_name = _("error")
        verbose_name_plural = _("errors")
        ordering = ["-at"]

    def __str__(self) -> str:
        return self.text

    @classmethod
    def prune(cls, days: int) -> None:
        cls.objects.filter(at__lt=timezone.now() - datetime.timedelta(days=days)).delete()
