"""Who may join which room.

An authorizer is a function ``(user, topic) -> room key or None``, named by ``P2P_REPLICATION["ROOM_AUTHORIZER"]``:
all sockets with the same key meet, ``None`` refuses. It runs in the database thread and is asked again while a socket
is open, so it must be quick.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from django.utils.module_loading import import_string

from p2p_replication.conf import app_settings
from p2p_replication.exceptions import ConfigurationError

Authorizer = Callable[[Any, str], str | None]

GROUP_PREFIX = "group:"
_SETTING = 'P2P_REPLICATION["ROOM_AUTHORIZER"]'


def user_rooms(user: Any, topic: str) -> str | None:
    """A user's rooms are private: only the same user's devices meet, whatever the topic is called."""
    return f"user:{user.pk}:{topic}"


def group_rooms(user: Any, topic: str) -> str | None:
    """Members of a Django group share the topics ``group:<name>`` and ``group:<name>:<anything>``.

    The group's name ends at the first colon after the prefix, so a group with a colon in its name has no rooms.
    Only membership counts: superusers are refused like everyone else. All other topics are refused.
    """
    if not topic.startswith(GROUP_PREFIX):
        return None
    name, _, subject = topic.removeprefix(GROUP_PREFIX).partition(":")
    group = user.groups.filter(name=name).first()
    return None if group is None else f"group:{group.pk}:{subject}"


def load_authorizer() -> Authorizer:
    """Import the project's authorizer. Raises ConfigurationError."""
    path = app_settings.ROOM_AUTHORIZER
    try:
        authorizer = import_string(path)
    except (ImportError, AttributeError, TypeError) as error:
        raise ConfigurationError(f"{_SETTING} = {path!r} cannot be imported: {error}.") from error
    if not callable(authorizer):
        raise ConfigurationError(f"{_SETTING} = {path!r} is not callable.")
    return authorizer  # type: ignore[no-any-return]


def room_id(user: Any, topic: str, authorizer: Authorizer | None = None) -> str | None:
    """Return the id of the room that this topic is for this user, None if the user may not join it.

    Raises ConfigurationError if the authorizer answers with anything but a string or None.
    """
    key = (authorizer or load_authorizer())(user, topic)
    if key is None:
        return None
    if not isinstance(key, str) or not key:
        raise ConfigurationError(
            f"{_SETTING} returned {key!r} for topic {topic!r}; "
            "it must return a non-empty string (the room's key) or None (refused)."
        )
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
