"""Many-to-many links of every kind, and their ends, some of which are rows of several tables."""

from __future__ import annotations

import random

from tests.testapp.models import Person, Place, Restaurant, Tag

MODELS = (Tag, Person, Place, Restaurant)


def write(r: random.Random, using: str) -> None:
    people, tags = list(Person.objects.using(using).order_by("pk")), list(Tag.objects.using(using).order_by("pk"))
    places = list(Restaurant.objects.using(using).order_by("pk"))
    if len(people) < 2:
        Person.objects.using(using).create(name=str(r.random()))
        return
    if len(tags) < 2 or not places:
        Tag.objects.using(using).create(name=str(r.random()))
        Restaurant.objects.using(using).create(name=str(r.random()))
        return
    links = r.choice(
        [
            (r.choice(people).tags, tags),
            (r.choice(people).friends, people),
            (r.choice(people).follows, people),
            (r.choice(places).tags, tags),
            (r.choice(places).guests, people),
            (r.choice(tags).people, people),
        ]
    )
    manager, ends = links
    match r.randrange(10):
        case 0 | 1 | 2 | 3:
            manager.add(*r.sample(ends, r.randrange(1, len(ends) + 1)))
        case 4 | 5:
            manager.remove(*r.sample(ends, r.randrange(1, len(ends) + 1)))
        case 6:
            manager.set(r.sample(ends, r.randrange(len(ends) + 1)))
        case 7:
            manager.clear()
        case 8:
            r.choice([*people, *tags, *places]).delete()
        case 9:
            r.choice(places).delete(keep_parents=True)
