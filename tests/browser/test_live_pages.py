"""Both nodes' pages in one browser: what is done on one shows on the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.browser.conftest import RunningDemo
from tests.browser.devtools import Browser, Page, running_browser

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


async def open_largest_place(browser: Browser, link: str) -> Page:
    """Sign in by the link and open the first place of the list, once there is one."""
    page = await browser.open(link)
    await page.wait_for("document.querySelector('#places tbody a') !== null", timeout=60)
    place = await page.evaluate("document.querySelector('#places tbody a').href")
    await page.go(place)
    await page.wait_for("document.querySelector('#observations') !== null")
    return page


def shows(text: str) -> str:
    return f"document.querySelector('#observations').innerText.includes({json.dumps(text)})"


async def test_an_observation_added_on_one_page_appears_on_the_other_without_reload(
    demo: RunningDemo, tmp_path: Path
) -> None:
    async with running_browser(tmp_path / "profile") as browser:
        page_a = await open_largest_place(browser, demo.link_a)
        page_b = await open_largest_place(browser, demo.link_b)
        assert await page_a.evaluate("document.body.className") == "node-a"
        assert await page_b.evaluate("document.body.className") == "node-b"
        place = await page_a.evaluate("location.pathname")
        assert await page_b.evaluate("location.pathname") == place

        # A mark that a reload would wipe out, and a form that a person on B is in the middle of.
        await page_b.evaluate("window.notReloaded = true")
        await page_b.type("#add [name=species]", "half typ")

        await page_a.type("#add [name=species]", "Kingfisher <b>&amp; co")
        await page_a.press_enter()
        await page_a.wait_for(shows("1 × Kingfisher <b>&amp; co"))
        await page_b.wait_for(shows("1 × Kingfisher <b>&amp; co"))

        assert await page_b.evaluate("window.notReloaded") is True
        assert await page_b.evaluate("document.querySelector('#add [name=species]').value") == "half typ"
        await page_b.wait_for("document.querySelector('#pool').innerText.includes('1 peer connected')")

        # And back: B's person finishes, A sees it.
        await page_b.type("#add [name=species]", "ed")
        await page_b.press_enter()
        await page_a.wait_for(shows("1 × half typed"))
        assert browser.complaints == []
