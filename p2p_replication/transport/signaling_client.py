"""The client of the signaling server: joins one room, says who is in it, carries signals. Rows never pass here."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed as SocketClosed
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.typing import Origin

from p2p_replication.exceptions import ConfigurationError, ConnectionClosed, SignalingRefused
from p2p_replication.transport.backoff import Backoff
from p2p_replication.transport.base import RemotePeer
from p2p_replication.transport.signaling_messages import (
    Init,
    Joined,
    MalformedMessage,
    ServerError,
    Signal,
    parse_server_message,
)

#: Close codes that mean that this client may not enter, with or without waiting.
NOT_AUTHENTICATED = 4401
NOT_ALLOWED = 4403
#: A signal's receiver has left, which is nothing unusual.
NO_SUCH_PEER = 4404

#: Seconds. Servers throw out clients that are silent for two minutes.
APPLICATION_PING_INTERVAL = 45.0
#: Seconds between WebSocket pings, and how long their answers may take: finds connections that died without a word.
SOCKET_PING_INTERVAL = 15.0
SOCKET_PING_TIMEOUT = 15.0
OPEN_TIMEOUT = 10.0
CLOSE_TIMEOUT = 2.0

#: Bytes of one server message. A member list of some thousand peers fits.
MAX_MESSAGE_BYTES = 1024 * 1024

Token = str | Callable[[], str] | None


class SignalingListener(Protocol):
    """Who is told what the server says. The methods must neither block nor raise."""

    def room_changed(self, own_id: str, members: tuple[RemotePeer, ...]) -> None:
        """These are in the room now (maybe ourselves too); ``own_id`` is new after each reconnect."""

    def signal_received(self, signal: Signal) -> None:
        """A peer sends one step of a negotiation."""

    def signaling_lost(self) -> None:
        """The server is out of reach; nothing is known of the room until the next ``room_changed``."""


class SignalingClient:
    """Keeps one WebSocket to the signaling server until cancelled, reconnecting with backoff.

    Args:
        url: ``ws://`` or ``wss://`` address. Its own origin is sent as ``Origin``.
        topic: the room to join.
        instance: ``"<replica id>:<start>"`` of this process.
        name: how this replica is called on other people's screens.
        token: the device token, or a callable that fetches it before each connect (called in a thread).
        listener: is told of the room and of signals.
        report: is told every error that does not end the client.

    Raises:
        ConfigurationError: the URL cannot be one of a signaling server.
    """

    def __init__(
        self,
        url: str,
        *,
        topic: str,
        instance: str,
        name: str = "",
        token: Token = None,
        listener: SignalingListener,
        report: Callable[[str], None],
        backoff: Backoff | None = None,
    ) -> None:
        self.origin = url_origin(url)
        self._url = url
        #: The address as it may be shown: without a ticket in the query string.
        self.shown_url = url.partition("?")[0]
        self._join = {"type": "join", "room": topic, "instance": instance, "name": name}
        self._topic = topic
        self._token = token
        self._listener = listener
        self._report = report
        self._backoff = backoff or Backoff()
        self._socket: ClientConnection | None = None
        self._last_error = ""
        self._joined = False
        #: The id that the server knows us by now; empty without a connection.
        self.peer_id = ""
        #: Payload bytes of all messages so far.
        self.sent_bytes = 0
        self.received_bytes = 0

    @property
    def joined(self) -> bool:
        """The server has let us into the room, and is there."""
        return bool(self.peer_id) and self._joined

    async def run(self) -> None:
        """Serve until cancelled. Raises SignalingRefused if the server does not let us in."""
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            reason = await self._serve_one_socket()
            self._backoff.reset_if_good(loop.time() - started)
            delay = self._backoff.next_delay()
            self._report(f"Signaling server {self.shown_url}: {reason}; next try in {delay:.1f} s.")
            await asyncio.sleep(delay)

    async def send_signal(self, receiver: str, data: Mapping[str, Any], connection_id: str) -> None:
        """Send one step of a negotiation to the peer with id ``receiver``.

        Raises ConnectionClosed if there is no connection to the server at the moment.
        """
        if self._socket is None or not self.peer_id:
            raise ConnectionClosed("there is no connection to the signaling server at the moment")
        message = {
            "type": "signal",
            "room": self._topic,
            "senderPeerId": self.peer_id,
            "receiverPeerId": receiver,
            "data": data,
        }
        if connection_id:
            message["connectionId"] = connection_id
        try:
            await self._send(self._socket, message)
        except SocketClosed:
            raise ConnectionClosed("the connection to the signaling server was lost") from None

    async def _serve_one_socket(self) -> str:
        """Connect and serve until the socket ends; returns why. Raises SignalingRefused."""
        self._last_error = ""
        try:
            async with self._connected() as socket:
                while True:
                    async with asyncio.timeout(None if self.peer_id else OPEN_TIMEOUT):
                        text = await socket.recv()
                    if reply := self._handle(text):
                        await self._send(socket, reply)
        except SocketClosed as closed:
            return self._reason_of_close(closed)
        except InvalidStatus as error:
            return self._reason_of_status(error.response.status_code)
        except (TokenError, RoomUnavailable) as error:
            return str(error)
        except (OSError, TimeoutError, WebSocketException) as error:
            return f"cannot connect ({error or type(error).__name__})"

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[ClientConnection]:
        headers = {}
        if token := await self._current_token():
            headers["Authorization"] = f"Bearer {token}"
        connecting = connect(
            self._url,
            origin=Origin(self.origin),
            additional_headers=headers,
            open_timeout=OPEN_TIMEOUT,
            close_timeout=CLOSE_TIMEOUT,
            ping_interval=SOCKET_PING_INTERVAL,
            ping_timeout=SOCKET_PING_TIMEOUT,
            max_size=MAX_MESSAGE_BYTES,
            # a proxy of the environment is for the world outside, never for this host itself
            proxy=None if is_loopback(urlsplit(self._url).hostname or "") else True,
        )
        async with connecting as socket:
            pings = asyncio.create_task(self._keep_alive(socket))
            self._socket = socket
            try:
                yield socket
            finally:
                self._socket = None
                self.peer_id = ""
                self._joined = False
                # leaving on our own account is no error, which is what websockets would call it
                await socket.close()
                pings.cancel()
                await asyncio.gather(pings, return_exceptions=True)
                self._listener.signaling_lost()

    async def _current_token(self) -> str:
        if not callable(self._token):
            return self._token or ""
        try:
            token = await asyncio.to_thread(self._token)
        except Exception as error:
            raise TokenError(f"the account's TOKEN callable failed: {error!r}") from error
        if not isinstance(token, str):
            raise TokenError(f"the account's TOKEN callable returned {type(token).__name__}, not str")
        return token

    async def _keep_alive(self, socket: ClientConnection) -> None:
        with contextlib.suppress(SocketClosed):
            while True:
                await asyncio.sleep(APPLICATION_PING_INTERVAL)
                await self._send(socket, {"type": "ping"})

    async def _send(self, socket: ClientConnection, message: Mapping[str, Any]) -> None:
        text = json.dumps(message)
        self.sent_bytes += len(text)
        await socket.send(text)

    def _handle(self, text: str | bytes) -> Mapping[str, Any] | None:
        """Take in one message of the server; returns the answer to it, if it has one."""
        self.received_bytes += len(text.encode(errors="surrogatepass")) if isinstance(text, str) else len(text)
        try:
            message = parse_server_message(text)
        except MalformedMessage as error:
            self._report(f"Signaling server {self.shown_url}: ignored a message that makes no sense: {error}.")
            return None
        match message:
            case Init():
                self.peer_id = message.peer_id
                return self._join
            case Joined() if self.peer_id:
                self._joined = True
                self._listener.room_changed(self.peer_id, message.members)
            case Signal() if self.peer_id:
                self._listener.signal_received(message)
            case ServerError():
                self._take_error(message)
        return None

    def _take_error(self, error: ServerError) -> None:
        self._last_error = error.message
        if not error.room:
            return  # the server closes the socket next, this is its reason
        if error.code in (NOT_AUTHENTICATED, NOT_ALLOWED):
            raise self._refused(int(error.code), error.message)
        if not self._joined:
            raise RoomUnavailable(f"the room cannot be joined: {error.message} (code {error.code})")
        if error.code != NO_SUCH_PEER:
            self._report(f"Signaling server {self.shown_url}: {error.message} (code {error.code}).")

    def _refused(self, code: int, reason: str) -> SignalingRefused:
        return SignalingRefused(code, f"The signaling server {self.shown_url} refuses this replica: {reason}")

    def _reason_of_close(self, closed: SocketClosed) -> str:
        received = closed.rcvd
        if received is None:
            return "the connection was lost"
        reason = self._last_error or received.reason or "no reason given"
        if received.code in (NOT_AUTHENTICATED, NOT_ALLOWED):
            raise SignalingRefused(
                received.code, f"The signaling server {self.shown_url} refuses this replica: {reason}"
            )
        return f"closed the connection: {reason} (code {received.code})"

    def _reason_of_status(self, status: int) -> str:
        if status == 401:
            raise self._refused(NOT_AUTHENTICATED, "its TOKEN is not accepted (HTTP 401)")
        if status == 403:
            raise self._refused(
                NOT_ALLOWED, f"HTTP 403 for origin {self.origin}; the server's ALLOWED_HOSTS must name that host"
            )
        return f"answers with HTTP {status}; check SIGNALING_URL and that the server's ASGI routes reach its consumer"


class TokenError(Exception):
    """The account's token could not be fetched."""


class RoomUnavailable(Exception):
    """The server lets us in, but not into the room at the moment."""


def url_origin(url: str) -> str:
    """Return the web origin (``http://host[:port]``) of a WebSocket URL. Raises ConfigurationError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except (ValueError, TypeError, AttributeError):
        parts, port = urlsplit(""), None
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise ConfigurationError(
            f"SIGNALING_URL {url!r} is no WebSocket address; it looks like wss://example.org/p2p/signaling/"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default_port = 80 if scheme == "http" else 443
    return f"{scheme}://{host}" if port in (None, default_port) else f"{scheme}://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Tell whether a URL's host name means this very host."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


__all__ = ["NOT_ALLOWED", "NOT_AUTHENTICATED", "SignalingClient", "SignalingListener", "Token", "url_origin"]
