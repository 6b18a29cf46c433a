"""Rows with few keys and fields, written in every way: edits, deletes, new lives, REPLACE, other keys; and a tree."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from django.db import IntegrityError, connections, transaction

from tests.testapp.models import Branch, Coin

MODELS = (Coin, Branch)
CODES = "abcdef"


def write(r: random.Random, using: str) -> None:
    coins = Coin.objects.using(using)
    code = r.choice(CODES)
    what = r.randrange(11)
    if what < 3:
        coins.filter(code=code).update(rate=r.randrange(100))
    elif what < 5:
        coins.filter(code=code).update(name=str(r.randrange(100)))
    elif what == 5:
        coins.update_or_create(code=code, defaults={"rate": r.randrange(100)})
    elif what == 6:
        coins.filter(code=code).delete()
    elif what in (7, 8) and connections[using].vendor == "postgresql":
        with suppress(IntegrityError), transaction.atomic(using=using):
            if what == 7:
                coins.update_or_create(code=code, defaults={"name": "r", "rate": r.randrange(3)})
            else:
                coins.filter(code=code).update(code=r.choice(CODES))
    elif what == 7:
        run(
            using, "INSERT OR REPLACE INTO testapp_coin (code, name, rate) VALUES (%s, 'r', %s)", [code, r.randrange(3)]
        )
    elif what == 8:
        run(using, "UPDATE OR REPLACE testapp_coin SET code = %s WHERE code = %s", [r.choice(CODES), code])
    elif what == 9:
        keys = list(Branch.objects.using(using).order_by("pk").values_list("pk", flat=True))
        Branch.objects.using(using).create(parent_id=r.choice([None, *keys]))
    else:
        coins.filter(code=code).update(name="n", rate=1)


def run(using: str, statement: str, params: Sequence[Any]) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(statement, params)
