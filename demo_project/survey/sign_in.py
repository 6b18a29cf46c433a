"""Signing the demo's visitor in by a link that works once, so that nobody types a password."""

from __future__ import annotations

from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import User
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.core.exceptions import ImproperlyConfigured
from django.urls import reverse


class TicketGenerator(PasswordResetTokenGenerator):
    """Tickets that end with the first sign-in, as they cover the time of the user's last one."""

    key_salt = "demo_project.survey.sign_in"

    def _make_hash_value(self, user: AbstractBaseUser, timestamp: int) -> str:
        # Django cuts the last sign-in to the second; a link used within that second would work again.
        return f"{user.pk}{user.password}{user.last_login}{timestamp}"


tickets = TicketGenerator()


def demo_user_name() -> str:
    """Name of the user that links sign in. Raises ImproperlyConfigured outside of the demo's settings."""
    name = getattr(settings, "DEMO_USER", None)
    if not name:
        raise ImproperlyConfigured("Sign-in links work with the demo's settings only: DEMO_USER is not set.")
    return str(name)


def make_demo_user() -> User:
    """Return the demo's user: it sees the admin, and no password opens it."""
    user, created = User.objects.get_or_create(
        username=demo_user_name(), defaults={"is_staff": True, "is_superuser": True}
    )
    if created:
        user.set_unusable_password()
        user.save(update_fields=["password"])
    return user


def sign_in_link(user: User) -> str:
    """Return the path and query that sign ``user`` in, once."""
    return reverse("enter") + "?" + urlencode({"ticket": tickets.make_token(user)})


def user_of_ticket(ticket: str) -> User | None:
    """Return the demo's user if the ticket is good and not used yet."""
    user = User.objects.filter(username=demo_user_name(), is_active=True).first()
    return user if user is not None and tickets.check_token(user, ticket) else None
