"""The WebSocket that tells an open page to look again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

from demo_project.survey.commits import CommitWatcher

#: During a first sync rows come in many transactions a second; a page is told at most this often, in seconds.
MIN_INTERVAL = 0.25
#: Close code for visitors who are not signed in; the page does not try again.
NOT_SIGNED_IN = 4401

watcher = CommitWatcher(Path(str(settings.DATABASES["default"]["NAME"])), settings.DEMO_COMMIT_POLL)


class LiveConsumer(AsyncWebsocketConsumer):
    """Says ``changed`` whenever something was committed to this node's database, by whichever process."""

    _stop: Callable[[], None] | None = None
    _teller: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        await self.accept()
        user = self.scope.get("user")
        if user is None or not user.is_authenticated:
            # After accept(): a refusal before it shows no code to the page.
            await self.close(code=NOT_SIGNED_IN)
            return
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        # What was committed between the rendering of the page and now is told too.
        changed.set()

        def tell() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(changed.set)

        self._stop = watcher.listen(tell)
        self._teller = asyncio.create_task(self._tell(changed))

    async def _tell(self, changed: asyncio.Event) -> None:
        while True:
            await changed.wait()
            changed.clear()
            await self.send(text_data="changed")
            await asyncio.sleep(MIN_INTERVAL)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Pages have nothing to say."""

    async def disconnect(self, code: int) -> None:
        if self._stop is not None:
            self._stop()
        if self._teller is not None:
            self._teller.cancel()
