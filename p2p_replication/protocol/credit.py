"""Flow control: batches on their way, in bytes, until the other side has committed them.

No transport below has back-pressure of its own, and what waits in a channel delays everything behind it.
"""

from __future__ import annotations

from p2p_replication.protocol.framing import RemoteProtocolError
from p2p_replication.protocol.version_vector import Vector

#: A peer that keeps to its window never has so much on its way, or so many batches.
MAX_UNAPPLIED = 64 * 1024 * 1024
MAX_UNAPPLIED_BATCHES = 10_000


class Credit:
    """Both directions of one session. Batches go by their serial number.

    Args:
        window: bytes of unacknowledged batches that may be on their way to the peer.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.unacknowledged = 0
        self._sent: dict[int, tuple[int, str, Vector]] = {}
        #: By serial number: a list, as a transport may double a frame.
        self._arrived: dict[int, list[int]] = {}
        self._unapplied = 0

    @property
    def has_room(self) -> bool:
        return self.unacknowledged < self.window

    def sent(self, serial: int, size: int, model: str, claim: Vector) -> None:
        self._sent[serial] = (size, model, claim)
        self.unacknowledged += size

    def acknowledged(self, serial: int) -> tuple[str, Vector] | None:
        """Return the batch's model and claim; None for a number that is not on its way."""
        sent = self._sent.pop(serial, None)
        if sent is None:
            return None
        self.unacknowledged -= sent[0]
        return sent[1:]

    def arrived(self, serial: int, size: int) -> None:
        """Note a batch of the peer, with its unpacked size.

        Raises RemoteProtocolError if the peer sends on and on without waiting for an ACK.
        """
        self._arrived.setdefault(serial, []).append(size)
        self._unapplied += size
        if len(self._arrived) > MAX_UNAPPLIED_BATCHES:
            raise RemoteProtocolError(f"more than {MAX_UNAPPLIED_BATCHES} batches sent without waiting for an ACK")
        if self._unapplied > MAX_UNAPPLIED:
            raise RemoteProtocolError(f"more than {MAX_UNAPPLIED} bytes sent without waiting for an ACK")

    def applied(self, serial: int) -> None:
        sizes = self._arrived.get(serial)
        if sizes:
            self._unapplied -= sizes.pop()
            if not sizes:
                del self._arrived[serial]
