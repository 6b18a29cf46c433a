"""``manage.py p2p parked``: rows that have arrived and can't be applied yet, and why."""

from __future__ import annotations

import dataclasses
import json
from argparse import ArgumentParser
from typing import Any, ClassVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import DEFAULT_DB_ALIAS

from p2p_replication.management.captured import refuse_unready_database
from p2p_replication.management.layout import printable, when, wrapped
from p2p_replication.management.named_models import labels_of
from p2p_replication.management.parked_rows import ParkedRow, parked_rows
from p2p_replication.management.retrying import retry_now
from p2p_replication.management.subcommands import Subcommand

#: Rows that are printed for people.
SHOWN = 50


class ParkedSubcommand(Subcommand):
    help: ClassVar[str] = "Show rows that have arrived and can't be applied yet, why, and what helps."

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        parser.add_argument("model", nargs="?", default="", metavar="app.Model", help="Only this one (default: all).")
        parser.add_argument("--retry", action="store_true", help="Try all parked rows again now, then show the rest.")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help="Which database (default: default).")
        parser.add_argument("--json", action="store_true", help="Print a JSON object.")

    def handle(self, **options: Any) -> None:
        database: str = options["database"]
        refuse_unready_database(database)
        label = labels_of([options["model"]])[0] if options["model"] else ""
        retried = retry_now(database) if options["retry"] else None
        rows = parked_rows(database, label)
        if options["json"]:
            found = [{**dataclasses.asdict(row), "remedy": row.remedy} for row in rows]
            answer = {"parked": found, "retried": dataclasses.asdict(retried) if retried is not None else None}
            self.stdout.write(json.dumps(answer, cls=DjangoJSONEncoder))
            return
        if retried is not None:
            self.stdout.write(retried.described)
        if not rows:
            self.stdout.write(f"No row{f' of {label}' if label else ''} is parked.")
            return
        self._write(rows)

    def _write(self, rows: list[ParkedRow]) -> None:
        for row in rows[:SHOWN]:
            self.stdout.write(printable(f"{row.model} {row.key}"))
            tries = "tried once" if row.tries == 1 else f"tried {row.tries} times"
            for line in (
                *wrapped(f"{row.reason}: {row.detail}" if row.detail else row.reason, "  why     "),
                *wrapped(f"{when(row.since)}, {tries}", "  since   "),
                *wrapped(row.origin, "  from    "),
                *wrapped(row.remedy, "  remedy  "),
            ):
                self.stdout.write(line)
        if len(rows) > SHOWN:
            self.stdout.write(f"... and {len(rows) - SHOWN} more: --json shows all")
        self.stdout.write(f"{len(rows)} rows are parked. They are kept, passed on, and tried again by themselves.")
