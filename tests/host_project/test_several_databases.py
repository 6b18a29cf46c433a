"""Projects with more than one database: routers, other databases, copies to read from."""

from __future__ import annotations

import pytest

from tests.host_project.conftest import NewDatabases
from tests.host_project.project import HostProject


@pytest.fixture
def project(project: HostProject, new_databases: NewDatabases) -> HostProject:
    """A project with a migrated database, and two that have no tables at all."""
    project.use(new_databases(project.folder, "default", empty=("other", "reader")))
    return project


def test_another_database_for_what_does_not_replicate(project: HostProject) -> None:
    """It gets no table, no trigger and no trouble of ours."""
    project.script(
        """
        for alias in ("default", "other"):
            call_command("migrate", database=alias, verbosity=0)
        call_command("check", databases=["default", "other"], fail_level="WARNING")
        assert set(connections["other"].introspection.table_names()) == {"django_migrations", "django_session"}
        from django.contrib.sessions.backends.db import SessionStore
        session = SessionStore()
        session["seen"] = 1
        session.save()
        assert SessionStore(session.session_key)["seen"] == 1
        assert not drift("other") and not install("other")
        for alias in ("default", "other"):
            call_command("flush", database=alias, interactive=False, verbosity=0)
        assert not drift()
        """,
        HOST_ROUTERS='["host.routers.SessionsOnOther"]',
    )


def test_a_replicated_model_in_another_database_is_refused_by_a_check_and_works_as_a_plain_one(
    project: HostProject,
) -> None:
    project.script(
        """
        from django.core.checks import run_checks
        for alias in ("default", "other"):
            call_command("migrate", database=alias, verbosity=0)
        assert [(m.id, m.obj) for m in run_checks() if m.id == "p2p_replication.E021"] == [
            ("p2p_replication.E021", Invoice)]
        invoice = Invoice.objects.create(total=1)
        Invoice.objects.update(total=2)
        assert invoice._state.db == "other"
        # The default database has had the table before the router came.
        with connection.cursor() as cursor:
            cursor.execute("UPDATE old_invoices SET total = 3")
        assert not drift() and not drift("other")
        Author.objects.create(name="Ana")
        database = replica().database
        assert "legacy.Invoice" not in database.streams and "catalog.Author" in database.streams
        replica().post()
        assert LedgerEntry.objects.count() == Author.objects.count() == 2
        """,
        HOST_ROUTERS='["host.routers.LegacyOnOther"]',
    )


def test_replications_own_tables_in_another_database_are_refused_by_a_check(project: HostProject) -> None:
    """The triggers write into them, so they lie where the rows lie."""
    project.script(
        """
        from django.core.checks import run_checks
        (found,) = [m for m in run_checks() if m.id == "p2p_replication.E022"]
        assert "'other'" in found.msg and "allow_migrate" in found.hint, found
        """,
        HOST_ROUTERS='["host.routers.ReplicationOnOther"]',
    )


def test_a_copy_to_read_from_is_never_asked_what_has_been_done(project: HostProject) -> None:
    """All reading goes to a copy that is far behind: it has no tables yet. Commands, handles, pages and the worker."""
    project.script(
        """
        import signal, subprocess, sys, time
        from django.contrib.admin import site
        from django.test import RequestFactory
        import p2p_replication
        call_command("migrate", verbosity=0)
        call_command("check", databases=["default"], fail_level="WARNING")
        author = Author.objects.create(name="Ana")
        author.name = "Ana B."
        author.save()
        pool = p2p_replication.sync_p2p(Author, "field-team")
        assert not pool.peers and not pool.errors and pool.declaration
        pool.restart()
        try:
            pool.wait_in_sync(0.01)
        except Exception as error:
            assert "worker" in str(error), error
        call_command("p2p", "triggers", "check")
        call_command("p2p", "rescan")
        user = Person(username="ana", is_superuser=True, is_staff=True)
        user.save()
        from p2p_replication.signaling.tokens import create_token, find_token
        token, secret = create_token(user, "laptop")
        assert find_token(secret) == token
        for model, pages in ((Pool, ["", pool.pool.pk]), (Parking, [""]), (Peer, [""]), (PoolError, [""])):
            for page in pages:
                request = RequestFactory().get("/")
                request.user = user
                view = site._registry[model].change_view if page else site._registry[model].changelist_view
                response = view(request, str(page)) if page else view(request)
                response.render()
                assert response.status_code == 200
        worker = subprocess.Popen([sys.executable, "manage.py", "runp2psync", "--log"], stderr=subprocess.PIPE)
        try:
            deadline = time.monotonic() + 60
            entries = LedgerEntry.objects.all()
            while entries.count() < 3 and time.monotonic() < deadline and worker.poll() is None:
                time.sleep(0.05)
        finally:
            worker.send_signal(signal.SIGTERM)
            said = worker.communicate(timeout=30)[1].decode()
        assert worker.returncode == 0 and entries.count() == 3, said
        assert "reader" not in said and "Traceback" not in said, said
        pool.cancel()
        assert not Declaration.objects.exists()
        """,
        HOST_ROUTERS='["host.routers.ReadReplica"]',
    )
