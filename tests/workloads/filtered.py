"""Notes that move in and out of the filter ``WHERE``."""

from __future__ import annotations

import random

from tests.testapp.models import Note

MODELS = (Note,)
WHERE = {"stars__gte": 3}


def write(r: random.Random, using: str) -> None:
    notes = Note.objects.using(using)
    there = list(notes.order_by("pk").values_list("pk", flat=True))
    what = r.randrange(8)
    if what < 3 or not there:
        notes.create(title=str(r.random()), stars=r.randrange(6))
        return
    note = notes.filter(pk=r.choice(there))
    if what < 6:
        note.update(stars=r.randrange(6))
    elif what == 6:
        note.update(title=str(r.random()), body=r.choice("xyz"))
    else:
        note.delete()
