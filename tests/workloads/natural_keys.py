"""Rows that refer to users, who do not replicate, and come and go on each replica by themselves."""

from __future__ import annotations

import random

from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType

from tests.office.models import Duty, Errand
from tests.testapp.models import Note

MODELS = (Errand, Duty)
NAMES = ("ana", "ben", "cleo")


def write(r: random.Random, using: str) -> None:
    users, errands = User.objects.using(using), Errand.objects.using(using)
    what = r.randrange(9)
    errand = r.choice(list(errands.order_by("pk")) or [None])
    someone = r.choice(list(users.order_by("username")) or [None])
    if what < 2:
        errands.create(title=str(r.random()), owner=someone)
    elif what < 4 and errand is not None:
        errands.filter(pk=errand.pk).update(owner=r.choice([None, someone]))
    elif what == 4 and errand is not None:
        errands.filter(pk=errand.pk).update(title=str(r.random()))
    elif what == 5 and someone is not None:
        Duty.objects.using(using).create(user=someone)
    elif what == 6:
        users.get_or_create(username=r.choice(NAMES))
    elif what == 7 and errand is not None:
        r.choice([errand, someone or errand]).delete()
    elif what == 8 and errand is not None:
        kind = ContentType.objects.db_manager(using).get_for_model(r.choice([Note, Errand]))
        errands.filter(pk=errand.pk).update(content_type=kind, object_id=str(r.randrange(9)))


def settle(using: str) -> None:
    """Let everybody be there."""
    for name in NAMES:
        User.objects.using(using).get_or_create(username=name)
