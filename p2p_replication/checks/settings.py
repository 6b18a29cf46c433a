"""Checks of the setting ``P2P_REPLICATION``."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, get_origin, get_type_hints

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, register
from django.utils.module_loading import import_string

from p2p_replication.conf import SETTING_NAME, AppSettings, app_settings, known_keys, unknown_keys
from p2p_replication.exceptions import ConfigurationError
from p2p_replication.signaling.limits import limits_from
from p2p_replication.transport.base import ConnectionHandler

TAG = "p2p_replication"
WEBRTC = "p2p_replication.transport.webrtc.WebRTCHandler"
#: Known to be there: importing the WebRTC stack takes a second, which no management command should pay for.
SHIPPED_BACKENDS = frozenset({WEBRTC, "p2p_replication.transport.memory.MemoryHandler"})
ACCOUNT_KEYS = {"SIGNALING_URL", "TOKEN"}
HANDLER_KEYS = {"BACKEND", "OPTIONS"}


@register(TAG)
def check_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    found = list(_keys_and_types())
    return found or list(_values())


def settings_are_sound() -> bool:
    """Whether the settings can be read: other checks are silent until then."""
    return not list(_keys_and_types())


def _keys_and_types() -> Iterator[CheckMessage]:
    given = getattr(django_settings, SETTING_NAME, {})
    if not isinstance(given, dict):
        yield Error(
            f"{SETTING_NAME} must be a dict, not {type(given).__name__}.",
            hint=f'Write {SETTING_NAME} = {{"ACCOUNTS": {{...}}}} in the settings, or leave it out.',
            id="p2p_replication.E001",
        )
        return
    for key in unknown_keys():
        close = difflib.get_close_matches(str(key).upper(), known_keys(), n=1)
        yield Error(
            f"{SETTING_NAME} has an unknown key {key!r}.",
            hint=f"Did you mean {close[0]!r}?" if close else f"There is: {', '.join(sorted(known_keys()))}.",
            id="p2p_replication.E001",
        )
    for key, kind in get_type_hints(AppSettings).items():
        if key in given:
            wanted = _wrong(given[key], get_origin(kind) or kind)
            if wanted:
                yield _wrong_value(f"[{key!r}]", given[key], wanted)
            elif key == "ACCOUNTS":
                yield from _entries(key, given[key], _account)
            elif key == "CONNECTION_HANDLERS":
                yield from _entries(key, given[key], _handler)
            elif key == "LISTEN_CONNECTION":
                yield from _listen_connection(f"[{key!r}]", given[key])


def _wrong(value: Any, kind: type) -> str | None:
    """Say what the value should be, or None if it is that."""
    if kind is bool:
        return None if isinstance(value, bool) else "True or False"
    if kind in (int, float):
        numbers = (int,) if kind is int else (int, float)
        if isinstance(value, numbers) and not isinstance(value, bool) and value > 0:
            return None
        return "a whole number above 0" if kind is int else "a number above 0"
    return None if isinstance(value, kind) else f"a {kind.__name__}"


def _entries(key: str, given: dict[str, Any], check_entry: Any) -> Iterator[CheckMessage]:
    for name, entry in given.items():
        place = f"[{key!r}][{name!r}]"
        if isinstance(entry, Mapping):
            yield from check_entry(place, entry)
        else:
            yield _wrong_value(place, entry, "a dict")


def _account(place: str, entry: Mapping[str, Any]) -> Iterator[CheckMessage]:
    yield from _unknown(place, entry, ACCOUNT_KEYS)
    url = entry.get("SIGNALING_URL", "")
    if not isinstance(url, str) or (url and not url.startswith(("ws://", "wss://"))):
        yield _wrong_value(f"{place}['SIGNALING_URL']", url, "a URL that begins with wss:// or ws://")
    token = entry.get("TOKEN")
    if token is not None and not isinstance(token, str) and not callable(token):
        # The value itself may be a secret.
        yield _wrong_value(f"{place}['TOKEN']", type(token), "a string, or the dotted path of a function")


def _handler(place: str, entry: Mapping[str, Any]) -> Iterator[CheckMessage]:
    yield from _unknown(place, entry, HANDLER_KEYS)
    if not isinstance(entry.get("BACKEND"), str):
        yield _wrong_value(f"{place}['BACKEND']", entry.get("BACKEND"), f"a dotted path, as {WEBRTC!r}")
    if not isinstance(entry.get("OPTIONS", {}), Mapping):
        yield _wrong_value(f"{place}['OPTIONS']", entry["OPTIONS"], "a dict")


def _listen_connection(place: str, given: Mapping[str, Any]) -> Iterator[CheckMessage]:
    for name, value in given.items():
        if not isinstance(value, str | int) or isinstance(value, bool):
            # The value itself may be a secret.
            yield _wrong_value(f"{place}[{name!r}]", type(value), "a string or a whole number")
    try:
        from psycopg.pq import Conninfo
    except ImportError:  # SQLite only
        return
    yield from _unknown(place, given, {option.keyword.decode() for option in Conninfo.get_defaults()})


def _unknown(place: str, entry: Mapping[str, Any], known: set[str]) -> Iterator[CheckMessage]:
    for key in entry.keys() - known:
        close = difflib.get_close_matches(str(key).lower(), known, n=1) if len(known) > 10 else []
        yield Error(
            f"{SETTING_NAME}{place} has an unknown key {key!r}.",
            hint=f"Did you mean {close[0]!r}?" if close else f"There is: {', '.join(sorted(known))}.",
            id="p2p_replication.E002",
        )


def _wrong_value(place: str, value: Any, wanted: str) -> Error:
    return Error(f"{SETTING_NAME}{place} is {value!r}.", hint=f"It must be {wanted}.", id="p2p_replication.E002")


def _values() -> Iterator[CheckMessage]:
    for name, handler in app_settings.CONNECTION_HANDLERS.items():
        problem = _backend_problem(handler["BACKEND"])
        if problem:
            yield Error(
                f"{SETTING_NAME}['CONNECTION_HANDLERS'][{name!r}]: BACKEND {handler['BACKEND']!r} {problem}.",
                hint=f"Give the dotted path of a ConnectionHandler class; the one for WebRTC is {WEBRTC!r}.",
                id="p2p_replication.E003",
            )
    try:
        authorizer = import_string(app_settings.ROOM_AUTHORIZER)
        problem = None if callable(authorizer) else "is no function"
    except ImportError as error:
        problem = f"can't be imported: {error}"
    if problem:
        yield Error(
            f"{SETTING_NAME}['ROOM_AUTHORIZER'] {app_settings.ROOM_AUTHORIZER!r} {problem}.",
            hint="Give the dotted path of a function (user, topic) -> room key or None, or leave it out.",
            id="p2p_replication.E004",
        )
    try:
        limits_from(app_settings.SIGNALING_LIMITS)
    except ConfigurationError as error:
        yield Error(
            str(error),
            hint=f"Correct {SETTING_NAME}['SIGNALING_LIMITS'], or leave the key out.",
            id="p2p_replication.E004",
        )


def _backend_problem(path: str) -> str | None:
    if path in SHIPPED_BACKENDS:
        return None
    try:
        backend = import_string(path)
    except ImportError as error:
        return f"can't be imported: {error}"
    if not (isinstance(backend, type) and issubclass(backend, ConnectionHandler)):
        return "is no subclass of p2p_replication.transport.base.ConnectionHandler"
    return None
