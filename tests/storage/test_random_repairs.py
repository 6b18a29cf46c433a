"""Random histories with every ``on_delete``, trees and a cycle: repairs end, and all replicas are equal then."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from django.db import IntegrityError, models, transaction

from tests.seeds import seeded
from tests.storage.conftest import StorageReplica, meet
from tests.storage.test_on_delete import mend
from tests.storage.test_posting import SmallBudget, states
from tests.storage.test_unique_clashes import same
from tests.testapp.models import SPARE_DESK, Branch, Desk, Office, Player, Team, Thing

LABELS = (
    "testapp.Office", "testapp.Desk", "testapp.Thing", "testapp.Branch", "testapp.Team", "testapp.Player",
)  # fmt: skip
LINKS = ("cascade", "protect", "restrict", "set_null", "set_default", "set_to", "db_cascade", "db_set_null")


def write(r: random.Random, replica: StorageReplica) -> None:
    using = replica.alias

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


def step(r: random.Random, replicas: list[StorageReplica]) -> None:
    one, other = r.sample(replicas, 2)
    what = r.random()
    if what < 0.6:
        with suppress(IntegrityError), transaction.atomic(using=one.alias):
            write(r, one)
    elif what < 0.85:
        one.pull(other, (r.choice(LABELS),), batch_size=r.choice([0, 1, 3]), batches=r.choice([1, 2, 100]))
    elif what < 0.9:
        one.start()
        one.database.budget = SmallBudget(r.choice([1, 3, 1000]))
    elif what < 0.95:
        one.retry_parked()
    else:
        one.repair(LABELS)  # Too early: they must come to the same all the same.


@pytest.mark.on("sqlite", "postgresql", "mixed")
@seeded(1)
def test_repairs_end_and_all_are_equal(replica, seed):
    r = random.Random(seed)
    replicas = [replica(name) for name in "abc"]
    with suppress(IndexError):
        Desk.objects.using("a").create(pk=SPARE_DESK, name="spare")
    meet(*replicas, labels=LABELS)
    for _ in range(100):
        step(r, replicas)
    for one in replicas:
        one.database.budget = SmallBudget(1000)
    mend(*replicas, labels=LABELS, rounds=12)
    for one in replicas:
        for label in LABELS:
            assert states(replicas[0], label) == states(one, label)
    same(*replicas, labels=LABELS)
    assert [one.repair(LABELS) for one in replicas] == [0, 0, 0]
