"""The how-to of docs/integer-keys.md, carried out: its migrations are run as they stand there."""

from __future__ import annotations

import re
import textwrap

import pytest

from tests.storage.schema_project import ROOT, SchemaProject

PLAIN = """
from django.db import models

class Place(models.Model):
    name = models.CharField(max_length=100)

class Visit(models.Model):
    place = models.ForeignKey(Place, models.CASCADE)
"""
REPLICATED = """
from django.db import models
from p2p_replication.models import ReplicatedModel, uuid7

class Place(models.Model):
    uid = models.UUIDField(default=uuid7, unique=True, editable=False)
    name = models.CharField(max_length=100)

class Visit(models.Model):
    place = models.ForeignKey(Place, models.CASCADE)

class Trip(ReplicatedModel):
    place = models.ForeignKey(Place, models.CASCADE)
"""
BEFORE = """
import p2p_replication.models
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("shop", "m0001")]
    operations = [
        migrations.DeleteModel("Item"),
        migrations.CreateModel("Place", [("id", models.AutoField(primary_key=True)),
                                        ("name", models.CharField(max_length=100))]),
        migrations.CreateModel("Visit", [("id", models.AutoField(primary_key=True)),
                                        ("place", models.ForeignKey("shop.Place", models.CASCADE))]),
    ]
"""
AFTER = """
import p2p_replication.models
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("shop", "0004_unique_uid")]
    operations = [migrations.CreateModel("Trip", [
        ("id", models.UUIDField(primary_key=True, default=p2p_replication.models.uuid7, editable=False)),
        ("place", models.ForeignKey("shop.Place", models.CASCADE))])]
"""
SETUP = """
from django.db import connections, models as m
Place, Visit = apps.get_model("shop", "Place"), apps.get_model("shop", "Visit")
LABELS = ("shop.Place", "shop.Trip")

def names(alias):
    return sorted(Place.objects.using(alias).values_list("name", flat=True))
"""


def documented() -> list[str]:
    """The three migrations and the p2p.py, as the page shows them."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "integer-keys.md").read_text(), re.DOTALL)
    found = [block for block in blocks if "class Migration" in block]
    assert len(found) == 3
    return [*found, *(block for block in blocks if "@register" in block)]


@pytest.fixture
def shop(project: SchemaProject) -> SchemaProject:
    """Three databases with an ordinary table: two have some rows in common, under other numbers."""
    project.models(PLAIN)
    migrations = project.folder / "shop" / "migrations"
    (migrations / "0001_initial.py").write_text(BEFORE)
    run(
        project,
        """
        for alias in connections:
            migrate(using=alias)
        rows = {"default": ["both", "twice", "twice", "only default"], "other": ["only other", "both"]}
        for alias, places in rows.items():
            for name in places:
                place = Place.objects.using(alias).create(name=name)
                Visit.objects.using(alias).create(place=place)
    """,
    )
    first, second, third, registration = documented()
    (migrations / "0002_place_uid.py").write_text(first)
    (migrations / "0003_fill_uid.py").write_text(second)
    (migrations / "0004_unique_uid.py").write_text(third)
    (migrations / "0005_trip.py").write_text(AFTER)
    project.models(REPLICATED)
    (project.folder / "shop" / "p2p.py").write_text(registration)
    return project


def run(project: SchemaProject, script: str) -> None:
    project.run(SETUP + textwrap.dedent(script))


def test_the_migrations_of_the_page_make_an_ordinary_table_replicate(shop):
    run(
        shop,
        """
        from contextlib import suppress
        from io import StringIO
        for alias in connections:
            migrate(using=alias)
            assert not drift(alias), drift(alias)
        missing = StringIO()
        with suppress(SystemExit):
            call_command("makemigrations", "--dry-run", "shop", verbosity=3, stdout=missing)
        assert "field uid" not in missing.getvalue(), missing.getvalue()
        one, two, three = replica(), replica("other"), replica("third")
        meet(one, two, three, labels=LABELS)
        everything = ["both", "only default", "only other", "twice", "twice"]
        assert names("default") == names("other") == names("third") == everything, names("other")
        # Local numbers and what refers to them stayed.
        assert Visit.objects.using("default").count() == 4 and Visit.objects.using("other").count() == 2
        assert Visit.objects.using("other").filter(place__name="both").count() == 1
        Trip = apps.get_model("shop", "Trip")
        Trip.objects.create(place=Place.objects.get(name="only other"))
        Place.objects.using("other").filter(name="both").update(name="edited")
        meet(one, two, three, labels=LABELS)
        assert Trip.objects.using("third").get().place.name == "only other"
        assert Place.objects.filter(name="edited").count() == 1 and len(names("default")) == 5
        assert one.canonical("shop.Place") == two.canonical("shop.Place") == three.canonical("shop.Place")
    """,
    )


@pytest.mark.parametrize("step", ["0001_initial", "0002_place_uid", "0003_fill_uid"])
def test_between_the_steps_nothing_is_in_the_way_of_writers(shop, step):
    """The code knows the key already: the table waits for it, and says so."""
    run(
        shop,
        f"""
        from p2p_replication.storage.replica_database import ReplicaDatabase
        migrate("shop", {step!r})
        waiting = {{d.label: d.reason for d in drift()}}
        assert "run migrate" in waiting["shop.Place"], waiting
        assert "shop.Place" not in ReplicaDatabase().streams
        assert not install()
        outside("INSERT INTO shop_place (name) VALUES ('between')")
        outside("UPDATE shop_place SET name = 'both still' WHERE name = 'both'")
        if {step!r} == "0003_fill_uid":
            # Who writes after the fill has to give a key.
            outside("DELETE FROM shop_place WHERE name = 'between'")
        migrate(); migrate(using="third")
        assert not drift(), drift()
        one, three = replica(), replica("third")
        meet(one, three, labels=LABELS)
        assert names("third") == names("default")
        assert ("between" in names("third")) == ({step!r} != "0003_fill_uid")
    """,
    )


def test_the_steps_can_be_reversed_and_run_again(shop):
    run(
        shop,
        """
        migrate(); migrate(using="third")
        meet(replica(), replica("third"), labels=LABELS)
        Place.objects.filter(name="both").update(name="edited")
        migrate("shop", "0002_place_uid")
        Place.objects.filter(name="only default").update(name="without triggers")
        outside("INSERT INTO shop_place (name) VALUES ('without a key')")
        migrate()
        one, three = replica(), replica("third")
        meet(one, three, labels=LABELS)
        assert names("third") == names("default")
        assert {"edited", "without triggers", "without a key"} <= set(names("third"))
    """,
    )
