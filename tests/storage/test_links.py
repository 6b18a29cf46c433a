"""Many-to-many rows of automatic tables: known by their two ends, whatever their own number is."""

from __future__ import annotations

import datetime

import pytest
from django.db import transaction

from p2p_replication.models import Parking
from p2p_replication.storage.capture import installation
from p2p_replication.storage.link_rows import bury_links
from tests.storage.conftest import StorageReplica, meet
from tests.testapp.models import Book, Language, Person, Reader, Shelf, Tag

LINKS = "testapp.Person_tags"
LABELS = (
    "testapp.Tag", "testapp.Language", "testapp.Person", LINKS, "testapp.Person_friends", "testapp.Person_follows",
    "testapp.Person_languages",
)  # fmt: skip
pytestmark = pytest.mark.on("sqlite", "postgresql")


def person(using: str, name: str = "p") -> Person:
    return Person.objects.using(using).create(name=name)


def tags(using: str, *names: str) -> list[Tag]:
    return [Tag.objects.using(using).create(name=name) for name in names]


def names(using: str, one: Person) -> set[str]:
    return set(Person.objects.using(using).get(pk=one.pk).tags.values_list("name", flat=True))


def there(using: str, one: Person) -> Person:
    return Person.objects.using(using).get(pk=one.pk)


def assert_equal(*replicas: StorageReplica, labels: tuple[str, ...] = LABELS) -> None:
    """All tables are equal, nothing is parked, and nothing is left to say."""
    for label in labels:
        for other in replicas[1:]:
            assert replicas[0].canonical(label) == other.canonical(label), label
    assert [one.parked() for one in replicas] == [0] * len(replicas)
    for one in replicas:
        assert one.post().entries == 0
        assert one.site.broken_references() == []
        one.sent_rows = 0
    meet(*replicas, labels=labels)
    assert [one.sent_rows for one in replicas] == [0] * len(replicas)


def test_add_remove_set_and_clear_arrive(replica):
    a, b = replica("a"), replica("b")
    one, (x, y, z) = person("a"), tags("a", "x", "y", "z")
    one.tags.add(x, y)
    meet(a, b, labels=LABELS)
    assert names("b", one) == {"x", "y"}
    one.tags.remove(x)
    meet(a, b, labels=LABELS)
    assert names("b", one) == {"y"}
    there("b", one).tags.set([x.pk, z.pk])
    meet(a, b, labels=LABELS)
    assert names("a", one) == {"x", "z"}
    Tag.objects.using("a").get(pk=z.pk).people.clear()
    meet(a, b, labels=LABELS)
    assert names("b", one) == {"x"}
    there("b", one).tags.clear()
    meet(a, b, labels=LABELS)
    assert names("a", one) == set()
    assert_equal(a, b)


def test_links_are_known_by_their_ends_whatever_their_own_number_is(replica):
    a, b = replica("a"), replica("b")
    one, (x, y) = person("a"), tags("a", "x", "y")
    meet(a, b, labels=LABELS)
    there("b", one).tags.add(y.pk)  # takes the number that the other replica gives to x
    one.tags.add(x)
    meet(a, b, labels=LABELS)
    assert names("a", one) == names("b", one) == {"x", "y"}
    numbers = [dict(r.sql("SELECT id, tag_id FROM testapp_person_tags")) for r in (a, b)]
    assert len(numbers[0]) == len(numbers[1]) == 2
    assert_equal(a, b)


def test_two_replicas_that_add_the_same_link_do_not_clash(replica):
    a, b, c = replica("a"), replica("b"), replica("c")
    one, (x,) = person("a"), tags("a", "x")
    meet(a, b, c, labels=LABELS)
    one.tags.add(x)
    there("b", one).tags.add(x.pk)
    meet(a, b, c, labels=LABELS)
    assert names("c", one) == {"x"}
    assert_equal(a, b, c)


@pytest.mark.parametrize("later", ["add", "remove"])
def test_of_add_and_remove_at_two_places_the_later_wins(replica, later):
    a, b = replica("a"), replica("b")
    one, (x,) = person("a"), tags("a", "x")
    one.tags.add(x)
    meet(a, b, labels=LABELS)
    there("b", one).tags.remove(x.pk)  # known to both sides: that is where "add" begins
    if later == "add":
        there("b", one).tags.add(x.pk)
        one.tags.remove(x)
        b.post()
        # The clock of the row decides, not who is asked first.
        a.sql("UPDATE p2p_replication_changelogentry SET wall = wall - 60000")
    else:
        one.tags.remove(x)
        one.tags.add(x)
        a.sql("UPDATE p2p_replication_changelogentry SET wall = wall - 60000")
        b.sql("UPDATE p2p_replication_changelogentry SET wall = wall + 1000")
    meet(a, b, labels=LABELS)
    assert names("a", one) == names("b", one) == ({"x"} if later == "add" else set())
    assert_equal(a, b)


def test_a_link_that_comes_before_its_ends_waits_for_them(replica):
    a, b = replica("a"), replica("b")
    one, (x, y) = person("a"), tags("a", "x", "y")
    one.tags.add(x, y)
    b.pull(a, (LINKS,))
    assert set(Parking.objects.using("b").values_list("reason", flat=True)) == {"missing parent"}
    b.pull(a, ("testapp.Tag",))
    assert b.retry_parked() == 0
    b.pull(a, ("testapp.Person",))
    assert b.retry_parked() == 2
    assert names("b", one) == {"x", "y"}
    meet(a, b, labels=LABELS)
    assert_equal(a, b)


def test_links_wait_and_are_passed_on_by_who_lacks_their_ends(replica):
    a, b, c = replica("a"), replica("b"), replica("c")
    one, (x,) = person("a"), tags("a", "x")
    one.tags.add(x)
    b.pull(a, (LINKS,))
    c.pull(b, (LINKS,))
    c.pull(a, ("testapp.Person", "testapp.Tag"))
    assert c.retry_parked() == 1
    assert names("c", one) == {"x"}


def test_rows_of_any_writer(replica):
    """Raw SQL, bulk writes on the through model, a change of an end, and other columns than the two ends."""
    a, b = replica("a"), replica("b")
    one, two, (x, y, z) = person("a"), person("a"), tags("a", "x", "y", "z")
    through = Person.tags.through
    through.objects.using("a").bulk_create([through(person=one, tag=tag) for tag in (x, y)])
    a.outside(
        ("INSERT INTO testapp_person_tags (person_id, tag_id) VALUES (%s, %s)", (a.site.key(two.pk), a.site.key(z.pk)))
    )
    meet(a, b, labels=LABELS)
    assert names("b", one) == {"x", "y"} and names("b", two) == {"z"}
    a.outside(("UPDATE testapp_person_tags SET tag_id = %s WHERE tag_id = %s", (a.site.key(z.pk), a.site.key(y.pk))))
    through.objects.using("a").filter(tag=x).update(person=two)
    b.outside("UPDATE testapp_person_tags SET id = id + 1000")
    assert b.post().entries == 0  # its own number is nobody's business
    meet(a, b, labels=LABELS)
    assert names("b", one) == {"z"} and names("b", two) == {"x", "z"}
    a.outside("DELETE FROM testapp_person_tags")
    meet(a, b, labels=LABELS)
    assert not through.objects.using("b").exists()
    assert_equal(a, b)


def test_a_rolled_back_add_never_arrives(replica):
    a, b = replica("a"), replica("b")
    one, (x,) = person("a"), tags("a", "x")
    with pytest.raises(ZeroDivisionError), transaction.atomic(using="a"):
        one.tags.add(x)
        raise ZeroDivisionError
    meet(a, b, labels=LABELS)
    assert names("b", one) == set()


@pytest.mark.on("sqlite")
def test_a_row_that_is_replaced_by_its_number_is_gone(replica):
    a, b = replica("a"), replica("b")
    one, (x, y) = person("a"), tags("a", "x", "y")
    one.tags.add(x)
    meet(a, b, labels=LABELS)
    a.outside((
        "INSERT OR REPLACE INTO testapp_person_tags (id, person_id, tag_id) SELECT id, person_id, %s "
        "FROM testapp_person_tags", (a.site.key(y.pk),),
    ))  # fmt: skip
    # One with the same ends is no change at all.
    a.outside("INSERT OR REPLACE INTO testapp_person_tags SELECT id + 7, person_id, tag_id FROM testapp_person_tags")
    meet(a, b, labels=LABELS)
    assert names("b", one) == {"y"}
    assert_equal(a, b)


def test_links_that_were_there_before_replication_are_adopted(replica):
    a, b = replica("a"), replica("b")
    installation.remove("a", reason="test")
    one, (x, y) = person("a"), tags("a", "x", "y")
    one.tags.add(x, y)
    installation.install("a")
    meet(a, b, labels=LABELS)
    installation.remove("a", reason="test")
    one.tags.remove(x)
    installation.install("a")
    a.start()
    meet(a, b, labels=LABELS)
    assert names("b", one) == {"y"}
    assert_equal(a, b)


def test_symmetrical_links_are_two_rows_that_go_together(replica):
    a, b = replica("a"), replica("b")
    one, two = person("a", "1"), person("a", "2")
    one.friends.add(two)
    one.follows.add(two)
    meet(a, b, labels=LABELS)
    assert [f.pk for f in there("b", two).friends.all()] == [one.pk]
    assert [f.pk for f in there("b", one).friends.all()] == [two.pk]
    assert [f.pk for f in there("b", two).followers.all()] == [one.pk]
    assert not there("b", two).follows.exists()
    there("b", two).friends.remove(one.pk)
    meet(a, b, labels=LABELS)
    assert not one.friends.exists() and not two.friends.exists()
    assert_equal(a, b)


def test_text_keys_with_any_characters(replica):
    a, b = replica("a"), replica("b")
    one = person("a")
    codes = ["/", "~", "~1/", "a/b", "~0", "é/ñ 表", "'\"", "100%", "", " "]
    languages = [Language.objects.using("a").create(code=code) for code in codes]
    one.languages.add(*languages)
    meet(a, b, labels=LABELS)
    assert set(there("b", one).languages.values_list("code", flat=True)) == set(codes)
    assert_equal(a, b)
    there("b", one).languages.remove("a/b", "~1/")
    meet(a, b, labels=LABELS)
    assert set(one.languages.values_list("code", flat=True)) == set(codes) - {"a/b", "~1/"}


def test_fields_that_stay_local_say_nothing(replica):
    a, b = replica("a"), replica("b")
    one, (x,) = person("a"), tags("a", "x")
    hobby = one.hobbies.create(name="chess")
    one.secret_tags.add(x)
    meet(a, b, labels=LABELS)
    assert not a.database.streams.keys() & {"testapp.Person_hobbies", "testapp.Person_secret_tags"}
    there("b", one).secret_tags.add(x.pk)
    x.delete(using="a")
    meet(a, b, labels=LABELS)
    assert not Tag.objects.using("b").exists()
    assert not there("b", one).secret_tags.exists()
    assert [h.pk for h in one.hobbies.all()] == [hobby.pk]
    assert_equal(a, b)


# -- ends that go ----------------------------------------------------------------------------------------------------


def bury(*replicas: StorageReplica) -> int:
    return sum(bury_links(one.database, datetime.timedelta(0)) for one in replicas)


@pytest.mark.parametrize("order", [LABELS, LABELS[::-1]])
def test_links_go_with_an_end_and_their_tombstones_cross_once(replica, order):
    a, b, c = replica("a"), replica("b"), replica("c")
    one, (x, y) = person("a"), tags("a", "x", "y")
    one.tags.add(x, y)
    meet(a, b, c, labels=LABELS)
    x.delete(using="a")
    for one_replica in (a, b, c):
        one_replica.sent_rows = 0
    meet(a, b, c, labels=order)
    assert names("b", one) == names("c", one) == {"y"}
    assert a.sent_rows + b.sent_rows + c.sent_rows == 4  # the tag and the link, to two replicas
    assert bury(a, b, c) == 0
    assert_equal(a, b, c)


def test_a_database_that_cascades_by_itself_is_heard(replica):
    a, b = replica("a"), replica("b")
    one, (x,) = person("a"), tags("a", "x")
    one.tags.add(x)
    meet(a, b, labels=LABELS)
    key = a.site.key(x.pk)
    a.outside(
        ("DELETE FROM testapp_person_tags WHERE tag_id = %s", (key,)), ("DELETE FROM testapp_tag WHERE id = %s", (key,))
    )
    meet(a, b, labels=LABELS)
    assert names("b", one) == set()
    assert_equal(a, b)


@pytest.mark.parametrize("retry_first", [False, True])
def test_a_link_to_an_end_that_was_deleted_elsewhere_goes_with_it(replica, retry_first):
    a, b, c = replica("a"), replica("b"), replica("c")
    one, (x,) = person("a"), tags("a", "x")
    meet(a, b, c, labels=LABELS)
    there("b", one).tags.add(x.pk)
    x.delete(using="a")
    meet(a, b, c, labels=LABELS)
    assert not Tag.objects.using("b").exists()
    assert [r.sql("SELECT COUNT(*) FROM testapp_person_tags")[0][0] for r in (a, b, c)] == [0, 0, 0]
    assert [r.parked() for r in (a, b, c)] == [1, 1, 1]
    if retry_first:
        assert a.retry_parked() == b.retry_parked() == 0
    assert bury(a, b, c) == 3  # all at once, and the same on each
    meet(a, b, c, labels=LABELS)
    assert_equal(a, b, c)
    assert bury(a, b, c) == 0
    assert len({r.entries(LINKS).popitem()[1].deleted for r in (a, b, c)}) == 1


def test_a_link_comes_back_if_its_end_does(replica):
    a, b = replica("a"), replica("b")
    one, (x,) = person("a"), tags("a", "x")
    meet(a, b, labels=LABELS)
    key = x.pk
    there("b", one).tags.add(key)
    x.delete(using="a")
    meet(a, b, labels=LABELS)
    assert [a.parked(), b.parked()] == [1, 1]
    Tag.objects.using("a").create(pk=key, name="again")
    meet(a, b, labels=LABELS)
    assert names("a", one) == names("b", one) == {"again"}
    assert_equal(a, b)


def test_a_link_that_was_made_of_a_parked_row_is_found_by_the_retry(replica):
    """The application adds a link that waits for its end, whose end it has made itself meanwhile."""
    a, b = replica("a"), replica("b")
    one, (x,) = person("a"), tags("a", "x")
    one.tags.add(x)
    b.pull(a, ("testapp.Person", LINKS))
    assert b.parked() == 1
    Tag.objects.using("b").create(pk=x.pk, name="own")
    there("b", one).tags.add(x.pk)
    b.post()
    b.retry_parked()
    assert b.parked() == 0
    there("b", one).tags.remove(x.pk)
    meet(a, b, labels=LABELS)
    assert names("a", one) == names("b", one) == set()
    assert_equal(a, b)


def test_the_ends_own_deletion_is_not_taken_for_it_while_it_waits(replica):
    """A tag's delete that is parked keeps its links; only when it happens are they taken out."""
    a, b = replica("a"), replica("b")
    shelf = Shelf.objects.using("a").create(name="s")
    labels = ("testapp.Shelf", "testapp.Book", "testapp.Reader", "testapp.Reader_shelves")
    reader = Reader.objects.using("a").create()
    meet(a, b, labels=labels)
    book = Book.objects.using("b").create(shelf_id=shelf.pk, title="new")
    Reader.objects.using("b").get(pk=reader.pk).shelves.add(shelf.pk)
    shelf.delete(using="a")
    b.pull(a, labels)
    b.retry_parked()
    assert Reader.objects.using("b").get(pk=reader.pk).shelves.count() == 1
    assert bury(b) == 0
    book.delete(using="b")
    assert b.retry_parked() == 1
    assert Reader.objects.using("b").get(pk=reader.pk).shelves.count() == 0
    assert not Shelf.objects.using("b").exists()
    assert b.site.broken_references() == []
    assert bury(b) == 1
    meet(a, b, labels=labels)
    bury(a, b)
    meet(a, b, labels=labels)
    assert_equal(a, b, labels=labels)
