"""Headless Chromium, driven by its DevTools protocol."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import websockets

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
]
START_TIMEOUT = 30.0
ANSWER_TIMEOUT = 20.0


class Browser:
    """A running browser with one context; pages share its cookies."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        #: What pages complained of: script errors, policy violations, failed requests.
        self.complaints: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def open(self, url: str) -> Page:
        """Open a page in a new tab and wait until it is loaded."""
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            await page.call(f"{domain}.enable")
        await page.go(url)
        return page

    async def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result. Raises RuntimeError with the browser's text if it refuses."""
        number = next(self._ids)
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        await self._socket.send(json.dumps(message))
        answer = await asyncio.wait_for(future, ANSWER_TIMEOUT)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            await self.call("Browser.close")
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._socket.close()

    async def _read(self) -> None:
        async for text in self._socket:
            message = json.loads(text)
            if "id" in message:
                self._answers.pop(message["id"]).set_result(message)
            elif message["method"] == "Runtime.exceptionThrown":
                self.complaints.append(str(message["params"]["exceptionDetails"]))
            elif message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                entry = message["params"]["entry"]
                self.complaints.append(f"{entry['text']} ({entry.get('url', '')})")


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return await self._browser.call(method, self._session, **parameters)

    async def go(self, url: str) -> None:
        """Go to an address and wait until the page is loaded."""
        await self.call("Page.navigate", url=url)
        await self.wait_for("location.href !== 'about:blank' && document.readyState === 'complete'")

    async def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        outcome = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in outcome:
            raise RuntimeError(f"{expression}: {outcome['exceptionDetails']}")
        return outcome["result"].get("value")

    async def wait_for(self, expression: str, timeout: float = 20.0) -> None:
        """Wait until a JavaScript expression is true. Raises AssertionError with the page's text."""
        deadline = time.monotonic() + timeout
        while True:
            # Between two pages there is nothing to ask.
            with contextlib.suppress(RuntimeError):
                if await self.evaluate(expression):
                    return
            if time.monotonic() > deadline:
                text = await self.evaluate("document.body.innerText")
                raise AssertionError(f"not true within {timeout:g} s: {expression}\nThe page:\n{text}")
            await asyncio.sleep(0.05)

    async def type(self, selector: str, text: str) -> None:
        """Type into the field as a keyboard would."""
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        for character in text:
            await self.call("Input.dispatchKeyEvent", type="keyDown", text=character, key=character)
            await self.call("Input.dispatchKeyEvent", type="keyUp", key=character)

    async def press_enter(self) -> None:
        """Press the enter key, which sends the form that has the focus."""
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
        await self.call("Input.dispatchKeyEvent", type="keyDown", text="\r", **key)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **key)


@contextlib.asynccontextmanager
async def running_browser(profile: Path) -> AsyncIterator[Browser]:
    """Start Chromium with a fresh profile; it is gone afterwards."""
    with profile.with_suffix(".log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", "about:blank", stdout=log, stderr=log
        )
    try:
        address = await _devtools_address(profile, process)
        async with websockets.connect(address, max_size=None, compression=None) as socket:
            browser = Browser(socket)
            try:
                yield browser
            finally:
                await browser.close()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _devtools_address(profile: Path, process: asyncio.subprocess.Process) -> str:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.returncode is None:
        lines = await asyncio.to_thread(_lines, profile / "DevToolsActivePort")
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        await asyncio.sleep(0.05)
    said = await asyncio.to_thread(_lines, profile.with_suffix(".log"))
    raise RuntimeError("Chromium did not start:\n" + "\n".join(said[-20:]))


def _lines(file: Path) -> list[str]:
    return file.read_text(errors="replace").splitlines() if file.exists() else []
