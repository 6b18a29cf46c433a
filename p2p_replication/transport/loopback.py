"""Makes a host that has nothing but its loopback interface (a laptop in flight mode, a CI box) a normal host.

ICE never offers loopback addresses, so two processes on such a host would not find a way to each other.
"""

from __future__ import annotations

from p2p_replication.transport.aiortc_internals import HostAddresses, wrap_host_addresses

_enabled = False


def with_loopback_fallback(listing: HostAddresses) -> HostAddresses:
    """Return a function that answers as ``listing`` does, and with the loopback address where that finds nothing."""

    def host_addresses(use_ipv4: bool, use_ipv6: bool) -> list[str]:
        return listing(use_ipv4, use_ipv6) or (["127.0.0.1"] if use_ipv4 else ["::1"])

    return host_addresses


def enable_loopback_hosts() -> None:
    """Let ICE use the loopback address where the host has no other, in this process. Repeating it is harmless.

    The addresses are listed anew for every connection, so a network that comes up later is used.
    """
    global _enabled
    if not _enabled:
        wrap_host_addresses(with_loopback_fallback)
        _enabled = True


__all__ = ["enable_loopback_hosts", "with_loopback_fallback"]
