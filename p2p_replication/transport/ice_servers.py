"""The ``ICE_SERVERS`` setting as aiortc wants it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aiortc import RTCIceServer
from aiortc.rtcicetransport import parse_stun_turn_uri

from p2p_replication.exceptions import ConfigurationError

_KEYS = {"urls", "username", "credential"}
_EXAMPLE = '{"urls": "turn:example.org:3478", "username": "...", "credential": "..."}'


def ice_servers_of(setting: Iterable[Mapping[str, Any]]) -> list[RTCIceServer]:
    """Return the servers of the setting. Raises ConfigurationError."""
    return [_ice_server(entry) for entry in setting]


def _ice_server(entry: Mapping[str, Any]) -> RTCIceServer:
    if not isinstance(entry, Mapping) or not set(entry) <= _KEYS or "urls" not in entry:
        shown = sorted(entry) if isinstance(entry, Mapping) else type(entry).__name__
        raise ConfigurationError(f"an entry of ICE_SERVERS looks like {_EXAMPLE}; one has {shown} instead")
    urls = [entry["urls"]] if isinstance(entry["urls"], str) else list(entry["urls"])
    for url in urls:
        try:
            parse_stun_turn_uri(url)
        except (ValueError, AttributeError) as error:
            raise ConfigurationError(
                f"ICE_SERVERS: {url!r} is no STUN or TURN address ({error}); they look like stun:example.org:3478"
            ) from None
    return RTCIceServer(urls=urls, username=entry.get("username"), credential=entry.get("credential"))


__all__ = ["ice_servers_of"]
