"""Django's management commands in a project that replicates."""

from __future__ import annotations

from tests.host_project.project import HostProject


def test_commands_that_look_find_nothing_to_say(project: HostProject) -> None:
    """Checks (also for deployment), migrations, SQL and models as the database has them."""
    said = project.script(
        """
        import io, os, tempfile
        os.environ["HOST_DEPLOYED"] = "1"
        from django.conf import settings

        def said(*arguments):
            out = io.StringIO()
            call_command(*arguments, stdout=out, stderr=io.StringIO())
            return out.getvalue()

        assert "no issues" in said("check", "--deploy", "--fail-level=WARNING", "--database=default")
        assert said("makemigrations", "--check", "--dry-run") == "No changes detected\\n"
        assert "No planned migration operations" in said("migrate", "--plan")
        assert "[X] 0009_seed" in said("showmigrations") and "[ ]" not in said("showmigrations")
        sql = said("sqlmigrate", "p2p_replication", "0001")
        assert 'CREATE TABLE "p2p_replication_changelogentry"' in sql
        sql = said("sqlmigrate", "catalog", "0001")
        assert 'CREATE TABLE "catalog_author"' in sql and "TRIGGER" not in sql
        for app in ("catalog", "p2p_replication"):
            with connection.cursor() as cursor:
                for statement in said("sqlsequencereset", app).splitlines():
                    if not statement.startswith("--"):
                        cursor.execute(statement)
        inspected = said("inspectdb", "--include-views")
        compile(inspected, "inspected", "exec")
        assert "class CatalogAuthor(" in inspected and "class OldInvoices(" in inspected
        """,
        HOST_DEPLOYED="1",
    )
    assert not said, said


def test_what_is_planned_is_said_before_it_is_done(project: HostProject) -> None:
    """``migrate --plan`` and ``makemigrations`` touch no trigger; ``squashmigrations`` makes what ``migrate`` takes."""
    project.script("""
        some_rows()
        replica().post()
    """)
    models = project.folder / "catalog" / "models.py"
    models.write_text(
        models.read_text().replace("    born = ", "    died = models.IntegerField(default=0)\n    born = ")
    )
    assert "died" in project.manage("makemigrations", "catalog", "--name=died")
    planned = project.script("""
        call_command("migrate", "--plan")
        assert not Gap.objects.filter(closed_at=None).exists()
        assert all(Stream.objects.values_list("trigger_digest", flat=True))
        call_command("squashmigrations", "catalog", "0010_died", interactive=False, verbosity=0)
    """)
    assert "Add field died" in planned, planned
    project.script("""
        call_command("check", fail_level="WARNING")
        call_command("migrate", verbosity=0)
        assert not drift(), drift()
        call_command("makemigrations", "--check", "--dry-run", verbosity=0)
        call_command("migrate", "catalog", database="peer", verbosity=0)
        meet(replica(), replica("peer"), labels=LABELS)
        assert rows("peer") == rows("default")
    """)


def test_a_migrated_clean_database_needs_one_migrate_only(project: HostProject) -> None:
    """All of the project's tables and ours come and go in one run each, with the triggers."""
    project.script("""
        some_rows()
        call_command("migrate", "catalog", "zero", verbosity=0)
        assert {d.label for d in drift()} == set(), drift()
        call_command("migrate", "p2p_replication", "zero", verbosity=0)
        Invoice.objects.create(total=1)
        call_command("migrate", verbosity=0)
        assert not drift()
        assert {a.name for a in Author.objects.all()} == {"Anonymous"}
    """)


def test_other_programs_write_as_ever(project: HostProject) -> None:
    """A connection as that of ``dbshell``, which knows nothing of Django or of us."""
    project.script("""
        settings = connection.settings_dict
        if connection.vendor == "postgresql":
            import psycopg
            shell = psycopg.connect(dbname=settings["NAME"], host=settings["HOST"], user=settings["USER"])
        else:
            import sqlite3
            shell = sqlite3.connect(settings["NAME"])
        key = "01890000-0000-7000-8000-000000000002" if connection.vendor == "postgresql" else "0189" + "0" * 27 + "2"
        shell.execute(f"INSERT INTO catalog_author (id, name, created_on) VALUES ('{key}', 'Raw', '2026-01-01')")
        shell.execute("UPDATE catalog_author SET born = 1 WHERE name = 'Anonymous'")
        shell.commit()
        shell.execute("DELETE FROM catalog_author")
        shell.rollback()
        shell.close()
        meet(replica(), replica("peer"), labels=LABELS)
        assert set(Author.objects.using("peer").values_list("name", "born")) == {("Raw", None), ("Anonymous", 1)}
    """)
