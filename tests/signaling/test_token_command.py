"""``manage.py p2p token``: what it prints, stores and refuses."""

from __future__ import annotations

import io
import json

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import CommandError

from p2p_replication.management.subcommands import subcommands
from p2p_replication.models import DeviceToken
from p2p_replication.signaling.tokens import digest, find_token

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> tuple[str, str]:
    stdout, stderr = io.StringIO(), io.StringIO()
    call_command("p2p", *arguments, stdout=stdout, stderr=stderr)
    return stdout.getvalue(), stderr.getvalue()


@pytest.fixture(autouse=True)
def users(db: None) -> None:
    get_user_model().objects.create(username="ana")
    get_user_model().objects.create(username="ben")
    get_user_model().objects.create(username="gone", is_active=False)


def test_the_secret_alone_is_on_stdout_and_only_its_hash_is_stored() -> None:
    stdout, _ = run("token", "create", "ana", "--name", "Ana's laptop")
    secret = stdout.strip()
    assert secret.startswith("p2p_")
    assert len(secret) == 4 + 43
    token = DeviceToken.objects.get()
    assert (token.user.get_username(), token.name, token.digest) == ("ana", "Ana's laptop", digest(secret))
    assert secret not in str(list(DeviceToken.objects.values()))


def test_create_with_json() -> None:
    stdout, _ = run("token", "create", "ana", "--json")
    content = json.loads(stdout)
    assert find_token(content["token"]) == DeviceToken.objects.get(pk=content["id"])


def test_the_list_has_no_secrets_and_can_be_json() -> None:
    secret, _ = run("token", "create", "ana", "--name", "laptop")
    run("token", "create", "ben", "--name", "phone")
    text, _ = run("token", "list")
    assert "laptop" in text and "phone" in text
    assert secret.strip() not in text
    [entry] = json.loads(run("token", "list", "--user", "ben", "--json")[0])
    assert (entry["user"], entry["name"], entry["revoked_at"], entry["last_used_at"]) == ("ben", "phone", None, None)


def test_a_revoked_token_is_found_no_more_and_stays_in_the_list() -> None:
    content = json.loads(run("token", "create", "ana", "--json")[0])
    run("token", "revoke", str(content["id"]))
    assert find_token(content["token"]) is None
    assert json.loads(run("token", "list", "--json")[0])[0]["revoked_at"] is not None
    assert "already" in run("token", "revoke", str(content["id"]))[1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["token", "create", "nobody"], "no user 'nobody'"),
        (["token", "create", "gone"], "deactivated"),
        (["token", "create", "ana", "--name", "x" * 201], "201 characters"),
        (["token", "list", "--user", "nobody"], "no user 'nobody'"),
        (["token", "revoke", "4711"], "no token 4711"),
        (["token"], "required"),
        ([], "required"),
    ],
)
def test_mistakes_end_in_a_text_that_names_them(arguments: list[str], text: str) -> None:
    with pytest.raises(CommandError, match=text):
        run(*arguments)


def test_every_subcommand_module_is_found() -> None:
    assert "token" in subcommands()
