"""``manage.py p2p <subcommand>``: everything about replication that is not running it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from p2p_replication.management.subcommands import subcommands


class Command(BaseCommand):
    help = "Look after peer-to-peer replication: tokens and more. The worker is manage.py runp2psync."

    def add_arguments(self, parser: CommandParser) -> None:
        choices = parser.add_subparsers(dest="subcommand", required=True, metavar="subcommand")
        for name, subcommand in subcommands().items():
            subcommand.add_arguments(choices.add_parser(name, help=subcommand.help, description=subcommand.help))

    def handle(self, *args: Any, subcommand: str, **options: Any) -> None:
        subcommands()[subcommand](self).handle(**options)
