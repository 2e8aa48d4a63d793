// The record: on a phone the form is folded away, unless something in it is wrong; a time range is chosen in the zone of
// whoever reads, and sent as instants; a row opens to the history of its call, fetched from the page of the row.

import { here } from "./zone.js";

const filters = document.querySelector(".filters");
const narrow = matchMedia("(max-width: 640px)");
const fold = () => { filters.open = !narrow.matches || document.getElementById("mistake") !== null; };

fold();
narrow.addEventListener("change", fold);

for (const field of document.querySelectorAll("[data-instant]")) {
  const sent = document.createElement("input");
  Object.assign(sent, { type: "hidden", name: field.name, value: field.value });
  field.removeAttribute("name");
  Object.assign(field, { type: "datetime-local", step: 1, max: "9999-12-31T23:59:59" });
  field.value = field.dataset.instant && here(field.dataset.instant);
  field.after(sent);
  field.parentElement.querySelector(".zone").textContent = ", your time";
  field.addEventListener("input", () => {
    sent.value = field.value && new Date(field.value).toISOString().replace(".000Z", "Z");
  });
}

const open = async (row) => {
  const answer = await fetch(`/audit/${row.dataset.row}`);
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const history = page.querySelector("main .history");
  if (history && !row.querySelector(".history")) row.append(document.importNode(history, true));
};

for (const row of document.querySelectorAll("details[data-row]")) {
  row.addEventListener("toggle", () => {
    if (row.open && !row.querySelector(".history")) open(row).catch(() => {});
  });
}
