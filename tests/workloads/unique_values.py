"""Rows that want each other's unique values: a tree with unique names, and badges with every kind of constraint."""

from __future__ import annotations

import random

from tests.testapp.models import Badge, Folder

MODELS = (Folder, Badge)


def write(r: random.Random, using: str, *, deletes: bool = True) -> None:
    folders, badges = Folder.objects.using(using), Badge.objects.using(using)
    there, worn = list(folders.order_by("pk")), list(badges.order_by("pk"))
    name, what = r.choice("abcd"), r.randrange(10)
    one = r.choice(there).pk if there else None
    other = r.choice([None, *(folder.pk for folder in there)])
    if what < 3:
        folders.create(name=name, parent_id=other)
    elif what == 3 and there:
        folders.filter(pk=one).update(name=name)
    elif what == 4 and there:
        folders.filter(pk=one).update(parent_id=other)
    elif what == 5 and len(there) > 1:
        first, second = r.sample(there, 2)
        folders.filter(pk=first.pk).update(name="spare")
        folders.filter(pk=second.pk).update(name=first.name)
        folders.filter(pk=first.pk).update(name=second.name)
    elif what == 6:
        badges.create(
            folder_id=other, number=r.choice([None, 1, 101]), series=r.choice([None, "s"]),
            name=r.choice(["", "n", "N"]), is_valid=r.random() < 0.7, colour=r.choice([None, "red", "blue"]),
            shape=r.choice([None, "o"]),
        )  # fmt: skip
    elif what == 7 and worn:
        change = r.choice([{"folder_id": other}, {"is_valid": True}, {"colour": "red"}, {"number": 101}, {"name": "n"}])
        badges.filter(pk=r.choice(worn).pk).update(**change)
    elif what == 8 and worn:
        badges.filter(pk=r.choice(worn).pk).delete()
    elif what == 9 and there and deletes:
        leaves = folders.filter(folder=None, badge=None)
        leaves.filter(pk=one).delete()
