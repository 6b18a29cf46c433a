"""Wake-ups: noticing that another process has committed something, on PostgreSQL. Correctness never depends on them.

The capture triggers notify a channel; a connection of its own listens there. Underneath the log is looked at from time
to time, as a pooler in between (PgBouncer) may swallow notifications.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import psycopg

from p2p_replication.storage.capture.postgresql import NOTIFY_CHANNEL

logger = logging.getLogger("p2p_replication.worker")

#: Seconds between looks while notifications come, while they can't, and until the server is tried again.
LOOK_LISTENING = 1.0
LOOK_DEAF = 0.1
RECONNECT = 2.0


class PostgreSQLWakeups:
    """Calls ``wake`` in the loop soon after any captured commit.

    Args:
        parameters: of the listening connection, as psycopg takes them.
    """

    def __init__(self, parameters: Mapping[str, Any], wake: Callable[[], None]) -> None:
        self._parameters = dict(parameters)
        self._wake = wake
        self._stop = threading.Event()
        self.listening = False

    async def run(self) -> None:
        """Listen until cancelled."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # The loop may be closed already.
                loop.call_soon_threadsafe(self._wake)

        listener = threading.Thread(target=self._listen, args=(wake,), name="p2p-listen", daemon=True)
        listener.start()
        try:
            while True:
                await asyncio.sleep(LOOK_LISTENING if self.listening else LOOK_DEAF)
                self._wake()
        finally:
            self._stop.set()
            await asyncio.to_thread(listener.join, 3)

    def _listen(self, wake: Callable[[], None]) -> None:
        while not self._stop.is_set():
            try:
                with psycopg.connect(**self._parameters, autocommit=True) as connection:
                    connection.execute(f"LISTEN {NOTIFY_CHANNEL}")
                    self.listening = True
                    wake()  # For what was committed before.
                    while not self._stop.is_set():
                        for _ in connection.notifies(timeout=0.5, stop_after=1):
                            wake()
            except psycopg.Error as error:
                if not self._stop.is_set():
                    logger.warning("nobody tells of commits, looking every %g s instead: %s", LOOK_DEAF, error)
            finally:
                self.listening = False
            self._stop.wait(RECONNECT)


def listen_parameters(settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return psycopg's parameters of a connection like Django's, with what the project gives for listening."""
    given = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    parameters = {name: settings[key] for name, key in given.items() if settings.get(key)}
    options = settings.get("OPTIONS") or {}
    ours = ("pool", "isolation_level", "server_side_binding", "assume_role")
    parameters.update({name: value for name, value in options.items() if name not in ours})
    return {**parameters, "application_name": "p2p_replication", **overrides}
