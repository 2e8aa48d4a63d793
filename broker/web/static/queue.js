// The queue, kept as it is: the stream brings the rows that changed, and what came while it was cut off is read again.
// New rows come above a line, ended ones say so and go, and nothing moves under a pointer that is about to click.

import { setTime } from "./countdown.js";
import { useKeys } from "./keys.js";
import { listen, reader } from "./live.js";
import { notify, offerNotices } from "./notices.js";
import { followSelection, selectionChanged } from "./selection.js";

const REST = { mouse: 5000, touch: 1200 }; // a pointer that rests this long is not about to click
const GUARD = 600; // a click this soon after rows moved was meant for what was there before
const GLANCE = 4000;
const [FEW, MOST] = [10, 200]; // rows: with fewer, or more, the page is read again
const LATELY = 10;
const { mine, grouped, before } = document.body.dataset;
const byId = (id) => document.getElementById(id);
const waiting = byId("waiting");
const lately = byId("lately");
const pending = new Map(); // what was told and is not put in yet, by id
let page = null; // or all of it, read again
let total = null;
let seq = document.body.dataset.seq;
let moved = -Infinity;
let rest = REST.mouse;
let shifted = -Infinity;
let timer = null;

// -- what comes -------------------------------------------------------------------------------------------------------

const readPage = reader((found, status) => {
  if (status !== 200) return;
  page = found;
  settle();
});

/** Reads all of it again; what is told from now on is newer, or told once more. */
function read() {
  pending.clear();
  readPage();
}

function hear(told) {
  const isNew = told.rows.filter((row) => row.list === "waiting" && !byId(row.id) && !pending.has(row.id));
  for (const row of told.rows) pending.set(row.id, row);
  total = told.total;
  notify(isNew.filter((row) => row.mine).map((row) => element(row)));
  settle();
}

function ready(told) {
  if (String(told.seq) !== seq) read();
  seq = null; // whoever comes back has missed something
}

// -- when it is put in ------------------------------------------------------------------------------------------------

function attend(event) {
  moved = performance.now();
  rest = event.pointerType === "mouse" ? REST.mouse : REST.touch;
}
for (const sign of ["pointermove", "pointerdown"]) waiting.addEventListener(sign, attend, { passive: true });
waiting.addEventListener("pointerleave", (event) => {
  if (event.pointerType !== "mouse") return;
  moved = -Infinity;
  settle();
});
waiting.addEventListener("click", (event) => {
  if (event.detail && shifted > moved && performance.now() - shifted < GUARD) event.preventDefault();
}, { capture: true });

/** Puts in what came, once no pointer is about to click; until then it is counted, and what ended says so. */
function settle() {
  clearTimeout(timer);
  const more = moved + rest - performance.now();
  if (more <= 0 || document.hidden) { put(); return; }
  count();
  for (const row of waiting.querySelectorAll(":scope > [data-at]")) {
    const told = pending.get(row.id);
    if (told ? told.list !== "waiting" : page && !page.getElementById(row.id)) end(row, told?.stands ?? "waits no more");
  }
  const came = [...pending.values()].filter((row) => row.list === "waiting").map((row) => row.id);
  if (page) came.push(...rowsOf(page.getElementById("waiting")).map((row) => row.id));
  const news = new Set(came.filter((id) => !byId(id))).size;
  byId("news").textContent = news ? `${news} new` : "";
  timer = setTimeout(settle, more);
}

/** A row that is decided, in its place: there is nothing to select any more. */
function end(row, how) {
  if (row.classList.contains("over")) return;
  row.style.height = `${row.offsetHeight}px`; // what it says now may be shorter or longer
  row.classList.add("over");
  row.querySelector(".pick input")?.remove();
  const words = row.querySelector(".left");
  words?.replaceWith(how);
  selectionChanged();
}

function put() {
  const places = placesOf(waiting);
  const whole = page !== null;
  byId("news").textContent = "";
  if (whole) putPage();
  for (const row of pending.values()) putRow(row);
  pending.clear();
  tidyGroups();
  while (lately.children.length > LATELY) lately.lastElementChild.remove();
  count();
  setTime();
  selectionChanged();
  if ([...placesOf(waiting)].some(([id, top]) => places.has(id) && places.get(id) !== top)) shifted = performance.now();
  const rows = rowsOf(waiting).length;
  if (!whole && (rows > MOST || (rows < FEW && byId("older")))) read();
}

function placesOf(list) {
  return new Map(rowsOf(list).map((row) => [row.id, row.getBoundingClientRect().top]));
}

const rowsOf = (list) => [...list.querySelectorAll(":scope > [data-at]")];

// -- how it is put in -------------------------------------------------------------------------------------------------

function element(told) {
  const made = new DOMParser().parseFromString(told.row, "text/html").body.firstElementChild;
  return document.adoptNode(made);
}

function putRow(told) {
  const old = byId(told.id);
  const list = { waiting, lately }[told.list];
  if (!list) { remove(old); return; }
  const row = element(told);
  if (old?.parentElement === list && old.dataset.version === row.dataset.version) return;
  if (list === waiting && (!old || old.classList.contains("fresh"))) row.classList.add("fresh");
  if (old?.parentElement === list && old.dataset.at === row.dataset.at) { replace(old, row); return; }
  remove(old);
  insert(list, row);
}

/** In its place; what was selected stays selected if it is still the same that would run. */
function replace(old, row) {
  const [was, is] = [old, row].map((each) => each.querySelector(".pick input"));
  if (was?.checked && is?.value === was.value) is.checked = true;
  const focused = old.contains(document.activeElement) && document.activeElement;
  old.replaceWith(row);
  if (focused) row.querySelector(focused.matches("input") ? "input" : "a")?.focus({ preventScroll: true });
}

/** Its neighbour gets the focus that it had. */
function remove(row) {
  if (!row) return;
  if (row.contains(document.activeElement)) {
    const rows = rowsOf(row.parentElement);
    const at = rows.indexOf(row);
    (rows[at + 1] ?? rows[at - 1])?.querySelector("a").focus({ preventScroll: true });
  }
  row.remove();
}

/** Newest first, in its group; what belongs to another page is left to that. */
function insert(list, row) {
  if (list === waiting && before && Number(row.dataset.at) >= Number(before)) return;
  const grant = list === waiting && grouped !== undefined ? row.dataset.grant : null;
  const heading = grant ? [...list.children].find((each) => each.dataset.group === grant) : null;
  if (grant && !heading) { read(); return; }
  const peers = rowsOf(list).filter((each) => !grant || each.dataset.grant === grant);
  const next = peers.find((each) => Number(each.dataset.at) < Number(row.dataset.at));
  if (next) next.before(row);
  else if (list === waiting && byId("older")) return;
  else if (peers.length) peers.at(-1).after(row);
  else if (heading) heading.after(row);
  else list.append(row);
}

function tidyGroups() {
  for (const heading of waiting.querySelectorAll(":scope > .group")) {
    if (!heading.nextElementSibling?.dataset.at) heading.remove();
  }
}

function putPage() {
  const found = page;
  page = null;
  setTime(found);
  if (!pending.size) total = found.body.dataset.total ? Number(found.body.dataset.total) : null;
  for (const list of [waiting, lately]) patch(list, found.getElementById(list.id));
  for (const id of ["troubles", "empty", "older-part"]) byId(id).replaceChildren(...found.getElementById(id).childNodes);
}

/** Makes the rows of `list` those of `wanted`, keeping every row that did not change. */
function patch(list, wanted) {
  const key = (row) => row.id || row.dataset.group;
  const present = new Map([...list.children].map((row) => [key(row), row]));
  const rows = [...wanted.children].map((row) => {
    const old = present.get(key(row));
    if (old && (old.dataset.version ?? "") === (row.dataset.version ?? "") && !old.classList.contains("over")) return old;
    const added = document.adoptNode(row);
    if (list === waiting && (!old || old.classList.contains("fresh"))) added.classList.add("fresh");
    if (old) { replace(old, added); present.delete(key(row)); }
    return added;
  });
  const keep = new Set(rows);
  for (const row of present.values()) if (!keep.has(row)) remove(row);
  rows.forEach((row, place) => { if (list.children[place] !== row) list.insertBefore(row, list.children[place] ?? null); });
}

// -- how many ---------------------------------------------------------------------------------------------------------

function count() {
  const shown = rowsOf(waiting).length;
  const whole = mine === undefined ? total ?? Number(document.body.dataset.total) : byId("older") ? null : shown;
  const some = `${whole ?? `More than ${shown}`} ${whole === 1 ? "waits" : "wait"}${mine === undefined ? "" : " for you"}`;
  const says = whole === 0 ? document.body.dataset.nothing : some;
  if (byId("count").textContent !== says) byId("count").textContent = says;
  if (whole !== null) document.body.dataset.total = whole;
  document.title = whole === 0 ? `${says} · Approvals` : `(${whole ?? `${shown}+`}) Approvals`;
  byId("empty").hidden = shown > 0;
  byId("lately-section").hidden = !lately.children.length;
  if (whole) byId("tools").hidden = false;
}

// -- a glance or a key: what was new is seen --------------------------------------------------------------------------

function seen() {
  if (document.hidden) return;
  for (const row of waiting.querySelectorAll(".fresh")) row.classList.remove("fresh");
}
let glance = null;
for (const sign of ["pointermove", "scroll"]) {
  addEventListener(sign, () => { glance ??= setTimeout(() => { glance = null; seen(); }, GLANCE); }, { passive: true });
}
addEventListener("keydown", () => { moved = -Infinity; settle(); seen(); });

followSelection(waiting);
useKeys(waiting);
offerNotices();
listen(`/queue/events${location.search}`, { ready, rows: hear }, read);
