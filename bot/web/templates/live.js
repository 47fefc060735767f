"use strict";
// Keeps a page fresh without a reload: the server's events name what has changed, and only that is replaced. What was
// unfolded stays unfolded, the focus and the place in wide tables stay where they were. Without this file the page works.
(() => {
  const PAUSE = 15000; // milliseconds between two looks where the server refuses, or is away

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

  async function again() {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.redirected) return location.reload(); // to the sign-in
    if (answer.ok) parsed(await answer.text()).querySelectorAll("[data-live]").forEach(replace);
  }

  // A page that can be read stays until there is a newer one.
  async function reload() {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
    if (answer && answer.status < 500) location.reload();
    else setTimeout(reload, PAUSE);
  }

  window.troop = { replace };
  const place = document.querySelector("[data-events]");
  if (!place || !window.EventSource) return;
  const source = new EventSource(place.dataset.events);
  source.addEventListener("fragments", (event) => {
    for (const text of JSON.parse(event.data)) replace(parsed(text).body.firstElementChild);
  });
  source.addEventListener("changed", () => again().catch(() => {}));
  source.addEventListener("end", () => source.close());
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) setTimeout(reload, PAUSE);
  });
})();
