"""Rows whose primary keys are local numbers, and that refer to each other by them."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from django.db import IntegrityError, connections, transaction

from tests.testapp.models import Crate, Depot, Stamp

MODELS = (Depot, Crate, Stamp)
SLUGS = "abcd"
UIDS = [uuid.UUID(int=i) for i in range(1, 6)]


def write(r: random.Random, using: str, *, deletes: bool = True) -> None:
    depots, crates, stamps = (model.objects.using(using) for model in (Depot, Crate, Stamp))
    depot, crate, stamp = (r.choice(list(rows.order_by("pk")) or [None]) for rows in (depots, crates, stamps))
    what = r.randrange(14 if deletes else 11)
    if what < 2:
        depots.update_or_create(slug=r.choice(SLUGS), defaults={"name": str(r.random())})
    elif what == 2 and connections[using].vendor == "sqlite":
        number = depot.pk if depot is not None and r.random() < 0.5 else None
        run(
            using,
            "INSERT OR REPLACE INTO testapp_depot (id, slug, name) VALUES (%s, %s, 'r')",
            [number, depot.slug if depot is not None and not deletes else r.choice(SLUGS)],
        )
    elif what < 5 and depot is not None:
        crates.update_or_create(uid=r.choice(UIDS), defaults={"depot": depot, "label": str(r.random())})
    elif what == 5 and crate is not None and depot is not None:
        crates.filter(pk=crate.pk).update(depot=depot)
    elif what == 6 and crate is not None:
        crates.filter(pk=crate.pk).update(inside=r.choice([None, *crates.order_by("pk")]))
    elif what == 7:
        stamps.create(crate=crate, text=str(r.random()))
    elif what == 8 and stamp is not None:
        stamps.filter(pk=stamp.pk).update(crate=crate)
    elif what == 9 and crate is not None:
        crates.filter(pk=crate.pk).update(label=str(r.random()))
    elif what == 10 and depot is not None:
        with suppress(IntegrityError), transaction.atomic(using=using):
            depots.filter(pk=depot.pk).update(id=r.randrange(5000, 9000))
            crates.filter(depot_id=depot.pk).update(depot_id=depots.get(slug=depot.slug).pk)
    elif what == 11 and stamp is not None:
        stamp.delete()
    elif what == 12:
        doomed = r.choice([crate, depot])
        if doomed is not None:
            doomed.delete()
    elif what == 13 and depot is not None:
        with suppress(IntegrityError), transaction.atomic(using=using):
            depots.filter(pk=depot.pk).update(slug=r.choice(SLUGS))


def run(using: str, statement: str, params: Sequence[Any]) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(statement, params)
