// Keys of the queue. None of them decides anything: `a` and `r` go to where it is done. They can be turned off.

import { selected } from "./selection.js";

const OFF = "keys-off";
const byId = (id) => document.getElementById(id);
const FIELDS = "input:not([type=checkbox]), textarea, select, [contenteditable]";

export function useKeys(list) {
  const dialog = byId("keys");
  const on = byId("keys-on");
  on.checked = localStorage.getItem(OFF) === null;
  on.addEventListener("change", () => { if (on.checked) localStorage.removeItem(OFF); else localStorage.setItem(OFF, ""); });
  byId("keys-open").hidden = false;
  byId("keys-open").addEventListener("click", () => dialog.showModal());
  const does = {
    j: () => step(list, 1),
    k: () => step(list, -1),
    x: () => present(list)?.querySelector(".pick input")?.click(),
    a: () => { if (selected()) byId("approve-all").focus(); else open(list, "decide"); },
    r: () => { if (selected()) byId("why").focus(); else open(list, "reason"); },
    "/": () => { byId("tools").hidden = false; byId("narrow").open = true; byId("q").select(); },
    "?": () => dialog.showModal(),
  };
  list.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.matches("input")) event.preventDefault(); // a form is not sent by a slip
  });
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat && !"jk".includes(event.key)) return;
    if (!on.checked || dialog.open || event.target.closest(FIELDS) || !Object.hasOwn(does, event.key)) return;
    event.preventDefault();
    does[event.key]();
  });
}

const present = (list) => list.contains(document.activeElement) ? document.activeElement.closest("li") : null;

function step(list, by) {
  const rows = [...list.querySelectorAll("a.row")];
  const at = rows.indexOf(present(list)?.querySelector("a.row"));
  rows[at < 0 ? 0 : Math.min(Math.max(at + by, 0), rows.length - 1)]?.focus();
}

/** The card of the row that has the focus, at its decision. */
function open(list, where) {
  const row = present(list)?.querySelector("a.row");
  if (row) location.assign(`${row.href}#${where}`);
}
