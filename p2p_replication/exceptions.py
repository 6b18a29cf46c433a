"""What can go wrong, as a caller sees it. A local misuse and a remote offence are different errors."""


class P2PError(Exception):
    """Base of all errors of this package."""


class ConfigurationError(P2PError):
    """Options or settings that cannot work; the text names the value and the remedy."""


class WorkerNotRunning(P2PError):
    """Nothing can be waited for, as no live worker (``manage.py runp2psync``) serves the pool."""


class StaleReplica(P2PError):
    """The database is no longer the one that a worker has opened: the worker must open it anew."""


class CopiedReplica(StaleReplica):
    """Another replica lives with this one's identity: the worker must take a new one."""


class FilterChanged(P2PError):
    """A declaration has another filter than the connection was opened with: it has to be opened anew."""


class ModelFailed(P2PError):
    """One model can't go on in a connection.

    Attributes:
        model: its label.
    """

    def __init__(self, text: str, model: str) -> None:
        super().__init__(text)
        self.model = model


class ModifierFailed(ModelFailed):
    """A project's modifier has raised, or returned no row; the text names the row."""


class RowTooLarge(ModelFailed):
    """A row is larger than a message may be; the text names it."""


class NotInSync(P2PError, TimeoutError):
    """``wait_in_sync()`` ran out of time; the text says what is missing."""


class ConnectionClosed(P2PError):
    """The connection to a peer has ended; ``reason`` says why, where it is known."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "the connection is closed")
        self.reason = reason


class SignalingRefused(P2PError):
    """The signaling server does not let us in (``code`` as in the WebSocket close codes of docs/signaling.md)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} (code {code})")
        self.code = code
        self.reason = reason


class CannotRestore(P2PError):
    """What a conflict has kept can't be written back; the text says why, and what to do."""
