// Keeps the page's live parts as the server would render them now. Forms lie outside of those parts and stay untouched.
"use strict";

const MIN_INTERVAL = 400; // between two looks, in ms
const MAX_BACKOFF = 10_000;
const NOT_SIGNED_IN = 4401;

let looking = false;
let lookAgain = false;

async function look() {
  if (looking) {
    lookAgain = true;
    return;
  }
  looking = true;
  try {
    do {
      lookAgain = false;
      const started = performance.now();
      await swap();
      if (lookAgain) {
        await new Promise((done) => setTimeout(done, Math.max(0, MIN_INTERVAL - (performance.now() - started))));
      }
    } while (lookAgain);
  } finally {
    looking = false;
  }
}

async function swap() {
  let response;
  try {
    response = await fetch(location.href, { headers: { "X-Live": "1" }, credentials: "same-origin", cache: "no-store" });
  } catch {
    return; // The server is away; the socket tells when it is back.
  }
  if (!response.ok || response.redirected) {
    return;
  }
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const now = fresh.getElementById(part.id);
    if (now && now.outerHTML !== part.outerHTML) {
      replace(part, now);
    }
  }
}

function replace(part, now) {
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  part.replaceWith(document.adoptNode(now));
  if (focused) {
    document.getElementById(focused)?.focus({ preventScroll: true });
  }
}

function connect(backoff) {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live/`);
  const lost = document.getElementById("link-lost");
  socket.onopen = () => {
    backoff = 500;
    lost.hidden = true;
  };
  socket.onmessage = look;
  socket.onclose = (event) => {
    lost.hidden = false;
    if (event.code !== NOT_SIGNED_IN) {
      setTimeout(() => connect(Math.min(backoff * 2, MAX_BACKOFF)), backoff);
    }
  };
}

connect(500);
