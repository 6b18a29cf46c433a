"""The page of a pool in a real browser, under the demo project's strict content security policy."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.admin.demo_site import DemoSite, running_site
from tests.browser.devtools import CHROMIUM, running_browser

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
POOL = """
import datetime
from django.utils import timezone
from p2p_replication.models import Declaration, Peer, PeerProgress, Pool
until = timezone.now() + datetime.timedelta(seconds=19)
pool = Pool.objects.create(topic="field-team", lease_holder="laptop:1", lease_until=until)
declaration = Declaration.objects.create(pool=pool, model="survey.Place")
peer = Peer.objects.create(pool=pool, replica_id="ab" * 16, name="Ben's <b>laptop</b>", state="connected",
                           connected_since=timezone.now(), rows_behind=1204)
PeerProgress.objects.create(peer=peer, declaration=declaration, acknowledged=10**9)
"""
IN_SYNC = """
from p2p_replication.models import Peer
Peer.objects.update(rows_behind=0, in_sync=True)
"""
KILLED = """
from django.utils import timezone
from p2p_replication.models import Pool
Pool.objects.update(lease_until=timezone.now())
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[DemoSite]:
    if not CHROMIUM.exists():
        reason = f"{CHROMIUM} is missing: apt-get install chromium"
        if os.environ.get("P2P_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with running_site(tmp_path / "site") as site:
        yield site


def shows(block: str, text: str) -> str:
    return f"document.querySelector('[data-p2p-block={block}]').innerText.includes({text!r})"


async def test_the_page_follows_the_database_by_itself_and_says_when_it_can_not(site: DemoSite, tmp_path: Path) -> None:
    await asyncio.to_thread(site.run, POOL)
    notice = "document.querySelector('[data-p2p-notice]')"
    async with running_browser(tmp_path / "profile") as browser:
        page = await browser.open("about:blank#")
        await page.call("Network.setCookie", name=site.cookie[0], value=site.cookie[1], url=site.url)
        await page.go(f"{site.url}/admin/p2p_replication/pool/1/change/")
        await page.wait_for(shows("peers", "Ben's <b>laptop</b>"))
        await page.wait_for(shows("peers", "1,204 rows behind"))
        assert await page.evaluate(f"getComputedStyle({notice}).display") == "none"
        # Marks that a reload, or a needless exchange of a block, would wipe out.
        await page.evaluate("document.querySelector('[data-p2p-block=models]').mark = true")

        await asyncio.to_thread(site.run, IN_SYNC)
        await page.wait_for(shows("peers", "in sync"))
        await asyncio.to_thread(site.run, KILLED)
        await page.wait_for(shows("peers", "gone"))
        await page.wait_for(shows("state", "no worker"))
        assert not await page.evaluate(shows("peers", "in sync"))
        assert await page.evaluate("document.querySelector('[data-p2p-block=models]').mark") is True
        assert [text for text in browser.complaints if "favicon" not in text] == []

        site.stop()
        await page.wait_for(f"getComputedStyle({notice}).display !== 'none'")
