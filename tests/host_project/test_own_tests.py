"""The host project's own test suite, as its developers run it: nothing in it knows of a worker."""

from __future__ import annotations

from tests.host_project.project import HostProject


def test_the_tests_of_the_project_pass_and_leave_a_database_that_can_be_kept(project: HostProject) -> None:
    """Twice with ``--keepdb``, the second time in reverse, and no warning of ours in what it prints."""
    databases = project.databases
    if "sqlite3" in databases["default"]["ENGINE"]:
        databases["default"]["TEST"] = {"NAME": str(project.folder / "test.sqlite3")}
        project.use(databases)
    first = project.manage("test", "--keepdb", "--no-input")
    assert "no issues" in first and "p2p_replication" not in first, first
    # What migrations have filled in is flushed by then, as in any project.
    second = project.manage("test", "--keepdb", "--no-input", "--reverse", "--exclude-tag=rows-of-migrations")
    assert "Using existing test database" in second and "OK" in second, second


def test_the_tests_of_the_project_pass_in_clones_of_the_database(project: HostProject) -> None:
    """One of them looks for the triggers in the database that it was given."""
    said = project.manage("test", "--parallel=2", "--no-input")
    assert said.count("Cloning test database") == 2, said


def test_the_tests_of_the_project_pass_with_pytest_django(project: HostProject) -> None:
    project.pytest("--reuse-db", "-q")
