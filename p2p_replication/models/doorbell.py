"""The doorbell: tells workers at once that pools have changed, where a shared channel layer lets them hear it."""

from __future__ import annotations

from asgiref.sync import async_to_sync
from django.db import transaction

DOORBELL_CHANNEL = "p2p-sync"


def ring_doorbell() -> None:
    """Wake workers that listen on a shared channel layer, after the commit. The others see the commit itself."""

    def ring() -> None:
        from channels.layers import InMemoryChannelLayer, get_channel_layer

        layer = get_channel_layer()
        if layer is None or isinstance(layer, InMemoryChannelLayer):
            return
        try:
            async_to_sync(layer.send)(DOORBELL_CHANNEL, {"type": "pools.changed"})
        except Exception:
            # A full or unreachable layer costs some seconds at most: workers also look at the pools by themselves.
            return

    transaction.on_commit(ring, robust=True)
