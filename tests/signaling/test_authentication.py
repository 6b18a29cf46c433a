"""Who gets in: by token, ticket or session, bare and inside Channels' wrappers; and who is thrown out again."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from channels.auth import AuthMiddlewareStack
from channels.db import database_sync_to_async
from channels.routing import URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.core import signing
from django.test import Client as Browser
from django.utils import timezone

from p2p_replication.models import DeviceToken
from p2p_replication.routing import websocket_urlpatterns
from p2p_replication.signaling import authentication, tokens
from p2p_replication.signaling.authentication import make_ticket
from p2p_replication.signaling.tokens import create_token
from tests.signaling.conftest import PATH, Client, Connect, bearer

BARE = URLRouter(websocket_urlpatterns)
WRAPPED = AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websocket_urlpatterns)))
ORIGIN = (b"origin", b"http://testserver")
HOST = (b"host", b"testserver")

Prepare = Callable[[Callable[[], Any]], Awaitable[Any]]


@pytest.fixture
async def ana(transactional_db: None) -> Any:
    return await database_sync_to_async(get_user_model().objects.create_user)("ana", password="secret")


async def in_database(work: Callable[[], Any]) -> Any:
    return await database_sync_to_async(work)()


async def session_cookie(user: Any) -> tuple[bytes, bytes]:
    def sign_in() -> str:
        browser = Browser()
        browser.force_login(user)
        return browser.cookies[django_settings.SESSION_COOKIE_NAME].value

    return b"cookie", f"other=1; {django_settings.SESSION_COOKIE_NAME}={await in_database(sign_in)}".encode()


async def assert_let_in_as(client: Client, username: str) -> None:
    client.peer_id = (await client.receive("init"))["yourPeerId"]
    await client.send({"type": "join", "room": "team"})
    assert (await client.receive("joined"))["peers"][0]["user"] == username


async def assert_refused(client: Client, text: str = "") -> None:
    """Accepted, one error message, closed with the same code; no ``init`` before."""
    error = await client.receive()
    assert (error["type"], error["code"]) == ("error", 4401), error
    assert text in error["message"]
    assert (await client.closed())[1] == 4401


@pytest.mark.parametrize("application", [BARE, WRAPPED], ids=["bare", "wrapped"])
async def test_a_device_token_lets_in(open_socket: Connect, ana: Any, application: Any) -> None:
    _, secret = await in_database(lambda: create_token(ana, "laptop"))
    await assert_let_in_as(await open_socket(application, headers=[bearer(secret), ORIGIN]), "ana")


@pytest.mark.parametrize("application", [BARE, WRAPPED], ids=["bare", "wrapped"])
async def test_a_session_lets_in_from_its_own_origin(open_socket: Connect, ana: Any, application: Any) -> None:
    headers = [await session_cookie(ana), ORIGIN, HOST]
    await assert_let_in_as(await open_socket(application, headers=headers), "ana")


@pytest.mark.parametrize("application", [BARE, WRAPPED], ids=["bare", "wrapped"])
async def test_a_ticket_lets_in(open_socket: Connect, ana: Any, application: Any) -> None:
    ticket = await in_database(lambda: make_ticket(ana))
    client = await open_socket(application, headers=[ORIGIN], path=f"{PATH}?ticket={ticket}")
    await assert_let_in_as(client, "ana")


@pytest.mark.parametrize("application", [BARE, WRAPPED], ids=["bare", "wrapped"])
async def test_nobody_is_refused(open_socket: Connect, application: Any) -> None:
    await assert_refused(await open_socket(application, headers=[ORIGIN, HOST]), "no valid session")


@pytest.mark.parametrize(
    "origins",
    [
        [],
        [b"http://evil.example"],
        [b"null"],
        [b"http://testserver.evil.example"],
        [b"http://testserver", b"http://evil.example"],
        [b"http://[::1"],
        [b"http://testserver:99999999"],
        [b"\xff\xfe"],
    ],
)
async def test_a_session_cookie_from_a_foreign_page_is_refused(
    open_socket: Connect, ana: Any, origins: list[bytes]
) -> None:
    headers = [await session_cookie(ana), HOST, *((b"origin", origin) for origin in origins)]
    await assert_refused(await open_socket(headers=headers), "rigin")


async def test_a_star_in_allowed_hosts_allows_no_foreign_origin(open_socket: Connect, ana: Any, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    cookie = await session_cookie(ana)
    host = (b"host", b"site.example:8001")
    await assert_let_in_as(await open_socket(headers=[cookie, host, (b"origin", b"http://site.example:8001")]), "ana")
    for foreign in (b"http://evil.example", b"http://site.example:8002"):
        await assert_refused(await open_socket(headers=[cookie, host, (b"origin", foreign)]), "rigin")


@pytest.mark.parametrize("trusted", ["https://app.example", "https://*.example"])
async def test_a_trusted_origin_is_let_in(open_socket: Connect, ana: Any, settings: Any, trusted: str) -> None:
    settings.CSRF_TRUSTED_ORIGINS = [trusted]
    headers = [await session_cookie(ana), HOST, (b"origin", b"https://app.example")]
    await assert_let_in_as(await open_socket(headers=headers), "ana")
    headers[-1] = (b"origin", b"http://app.example")
    await assert_refused(await open_socket(headers=headers))


@pytest.mark.parametrize("cookie", ["", "nonsense", "a" * 32, "x\0y" * 8, '"'])
async def test_a_made_up_session_is_refused(open_socket: Connect, cookie: str) -> None:
    headers = [(b"cookie", f"{django_settings.SESSION_COOKIE_NAME}={cookie}".encode()), ORIGIN, HOST]
    await assert_refused(await open_socket(headers=headers))


@pytest.mark.parametrize("secret", ["", "p2p_wrong", "\xff", "p2p_" + "x" * 10_000])
async def test_a_wrong_token_is_refused_even_with_a_good_session(open_socket: Connect, ana: Any, secret: str) -> None:
    headers = [(b"authorization", b"Bearer " + secret.encode("latin-1")), await session_cookie(ana), ORIGIN, HOST]
    await assert_refused(await open_socket(headers=headers), "token")


async def test_a_foreign_authorization_header_does_not_matter(open_socket: Connect, ana: Any) -> None:
    headers = [(b"authorization", b"Basic YTpi"), await session_cookie(ana), ORIGIN, HOST]
    await assert_let_in_as(await open_socket(headers=headers), "ana")


async def test_a_revoked_token_is_refused(open_socket: Connect, ana: Any) -> None:
    token, secret = await in_database(lambda: create_token(ana, "laptop"))
    await in_database(lambda: tokens.revoke_token(token))
    await assert_refused(await open_socket(headers=[bearer(secret)]), "revoked")


async def test_a_deactivated_user_is_refused_whatever_the_credential(open_socket: Connect, ana: Any) -> None:
    _, secret = await in_database(lambda: create_token(ana, "laptop"))
    ticket = await in_database(lambda: make_ticket(ana))
    cookie = await session_cookie(ana)
    await in_database(lambda: get_user_model().objects.update(is_active=False))
    await assert_refused(await open_socket(headers=[bearer(secret)]))
    await assert_refused(await open_socket(path=f"{PATH}?ticket={ticket}"))
    await assert_refused(await open_socket(headers=[cookie, ORIGIN, HOST]))


async def test_an_old_forged_or_foreign_ticket_is_refused(
    open_socket: Connect, ana: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = await in_database(lambda: make_ticket(ana))
    foreign = signing.dumps({"user": str(ana.pk), "hash": ""}, salt="something else")
    wrong_shape = signing.dumps(["user"], salt="p2p_replication.signaling.ticket")
    signed, _, signature = ticket.rpartition(":")
    # Its first character: the last one has bits that say nothing.
    forged = f"{signed}:{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    for bad in (forged, "x", "", foreign, wrong_shape, "%00"):
        await assert_refused(await open_socket(path=f"{PATH}?ticket={bad}&x=1"))
    monkeypatch.setattr(authentication, "TICKET_MAX_AGE", -1)
    await assert_refused(await open_socket(path=f"{PATH}?ticket={ticket}"), "older")


async def test_a_ticket_ends_with_the_password(open_socket: Connect, ana: Any) -> None:
    ticket = await in_database(lambda: make_ticket(ana))

    def change_password() -> None:
        ana.set_password("another")
        ana.save()

    await in_database(change_password)
    await assert_refused(await open_socket(path=f"{PATH}?ticket={ticket}"))


async def test_last_used_is_written_at_most_once_a_minute(open_socket: Connect, ana: Any) -> None:
    token, secret = await in_database(lambda: create_token(ana, "laptop"))

    async def used_after_connecting() -> Any:
        await (await open_socket(headers=[bearer(secret)])).receive("init")
        return await in_database(lambda: DeviceToken.objects.get(pk=token.pk).last_used_at)

    first = await used_after_connecting()
    assert first is not None
    assert await used_after_connecting() == first
    earlier = timezone.now() - datetime.timedelta(seconds=61)
    await in_database(lambda: DeviceToken.objects.update(last_used_at=earlier))
    assert await used_after_connecting() > first


@pytest.fixture
def quick_checks(settings: Any) -> None:
    settings.P2P_REPLICATION = settings.P2P_REPLICATION | {"SIGNALING_LIMITS": {"check_interval": 0.1}}


@pytest.mark.usefixtures("quick_checks")
@pytest.mark.parametrize("reason", ["token revoked", "user deactivated", "user deleted"])
async def test_an_open_socket_is_closed_when_its_right_ends(open_socket: Connect, ana: Any, reason: str) -> None:
    token, secret = await in_database(lambda: create_token(ana, "laptop"))
    _, other_secret = await in_database(lambda: create_token(get_user_model().objects.create(username="ben"), "x"))
    client = await open_socket(headers=[bearer(secret)])
    other = await open_socket(headers=[bearer(other_secret)])
    await assert_let_in_as(client, "ana")
    work: dict[str, Callable[[], Any]] = {
        "token revoked": lambda: tokens.revoke_token(token),
        "user deactivated": lambda: get_user_model().objects.filter(pk=ana.pk).update(is_active=False),
        "user deleted": lambda: get_user_model().objects.filter(pk=ana.pk).delete(),
    }
    await in_database(work[reason])
    assert (await client.closed())[1] == 4401
    await assert_let_in_as(other, "ben")


@pytest.mark.usefixtures("quick_checks")
async def test_signing_out_closes_the_sessions_sockets(open_socket: Connect, ana: Any) -> None:
    from django.contrib.sessions.models import Session

    client = await open_socket(headers=[await session_cookie(ana), ORIGIN, HOST])
    wrapped = await open_socket(WRAPPED, headers=[await session_cookie(ana), ORIGIN, HOST])
    await assert_let_in_as(client, "ana")
    await wrapped.receive("init")
    await in_database(lambda: Session.objects.all().delete())
    assert (await client.closed())[1] == 4401
    assert (await wrapped.closed())[1] == 4401


async def test_a_key_rotation_neither_refuses_nor_ends_the_session(
    open_socket: Connect, ana: Any, settings: Any
) -> None:
    """Looking at a session must not change it: the browser could not be told of its new key."""
    cookie = await session_cookie(ana)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "a new one"
    for _ in range(2):
        await assert_let_in_as(await open_socket(headers=[cookie, ORIGIN, HOST]), "ana")
