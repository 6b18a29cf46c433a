"""Make a node of the demo ready to start."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand

from demo_project.survey.models import Tag
from demo_project.survey.sign_in import make_demo_user, sign_in_link


class Command(BaseCommand):
    help = (
        "Migrate this node's database, make the demo's user, and print one line of JSON: "
        '{"link": sign-in link, "tokens": {device: secret}}.'
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--device", action="append", default=[], help="make a device token of this name (again)")
        parser.add_argument("--tags", action="store_true", help="make a few tags, if there are none")
        parser.add_argument("--link-only", action="store_true", help="only a new sign-in link, no migration")

    def handle(self, *args: Any, device: list[str], tags: bool, link_only: bool, **options: Any) -> None:
        if not link_only:
            call_command("migrate", verbosity=0, interactive=False)
        user = make_demo_user()
        if tags and not Tag.objects.exists():
            Tag.objects.bulk_create([Tag(name=name) for name in ("bird", "plant", "insect", "mammal", "weather")])
        secrets = {name: new_secret(user, name) for name in device}
        self.stdout.write(json.dumps({"link": sign_in_link(user), "tokens": secrets}))


def new_secret(user: Any, device: str) -> str:
    """Make a device token in place of those of the same name: a secret is shown once and kept nowhere."""
    from p2p_replication.models import DeviceToken
    from p2p_replication.signaling.tokens import create_token

    DeviceToken.objects.filter(user=user, name=device).delete()
    _, secret = create_token(user, device)
    return str(secret)
