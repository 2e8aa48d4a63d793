// The queue: new rows come above a line, decided ones go, and nothing moves under a pointer that is about to click.

import { setTime } from "./countdown.js";
import { follow, reader } from "./live.js";

const STILL = 1200;
const GLANCE = 4000;
const waiting = document.getElementById("waiting");
let moved = -Infinity;
let held = null;
let timer = null;

waiting.addEventListener("pointermove", () => { moved = performance.now(); });
waiting.addEventListener("pointerleave", () => { moved = -Infinity; if (held) put(held); });

const read = reader((page, status) => {
  if (status !== 200) return;
  held = page;
  settle();
});

/** Puts the page in once the pointer rests; what is decided says so at once, in its place. */
function settle() {
  clearTimeout(timer);
  if (!held) return;
  const rest = STILL - (performance.now() - moved);
  if (rest <= 0) { put(held); return; }
  for (const row of waiting.children) row.classList.toggle("over", !held.getElementById("waiting").querySelector(`#${row.id}`));
  timer = setTimeout(settle, rest);
}

function put(page) {
  held = null;
  setTime(page);
  patch(waiting, page.getElementById("waiting"), true);
  patch(document.getElementById("lately"), page.getElementById("lately"), false);
  for (const id of ["empty", "lately-section"]) document.getElementById(id).hidden = page.getElementById(id).hidden;
  for (const id of ["empty", "count"]) document.getElementById(id).textContent = page.getElementById(id).textContent;
  const troubles = document.getElementById("troubles");
  if (troubles.innerHTML !== page.getElementById("troubles").innerHTML) troubles.replaceWith(document.adoptNode(page.getElementById("troubles")));
  document.title = page.title;
}

/** Makes the rows of `list` those of `wanted`, keeping every row that did not change. */
function patch(list, wanted, mark) {
  const present = new Map([...list.children].map((row) => [row.id, row]));
  const rows = [...wanted.children].map((row) => {
    const old = present.get(row.id);
    if (old && old.dataset.version === row.dataset.version) return old;
    const added = document.adoptNode(row);
    if (mark && (!old || old.classList.contains("fresh"))) added.classList.add("fresh");
    return added;
  });
  const keep = new Set(rows);
  for (const row of present.values()) if (!keep.has(row)) row.remove();
  rows.forEach((row, place) => { if (list.children[place] !== row) list.insertBefore(row, list.children[place] ?? null); });
}

/** A glance or a key: what was new is seen. */
function seen() {
  if (document.hidden) return;
  for (const row of waiting.querySelectorAll(".fresh")) row.classList.remove("fresh");
}
let glance = null;
for (const sign of ["pointermove", "scroll"]) {
  addEventListener(sign, () => { glance ??= setTimeout(() => { glance = null; seen(); }, GLANCE); }, { passive: true });
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  seen();
  const step = { j: 1, k: -1 }[event.key];
  if (!step) return;
  const links = [...waiting.querySelectorAll("a.row")];
  const at = links.indexOf(document.activeElement);
  links[at < 0 ? 0 : Math.min(Math.max(at + step, 0), links.length - 1)]?.focus();
});

follow(() => read());
