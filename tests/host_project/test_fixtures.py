"""``flush``, ``dumpdata`` and ``loaddata`` in a project that replicates, run between and after workers' starts."""

from __future__ import annotations

from tests.host_project.project import HostProject


def test_a_flushed_database_is_a_new_replica_that_sends_nothing(project: HostProject) -> None:
    """Also if the log is emptied before the tables whose deletes it gets then: Django's order is any."""
    project.script("""
        some_rows()
        one, two = replica(), replica("peer")
        meet(one, two, labels=LABELS)
        before = rows("peer")
        assert rows("default") == before
        Author.objects.create(name="never posted")
    """)
    project.script("""
        known = connection.introspection.django_table_names
        def ours_first(*args, **kwargs):
            return sorted(known(*args, **kwargs), key=lambda name: not name.startswith("p2p_replication"))
        connection.introspection.django_table_names = ours_first
        call_command("flush", interactive=False, verbosity=0)
    """)
    project.script("""
        assert not drift(), drift()
        assert not Author.objects.exists() and not Replica.objects.exists() and not Pool.objects.exists()
        waiting = ChangeLogEntry.objects.exclude(stream=Stream.objects.get(label="legacy.Invoice").pk)
        assert not waiting.exists(), list(waiting)
        before = rows("peer")
        one, two = replica(), replica("peer")
        one.post()
        assert not LedgerEntry.objects.filter(status=EntryStatus.DELETED).exists()
        two.pull(one, LABELS)
        assert rows("peer") == before and len(before["catalog.Author"]) == 2, before
        meet(one, two, labels=LABELS)
        assert rows("default") == rows("peer") == before
        Author.objects.filter(name="Ana").update(born=1971)
        meet(one, two, labels=LABELS)
        assert Author.objects.using("peer").get(name="Ana").born == 1971
    """)


def test_a_dump_of_the_whole_project_loads_into_an_empty_database(project: HostProject) -> None:
    """It brings the project's rows, and nothing of the identity and the state of the replica that it was made on."""
    project.script("""
        import base64
        some_rows()
        one = replica()
        one.post()
        Author.objects.create(name="Bo")
        call_command("dumpdata", "--all", *WHOLE)
        key = bytes(Replica.objects.get().secret_key)
        text = open("all.json").read()
        assert len(key) == 32, len(key)
        assert "catalog.author" in text and "p2p_replication.ledgerentry" in text, text[:3000]
        assert base64.b64encode(key).decode() not in text and key.hex() not in text
        call_command("loaddata", "all.json", database="peer", verbosity=0)
        assert rows("peer") == rows("default")
        assert Book.objects.using("peer").get().tags.get().name == "new"
        assert not Replica.objects.using("peer").exists() and not LedgerEntry.objects.using("peer").exists()
        assert not drift("peer")
        one, two = replica(), replica("peer")
        assert one.database.replica_id != two.database.replica_id and len(two.database.secret_key) == 32
        Author.objects.using("peer").filter(name="Bo").update(born=1980)
        meet(one, two, labels=LABELS)
        assert rows("peer") == rows("default")
        assert Author.objects.get(name="Bo").born == 1980
    """)


def test_a_dump_loads_into_a_database_that_is_a_replica_already(project: HostProject) -> None:
    """Its rows are ordinary writes there; the replica stays who it is, and knows no more than it did."""
    project.script("""
        some_rows()
        Pool.objects.create(topic="another pool")
        one = replica()
        one.post()
        Author.objects.create(name="Bo")
        Author.objects.using("peer").create(name="Cy")
        two = replica("peer")
        two.post()
        call_command("dumpdata", "--natural-foreign", "-econtenttypes", "-eauth.permission", *WHOLE)

        def state():
            return [list(model.objects.using("peer").order_by("pk").values_list()) for model in (
                Replica, Origin, Start, Stream, FieldLayout, Gap, LedgerEntry, Pool, Declaration, PullCursor)]
        before = state()
        call_command("loaddata", "all.json", database="peer", verbosity=0)
        assert state() == before
        # The nine rows, without the one that both have already and the one that the project's manager hides.
        assert ChangeLogEntry.objects.using("peer").count() == 7
        two = replica("peer")
        two.post()
        call_command("loaddata", "all.json", database="peer", verbosity=0)
        assert not ChangeLogEntry.objects.using("peer").exists(), "rows that are the same are no writes"
        one = replica()
        meet(one, two, labels=LABELS)
        assert rows("peer") == rows("default")
        assert {a.name for a in Author.objects.all()} == {"Anonymous", "Ana", "Bo", "Cy"}
    """)


def test_fixtures_with_natural_keys_load_and_replicate(project: HostProject) -> None:
    project.script("""
        call_command("loaddata", "authors", verbosity=0)
        assert {a.name for a in Author.objects.all()} == {"Anonymous", "Ana", "Bo"}
        assert Book.objects.get().author.name == "Ana"
        meet(replica(), replica("peer"), labels=LABELS)
        assert rows("peer", Book, Author) == rows("default", Book, Author)
        call_command("loaddata", "authors", verbosity=0)
        assert Author.objects.count() == 3
        assert not ChangeLogEntry.objects.exists()
    """)
