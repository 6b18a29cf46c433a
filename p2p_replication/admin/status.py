"""What is said of pools and peers, in one word and a class for its colour.

Everything the worker wrote holds only while its lease is fresh: a worker that was killed says nothing any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils import formats
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from p2p_replication.models.pool import Peer, PeerProgress, PeerState, Pool


@dataclass(frozen=True)
class Status:
    #: ``good``, ``busy``, ``bad`` or ``off``: the colour.
    kind: str
    text: str | Promise

    def as_pill(self) -> SafeString:
        return format_html('<span class="p2p-pill p2p-{}">{}</span>', self.kind, self.text)


def pool_status(pool: Pool) -> Status:
    if pool.cancelled_at is not None:
        return Status("off", _("cancelled"))
    if pool.has_live_worker:
        return Status("good", _("running"))
    return Status("bad", _("no worker"))


def peer_status(peer: Peer, live: bool) -> Status:
    """Say whether a peer is connected; ``live``: a live worker serves the pool."""
    match PeerState(peer.state):
        case PeerState.CONNECTED if live:
            return Status("good", _("connected"))
        case PeerState.CONNECTING if live:
            return Status("busy", _("connecting"))
        case PeerState.REFUSED:
            return Status("bad", _("refused"))
        case _:
            return Status("off", _("gone"))


def sync_status(peer: Peer, live: bool, progress: Sequence[PeerProgress], last_own: Mapping[int, int]) -> Status:
    """Say whether both sides have all of each other's changes.

    Args:
        progress: the peer's progress in each declaration.
        last_own: the last local change of each declaration.
    """
    if peer.state != PeerState.CONNECTED or not live:
        return Status("off", "–")
    if peer.rows_behind:
        text = ngettext_lazy("{count} row behind", "{count} rows behind", peer.rows_behind)
        return Status("busy", format_lazy(text, count=number(peer.rows_behind)))
    acknowledged = {item.declaration_id: item.acknowledged for item in progress}
    if not peer.in_sync or acknowledged.keys() < last_own.keys():
        return Status("busy", _("catching up"))
    given = {item.declaration_id for item in progress if item.gives}
    if any(acknowledged[declaration] < last for declaration, last in last_own.items() if declaration in given):
        return Status("busy", _("has not confirmed our last changes"))
    return Status("good", _("in sync"))


def number(value: Any) -> str:
    """A count as people write it, in the page's language."""
    return formats.number_format(value, force_grouping=True)
