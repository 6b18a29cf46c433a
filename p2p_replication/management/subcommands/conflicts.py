"""``manage.py p2p conflicts``: values that lost to others whose writers did not know of them; restoring them."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any, ClassVar

from django.core.management.base import CommandError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DEFAULT_DB_ALIAS
from django.utils import timezone

from p2p_replication.conf import app_settings
from p2p_replication.exceptions import CannotRestore
from p2p_replication.management.captured import refuse_unready_database
from p2p_replication.management.layout import clock_text, iso, printable, replica_name, when, wrapped
from p2p_replication.management.named_models import labels_of
from p2p_replication.management.subcommands import Subcommand
from p2p_replication.models.conflict import Conflict, shown_values
from p2p_replication.models.pool import Peer
from p2p_replication.models.replica import Replica

#: Conflicts that are printed for people.
SHOWN = 50


class ConflictsSubcommand(Subcommand):
    help: ClassVar[str] = "Show values that lost in a conflict, or restore them."

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        parser.add_argument("model", nargs="?", default="", metavar="app.Model", help="Only this one (default: all).")
        parser.add_argument("--all", action="store_true", help="Those that were restored, too.")
        parser.add_argument(
            "--restore", nargs="+", type=int, default=[], metavar="NUMBER", help="Write the values of these back."
        )
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help="Which database (default: default).")
        parser.add_argument("--json", action="store_true", help="Print a JSON object.")

    def handle(self, **options: Any) -> None:
        database: str = options["database"]
        refuse_unready_database(database)
        if options["restore"]:
            self._restore(database, options["restore"])
            return
        label = labels_of([options["model"]])[0] if options["model"] else ""
        found = Conflict.objects.using(database).all()
        if label:
            found = found.filter(model=label)
        if not options["all"]:
            found = found.open()
        names = _replica_names(database)
        if options["json"]:
            answer = {"conflicts": [_as_json(conflict, names) for conflict in found]}
            self.stdout.write(json.dumps(answer, cls=DjangoJSONEncoder))
            return
        if not found:
            self.stdout.write(f"No conflict{f' of {label}' if label else ''} is open.")
            return
        for conflict in found[:SHOWN]:
            self._write(conflict, names)
        count = found.count()
        if count > SHOWN:
            self.stdout.write(f"... and {count - SHOWN} more: --json shows all")
        self.stdout.write(f"{count} conflicts. What lost comes back with: manage.py p2p conflicts --restore NUMBER")

    def _write(self, conflict: Conflict, names: dict[str, str]) -> None:
        lost_by, won_by = _name(names, conflict.lost_by), _name(names, conflict.won_by)
        won = shown_values(conflict.won_values) if conflict.won is not None else "the row was deleted"
        lines = [
            *wrapped(shown_values(conflict.lost_values), "  lost      "),
            *wrapped(f"{clock_text(conflict.lost_clock)}, {lost_by}", "  written   "),
            *wrapped(f"{won} ({clock_text(conflict.won_clock)}, {won_by})", "  to        "),
            *wrapped(when(conflict.noticed_at), "  noticed   "),
        ]
        if conflict.restored_at is not None:
            lines += wrapped(when(conflict.restored_at), "  restored  ")
        self.stdout.write(printable(f"{conflict.pk}: {conflict.model} {conflict.key}"))
        for line in lines:
            self.stdout.write(line)

    def _restore(self, database: str, numbers: list[int]) -> None:
        found = Conflict.objects.using(database).in_bulk(numbers)
        failed = 0
        for number in numbers:
            conflict = found.get(number)
            if conflict is None:
                failed += 1
                self.stderr.write(f"{number}: there is no such conflict. It may be older than CONFLICT_RETENTION.")
                continue
            try:
                conflict.restore()
            except CannotRestore as error:
                failed += 1
                self.stderr.write(f"{number}: {error}")
            else:
                self.stdout.write(printable(f"{number}: restored {conflict.model} {conflict.key}"))
        if failed:
            raise CommandError(f"Not restored: {failed} of {len(numbers)}.")


def _replica_names(database: str) -> dict[str, str]:
    names = {peer.replica_id: peer.name for peer in Peer.objects.using(database).all()}
    own = Replica.objects.using(database).values_list("replica_id", flat=True)
    return {**names, **dict.fromkeys(own, f"this replica, {app_settings.NAME}")}


def _name(names: dict[str, str], replica_id: str) -> str:
    if not replica_id:
        return "before replication"
    if replica_id not in names:
        return f"a replica not met directly ({replica_id}...)"
    return replica_name(replica_id, names[replica_id])


def _as_json(conflict: Conflict, names: dict[str, str]) -> dict[str, Any]:
    return {
        "number": conflict.pk,
        "model": conflict.model,
        "key": conflict.key,
        "kind": conflict.kind,
        "fields": conflict.fields,
        "lost": shown_values(conflict.lost_values),
        "lost_by": _name(names, conflict.lost_by),
        "won": shown_values(conflict.won_values) if conflict.won is not None else None,
        "won_by": _name(names, conflict.won_by),
        "noticed": iso(timezone.localtime(conflict.noticed_at) if timezone.is_aware(conflict.noticed_at) else None),
        "restored": iso(conflict.restored_at),
    }
