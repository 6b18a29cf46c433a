"""``manage.py p2p triggers check|install|remove``: the database triggers that capture writes."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any, ClassVar

from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS

from p2p_replication.management.captured import described, refuse_unready_database
from p2p_replication.management.subcommands import Subcommand
from p2p_replication.storage.capture import installation


class TriggersSubcommand(Subcommand):
    help: ClassVar[str] = "Check, install and remove the triggers that capture writes."

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="check|install|remove")
        check = actions.add_parser("check", help="Name the models whose triggers are missing or different; exit 1.")
        check.add_argument("--json", action="store_true", help="Print a JSON array of model and reason.")
        install = actions.add_parser(
            "install", help="Bring all triggers up to date, and find what was written without them."
        )
        remove = actions.add_parser(
            "remove", help="Drop all triggers. Writes are not captured until they are installed again, but found then."
        )
        for action in (check, install, remove):
            action.add_argument("--database", default=DEFAULT_DB_ALIAS, help="Which database (default: default).")

    def handle(self, **options: Any) -> None:
        database: str = options["database"]
        refuse_unready_database(database)
        match options["action"]:
            case "check":
                self.check(database, options["json"])
            case "install":
                self.install(database)
            case _:
                installation.remove(database, reason="manage.py p2p triggers remove")
                self.stderr.write("The triggers are gone. Install them again with: manage.py p2p triggers install")

    def check(self, database: str, as_json: bool) -> None:
        drift = installation.drift(database)
        if as_json:
            self.stdout.write(json.dumps([{"model": found.label, "reason": found.reason} for found in drift]))
        else:
            for found in drift:
                self.stdout.write(f"{found.label}: {found.reason}")
        if drift:
            error = CommandError(f"{len(drift)} models need: manage.py p2p triggers install")
            error.returncode = 1
            raise error
        if not as_json:
            self.stdout.write("All triggers are as they should be.")

    def install(self, database: str) -> None:
        touched = installation.install(database)
        for label, found in touched.items():
            self.stdout.write(f"{label}: triggers installed, {described(found)}")
        if not touched:
            self.stdout.write("All triggers were as they should be.")
