// Times in the zone of whoever reads: the server writes UTC, and the exact instant stays as the title. What comes later,
// from the stream or another page, is rewritten as it comes. A time that is told otherwise ("just before") is left alone.

const DAY = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium" }); // 2026-07-28 14:00:00
const CLOCK = new Intl.DateTimeFormat("sv-SE", { timeStyle: "medium" });
const exact = (at) => `${at.toISOString().slice(0, 19).replace("T", " ")} UTC`;

/** An instant as a field for dates and times has it. */
export const here = (instant) => DAY.format(new Date(instant)).replace(" ", "T");

/** A `<time>` of today for `at`, a Date: its hour, minute and second here. */
export function clock(at) {
  const made = document.createElement("time");
  made.dateTime = at.toISOString();
  made.title = exact(at);
  made.textContent = CLOCK.format(at);
  return made;
}

function localize(root) {
  for (const time of root.querySelectorAll("time[title]")) {
    if (time.textContent === time.title) time.textContent = DAY.format(new Date(time.dateTime));
  }
}

localize(document);
new MutationObserver((changes) => {
  for (const { target, addedNodes } of changes) {
    if ([...addedNodes].some((node) => node.nodeType === Node.ELEMENT_NODE)) localize(target);
  }
}).observe(document.body, { childList: true, subtree: true });
