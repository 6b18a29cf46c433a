"""Who is at the other end of a socket: by session cookie, device token or ticket.

Everything here is synchronous and reads the database; the consumer calls it in the database thread.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal
from urllib.parse import parse_qs

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model, load_backend
from django.core import signing
from django.core.exceptions import ValidationError
from django.db import Error as DatabaseProblem
from django.http import parse_cookie
from django.utils.crypto import constant_time_compare

from p2p_replication.models.signaling import DeviceToken
from p2p_replication.signaling import tokens
from p2p_replication.signaling.origin import refused_origin
from p2p_replication.signaling.refusals import Code, Refusal

TICKET_MAX_AGE = 60
_TICKET_SALT = "p2p_replication.signaling.ticket"
_REMEDY = "Sign in, or send an Authorization: Bearer header with a device token (manage.py p2p token create)"


@dataclass(frozen=True)
class Credential:
    """What a socket was let in with: enough to look again whether it still holds."""

    kind: Literal["session", "token", "user"]
    #: The session's key, the token's primary key, or the user's.
    key: str
    #: A user's credential ends when the password changes, as sessions do.
    auth_hash: str = ""


@dataclass(frozen=True)
class Identity:
    user: Any
    credential: Credential


def make_ticket(user: Any) -> str:
    """Return a ticket for clients that can set no header: ``?ticket=`` within a minute, e.g. from a page's view."""
    return signing.dumps({"user": _key_of(user), "hash": _auth_hash(user)}, salt=_TICKET_SALT, compress=False)


def authenticate(scope: Mapping[str, Any]) -> Identity:
    """Return who opened this WebSocket. Raises Refusal (``NOT_AUTHENTICATED``).

    The first of these that the client sent counts, without falling back to another: a device token, a ticket, the
    user that a middleware around the consumer found, the session cookie. The last two only from an allowed origin.
    """
    headers = _headers(scope)
    for value in headers.get("authorization", []):
        scheme, _, secret = value.partition(" ")
        if scheme.lower() == "bearer":
            return _by_token(secret.strip())
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    if "ticket" in query:
        return _by_ticket(query["ticket"][-1])
    identity = _by_middleware(scope) or _by_cookie(headers)
    if identity is None:
        raise _refused(f"no valid session, device token or ticket. {_REMEDY}")
    refused = refused_origin(headers.get("origin", []), headers.get("host", []))
    if refused is not None:
        raise _refused(refused)
    return identity


def still_valid(credentials: Collection[Credential]) -> dict[Credential, Any]:
    """Look again: the users of those credentials that still let somebody in."""
    users: dict[Credential, Any] = {}
    by_kind: dict[str, list[Credential]] = {"session": [], "token": [], "user": []}
    for credential in credentials:
        by_kind[credential.kind].append(credential)
    by_pk = {int(credential.key): credential for credential in by_kind["token"]}
    for chunk in _chunks(list(by_pk)):
        for token in DeviceToken.objects.select_related("user").filter(pk__in=chunk, revoked_at=None):
            users[by_pk[token.pk]] = token.user
    for credential in by_kind["session"]:
        users[credential] = _session_user(credential.key)
    for credential in by_kind["user"]:
        user = _user_by_key(credential.key)
        if user is not None and constant_time_compare(_auth_hash(user), credential.auth_hash):
            users[credential] = user
    return {credential: user for credential, user in users.items() if _is_active(user)}


def _by_token(secret: str) -> Identity:
    token = tokens.find_token(secret) if secret else None
    if token is None:
        raise _refused("the device token is unknown or revoked. Make one with manage.py p2p token create")
    _check_active(token.user)
    with contextlib.suppress(DatabaseProblem):  # when it is busy, letting the device in matters more than noting it
        tokens.mark_used([token.pk])
    return Identity(token.user, Credential("token", str(token.pk)))


def _by_ticket(ticket: str) -> Identity:
    try:
        content = signing.loads(ticket, salt=_TICKET_SALT, max_age=TICKET_MAX_AGE)
        user = _user_by_key(content["user"])
        holds = user is not None and constant_time_compare(_auth_hash(user), content["hash"])
    except signing.SignatureExpired:
        raise _refused(f"the ticket is older than {TICKET_MAX_AGE} seconds. Fetch a new one") from None
    except (signing.BadSignature, KeyError, TypeError, ValueError):
        user, holds = None, False
    if not holds:
        raise _refused("the ticket is not valid. Fetch a new one")
    _check_active(user)
    return Identity(user, Credential("user", _key_of(user), _auth_hash(user)))


def _by_middleware(scope: Mapping[str, Any]) -> Identity | None:
    user = scope.get("user")
    if user is None or not user.is_authenticated:
        return None
    _check_active(user)
    session = scope.get("session")
    session_key = getattr(session, "session_key", None)
    if session is not None and session_key and session.get(SESSION_KEY) == _key_of(user):
        return Identity(user, Credential("session", session_key))
    return Identity(user, Credential("user", _key_of(user), _auth_hash(user)))


def _by_cookie(headers: Mapping[str, list[str]]) -> Identity | None:
    session_key = parse_cookie("; ".join(headers.get("cookie", []))).get(settings.SESSION_COOKIE_NAME)
    if not session_key or not session_key.isprintable():
        return None
    user = _session_user(session_key)
    if user is None:
        return None
    _check_active(user)
    return Identity(user, Credential("session", session_key))


def _session_user(session_key: str) -> Any | None:
    """The signed-in user of a session. Unlike ``django.contrib.auth.get_user`` it never changes the session: the
    new key of a changed session could not be handed to the browser over a WebSocket."""
    session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    backend_path = session.get(BACKEND_SESSION_KEY)
    if SESSION_KEY not in session or backend_path not in settings.AUTHENTICATION_BACKENDS:
        return None
    try:
        user = load_backend(backend_path).get_user(_pk_from(session[SESSION_KEY]))
    except (ValueError, TypeError, ValidationError):
        return None
    if user is None:
        return None
    given = session.get(HASH_SESSION_KEY) or ""
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return user if any(constant_time_compare(given, expected) for expected in hashes) else None


def _headers(scope: Mapping[str, Any]) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for name, value in scope.get("headers", []):
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return headers


def _key_of(user: Any) -> str:
    return str(user._meta.pk.value_to_string(user))


def _pk_from(key: str) -> Any:
    primary_key = get_user_model()._meta.pk
    assert primary_key is not None  # every model has one
    return primary_key.to_python(key)


def _user_by_key(key: str) -> Any | None:
    try:
        return get_user_model()._default_manager.filter(pk=_pk_from(key)).first()
    except (ValueError, TypeError, ValidationError):
        return None


def _auth_hash(user: Any) -> str:
    """Changes with the password, and tells nothing of it."""
    return hashlib.sha256(user.get_session_auth_hash().encode()).hexdigest()[:32]


def _is_active(user: Any) -> bool:
    return user is not None and bool(getattr(user, "is_active", True))


def _check_active(user: Any) -> None:
    if not _is_active(user):
        raise _refused(f"the user {user.get_username()} is deactivated")


def _refused(why: str) -> Refusal:
    return Refusal(Code.NOT_AUTHENTICATED, f"Not authenticated: {why}.")


def _chunks(pks: list[int], size: int = 500) -> list[list[int]]:
    return [pks[start : start + size] for start in range(0, len(pks), size)]
