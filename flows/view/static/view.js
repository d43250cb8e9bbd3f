// Keys, the marking of passages, and pages that follow a run. The pages work without it: links are links, a fact leads
// to its passage, and a page of a run loads itself.
"use strict";

const rows = () => [...document.querySelectorAll("a.row")];

function step(by) {
  const next = document.querySelector(by > 0 ? 'a[rel="next"]' : 'a[rel="prev"]');
  const links = rows();
  if (!links.length || !document.querySelector("table")) return next && next.click();
  const at = links.indexOf(document.activeElement);
  const link = links[at < 0 ? (by > 0 ? 0 : links.length - 1) : at + by];
  if (link) {
    link.focus();
    link.scrollIntoView({ block: "nearest" });
  }
}

function mark(fact) {
  const spans = fact.dataset.spans.trim().split(/\s+/).map((span) => span.split("-").map(Number));
  const nearest = Number(fact.dataset.nearest);
  let first = null;
  for (const part of document.querySelectorAll("#context [data-start]")) {
    const [start, end] = [Number(part.dataset.start), Number(part.dataset.end)];
    const covers = spans.map(([from, to]) => from <= start && end <= to);
    part.classList.toggle("marked", covers.includes(true));
    part.classList.toggle("nearest", covers[nearest]);
    if (covers[nearest] && !first) first = part;
  }
  for (const other of document.querySelectorAll("[data-spans]")) other.removeAttribute("aria-current");
  fact.setAttribute("aria-current", "true");
  if (first) {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    first.scrollIntoView({ block: "center", behavior: calm ? "auto" : "smooth" });
  }
}

document.addEventListener("click", (event) => {
  const fact = event.target.closest("[data-spans]");
  if (!fact) return;
  event.preventDefault();
  mark(fact);
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const pair = document.querySelector("table.list") === null;
  if (event.key === "j" || event.key === "k") {
    const by = event.key === "j" ? 1 : -1;
    const link = document.querySelector(by > 0 ? 'a[rel="next"]' : 'a[rel="prev"]');
    if (pair && document.querySelector(".steps")) link && link.click();
    else step(by);
  } else if (event.key === "n" || event.key === "p") {
    const link = document.querySelector(event.key === "n" ? 'a[rel="next"]' : 'a[rel="prev"]');
    if (link) link.click();
  } else {
    const target = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
    if (!target) return;
    if (target.matches("input:not([type=radio]), textarea")) target.focus();
    else target.click();
  }
  if ("jknp/u".includes(event.key)) event.preventDefault();
});

// A part of the page with data-refresh is asked for again after so many seconds, until a page comes without it.
async function refresh() {
  const part = document.querySelector("[data-refresh]");
  if (!part) return;
  if (!document.hidden) {
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (!answer.ok) throw new Error(answer.statusText);
      const next = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(part.id);
      replace(part, next);
    } catch {
      const stale = part.querySelector(".stale");
      if (stale) stale.textContent = "not up to date: the page's server does not answer";
    }
  }
  plan();
}

function replace(part, next) {
  const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const open = [...part.querySelectorAll("details")].map((details) => details.open);
  part.replaceWith(next);
  [...next.querySelectorAll("details")].forEach((details, place) => (details.open = open[place] ?? false));
  if (focused) next.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

function plan() {
  const part = document.querySelector("[data-refresh]");
  if (part) setTimeout(refresh, 1000 * Number(part.dataset.refresh));
}

plan();
