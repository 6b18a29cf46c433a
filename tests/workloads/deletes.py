"""Rows that refer to each other with every ``on_delete``, trees and a cycle; and deletes of them."""

from __future__ import annotations

import random

from django.db import models

from tests.testapp.models import Branch, Desk, Office, Player, Team, Thing

MODELS = (Office, Desk, Thing, Branch, Team, Player)
LINKS = ("cascade", "protect", "restrict", "set_null", "set_default", "set_to", "db_cascade", "db_set_null")


def write(r: random.Random, using: str) -> None:
    def some(model: type[models.Model]) -> models.Model | None:
        rows = list(model._base_manager.using(using).order_by("pk"))
        return r.choice(rows) if rows else None

    what = r.randrange(13)
    office, desk, thing, branch, team = some(Office), some(Desk), some(Thing), some(Branch), some(Team)
    if what == 0:
        Office.objects.using(using).create(name=str(r.random()))
    elif what == 1 and office:
        Desk.objects.using(using).create(**{r.choice(["office", "guarded"]): office})
    elif what in (2, 3) and desk:
        Thing.objects.using(using).create(part_of=r.choice([None, thing]), **{r.choice(LINKS): desk})
    elif what == 4 and thing:
        Thing.objects.using(using).filter(pk=thing.pk).update(
            **{r.choice(LINKS): desk, "part_of": r.choice([None, thing])}
        )
    elif what == 5:
        if row := r.choice([office, desk]):
            row.delete(using=using)
    elif what == 6 and desk:
        desk.delete(using=using)
    elif what == 7 and thing:
        thing.delete(using=using)
    elif what == 8:
        Branch.objects.using(using).create(parent=branch)
    elif what == 9 and branch:
        branch.delete(using=using)
    elif what == 10:
        new = Team.objects.using(using).create(name="t")
        captain = Player.objects.using(using).create(name="p", team=new)
        Team.objects.using(using).filter(pk=new.pk).update(captain=captain)
    elif what == 11 and team:
        player = Player.objects.using(using).create(name="q", team=team)
        if r.random() < 0.5:
            Team.objects.using(using).filter(pk=r.choice([team.pk, some(Team).pk])).update(captain=player)
    elif what == 12 and team:
        r.choice([team, *Player.objects.using(using).filter(team=team)]).delete(using=using)
