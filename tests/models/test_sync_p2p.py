"""``sync_p2p()``: what it stores, and what it refuses with which text."""

from __future__ import annotations

import functools
import re
import types
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import override_settings

import p2p_replication
from p2p_replication import sync_p2p
from p2p_replication.exceptions import ConfigurationError
from p2p_replication.models import Declaration, Pool, PoolHandle
from p2p_replication.models.callables import resolve
from p2p_replication.models.handle import declare_from_code
from tests.testapp.models import Book, Note, Shelf
from tests.testapp.peer_rules import Rules, only_colleagues

pytestmark = pytest.mark.django_db
TOPIC = "field-team"


def inner_function() -> Any:
    def inner(peer: Any) -> bool:
        return True

    return inner


def from_main(peer: Any) -> bool:
    return True


def test_it_stores_one_pool_and_one_declaration() -> None:
    handle = Note.objects.sync_p2p(topic=TOPIC)
    assert isinstance(handle, PoolHandle)
    pool = Pool.objects.get()
    assert (pool.account, pool.topic, pool.connection_handler, pool.cancelled_at) == ("default", TOPIC, "default", None)
    declaration = Declaration.objects.get()
    assert (declaration.model, declaration.pull, declaration.push, declaration.source) == (
        "testapp.Note", {}, {}, "call",
    )  # fmt: skip
    assert handle.declaration == declaration
    assert repr(handle) == "<PoolHandle testapp.Note in field-team>"


def test_called_twice_it_is_one_declaration_that_changes() -> None:
    first = sync_p2p(Note, TOPIC, pull={"batch_size": 50})
    Declaration.objects.update(vector={"aa": 5})
    second = sync_p2p(Note, TOPIC, pull={"batch_size": 100})
    assert first.pool == second.pool and Pool.objects.count() == 1
    declaration = Declaration.objects.get()
    assert (declaration.pull, declaration.vector) == ({"batch_size": 100}, {"aa": 5})


def test_it_changes_nothing_that_the_worker_writes() -> None:
    """The worker renews its lease while a view declares the pool again."""
    sync_p2p(Note, TOPIC)
    Pool.objects.update(lease_holder="worker", generation=3, signaling_state="connected")
    sync_p2p(Note, TOPIC)
    pool = Pool.objects.get()
    assert (pool.lease_holder, pool.generation, pool.signaling_state) == ("worker", 3, "connected")


def test_several_models_share_a_pool() -> None:
    note, book = sync_p2p(Note, TOPIC), sync_p2p(Book, TOPIC)
    assert note.pool == book.pool
    assert set(Declaration.objects.values_list("model", flat=True)) == {"testapp.Note", "testapp.Book"}


@override_settings(P2P_REPLICATION={"ACCOUNTS": {"default": {}, "office": {}}})
def test_the_account_is_part_of_the_pools_key() -> None:
    home, office = sync_p2p(Note, TOPIC), sync_p2p(Note, TOPIC, account="office")
    assert home.pool != office.pool
    assert (str(home.pool), str(office.pool)) == ("field-team", "office/field-team")


def test_a_proxy_declares_its_model() -> None:
    class NoteProxy(Note):
        class Meta:
            app_label = "testapp"
            proxy = True

    try:
        assert sync_p2p(NoteProxy, TOPIC).declaration.model == "testapp.Note"
    finally:
        from django.apps import apps

        del apps.all_models["testapp"]["noteproxy"]
        apps.clear_cache()


def test_a_cancelled_pool_lives_again() -> None:
    sync_p2p(Note, TOPIC).cancel()
    sync_p2p(Note, TOPIC)
    assert Pool.objects.get().cancelled_at is None


async def test_the_async_twins(transactional_db: None) -> None:
    handle = await Note.objects.async_p2p(TOPIC)
    assert await Declaration.objects.acount() == 1
    await p2p_replication.async_p2p(Book, TOPIC)
    assert await Declaration.objects.acount() == 2
    await handle.acancel()
    assert await Declaration.objects.acount() == 1
    with pytest.raises(ConfigurationError, match="topic='x'"):
        await Note.objects.async_p2p("x")


def test_a_rolled_back_declaration_is_none() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        sync_p2p(Note, TOPIC)
        1 / 0  # noqa: B018
    assert not Pool.objects.exists()


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"topic": "short"}, "topic='short': a topic is a string of 6 to 99 characters."),
        ({"topic": "x" * 100}, "a topic is a string of 6 to 99 characters."),
        ({"topic": None}, "topic=None: a topic is a string"),
        ({"account": "nobody"}, "account='nobody' is not in P2P_REPLICATION['ACCOUNTS'], which has: default."),
        (
            {"connection_handler": "tcp"},
            "connection_handler='tcp' is not in P2P_REPLICATION['CONNECTION_HANDLERS'], which has: default.",
        ),
        (
            {"where": {"titel": "x"}},
            "where: titel: titel is no field of it, so testapp.Note can't be filtered by it. Its fields are: title, "
            "body, stars, updated_at.",
        ),
        ({"pull": None, "push": None}, "pull=None and push=None: nothing would replicate. Leave one out, or use"),
        ({"pull": 5}, "pull=5 must be a dict, or None to switch this direction off."),
        ({"pull": {"size": 5}}, "pull: unknown option size; there is: batch_size, modifier."),
        ({"push": {"modifier": len}}, "push.modifier=<built-in function len> can't be used, as its module builtins"),
        ({"pull": {"modifier": "no.such.function"}}, "no.such.function can't be imported"),
        ({"push": {"batch_size": 0}}, "push: batch_size=0 must be an integer from 1 to 10000."),
        ({"pull": {"batch_size": 10_001}}, "pull: batch_size=10001 must be an integer from 1 to 10000."),
        ({"pull": {"batch_size": True}}, "pull: batch_size=True must be an integer from 1 to 10000."),
        ({"pull": {"batch_size": "50"}}, "pull: batch_size='50' must be an integer from 1 to 10000."),
    ],
)
def test_options_that_can_not_work_are_refused_with_the_remedy(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(text)):
        sync_p2p(Note, **{"topic": TOPIC, **options})
    assert not Pool.objects.exists()


def test_a_model_that_does_not_replicate_is_refused() -> None:
    text = "auth.User does not replicate: let it inherit p2p_replication.models.ReplicatedModel, or register it"
    with pytest.raises(ConfigurationError, match=re.escape(text)):
        sync_p2p(User, TOPIC)


@pytest.mark.parametrize("method", ["sync_p2p", "async_p2p"])
async def test_a_related_manager_names_the_where_to_write(method: str, transactional_db: None) -> None:
    shelf = await Shelf.objects.acreate(name="shelf")
    text = (
        f"{method}() on a related manager would declare the whole table of testapp.Book. "
        f"Write Book.objects.{method}('field-team', where=dict(shelf="
    )
    with pytest.raises(ConfigurationError, match=re.escape(text)):
        done = getattr(shelf.book_set, method)(TOPIC)
        if method == "async_p2p":
            await done
    assert not await Pool.objects.aexists()


@pytest.mark.parametrize(("option", "value"), [("is_peer_valid", only_colleagues), ("connection_handler", "other")])
@override_settings(
    P2P_REPLICATION={
        "CONNECTION_HANDLERS": {
            name: {"BACKEND": "p2p_replication.transport.memory.MemoryHandler"} for name in ("default", "other")
        }
    }
)
def test_options_of_the_pool_must_be_the_same_for_all_its_models(option: str, value: Any) -> None:
    sync_p2p(Note, TOPIC)
    text = f"{option}=.* for testapp.Book, but the pool field-team has .* from testapp.Note. The option belongs to the"
    with pytest.raises(ConfigurationError, match=text):
        sync_p2p(Book, TOPIC, **{option: value})
    assert Declaration.objects.count() == 1
    # The only model of a pool may change them.
    sync_p2p(Note, TOPIC, **{option: value})
    assert getattr(Pool.objects.get(), option) != ""


def test_a_callable_is_stored_by_its_name_and_found_again() -> None:
    sync_p2p(Note, TOPIC, is_peer_valid=only_colleagues)
    path = Pool.objects.get().is_peer_valid
    assert path == "tests.testapp.peer_rules.only_colleagues"
    assert resolve(path) is only_colleagues


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda peer: True, "it is not at the top level of its module"),
        (inner_function(), "it is not at the top level of its module"),
        (Rules.check, "it is not at the top level of its module"),
        (functools.partial(only_colleagues, True), "it has no name of its own"),
        (re.compile, "its module re is in no installed app"),
    ],
)
def test_callables_that_the_worker_could_not_import_are_refused(function: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(reason)) as error:
        sync_p2p(Note, TOPIC, is_peer_valid=function)
    assert "Write a function at the top level of a module in an installed app" in str(error.value)
    assert not Pool.objects.exists()


def test_directions_and_modifiers_are_stored() -> None:
    sync_p2p(Note, TOPIC, pull={"modifier": only_colleagues, "batch_size": 5}, push={"modifier": None})
    path = "tests.testapp.peer_rules.only_colleagues"
    declaration = Declaration.objects.get()
    assert (declaration.pull, declaration.push) == ({"modifier": path, "batch_size": 5}, {})
    sync_p2p(Note, TOPIC, pull=None, push={"modifier": path})
    declaration = Declaration.objects.get()
    assert (declaration.pull, declaration.push) == (None, {"modifier": path})


def test_another_pull_modifier_asks_for_everything_again() -> None:
    """What the one before has refused, the vector covers."""
    sync_p2p(Note, TOPIC, pull={"modifier": only_colleagues})
    declaration = Declaration.objects.get()
    declaration.cursors.create(replica_id="ben", start="aa", sequence=5)
    Declaration.objects.update(vector={"aa": 5})
    sync_p2p(Note, TOPIC, pull={"modifier": only_colleagues, "batch_size": 9})
    assert Declaration.objects.get().vector == {"aa": 5} and declaration.cursors.exists()
    sync_p2p(Note, TOPIC)
    assert Declaration.objects.get().vector == {} and not declaration.cursors.exists()


def test_a_pool_that_the_code_declares_names_functions_by_their_path() -> None:
    path = "tests.testapp.peer_rules.only_colleagues"
    declare_from_code(Note, TOPIC, source="app.p2p.Notes", is_peer_valid=path, pull={"modifier": path})
    assert Pool.objects.get().is_peer_valid == Declaration.objects.get().pull["modifier"] == path


def test_a_callable_of_main_is_refused() -> None:
    function = types.FunctionType(from_main.__code__, {}, "from_main")
    function.__module__ = "__main__"
    with pytest.raises(ConfigurationError, match="__main__, which the worker process does not run"):
        sync_p2p(Note, TOPIC, is_peer_valid=function)


def test_a_callable_that_its_name_does_not_lead_to_is_refused() -> None:
    function = types.FunctionType(only_colleagues.__code__, {}, "only_colleagues")
    function.__module__, function.__qualname__ = only_colleagues.__module__, "only_colleagues"
    with pytest.raises(ConfigurationError, match="is another object"):
        sync_p2p(Note, TOPIC, is_peer_valid=function)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("no.such.function", "no.such.function can't be imported any more"),
        ("tests.testapp.peer_rules.gone", "can't be imported any more"),
        ("tests.testapp.peer_rules.not_callable", "is no callable"),
    ],
)
def test_a_stored_callable_that_is_gone_is_named(path: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(text)):
        resolve(path)
