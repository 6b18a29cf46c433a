"""Each system check: what it says, and that it is silent where all is well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.db import connection, connections, models
from django.test import override_settings
from django.utils.module_loading import import_string

from p2p_replication import checks
from p2p_replication.checks.databases import SQLITE_OPTIONS, check_capture, check_databases
from p2p_replication.checks.pools import check_declared_pools
from p2p_replication.checks.settings import SHIPPED_BACKENDS, check_settings
from p2p_replication.registry import Options, registry
from p2p_replication.storage.capture import installation
from tests.testapp.models import Note, Shelf

URL = {"default": {"SIGNALING_URL": "wss://example.org/p2p/signaling/"}}


def ids(messages: list[CheckMessage]) -> list[str]:
    assert all(message.hint for message in messages), "each check says what to do"
    return [str(message.id).removeprefix("p2p_replication.") for message in messages]


def test_the_ids_in_use_are_the_documented_ones() -> None:
    documented = {
        line.split()[0] for line in (checks.__doc__ or "").splitlines() if line[:1] in "EWI" and line[1:4].isdigit()
    }
    used: set[str] = set()
    for module in (checks.settings, checks.pools, checks.models, checks.keys, checks.merges, checks.databases):
        text = Path(str(module.__file__)).read_text()
        used |= {part[:4] for part in text.split('id="p2p_replication.')[1:]}
    assert used == documented


@pytest.mark.django_db
def test_this_projects_own_checks_have_no_errors() -> None:
    """All checks are registered, and run where models are as they should be."""
    found = [m for m in run_checks(databases=["default"]) if str(m.id).startswith("p2p_replication.")]
    # Files, many-to-many rows that stay here, and tables that stand in the way of unique clashes are there on purpose.
    assert {str(m.id) for m in found} <= {f"p2p_replication.{name}" for name in ("I010", "W012", "W013", "W015")}


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "id", "text"),
    [
        (["x"], "E001", "must be a dict, not list"),
        ({"ACCOUNT": {}}, "E001", "unknown key 'ACCOUNT'"),
        ({"accounts": {}}, "E001", "unknown key 'accounts'"),
        ({"ACCOUNTS": []}, "E002", "['ACCOUNTS'] is []"),
        ({"ACCOUNTS": {"default": "ws://x"}}, "E002", "['ACCOUNTS']['default'] is 'ws://x'"),
        ({"ACCOUNTS": {"default": {"URL": "ws://x"}}}, "E002", "unknown key 'URL'"),
        ({"ACCOUNTS": {"default": {"SIGNALING_URL": "https://x"}}}, "E002", "is 'https://x'"),
        ({"ACCOUNTS": {"default": {"TOKEN": 5}}}, "E002", "['TOKEN'] is <class 'int'>"),
        ({"CONNECTION_HANDLERS": {"default": {}}}, "E002", "['BACKEND'] is None"),
        ({"CONNECTION_HANDLERS": {"default": {"BACKEND": "a.b", "OPTIONS": 1}}}, "E002", "['OPTIONS'] is 1"),
        ({"NAME": 7}, "E002", "['NAME'] is 7"),
        ({"FILE_WATCHER": 1}, "E002", "['FILE_WATCHER'] is 1"),
        ({"LEASE_TTL": "10"}, "E002", "['LEASE_TTL'] is '10'"),
        ({"LEASE_TTL": 0}, "E002", "['LEASE_TTL'] is 0"),
        ({"LEASE_TTL": True}, "E002", "['LEASE_TTL'] is True"),
        ({"ERROR_RETENTION": 1.5}, "E002", "['ERROR_RETENTION'] is 1.5"),
        ({"CONNECTION_HANDLERS": {"default": {"BACKEND": "no.such.Handler"}}}, "E003", "can't be imported"),
        ({"CONNECTION_HANDLERS": {"default": {"BACKEND": "decimal.Decimal"}}}, "E003", "is no subclass"),
        ({"ROOM_AUTHORIZER": "no.such.function"}, "E004", "can't be imported"),
        ({"ROOM_AUTHORIZER": "math.pi"}, "E004", "is no function"),
        ({"SIGNALING_LIMITS": {"rooms": 5}}, "E004", "rooms"),
        ({"LISTEN_CONNECTION": "host=server"}, "E002", "['LISTEN_CONNECTION'] is 'host=server'"),
        ({"LISTEN_CONNECTION": {"HOST": "server"}}, "E002", "['LISTEN_CONNECTION'] has an unknown key 'HOST'"),
        ({"LISTEN_CONNECTION": {"password": ["secret"]}}, "E002", "['password'] is <class 'list'>"),
        ({"LISTEN_CONNECTION": {"port": None}}, "E002", "['port'] is <class 'NoneType'>"),
    ],
)
def test_wrong_settings_are_named(value: Any, id: str, text: str) -> None:
    with override_settings(P2P_REPLICATION=value):
        found = check_settings(None)
        assert ids(found) == [id]
        assert text in found[0].msg
        # Checks that read the settings must not fall over them.
        check_declared_pools(None)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"ACCOUNTS": URL, "LEASE_TTL": 5, "NAME": "node", "ICE_SERVERS": []},
        {"LISTEN_CONNECTION": {"host": "server", "port": 5432, "sslmode": "require"}},
    ],
)
def test_right_settings_are_silent(value: dict[str, Any]) -> None:
    with override_settings(P2P_REPLICATION=value):
        assert check_settings(None) == []


def test_a_misspelt_key_gets_a_suggestion() -> None:
    with override_settings(P2P_REPLICATION={"LEASE_TLL": 5}):
        assert check_settings(None)[0].hint == "Did you mean 'LEASE_TTL'?"
    with override_settings(P2P_REPLICATION={"LISTEN_CONNECTION": {"HOST": "server"}}):
        assert check_settings(None)[0].hint == "Did you mean 'host'?"


def test_the_shipped_backends_exist() -> None:
    assert all(import_string(path) for path in SHIPPED_BACKENDS)


# -- pools -----------------------------------------------------------------------------------------------------------


def refuse_all(*args: Any) -> bool:
    return False


def declare(monkeypatch: pytest.MonkeyPatch, *pools: dict[str, Any], model: Any = Note) -> list[CheckMessage]:
    """What the checks say if the code declares these pools, each for a model of its own."""
    labels = ["testapp.Note", "testapp.Shelf"]
    options = {
        label: Options(model=model, pools=(pool,), source=f"app.p2p.{label}")
        for label, model, pool in zip(labels, [Note, Shelf], pools, strict=False)
    }
    monkeypatch.setattr(registry, "_options", options)
    return check_declared_pools(None)


@pytest.mark.parametrize(
    ("pool", "text"),
    [
        ({"topic": "field-team", "account": "nobody"}, "account='nobody' is not in P2P_REPLICATION['ACCOUNTS']"),
        ({"topic": "field-team", "connection_handler": "tcp"}, "connection_handler='tcp' is not in"),
        ({"topic": "abc"}, "topic='abc'"),
        ({"account": "default"}, "it names no topic"),
        ({"topic": "field-team", "acount": "x"}, "unknown option acount"),
        ({"topic": "field-team", "where": {"titel": 1}}, "where: titel: titel is no field of it"),
        ({"topic": "field-team", "pull": {"modifier": "no.such.function"}}, "no.such.function can't be imported"),
        ({"topic": "field-team", "pull": None, "push": None}, "nothing would replicate"),
        ({"topic": "field-team", "is_peer_valid": refuse_all}, "must be the dotted path"),
        ({"topic": "field-team", "is_peer_valid": "no.such.function"}, "no.such.function can't be imported"),
    ],
)
def test_a_declared_pool_that_can_not_work_is_an_error(
    monkeypatch: pytest.MonkeyPatch, pool: dict[str, Any], text: str
) -> None:
    with override_settings(P2P_REPLICATION={"ACCOUNTS": URL}):
        found = declare(monkeypatch, pool)
    assert ids(found) == ["E005"]
    assert text in found[0].msg
    assert "app.p2p.testapp.Note.pools" in str(found[0].hint)


def test_models_that_declare_one_pool_differently_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with override_settings(P2P_REPLICATION={"ACCOUNTS": URL}):
        found = declare(
            monkeypatch,
            {"topic": "field-team"},
            {"topic": "field-team", "is_peer_valid": f"{__name__}.refuse_all"},
        )
    assert ids(found) == ["E005"]
    assert "testapp.Note declares the same pool" in found[0].msg


def test_a_declared_pool_that_can_work_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    with override_settings(P2P_REPLICATION={"ACCOUNTS": URL}):
        assert declare(monkeypatch, {"topic": "field-team", "is_peer_valid": f"{__name__}.refuse_all"}) == []


def test_an_account_without_signaling_is_a_warning_only_if_a_pool_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with override_settings(P2P_REPLICATION={}):
        assert declare(monkeypatch) == []
        found = declare(monkeypatch, {"topic": "field-team"})
        assert ids(found) == ["W001"]
        assert "['ACCOUNTS']['default'] has no SIGNALING_URL" in found[0].msg
    memory = {"default": {"BACKEND": "p2p_replication.transport.memory.MemoryHandler"}}
    with override_settings(P2P_REPLICATION={"CONNECTION_HANDLERS": memory}):
        assert declare(monkeypatch, {"topic": "field-team"}) == []


# -- databases -------------------------------------------------------------------------------------------------------


class ToElsewhere:
    def db_for_write(self, model: type[models.Model], **hints: Any) -> str | None:
        return "elsewhere" if model is Note else None


@pytest.fixture
def elsewhere() -> Iterator[dict[str, Any]]:
    """Another database's settings; nothing connects to it."""
    from tests.databases import SQLITE

    settings = connections.configure_settings({"default": {}, "elsewhere": {**SQLITE, "NAME": "/nowhere"}})["elsewhere"]
    connections.databases["elsewhere"] = settings
    yield settings
    if "elsewhere" in connections:
        del connections["elsewhere"]
    del connections.databases["elsewhere"]


def test_a_model_in_another_database_is_an_error(elsewhere: dict[str, Any]) -> None:
    with override_settings(DATABASE_ROUTERS=[f"{__name__}.ToElsewhere"]):
        found = check_databases(None)
    assert ids(found) == ["E021"]
    assert "testapp.Note lies in the database 'elsewhere'" in found[0].msg


def test_a_model_in_another_kind_of_database_is_an_error(elsewhere: dict[str, Any]) -> None:
    elsewhere["ENGINE"] = "django.db.backends.dummy"
    with override_settings(DATABASE_ROUTERS=[f"{__name__}.ToElsewhere"]):
        found = check_databases(None)
    assert ids(found) == ["E020"]
    assert "replication runs on SQLite and PostgreSQL" in found[0].msg


def test_postgresql_is_no_error_and_needs_no_options(
    elsewhere: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere["ENGINE"] = "django.db.backends.postgresql"
    with override_settings(DATABASE_ROUTERS=[f"{__name__}.ToElsewhere"]):
        assert ids(check_databases(None)) == ["E021"]
        monkeypatch.setattr("p2p_replication.checks.databases.DEFAULT_DB_ALIAS", "elsewhere")
        found = [message for message in check_databases(None) if message.obj is Note]
    assert found == []


def test_this_projects_sqlite_options_are_silent() -> None:
    assert check_databases(None) == []


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({}, ["transaction_mode", "timeout", "journal_mode", "synchronous"]),
        ({"transaction_mode": "DEFERRED", "timeout": 20}, ["transaction_mode", "journal_mode", "synchronous"]),
        (
            {"transaction_mode": "immediate", "timeout": 19.5, "init_command": "pragma journal_mode = wal"},
            ["timeout", "synchronous"],
        ),
        (
            {"transaction_mode": "IMMEDIATE", "timeout": 30, "init_command": "PRAGMA synchronous=OFF"},
            ["journal_mode", "synchronous"],
        ),
    ],
)
def test_missing_sqlite_options_are_named_with_the_text_to_paste(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], missing: list[str]
) -> None:
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    found = check_databases(None)
    assert ids(found) == ["W020"]
    for name in ("transaction_mode", "timeout", "journal_mode", "synchronous"):
        assert (name in found[0].msg) == (name in missing), name
    assert SQLITE_OPTIONS in str(found[0].hint)


def test_the_text_to_paste_satisfies_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", eval("{" + SQLITE_OPTIONS + "}")["OPTIONS"])
    assert check_databases(None) == []


@pytest.mark.django_db
def test_capture_as_migrate_left_it_is_silent() -> None:
    assert check_capture(None, databases=["default"]) == []


@pytest.mark.django_db
def test_missing_triggers_and_open_gaps_are_warnings() -> None:
    installation.remove(reason="a test")
    found = check_capture(None, databases=["default"])
    assert set(ids(found)) == {"W021"}
    assert len(found) == len(list(registry))
    installation.install()
    assert check_capture(None, databases=["default"]) == []


@pytest.mark.django_db
def test_a_different_trigger_is_a_warning() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'testapp_note' LIMIT 1")
        (name,) = cursor.fetchone()
        cursor.execute(f'DROP TRIGGER "{name}"')
    found = check_capture(None, databases=["default"])
    assert ids(found) == ["W021"]
    assert "testapp.Note" in found[0].msg


def test_without_databases_capture_is_not_looked_at() -> None:
    """No query: this test may not touch a database."""
    assert check_capture(None, databases=None) == []


@pytest.mark.django_db
def test_a_project_without_replicated_models_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_options", {})
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {})
    messages = [m for m in run_checks() if str(m.id).startswith("p2p_replication.")]
    assert messages == []
