"""The same with pytest-django's fixtures."""

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction

from catalog.models import Author
from p2p_replication.models import ChangeLogEntry, EntryStatus, LedgerEntry
from p2p_replication.storage.posting import post_all
from p2p_replication.storage.replica_database import ReplicaDatabase
from p2p_replication.testing import LocalPool

NUMBERS = [1, 2]


@pytest.mark.parametrize("number", NUMBERS)
def test_rolled_back(db, number, django_capture_on_commit_callbacks, django_assert_num_queries):
    assert list(Author.objects.values_list("name", flat=True)) == ["Anonymous"]
    with django_capture_on_commit_callbacks(execute=True) as callbacks, django_assert_num_queries(1):
        Author.objects.create(name="Ana")
    assert not callbacks
    assert ChangeLogEntry.objects.exists()


@pytest.mark.parametrize("number", NUMBERS)
def test_flushed(transactional_db, number):
    assert not connection.in_atomic_block
    assert not Author.objects.filter(name="Ana").exists()
    seen = []
    with transaction.atomic():
        Author.objects.create(name="Ana")
        transaction.on_commit(lambda: seen.append(1))
    assert seen == [1]
    assert ChangeLogEntry.objects.exists()
    post_all(ReplicaDatabase())
    assert not LedgerEntry.objects.filter(status=EntryStatus.DELETED).exists()


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_rows_of_migrations(number):
    assert list(Author.objects.values_list("name", flat=True)) == ["Anonymous"]
    Author.objects.all().delete()


@pytest.mark.parametrize("number", NUMBERS)
def test_two_replicas(db, number):
    with LocalPool("office", "tablet", models=[Author]) as pool:
        Author.objects.using("office").create(name="Ana")
        pool.sync()
        pool.assert_converged()
        assert Author.objects.using("tablet").filter(name="Ana").exists()


@pytest.mark.django_db(transaction=True)
def test_the_own_database_is_one_of_the_replicas():
    with LocalPool("default", "tablet", models=[Author]) as pool:
        Author.objects.create(name="Ana")
        pool.sync()
        pool.assert_converged()
        assert Author.objects.using("tablet").filter(name="Ana").exists()


def test_the_admin(admin_client, live_server, settings):
    assert admin_client.get("/admin/catalog/author/").status_code == 200
    assert get_user_model().objects.get().last_login is not None
