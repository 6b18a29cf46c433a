"""``manage.py p2p rescan``: compare tables with what replication knows of them, now."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any, ClassVar

from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS

from p2p_replication.management.captured import described, refuse_unready_database
from p2p_replication.management.named_models import labels_of
from p2p_replication.management.subcommands import Subcommand
from p2p_replication.storage.capture import installation


class RescanSubcommand(Subcommand):
    help: ClassVar[str] = "Find what was written past the triggers; it becomes ordinary local changes."

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        parser.add_argument("models", nargs="*", metavar="app.Model", help="Only these (default: all that replicate).")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help="Which database (default: default).")
        parser.add_argument("--json", action="store_true", help="Print a JSON object: counts by model.")

    def handle(self, **options: Any) -> None:
        database: str = options["database"]
        labels = labels_of(options["models"])
        refuse_unready_database(database)
        found = installation.install(database, labels, because="manage.py p2p rescan")
        absent = [label for label in labels if label not in found]
        if absent and options["models"]:
            raise CommandError(f"{', '.join(absent)}: no such table in the database {database!r}; run migrate.")
        if options["json"]:
            self.stdout.write(
                json.dumps(
                    {
                        label: {"adopted": result.adopted, "changed": result.changed, "gone": result.gone}
                        for label, result in found.items()
                    }
                )
            )
        else:
            for label, result in found.items():
                self.stdout.write(f"{label}: {described(result)}")
