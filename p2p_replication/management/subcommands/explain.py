"""``manage.py p2p explain app.Model KEY``: why a row is here, or is not, and who else has it."""

from __future__ import annotations

import dataclasses
import json
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any, ClassVar

from django.core.management.base import CommandError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DEFAULT_DB_ALIAS

from p2p_replication.exceptions import ConfigurationError
from p2p_replication.management.captured import refuse_unready_database
from p2p_replication.management.layout import clock_text, printable, when, wrapped
from p2p_replication.management.named_models import labels_of
from p2p_replication.management.row_history import RowHistory, Version, key_text, row_history
from p2p_replication.management.subcommands import Subcommand
from p2p_replication.registry import registry


class ExplainSubcommand(Subcommand):
    help: ClassVar[str] = "Say why a row is here, or is not, and which peers have it."

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        parser.add_argument("model", metavar="app.Model")
        parser.add_argument(
            "key",
            metavar="KEY",
            help="The row's key; a UUID with or without dashes. Of a many-to-many row: both, and a slash.",
        )
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help="Which database (default: default).")
        parser.add_argument("--json", action="store_true", help="Print a JSON object.")

    def handle(self, **options: Any) -> None:
        database: str = options["database"]
        refuse_unready_database(database)
        model = registry.get(labels_of([options["model"]])[0])
        assert model is not None
        try:
            history = row_history(database, model, key_text(database, model, options["key"]))
        except ConfigurationError as error:
            raise CommandError(str(error)) from None
        if options["json"]:
            self.stdout.write(json.dumps(dataclasses.asdict(history), cls=DjangoJSONEncoder))
        else:
            for line in described(history):
                self.stdout.write(line)
        if not history.is_known:
            raise CommandError(
                f"This replica knows no row {history.key} of {history.model}: it was never written here, and no peer "
                "has sent it."
            )


def described(history: RowHistory) -> Iterator[str]:
    """Yield the lines that say it all."""
    yield printable(f"{history.model} {history.key}")
    yield from wrapped("it is there" if history.in_table else "it is not there", "  table     ")
    version = history.version
    if version is not None:
        yield from _version(version)
    elif history.in_table and not history.waiting:
        yield from wrapped(
            "nothing: the row was written past the triggers. Find such rows: manage.py p2p rescan", "  ledger    "
        )
    elif history.is_known:
        yield "  ledger    nothing yet"
    for operation, at in history.waiting:
        yield from wrapped(f"{operation} of {when(at)}, which the worker has not posted yet", "  waiting   ")
    if version is not None and version.state == "alive" and not history.in_table and not history.waiting:
        yield from wrapped("the row went away past the triggers. Find such rows: manage.py p2p rescan", "  missing   ")
    if history.changed_unseen:
        names = ", ".join(history.changed_unseen)
        yield from wrapped(f"past the triggers: {names}. Find such rows: manage.py p2p rescan", "  changed   ")
    for name, target in history.awaited.items():
        yield from wrapped(f"{name} is null until {target} is there: make it here", "  awaited   ")
    if history.parked is not None:
        parked = history.parked
        why = f"{parked.reason}: {parked.detail}" if parked.detail else parked.reason
        yield from wrapped(f"{why} (since {when(parked.since)}, tries: {parked.tries})", "  parked    ")
        yield from wrapped(parked.remedy, "  remedy    ")
    where = ", ".join(history.pools) or "none: the model is declared in no pool, so nothing of it replicates"
    yield from wrapped(where, "  pools     ")
    for state in history.filters:
        inside = "in it" if state.inside and not state.why else f"outside: {state.why}"
        yield from wrapped(f"{state.pool} has {state.filter}: {inside}", "  filter    ")
    for peer in history.peers:
        has = {True: "has it", False: "lacks it", None: "unknown"}[peer.has]
        yield from wrapped(f"{peer.name} {has} (pool {peer.pool}): {peer.why}", "  peer      ")
    for error in history.errors:
        yield from wrapped(error, "  error     ")


def _version(version: Version) -> Iterator[str]:
    yield f"  ledger    {version.state}"
    yield f"  inserted  {clock_text(version.inserted)}"
    if version.deleted >= 0:
        yield f"  deleted   {clock_text(version.deleted)}"
    by_clock: dict[int, list[str]] = {}
    for name, clock in version.fields.items():
        by_clock.setdefault(clock, []).append(name)
    for clock, names in sorted(by_clock.items()):
        yield from wrapped(f"{clock_text(clock)}: {', '.join(names)}", "  fields    ")
    for dot in version.dots:
        yield from wrapped(f"{dot.described}, its change {dot.counter}", "  version   ")
