// Refreshes what asks for it, and only while somebody looks at the page.
"use strict";

const SECOND = 1000;

function refresh() {
  if (document.visibilityState !== "visible") return;
  for (const element of document.querySelectorAll("[data-refresh]")) {
    const due = Number(element.dataset.refreshedAt || 0) + element.dataset.refresh * SECOND;
    // Whoever is in a form or has selected text would lose it.
    const busy = element.contains(document.activeElement) && document.activeElement !== element;
    if (Date.now() < due || busy || String(getSelection())) continue;
    element.dataset.refreshedAt = Date.now();
    htmx.trigger(element, "refresh");
  }
}

document.addEventListener("DOMContentLoaded", () => {
  for (const element of document.querySelectorAll("[data-refresh]")) {
    element.dataset.refreshedAt = Date.now();
  }
  setInterval(refresh, SECOND);
});
document.addEventListener("visibilitychange", refresh);
document.addEventListener("htmx:afterSwap", () => {
  for (const element of document.querySelectorAll("[data-refresh]")) {
    element.dataset.refreshedAt = Date.now();
  }
});
