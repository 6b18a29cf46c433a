"""Everything that this package uses of aiortc and aioice beyond their public interface.

``tests/transport/test_aiortc_internals.py`` fails if a release of theirs changes any of it.
"""

from __future__ import annotations

from collections.abc import Callable

import aioice.ice
import aioice.turn
from aiortc import RTCDataChannel, RTCSctpTransport

HostAddresses = Callable[[bool, bool], list[str]]

#: What a receiver offers at the start of an association, in bytes.
INITIAL_RECEIVE_WINDOW = 1024 * 1024


def unacknowledged_bytes(channel: RTCDataChannel) -> int:
    """Return how many bytes given to ``channel.send()`` the other side has not acknowledged yet.

    ``bufferedAmount`` alone leaves out the message that is being sent and all that is in flight.
    """
    sctp = channel.transport
    in_sctp = sum(chunk._book_size for chunk in sctp._outbound_queue)
    in_flight = sum(chunk._book_size for chunk in sctp._sent_queue if not chunk._acked)
    return int(channel.bufferedAmount) + in_sctp + in_flight


def unassembled_bytes(sctp: RTCSctpTransport) -> int:
    """Return how many received bytes wait for the rest of their message.

    aiortc announces a receive window but does not enforce it: a peer that never ends a message fills the memory.
    """
    return INITIAL_RECEIVE_WINDOW - int(sctp._advertised_rwnd)


def wrap_host_addresses(wrap: Callable[[HostAddresses], HostAddresses]) -> None:
    """Replace the function that lists this host's addresses for ICE by ``wrap(function)``, for the whole process."""
    original = aioice.ice.get_host_addresses

    def listing(use_ipv4: bool, use_ipv6: bool) -> list[str]:
        return wrapped(use_ipv4, use_ipv6)

    wrapped = wrap(lambda use_ipv4, use_ipv6: original(use_ipv4=use_ipv4, use_ipv6=use_ipv6))
    aioice.ice.get_host_addresses = listing


def set_udp_buffer_size(size: int) -> None:
    """Set the receive buffer, in bytes, that sockets of later connections ask for, for the whole process."""
    aioice.turn.UDP_SOCKET_BUFFER_SIZE = size


__all__ = [
    "INITIAL_RECEIVE_WINDOW",
    "HostAddresses",
    "set_udp_buffer_size",
    "unacknowledged_bytes",
    "unassembled_bytes",
    "wrap_host_addresses",
]
