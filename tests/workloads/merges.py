"""Rows with every kind of declared merge, raised, joined and set at several places."""

from __future__ import annotations

import datetime
import random

from django.db.models import F

from tests.testapp.models import Tally

MODELS = (Tally,)
DAY = datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC)


def write(r: random.Random, using: str) -> None:
    rows = Tally.objects.using(using)
    there = list(rows.order_by("pk"))
    if len(there) < 3:
        rows.create(title=str(r.random()), best=r.randrange(10))
        return
    row = rows.filter(pk=r.choice(there).pk)
    match r.randrange(8):
        case 0 | 1:
            row.update(visits=F("visits") + r.randrange(1, 4))
        case 2:
            row.update(sum=F("sum") - r.randrange(3))
        case 3:
            row.update(best=r.choice([None, *range(100)]))
        case 4:
            row.update(first=DAY + datetime.timedelta(days=r.randrange(30)))
        case 5:
            row.update(tags=r.sample(["red", "green", "blue", 1, None], r.randrange(4)))
        case 6:
            row.update(note=r.choice(["short", "something longer", None]), title=str(r.random()))
        case 7:
            row.delete()
