"use strict";
// Keeps a page fresh without a reload: the server's events name what has changed, and only that is replaced. What was
// unfolded stays unfolded, the focus and the place in wide tables stay where they were. Without this file the page works.
(() => {
  // Milliseconds.
  const [SHORTEST, LONGEST] = [3000, 60000]; // between two tries where the server refuses, or is away
  const [QUIET, LOOK] = [45000, 5000]; // the server says something every 15 seconds

  function replace(fresh) {
    const old = fresh.id && document.getElementById(fresh.id);
    if (!old || old.outerHTML === fresh.outerHTML) return;
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    if (focused && /^(INPUT|SELECT|TEXTAREA)$/.test(focused.tagName)) return; // somebody writes there
    for (const fold of old.querySelectorAll("details[id]")) {
      const same = fresh.querySelector("#" + CSS.escape(fold.id));
      if (same) same.open = fold.open;
    }
    const places = [...old.querySelectorAll(".scroll[id]")].map((one) => [one.id, one.scrollLeft, one.scrollTop]);
    old.replaceWith(fresh);
    for (const [id, left, top] of places) document.getElementById(id)?.scrollTo(left, top);
    if (focused) (focused.id ? document.getElementById(focused.id) : link(fresh, focused))?.focus();
  }

  function link(fresh, focused) {
    const href = focused.getAttribute("href");
    return href && fresh.querySelector(`a[href="${CSS.escape(href)}"]`);
  }

  function parsed(text) {
    return new DOMParser().parseFromString(text, "text/html"); // runs nothing
  }

  // What a reload would show, without it: what is unfolded, written or focused stays. Throws where there is no page.
  async function again() {
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), QUIET);
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, signal: late.signal });
      // To the sign-in, or to the page that says why.
      if (answer.redirected || [401, 403, 404].includes(answer.status)) return location.reload();
      if (!answer.ok) throw new Error(answer.statusText);
      parsed(await answer.text()).querySelectorAll("[data-live]").forEach(replace);
    } finally {
      clearTimeout(timer);
    }
  }

  window.troop = { replace };
  if (!document.querySelector("[data-events]") || !window.EventSource) return;
  let source, heard, waiting, pause = SHORTEST;

  function listen() {
    const place = document.querySelector("[data-events]");
    if (!place) return; // it has ended meanwhile
    source = new EventSource(place.dataset.events);
    heard = Date.now();
    const on = (name, act) =>
      source.addEventListener(name, (event) => {
        [heard, pause] = [Date.now(), SHORTEST];
        act(event);
      });
    on("beat", () => {});
    on("fragments", (event) => {
      for (const text of JSON.parse(event.data)) replace(parsed(text).body.firstElementChild);
    });
    on("changed", () => again().catch(lose));
    on("end", () => {
      source?.close();
      source = null;
    });
    source.onerror = lose;
  }

  // The browser's own new tries would come every few seconds for ever, and none after a proxy's answer.
  function lose() {
    source?.close();
    source = null;
    clearTimeout(waiting);
    waiting = setTimeout(back, pause * (1 + Math.random()));
    pause = Math.min(2 * pause, LONGEST);
  }

  async function back() {
    clearTimeout(waiting);
    waiting = null;
    await again().then(listen, () => {
      waiting = setTimeout(back, pause);
      pause = Math.min(2 * pause, LONGEST);
    });
  }

  listen();
  setInterval(() => source && Date.now() - heard > QUIET && lose(), LOOK); // a connection that a sleep or a proxy cut
  addEventListener("online", () => waiting && back());
  document.addEventListener("visibilitychange", () => !document.hidden && waiting && back());
})();
