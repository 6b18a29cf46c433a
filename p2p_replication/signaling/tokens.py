"""Device tokens: made once, shown once, stored as a hash."""

from __future__ import annotations

import datetime
import hashlib
import secrets
from collections.abc import Collection
from typing import Any

from django.db.models import Q
from django.utils import timezone

from p2p_replication.models.signaling import DeviceToken

SECRET_PREFIX = "p2p_"
#: ``last_used_at`` is not written more often than this.
LAST_USED_RESOLUTION = datetime.timedelta(minutes=1)


def create_token(user: Any, name: str) -> tuple[DeviceToken, str]:
    """Make a token that lets a device join as this user.

    Returns:
        The stored token and its secret, which cannot be had again.
    """
    secret = SECRET_PREFIX + secrets.token_urlsafe(32)
    return DeviceToken.objects.create(user=user, name=name, digest=digest(secret)), secret


def digest(secret: str) -> str:
    """The stored form. The secret has 256 random bits, so a plain hash cannot be guessed back."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def find_token(secret: str) -> DeviceToken | None:
    """Return the token with this secret, with its user, unless it was revoked."""
    return DeviceToken.objects.select_related("user").filter(digest=digest(secret), revoked_at=None).first()


def revoke_token(token: DeviceToken) -> None:
    """End a token for good. Its open sockets are closed at the server's next check."""
    if token.revoked_at is None:
        token.revoked_at = timezone.now()
        token.save(update_fields=["revoked_at"])


def mark_used(pks: Collection[int]) -> None:
    """Note that these tokens are in use, at most once a minute each."""
    now = timezone.now()
    long_ago = Q(last_used_at=None) | Q(last_used_at__lt=now - LAST_USED_RESOLUTION)
    # Looking first keeps the write lock out of the usual case.
    due = list(DeviceToken.objects.filter(long_ago, pk__in=pks).values_list("pk", flat=True))
    if due:
        DeviceToken.objects.filter(pk__in=due).update(last_used_at=now)
