// Several approvals, selected for one decision. The form works without this; here it says how many, and is there only
// while something is selected.

const byId = (id) => document.getElementById(id);
let list = null;

const boxes = () => [...list.querySelectorAll(".pick:not([hidden]) input")];

/** How many are selected. */
export const selected = () => boxes().filter((box) => box.checked).length;

export function followSelection(rows) {
  list = rows;
  if (!byId("batch")) return;
  list.addEventListener("change", selectionChanged);
  document.addEventListener("timeover", () => { drop(); selectionChanged(); });
  byId("choose-all").addEventListener("click", () => choose(true));
  byId("choose-none").addEventListener("click", () => choose(false));
  for (const id of ["choose-all", "choose-none"]) byId(id).hidden = false;
  byId("batch").addEventListener("submit", () => { byId("batch").classList.add("sent"); });
  selectionChanged();
}

/** Says how many are selected, and of these how many are not approved together. */
export function selectionChanged() {
  if (!byId("batch")) return;
  const chosen = boxes().filter((box) => box.checked);
  const critical = chosen.filter((box) => box.closest("li").dataset.risk === "critical").length;
  byId("approve-all").textContent = `Approve ${chosen.length - critical}`;
  byId("approve-all").disabled = chosen.length === critical;
  byId("reject-all").textContent = `Reject ${chosen.length}`;
  byId("chosen").textContent = `${chosen.length} selected${critical ? `, ${critical} critical: to be approved one by one` : ""}`;
  byId("choose-all").textContent = `Select all ${boxes().length}`;
}

function choose(all) {
  for (const box of boxes()) box.checked = all;
  selectionChanged();
}

function drop() {
  for (const box of list.querySelectorAll(".pick[hidden] input")) box.checked = false;
}
