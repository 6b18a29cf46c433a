"""Foreign keys to another field than the primary key, which protect what they refer to."""

from __future__ import annotations

import random

from tests.testapp.models import City, Country

MODELS = (Country, City)


def write(r: random.Random, using: str) -> None:
    countries = list(Country.objects.using(using).order_by("pk"))
    cities = list(City.objects.using(using).order_by("pk"))
    what = r.randrange(6)
    if what == 0 or not countries:
        Country.objects.using(using).create(code=f"{r.random()}"[2:12])
    elif what in (1, 2):
        City.objects.using(using).create(**{r.choice(["protect", "restrict"]): r.choice(countries)})
    elif what == 3 and cities:
        City.objects.using(using).filter(pk=r.choice(cities).pk).update(protect=r.choice([None, *countries]))
    elif what == 4 and cities:
        r.choice(cities).delete(using=using)
    else:
        r.choice(countries).delete(using=using)
