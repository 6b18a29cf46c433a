"""Replicate Django model rows between databases, peer to peer, over WebRTC data channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from p2p_replication.models.handle import async_p2p, sync_p2p
    from p2p_replication.registry import ModelReplication, register
    from p2p_replication.storage.local_writes import local_writes

__version__ = "0.1.0.dev0"
__all__ = ["ModelReplication", "__version__", "async_p2p", "local_writes", "register", "sync_p2p"]


def __getattr__(name: str) -> Any:
    # Models can't be imported before Django is set up, and this package is imported before that.
    if name in ("sync_p2p", "async_p2p"):
        from p2p_replication.models import handle

        return getattr(handle, name)
    if name in ("register", "ModelReplication"):
        from p2p_replication import registry

        return getattr(registry, name)
    if name == "local_writes":
        from p2p_replication.storage.local_writes import local_writes

        return local_writes
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
