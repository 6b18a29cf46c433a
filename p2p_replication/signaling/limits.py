"""What one signaling client may use up, and how long silence lasts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from p2p_replication.conf import app_settings
from p2p_replication.exceptions import ConfigurationError

_SETTING = 'P2P_REPLICATION["SIGNALING_LIMITS"]'


@dataclass(frozen=True, kw_only=True)
class SignalingLimits:
    """The signaling server's limits; ``P2P_REPLICATION["SIGNALING_LIMITS"]`` overrides them by name.

    Times are in seconds, sizes in bytes of UTF-8.
    """

    max_message_bytes: int = 65_536
    #: Sustained rate per socket ...
    messages_per_second: float = 50.0
    #: ... and how many may come at once (browsers send a dozen candidates to every peer of a room they join).
    message_burst: int = 500
    rooms_per_socket: int = 50
    peers_per_room: int = 200
    #: A socket that sends nothing for this long is closed (RxDB's clients send a ``ping`` each minute).
    idle_timeout: float = 120.0
    #: How often open sockets are checked for revoked tokens, deactivated users and withdrawn rooms.
    check_interval: float = 15.0
    #: How often a server process says in the database that its sockets are alive ...
    beat_interval: float = 30.0
    #: ... and when others stop believing it.
    stale_after: float = 90.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value: Any = getattr(self, field.name)
            whole = field.type == "int"
            is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
            if not is_number or not value > 0:
                kind = "whole number" if whole else "number"
                raise ConfigurationError(f"{_SETTING}[{field.name!r}] must be a {kind} above 0, not {value!r}.")
        if self.stale_after < 2 * self.beat_interval:
            raise ConfigurationError(
                f"{_SETTING}: stale_after={self.stale_after!r} must be at least twice "
                f"beat_interval={self.beat_interval!r}, or live members would be swept."
            )


def read_limits() -> SignalingLimits:
    """Return the project's limits. Raises ConfigurationError for unknown names and values that cannot work."""
    return limits_from(app_settings.SIGNALING_LIMITS)


def limits_from(overrides: Mapping[str, Any]) -> SignalingLimits:
    """Return the defaults with these overrides. Raises ConfigurationError."""
    if not isinstance(overrides, Mapping):
        raise ConfigurationError(f"{_SETTING} must be a dict, not {type(overrides).__name__}.")
    known = [field.name for field in fields(SignalingLimits)]
    unknown = sorted(str(name) for name in set(overrides) - set(known))
    if unknown:
        raise ConfigurationError(f"{_SETTING} has no {', '.join(unknown)}. Known names: {', '.join(known)}.")
    return SignalingLimits(**overrides)


class TokenBucket:
    """Lets ``burst`` through at once and ``rate`` a second in the long run. Time comes in as an argument."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float) -> bool:
        """Use one token; false if there is none."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
