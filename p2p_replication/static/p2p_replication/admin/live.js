"use strict";
/* Keeps the page of a pool up to date: fetches its changing part while the page is visible, and puts in what differs.
   When that fails for a while the page says so, rather than showing old news as true. */
(() => {
  const region = document.querySelector("[data-p2p-live]");
  if (region === null) return;
  const notice = document.querySelector("[data-p2p-notice]");
  const period = Number(region.dataset.p2pPeriod);
  const patience = 3 * period;
  let timer;
  let fetching = false;
  let lastNews = Date.now();

  const blocks = (root) => new Map(Array.from(root.querySelectorAll("[data-p2p-block]"), (b) => [b.dataset.p2pBlock, b]));

  async function fetchBlocks() {
    // A redirect means that the session has ended: the sign-in page is no news of the pool.
    const response = await fetch(region.dataset.p2pLive, { redirect: "manual", signal: AbortSignal.timeout(5 * period) });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    return blocks(new DOMParser().parseFromString(await response.text(), "text/html"));
  }

  function show(fresh) {
    for (const [name, old] of blocks(region)) {
      const block = fresh.get(name);
      if (block === undefined) throw new Error(`${name} is missing`);
      // What has not changed stays, with a reader's selection and focus in it.
      if (block.outerHTML !== old.outerHTML) old.replaceWith(document.importNode(block, true));
    }
  }

  function mark(stale) {
    notice.hidden = !stale;
    region.classList.toggle("p2p-stale", stale);
  }

  async function refresh() {
    clearTimeout(timer);
    if (fetching || document.hidden) return;
    fetching = true;
    try {
      show(await fetchBlocks());
      lastNews = Date.now();
      mark(false);
    } catch {
      mark(Date.now() - lastNews > patience);
    } finally {
      fetching = false;
      timer = setTimeout(refresh, period);
    }
  }

  document.addEventListener("visibilitychange", refresh);
  timer = setTimeout(refresh, period);
})();
