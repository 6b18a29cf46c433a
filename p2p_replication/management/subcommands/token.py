"""``manage.py p2p token create|list|revoke``: the device tokens with which workers join signaling."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any, ClassVar

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError

from p2p_replication.management.subcommands import Subcommand
from p2p_replication.models.signaling import DeviceToken
from p2p_replication.signaling.tokens import create_token, revoke_token


class TokenSubcommand(Subcommand):
    help: ClassVar[str] = "Create, list and revoke device tokens."

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="create|list|revoke")
        create = actions.add_parser("create", help="Make a token for a user and print its secret, once.")
        create.add_argument("username", help="Whose devices the new one joins.")
        create.add_argument("--name", default="device", help="How the device is called in lists (default: device).")
        create.add_argument("--json", action="store_true", help="Print one JSON object with id and token.")
        listing = actions.add_parser("list", help="List the tokens. Secrets are not stored and cannot be shown.")
        listing.add_argument("--user", help="Only this user's.")
        listing.add_argument("--json", action="store_true", help="Print a JSON array.")
        revoke = actions.add_parser("revoke", help="End a token; its open connections are closed within seconds.")
        revoke.add_argument("id", type=int, help="The token's id, as in the list.")

    def handle(self, **options: Any) -> None:
        match options.pop("action"):
            case "create":
                self.create(**options)
            case "list":
                self.list(**options)
            case _:
                self.revoke(**options)

    def create(self, *, username: str, name: str, json: bool, **options: Any) -> None:
        user = self._user(username)
        if not getattr(user, "is_active", True):
            raise CommandError(f"The user {username!r} is deactivated; the token would let nobody in.")
        max_length = DeviceToken._meta.get_field("name").max_length
        if max_length is not None and len(name) > max_length:
            raise CommandError(f"--name has {len(name)} characters, at most {max_length} are allowed.")
        token, secret = create_token(user, name)
        if json:
            self._print_json({"id": token.pk, "user": user.get_username(), "name": name, "token": secret})
            return
        # The secret alone goes to stdout, so that a script can take it from there.
        self.stdout.write(secret)
        self.stderr.write(f"Token {token.pk} for {user.get_username()} ({name}). It is not shown again.")

    def list(self, *, user: str | None, json: bool, **options: Any) -> None:
        tokens = DeviceToken.objects.select_related("user").order_by("pk")
        if user is not None:
            tokens = tokens.filter(user=self._user(user))
        if json:
            self._print_json([_as_json(token) for token in tokens])
            return
        for token in tokens:
            used = f"last used {token.last_used_at:%Y-%m-%d %H:%M}" if token.last_used_at else "never used"
            revoked = f", revoked {token.revoked_at:%Y-%m-%d %H:%M}" if token.revoked_at else ""
            self.stdout.write(f"{token.pk:>6}  {token.user.get_username()}  {token.name}  {used}{revoked}")

    def revoke(self, *, id: int, **options: Any) -> None:
        token = DeviceToken.objects.filter(pk=id).first()
        if token is None:
            raise CommandError(f"There is no token {id}; see manage.py p2p token list.")
        if token.revoked_at is not None:
            self.stderr.write(f"Token {id} was revoked {token.revoked_at:%Y-%m-%d %H:%M} already.")
            return
        revoke_token(token)
        self.stderr.write(f"Token {id} ({token.name}) is revoked.")

    def _user(self, username: str) -> Any:
        user_model = get_user_model()
        try:
            return user_model._default_manager.get_by_natural_key(username)  # type: ignore[attr-defined]
        except user_model.DoesNotExist:
            raise CommandError(f"There is no user {username!r}.") from None

    def _print_json(self, value: Any) -> None:
        self.stdout.write(json.dumps(value))


def _as_json(token: DeviceToken) -> dict[str, Any]:
    def text(moment: Any) -> str | None:
        return None if moment is None else moment.isoformat()

    return {
        "id": token.pk,
        "user": token.user.get_username(),
        "name": token.name,
        "created_at": text(token.created_at),
        "last_used_at": text(token.last_used_at),
        "revoked_at": text(token.revoked_at),
    }
