// The record: on a phone the form is folded away, unless something in it is wrong; a row opens to the history of its
// call, which is fetched from the page of the row.

const filters = document.querySelector(".filters");
const narrow = matchMedia("(max-width: 640px)");
const fold = () => { filters.open = !narrow.matches || document.getElementById("mistake") !== null; };

fold();
narrow.addEventListener("change", fold);

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
