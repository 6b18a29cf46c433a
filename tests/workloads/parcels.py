"""Local numbers in unique constraints and in references with several ``on_delete``; writes may be refused."""

from __future__ import annotations

import contextlib
import random
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from p2p_replication.models import uuid7
from tests.testapp.models import Crate, Depot, Parcel

MODELS = (Depot, Crate, Parcel)


def write(r: random.Random, using: str) -> None:
    """One write of the application, which may be refused."""

    def any_of(model: Any) -> Any:
        rows = list(model.objects.using(using).order_by(model.Replication.key))
        return r.choice(rows) if rows and r.random() < 0.8 else None

    values = {
        "code": r.choice(["x", "y", "z", None]),
        "depot": any_of(Depot),
        "slot": r.randint(1, 2),
        "guarded": any_of(Crate) if r.random() < 0.3 else None,
        "part_of": any_of(Parcel),
    }
    parcel, crate, place = any_of(Parcel), any_of(Crate), any_of(Depot)
    with contextlib.suppress(IntegrityError, ProtectedError), transaction.atomic(using=using):
        match r.randint(0, 8):
            case 0 | 1 | 2:
                Parcel.objects.using(using).create(**values)
            case 3 if parcel is not None:
                name = r.choice(list(values))
                Parcel.objects.using(using).filter(pk=parcel.pk).update(**{name: values[name]})
            case 4 if parcel is not None:
                parcel.delete()
            case 5 if place is not None:
                Crate.objects.using(using).create(depot=place)
            case 6:
                Depot.objects.using(using).create(slug=r.choice(["north", "south", "east"]))
            case 7 if place is not None:
                place.delete()
            case 8 if crate is not None:
                Crate.objects.using(using).filter(pk=crate.pk).update(uid=uuid7())
