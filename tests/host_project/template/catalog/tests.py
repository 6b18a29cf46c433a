"""The project's own tests: what Django's test classes promise, with replicated models."""

from urllib.request import urlopen

from django.contrib.auth import authenticate, get_user_model
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.test import LiveServerTestCase, SimpleTestCase, TestCase, TransactionTestCase, tag

from catalog.models import Author, Book, Draft, Tag
from p2p_replication.exceptions import ConfigurationError
from p2p_replication.models import ChangeLogEntry, EntryStatus, LedgerEntry
from p2p_replication.storage.capture.installation import drift
from p2p_replication.storage.posting import post_all
from p2p_replication.storage.replica_database import ReplicaDatabase
from p2p_replication.testing import LocalPool


def captured():
    return ChangeLogEntry.objects.count()


class Rollback(TestCase):
    fixtures = ["authors"]

    @classmethod
    def setUpTestData(cls):
        cls.author = Author.objects.create(name="Cy")
        cls.book = Book.objects.create(title="One", author=cls.author)

    def test_each_test_sees_the_rows_of_the_class(self):
        self.author.name = "changed"
        self.author.save()
        self.book.delete()
        Author.objects.create(name="more")

    def test_each_test_sees_the_rows_of_the_class_again(self):
        self.assertEqual([a.name for a in Author.objects.exclude(name="Anonymous")], ["Cy", "Bo", "Ana"])
        self.assertEqual(self.author.name, "Cy")
        self.assertEqual(set(Book.objects.values_list("title", flat=True)), {"One", "By natural key"})
        self.assertEqual(Book.objects.get(author__name="Ana").title, "By natural key")

    def test_queries_and_hooks_are_the_projects_own(self):
        with self.assertNumQueries(1):
            Author.objects.create(name="Di")
        author = Author.objects.get(name="Di")
        with self.assertNumQueries(1):
            author.born = 1990
            author.save()
        seen = []
        with self.captureOnCommitCallbacks(execute=True) as callbacks, transaction.atomic():
            author.born = 1991
            author.save()
            transaction.on_commit(lambda: seen.append(author.born))
        self.assertEqual((len(callbacks), seen), (1, [1991]))

    def test_a_refused_write_can_be_caught(self):
        with self.assertRaises(IntegrityError), transaction.atomic():
            Author.objects.create(name="Ana")
        self.assertEqual(Author.objects.filter(name="Ana").count(), 1)

    def test_users_log_in(self):
        user = get_user_model().objects.create_user("ana", "ana@example.org", "secret")
        self.assertEqual(authenticate(username="ana", password="secret"), user)
        self.client.force_login(user)
        self.assertEqual(self.client.get("/authors/", secure=True).status_code, 200)

    def test_hidden_rows_stay_hidden(self):
        draft = Draft.objects.create(text="x")
        draft.delete()
        self.assertFalse(Draft.objects.exists())
        self.assertEqual(Draft.everything.get().text, "x")

    def test_writes_are_captured_here_as_well(self):
        """Also in a clone of the database, in which ``--parallel`` runs tests."""
        self.assertEqual(drift(), [])
        before = captured()
        self.assertEqual(Author.objects.update(born=2000), captured() - before)


class Flush:
    """Tests whose rows are committed, and flushed afterwards; run twice by each class."""

    def add_rows(self):
        self.assertFalse(Author.objects.exclude(name="Anonymous").exists())
        self.assertFalse(get_user_model().objects.exists())
        self.assertFalse(Book.objects.exists())
        ana = Author.objects.create(name="Ana")
        Book.objects.create(title="One", author=ana, added_by=get_user_model().objects.create_user("ana"))
        Book.objects.get().tags.add(Tag.objects.create(name="new"))
        Draft.objects.create(text="x")
        seen = []
        with transaction.atomic():
            Author.objects.create(name="Bo")
            transaction.on_commit(lambda: seen.append("committed"))
            self.assertEqual(seen, [])
        self.assertEqual(seen, ["committed"])
        self.assertGreater(captured(), 4)

    def test_one(self):
        self.add_rows()

    def test_two(self):
        self.add_rows()

    def test_flushing_deletes_nothing_elsewhere(self):
        """What a worker would make of the flush after another test."""
        database = ReplicaDatabase()
        post_all(database)
        self.assertFalse(LedgerEntry.objects.filter(status=EntryStatus.DELETED).exists())


class Committed(Flush, TransactionTestCase):
    def test_fixtures_load(self):
        call_command("loaddata", "authors", verbosity=0)
        self.assertEqual(Book.objects.get().author.name, "Ana")

    def test_row_locks(self):
        Author.objects.create(name="Ana")
        with transaction.atomic():
            self.assertEqual(len(Author.objects.select_for_update()), 1)

    def test_capture_is_whole_after_a_flush(self):
        self.assertEqual(drift(), [])


class CommittedWithSomeApps(Flush, TransactionTestCase):
    available_apps = ["django.contrib.auth", "django.contrib.contenttypes", "people", "catalog"]


class CommittedWithOurApps(Flush, TransactionTestCase):
    available_apps = ["django.contrib.auth", "django.contrib.contenttypes", "people", "catalog", "p2p_replication"]


class Reset(TransactionTestCase):
    reset_sequences = True

    def test_sequences_begin_anew(self):
        self.assertEqual(Tag.objects.create(name="x").pk, 1)
        Author.objects.create(name="Ana")

    def test_sequences_begin_anew_again(self):
        self.assertEqual(Tag.objects.create(name="x").pk, 1)
        Author.objects.create(name="Ana")


@tag("rows-of-migrations")
class RowsOfMigrations(Flush, TransactionTestCase):
    serialized_rollback = True

    def test_rows_of_migrations_are_there(self):
        self.assertEqual(Author.objects.get().name, "Anonymous")
        Author.objects.all().delete()

    def test_rows_of_migrations_are_there_again(self):
        self.assertEqual(Author.objects.get().name, "Anonymous")
        Author.objects.all().delete()


class OfSeveralReplicas:
    """What the project makes of replicas that meet; the classes say in which kinds of tests."""

    def test_edits_of_one_book_on_two_replicas(self):
        with LocalPool("office", "tablet", models=[Author, Book]) as pool:
            ana = Author.objects.using("office").create(name="Ana")
            book = Book.objects.using("office").create(title="One", author=ana)
            pool.sync()
            pool.partition(["office"], ["tablet"])
            Book.objects.using("tablet").filter(pk=book.pk).update(title="Two")
            pool.clock.advance(60)
            Book.objects.using("office").filter(pk=book.pk).update(title="Three")
            Author.objects.using("tablet").filter(pk=ana.pk).update(born=1970)
            pool.sync()
            with self.assertRaisesMessage(AssertionError, "title is 'Three' on office, 'Two' on tablet"):
                pool.assert_converged()
            pool.heal()
            pool.sync()
            pool.assert_converged()
            self.assertEqual(Book.objects.using("tablet").get().title, "Three")
            self.assertEqual(Author.objects.using("office").get(name="Ana").born, 1970)


class InTheTestsTransaction(OfSeveralReplicas, TestCase):
    def test_the_projects_own_database_is_refused(self):
        with self.assertRaisesMessage(ConfigurationError, "Use TransactionTestCase"), LocalPool("default", "tablet"):
            pass


class WithoutADatabase(OfSeveralReplicas, SimpleTestCase):
    pass


class WithTheProjectsOwnDatabase(OfSeveralReplicas, TransactionTestCase):
    def test_it_is_one_of_the_replicas(self):
        with LocalPool("default", "tablet", models=[Author]) as pool:
            Author.objects.create(name="Ana")
            pool.sync()
            pool.assert_converged()
            self.assertTrue(Author.objects.using("tablet").filter(name="Ana").exists())


class Live(LiveServerTestCase):
    def test_a_request_writes(self):
        with urlopen(f"{self.live_server_url}/authors/?name=Ana", timeout=20) as response:
            self.assertEqual(response.read(), b"Ana")
        self.assertEqual(Author.objects.get().name, "Ana")
        self.assertGreater(captured(), 0)
        self.assertFalse(connection.in_atomic_block)
