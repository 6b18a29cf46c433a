"""``LocalPool``: replicas in one process, for a project's own tests. What runs in it is what runs in production:
capture triggers, posting, sessions, applying; only the network, the worker's loops and the time are the test's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from types import TracebackType
from typing import Any, Self

from django.db import models

from p2p_replication.exceptions import ConfigurationError
from p2p_replication.management.parked_rows import ParkedRow, parked_rows
from p2p_replication.models.ledger import ChangeLogEntry
from p2p_replication.protocol.row_state import same_value
from p2p_replication.registry import registry
from p2p_replication.storage.row_values import python_row
from p2p_replication.testing.clock import Clock
from p2p_replication.testing.link import Link
from p2p_replication.testing.replica import LocalReplica

#: Rounds after which replicas that still send are taken for replicas that never rest.
ROUNDS = 2_000
#: Lines of a text about differences.
LINES = 20


class LocalPool:
    """A pool of databases in one test.

    Args:
        aliases: a name for each replica. One of DATABASES means that database; any other name gets a SQLite database of
            its own, made from the project's migrations and known to Django by this name until the pool is closed.
        models: what replicates; all replicated models if left out.
        where, pull, push: as in ``sync_p2p()``, for all of them; ``declare()`` says otherwise for one replica.

    Attributes:
        clock: the time, for all replicas.
        errors: what sessions had to say, as the pool's page would show it.

    Raises ConfigurationError for a database of the project's own inside of a transaction (``django.test.TestCase``).
    """

    def __init__(
        self,
        *aliases: str,
        models: Iterable[type[models.Model]] | None = None,
        topic: str = "local pool",
        where: Mapping[str, Any] | None = None,
        pull: Mapping[str, Any] | None = {},
        push: Mapping[str, Any] | None = {},
    ) -> None:
        if len(aliases) < 2 or len(set(aliases)) < len(aliases):
            raise ConfigurationError(f"LocalPool{aliases!r}: give two or more different names.")
        self.aliases = aliases
        self.models = tuple(models) if models is not None else tuple(options.model for options in registry)
        self.topic = topic
        self.errors: list[str] = []
        self.clock = Clock(self._post)
        self._options: dict[str, Any] = {"where": where, "pull": pull, "push": push}
        self._replicas: dict[str, LocalReplica] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._groups: list[set[str]] = []

    def __enter__(self) -> Self:
        try:
            for alias in self.aliases:
                replica = self._replicas[alias] = LocalReplica(alias, self.topic, self.clock)
                self._mark(replica)
                for model in self.models:
                    replica.declare(model, **self._options)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the sessions, and remove the databases that were made for the pool."""
        for pair in list(self._links):
            self._links.pop(pair).close()
        while self._replicas:
            self._replicas.popitem()[1].close()

    def declare(
        self,
        alias: str,
        model: type[models.Model],
        *,
        where: Mapping[str, Any] | None = None,
        pull: Mapping[str, Any] | None = {},
        push: Mapping[str, Any] | None = {},
    ) -> None:
        """Change what one replica declares; its sessions begin anew."""
        self._cut(alias)
        self._replica(alias).declare(model, where, pull, push)

    def restart(self, alias: str) -> None:
        """Let one replica's worker end and start again: its sessions break off, wherever they are, and begin anew."""
        self._cut(alias)
        replica = self._replica(alias)
        replica.start()
        self._mark(replica)

    def _mark(self, replica: LocalReplica) -> None:
        """Of edits at one moment, let those of the replica that was named later win: the same in every run."""
        replica.database.mark = 1 + self.aliases.index(replica.alias)

    def _cut(self, alias: str) -> None:
        for pair in [pair for pair in self._links if alias in pair]:
            self._links.pop(pair).close()

    # -- the network ---------------------------------------------------------------------------------------------------

    def sync(self, rounds: int | None = None) -> None:
        """Let the replicas exchange everything, until all is at rest; then a second passes.

        Args:
            rounds: stop after so many rounds of messages, wherever the replicas are then. Follow it by ``partition()``
                or ``restart()`` to break off what is under way, or go on by another ``sync()``.

        Raises what a modifier raises, and AssertionError if they never come to rest.
        """
        self._connect()
        for _ in range(ROUNDS if rounds is None else rounds):
            if not self._round():
                break
        else:
            if rounds is None:
                raise AssertionError(f"The replicas still send after {ROUNDS} rounds.")
        self.clock.advance(1)

    def _connect(self) -> None:
        for pair in combinations(self.aliases, 2):
            link = self._links.get(pair)
            if self._connected(*pair) and (link is None or not link.is_open):
                if link is not None:
                    link.close()
                self._links[pair] = Link(self._replicas[pair[0]], self._replicas[pair[1]], self.errors.append)

    def _round(self) -> bool:
        posted = [replica.post() for replica in self._replicas.values()]
        moved = [link.carry_out() for link in self._links.values()]
        pulled = [replica.start_pull() for replica in self._replicas.values()]
        if any((*posted, *moved, *pulled)):
            return True
        announced = [link.tick() for link in self._links.values()]
        retried = [replica.retry_parked() for replica in self._replicas.values()]
        if any((*announced, *retried)):
            return True
        mended = [replica.mend() for replica in self._replicas.values()]
        return any(mended)

    def partition(self, *groups: Iterable[str]) -> None:
        """Cut every link between replicas of different groups; who is in none has no links to anybody."""
        self._groups = [set(group) for group in groups]
        for alias in set().union(*self._groups):
            self._replica(alias)
        for pair in list(self._links):
            if not self._connected(*pair):
                self._links.pop(pair).close()

    def heal(self) -> None:
        """Let everybody reach everybody again, from the next ``sync()`` on."""
        self._groups = []

    def _connected(self, one: str, other: str) -> bool:
        return not self._groups or any({one, other} <= group for group in self._groups)

    def _post(self) -> None:
        for replica in self._replicas.values():
            replica.post()

    def _replica(self, alias: str) -> LocalReplica:
        if alias not in self._replicas:
            raise ConfigurationError(f"{alias!r} is no replica of the pool, which has: {', '.join(self._replicas)}.")
        return self._replicas[alias]

    # -- what came of it -----------------------------------------------------------------------------------------------

    def parked(self, alias: str) -> list[ParkedRow]:
        """Return the rows that one replica could not take in yet, with the reasons."""
        return parked_rows(self._replica(alias).alias)

    def assert_converged(self, *aliases: str) -> None:
        """Raise AssertionError, with the rows and fields that differ, unless all replicas (or these) are equal.

        Of a model with ``where``: unless they are equal in the rows that match.
        """
        replicas = {alias: self._replica(alias) for alias in aliases or self.aliases}
        found = list(_differences(replicas))
        if not found:
            return
        more = [f"... and {len(found) - LINES} more"] if len(found) > LINES else []
        for alias in replicas:
            if ChangeLogEntry.objects.using(alias).exists():
                more.append(f"{alias} has changes that were not sent yet: call sync().")
            more += [
                f"parked on {alias}: {row.model} {row.key}: {row.reason} {row.detail}".rstrip()
                for row in self.parked(alias)[:LINES]
            ]
        more += self.errors[-LINES:]
        raise AssertionError("\n  ".join(["The replicas differ:", *found[:LINES], *more]))


def _differences(replicas: Mapping[str, LocalReplica]) -> Iterable[str]:
    for label in next(iter(replicas.values())).parts:
        tables = {alias: replica.database.streams[label].table for alias, replica in replicas.items()}
        contents = {}
        for alias, table in tables.items():
            with table.connection.cursor() as cursor:
                cursor.execute(f"SELECT {table.key_text('t')} FROM {table.name} t", [])
                keys = [str(key) for (key,) in cursor.fetchall()]
            rows = {key: dict(zip(table.names, row, strict=True)) for key, row in table.read(keys).items()}
            rows = {key: row for key, row in rows.items() if replicas[alias].parts[label].subset.matches(row)}
            contents[alias] = {table.key_to_wire(key): (key, values) for key, values in rows.items()}
        for wire in dict.fromkeys(key for rows in contents.values() for key in rows):
            yield from _differing(label, tables, {a: rows.get(wire) for a, rows in contents.items()})


def _differing(label: str, tables: Mapping[str, Any], rows: Mapping[str, tuple[str, Any] | None]) -> Iterable[str]:
    """Say how one row differs."""
    there = {alias: row for alias, row in rows.items() if row is not None}
    key = next(iter(there.values()))[0]
    if absent := [alias for alias, row in rows.items() if row is None]:
        yield f"{label} {key}: on {', '.join(there)}, but not on {', '.join(absent)}"
    _, first = next(iter(there.values()))
    for name in first:
        if all(same_value(values[name], first[name]) for _, values in there.values()):
            continue
        shown = []
        for alias, (own_key, values) in there.items():
            row = python_row(tables[alias], own_key, {name: values[name]})
            shown.append(f"{list(row.values())[-1]!r} on {alias}")
        yield f"{label} {key}: {name} is {', '.join(shown)}"
