"""Which models replicate, and how they say so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import Group, User
from django.db import models
from django.test.utils import isolate_apps

import p2p_replication
from p2p_replication.exceptions import ConfigurationError
from p2p_replication.merges import Max
from p2p_replication.models import ReplicatedModel
from p2p_replication.registry import ModelReplication, Options, Registry, _links, _options, registry
from tests.testapp.models import Note
from tests.testapp.tallies import longer


@pytest.fixture
def isolated() -> Iterator[None]:
    with isolate_apps("tests.testapp"):
        yield


def test_models_that_inherit_replicate_and_others_do_not() -> None:
    assert Note in registry
    assert registry.get("testapp.Note") is registry.for_model(Note)
    assert User not in registry
    assert registry.get("auth.User") is None
    assert "testapp.Note" in [options.label for options in registry]


def test_links_between_rows_with_local_numbers_stay_local(isolated: None) -> None:
    class Hub(models.Model):  # noqa: DJ008
        slug = models.SlugField(unique=True)

        class Meta:
            app_label = "testapp"

    class Route(ReplicatedModel):
        hubs = models.ManyToManyField(Hub)

        class Meta:
            app_label = "testapp"

    def links(key: str) -> list[Options]:
        found = {m._meta.label: Options(model=m, key=key if m is Hub else "") for m in (Hub, Route)}
        return list(_links(found["testapp.Route"], found))

    assert [link.label for link in links("")] == ["testapp.Route_hubs"]
    assert links("slug") == []


def test_register_after_the_start_raises() -> None:
    with pytest.raises(ConfigurationError, match=r"register\(User\) came after Django had started. .*p2p.py"):
        p2p_replication.register(User)


def test_a_registered_model_replicates_as_the_class_says() -> None:
    fresh = Registry()

    @fresh.register(Group)
    class GroupReplication(ModelReplication):
        exclude = ["name"]
        pools = ["field-team", {"topic": "other-team", "account": "office"}]

    fresh.freeze()
    options = fresh.for_model(Group)
    assert options.exclude == {"name"}
    assert options.pools == ({"topic": "field-team"}, {"topic": "other-team", "account": "office"})
    assert options.source.endswith("GroupReplication")
    assert options.fields() == []
    assert fresh.for_model(Note) == registry.for_model(Note)


def test_a_key_that_is_no_field_raises() -> None:
    fresh = Registry()

    @fresh.register(Group)
    class GroupReplication(ModelReplication):
        key = "uid"

    with pytest.raises(ConfigurationError, match=r"auth\.Group: key names 'uid', which is no field.*It has: id, name"):
        fresh.freeze()
    GroupReplication.key = "name"
    fresh.freeze()
    options = fresh.for_model(Group)
    assert (options.key, options.key_field.name, options.fields()) == ("name", "name", [])
    assert registry.for_model(Note).key_field.name == "id"


def test_registering_twice_raises() -> None:
    fresh = Registry()
    fresh.register(Group)(ModelReplication)
    with pytest.raises(ConfigurationError, match=r"auth\.Group is registered for replication twice"):
        fresh.register(Group)(ModelReplication)


def test_registration_goes_before_the_inner_class() -> None:
    fresh = Registry()

    @fresh.register(Note)
    class NoteReplication(ModelReplication):
        exclude = ["body"]

    fresh.freeze()
    assert fresh.for_model(Note).exclude == {"body"}


def test_an_inner_class_gives_the_options(isolated: None) -> None:
    class Report(ReplicatedModel):
        title = models.CharField(max_length=10)
        draft = models.TextField(default="")

        class Meta:
            app_label = "testapp"

        class Replication:
            exclude = ["draft"]
            pools = ["field-team"]

        def __str__(self) -> str:
            return self.title

    options = _options(Report, Report.Replication)
    assert [field.name for field in options.fields()] == ["title"]
    assert options.pools == ({"topic": "field-team"},)


@pytest.mark.parametrize(("exclude", "text"), [(["titel"], "titel"), (["title", "zzz", "aaa"], "aaa, zzz")])
def test_excluding_an_unknown_field_raises(exclude: list[str], text: str) -> None:
    fresh = Registry()
    fresh.register(Note)(type("NoteReplication", (ModelReplication,), {"exclude": exclude}))
    with pytest.raises(ConfigurationError, match=rf"testapp\.Note: exclude names {text}, which is no field"):
        fresh.freeze()


def test_generated_fields_and_the_key_do_not_travel_as_fields(isolated: None) -> None:
    class Sum(ReplicatedModel):
        a = models.IntegerField()
        twice = models.GeneratedField(
            expression=models.F("a") * 2, output_field=models.IntegerField(), db_persist=False
        )

        class Meta:
            app_label = "testapp"

        def __str__(self) -> str:
            return str(self.a)

    assert [field.name for field in _options(Sum, ModelReplication).fields()] == ["a"]


def test_the_names_promised_at_the_top_of_the_package() -> None:
    for name in p2p_replication.__all__:
        assert getattr(p2p_replication, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        p2p_replication.nonsense  # noqa: B018


@pytest.mark.parametrize(
    ("merge", "text"),
    [
        ({"nothing": Max()}, "nothing, which is no field"),
        ({"id": Max()}, "id, which is no field"),
        ({"stars": "max"}, "'max'"),
        ({"stars": lambda a, b: a}, "top level of a module"),
    ],
)
def test_a_merge_that_means_nothing_is_refused(merge, text):
    with pytest.raises(ConfigurationError, match=text):
        _options(Note, type("Replication", (), {"merge": merge}))


def test_a_merge_may_be_given_as_a_class_or_a_function():
    merge = _options(Note, type("Replication", (), {"merge": {"stars": Max, "title": longer}})).merge
    assert {name: declared.name for name, declared in merge.items()} == {
        "stars": "max", "title": "function tests.testapp.tallies.longer",
    }  # fmt: skip
