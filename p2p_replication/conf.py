"""The app's settings: one dict, ``P2P_REPLICATION``, read when used.

Only the Django layer reads settings; the layers below get arguments.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field, fields
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

SETTING_NAME = "P2P_REPLICATION"


@dataclass(frozen=True, kw_only=True)
class AppSettings:
    """Every key of ``P2P_REPLICATION`` with its default. Times are in seconds."""

    #: In whose name the worker joins: ``{name: {"SIGNALING_URL": str, "TOKEN": str | "dotted.path.of.callable"}}``.
    ACCOUNTS: dict[str, dict[str, Any]] = field(default_factory=lambda: {"default": {}})
    #: As Django's ``CACHES``: ``{name: {"BACKEND": "dotted.path", "OPTIONS": {...}}}``.
    CONNECTION_HANDLERS: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"default": {"BACKEND": "p2p_replication.transport.webrtc.WebRTCHandler"}}
    )
    #: STUN and TURN servers: ``[{"urls": "turn:host:3478", "username": str, "credential": str}]``. None by default.
    ICE_SERVERS: list[dict[str, Any]] = field(default_factory=list)
    #: How this replica is called on other people's screens.
    NAME: str = field(default_factory=socket.gethostname)
    #: ``ReplicatedModel.save()`` writes only the fields that changed since the instance was loaded.
    SAVE_CHANGED_FIELDS: bool = True
    #: ``(user, topic) -> room key or None``: who may join which room.
    ROOM_AUTHORIZER: str = "p2p_replication.signaling.rooms.user_rooms"
    #: Overrides of ``p2p_replication.signaling.limits.SignalingLimits``.
    SIGNALING_LIMITS: dict[str, Any] = field(default_factory=dict)
    #: A clock further ahead of ours than this is parked, not applied.
    MAX_CLOCK_SKEW: float = 300.0
    #: A silent link is probed after this time ...
    HEARTBEAT_INTERVAL: float = 3.5
    #: ... and given up after this one.
    PEER_TIMEOUT: float = 8.0
    #: How long others believe that a worker which stopped beating is alive.
    LEASE_TTL: float = 10.0
    #: How long the worker holds SQLite's write lock at a time, and how long it leaves it to others in between.
    WRITE_SLICE: float = 0.025
    WRITE_PAUSE: float = 0.010
    #: Watch the database file for other processes' commits (SQLite).
    FILE_WATCHER: bool = True
    #: Poll for other processes' commits: with and without the file watcher (SQLite).
    POLL_INTERVAL: float = 0.020
    POLL_INTERVAL_WATCHED: float = 1.0
    #: psycopg parameters of the connection that listens for commits, where they differ from DATABASES (PostgreSQL):
    #: ``{"host": ..., "port": ...}`` of the server itself if Django talks to a pooler.
    LISTEN_CONNECTION: dict[str, Any] = field(default_factory=dict)
    #: Days that a pool's errors are kept.
    ERROR_RETENTION: int = 14
    #: Days that values which lost in a conflict are kept.
    CONFLICT_RETENTION: int = 90


class _LazySettings:
    """``app_settings.KEY``: the current value, from the project's settings or the default."""

    _current: AppSettings | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.current(), name)

    def current(self) -> AppSettings:
        if self._current is None:
            self._current = self._read()
        return self._current

    def _read(self) -> AppSettings:
        given = getattr(django_settings, SETTING_NAME, {})
        if not isinstance(given, dict):
            raise ImproperlyConfigured(f"{SETTING_NAME} must be a dict, not {type(given).__name__}.")
        return AppSettings(**{key: value for key, value in given.items() if key in known_keys()})

    def reset(self) -> None:
        self._current = None


def known_keys() -> set[str]:
    return {f.name for f in fields(AppSettings)}


def unknown_keys() -> list[str]:
    """Keys of the project's ``P2P_REPLICATION`` that mean nothing (a system check refuses them)."""
    given = getattr(django_settings, SETTING_NAME, {})
    return sorted(set(given) - known_keys()) if isinstance(given, dict) else []


app_settings = _LazySettings()


def _reset_on_change(*, setting: str, **kwargs: Any) -> None:
    if setting == SETTING_NAME:
        app_settings.reset()


setting_changed.connect(_reset_on_change, dispatch_uid="p2p_replication.conf")
