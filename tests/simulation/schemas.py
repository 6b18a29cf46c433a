"""Histories of pools with real schemas: relations, clashes, merges, links, local keys, filters and directions.

What ``world`` plays with a model of storage this plays with the real one, on SQLite: replicas that write, are split
into groups, lose links in the middle of a pull and are restarted, with clocks that are off. In the end all must be
equal, come to rest, and refer to nothing that is not there.
"""

from __future__ import annotations

import itertools
import random
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from unittest import mock

import uuid_utils.compat
from django.db import IntegrityError, connections, transaction
from django.db.models import ProtectedError, RestrictedError

from p2p_replication.models import LedgerEntry
from p2p_replication.storage import replica_database
from p2p_replication.testing import LocalPool
from tests.testapp.models import SPARE_DESK, Desk, Note, Tally
from tests.workloads import (
    deletes,
    fields,
    filtered,
    links,
    local_keys,
    merges,
    natural_keys,
    other_fields,
    parcels,
    unique_values,
)

STEPS = 70


@dataclass(frozen=True)
class Schema:
    """What a history is about.

    Attributes:
        options: what all replicas declare; ``of_last`` what the last one declares instead.
        last_writes: whether that one writes as well.
    """

    name: str
    workloads: Sequence[ModuleType]
    replicas: int = 3
    options: Mapping[str, Any] = field(default_factory=dict)
    of_last: Mapping[str, Any] | None = None
    last_writes: bool = True


SCHEMAS = (
    Schema("fields, deletes and new lives", [fields]),
    Schema("unique values", [unique_values]),
    Schema("on_delete", [deletes]),
    Schema("foreign keys to other fields", [other_fields]),
    Schema("many-to-many and inheritance", [links]),
    Schema("local keys", [local_keys]),
    Schema("local keys that clash", [parcels]),
    Schema("natural keys", [natural_keys]),
    Schema("declared merges", [merges], replicas=4),
    Schema("a filter", [filtered], options={"where": filtered.WHERE}),
    Schema("one replica only reads", [fields, unique_values], of_last={"push": None}, last_writes=False),
    Schema("one replica only tells", [filtered], of_last={"pull": None}),
    Schema("everything at once", [fields, unique_values, deletes, links, local_keys, merges]),
)


def schema_of(seed: int) -> Schema:
    return SCHEMAS[seed % len(SCHEMAS)]


def run_seed(seed: int, history: list[str] | None = None) -> str:
    """Play one history; return what is wrong in the end, or an empty text. ``history`` gets what happened."""
    try:
        with always_the_same(seed):
            History(seed, history).run()
    except AssertionError as fault:
        return str(fault) or repr(fault)
    return ""


@contextmanager
def always_the_same(seed: int) -> Iterator[None]:
    """Draw keys and origins from the seed."""
    drawn, count = random.Random(f"keys of {seed}"), itertools.count(1)

    def uuid7() -> uuid.UUID:
        # One above the other, as those of one process are.
        return uuid.UUID(int=next(count) << 80 | 7 << 76 | 2 << 62 | drawn.getrandbits(60))

    def new_start() -> str:
        return f"{next(count):06x}{drawn.getrandbits(40):010x}"

    with (
        mock.patch.object(uuid_utils.compat, "uuid7", uuid7),
        mock.patch.object(replica_database, "new_start", new_start),
    ):
        yield


class History:
    def __init__(self, seed: int, history: list[str] | None) -> None:
        self.r = random.Random(seed)
        self.schema = schema_of(seed)
        self.history = history
        #: What was added to each tally's visits, by primary key.
        self.visits: Counter[Any] = Counter()
        self.models = list(dict.fromkeys(model for workload in self.schema.workloads for model in workload.MODELS))
        self.aliases = [f"sim-{name}" for name in "abcd"[: self.schema.replicas]]

    def run(self) -> None:
        with LocalPool(*self.aliases, models=self.models, **self.schema.options) as pool:
            self.pool = pool
            if self.schema.of_last is not None:
                for model in self.models:
                    pool.declare(self.aliases[-1], model, **self.schema.of_last)
            for alias in self.aliases:
                pool.clock.skew(alias, self.r.choice([0, 0, 0.5, -30, 120]))
                if deletes in self.schema.workloads:
                    Desk.objects.using(alias).get_or_create(pk=SPARE_DESK)
            for _ in range(STEPS):
                self.step()
            self.end()

    def note(self, text: str) -> None:
        if self.history is not None:
            self.history.append(text)

    def step(self) -> None:
        pool, r = self.pool, self.r
        what = r.random()
        if what < 0.7:
            writers = self.aliases if self.schema.last_writes else self.aliases[:-1]
            self.write(r.choice(writers))
        elif what < 0.8:
            self.note("sync")
            pool.sync()
        elif what < 0.9:
            rounds = r.randrange(1, 12)
            self.note(f"sync, {rounds} rounds")
            pool.sync(rounds)
        elif what < 0.95:
            shuffled = r.sample(self.aliases, len(self.aliases))
            cut = r.randrange(1, len(shuffled))
            self.note(f"split: {shuffled[:cut]}, {shuffled[cut:]}")
            pool.partition(shuffled[:cut], shuffled[cut:])
        elif what < 0.97:
            self.note("heal")
            pool.heal()
        else:
            alias = r.choice(self.aliases)
            self.note(f"{alias} starts again")
            pool.restart(alias)

    def write(self, alias: str) -> None:
        """Make some writes, some of them in one transaction; the database may refuse them."""
        workload = self.r.choice(self.schema.workloads)
        before = visits(alias)
        with suppress(IntegrityError, ProtectedError, RestrictedError), transaction.atomic(using=alias):
            for _ in range(self.r.choice([1, 1, 1, 3])):
                workload.write(self.r, alias)
        for key, now in visits(alias).items():
            self.visits[key] += now - before.get(key, 0)
        self.note(f"{alias} writes ({workload.__name__.rsplit('.', 1)[-1]})")
        if self.r.random() < 0.5:
            self.pool.clock.advance(0.01)

    def end(self) -> None:
        """Peace: everybody reaches everybody, and all are equal and at rest."""
        pool = self.pool
        pool.heal()
        for workload, alias in itertools.product(self.schema.workloads, self.aliases):
            if hasattr(workload, "settle"):
                workload.settle(alias)
        pool.sync()
        equal = self.aliases
        if self.schema.of_last is not None and self.schema.last_writes:
            equal = self.aliases[:-1]
            told = {key.hex for key in Note.objects.using(self.aliases[-1]).values_list("pk", flat=True)}
            # They may have been deleted since.
            heard = set(LedgerEntry.objects.using(equal[0]).values_list("key", flat=True))
            assert told <= heard, f"{len(told - heard)} rows of the one that only tells did not arrive"
        pool.assert_converged(*equal)
        for alias in self.aliases:
            with connections[alias].cursor() as cursor:
                broken = cursor.execute("PRAGMA foreign_key_check").fetchall()
            assert not broken, f"{alias} refers to what is not there: {broken}"
        wrong = {key: (now, self.visits[key]) for key, now in visits(equal[0]).items() if now != self.visits[key]}
        assert not wrong, f"visits that are not what was added, by tally: {wrong}"
        for alias in equal:
            self.note(f"{alias} has {[model.objects.using(alias).count() for model in self.models]}")
        faults = [error for error in pool.errors if "broke the protocol" in error or "internal" in error]
        assert not faults, faults


def visits(alias: str) -> dict[Any, int]:
    return dict(Tally.objects.using(alias).values_list("pk", "visits"))
