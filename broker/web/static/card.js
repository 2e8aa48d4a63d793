// One approval: what happens to it elsewhere shows here, and what its reader does is sent without leaving the page.

import { setTime } from "./countdown.js";
import { follow, reader } from "./live.js";

const mine = document.body.dataset.approval;

const read = reader((page, status) => {
  if (status === 404) location.reload();
  if (status !== 200) return;
  for (const old of document.querySelectorAll("[data-live]")) {
    const now = page.getElementById(old.id);
    if (!now || now.dataset.live === old.dataset.live) continue;
    const focused = old.contains(document.activeElement);
    old.replaceWith(document.adoptNode(now));
    if (focused) goOn(now);
  }
  setTime(page);
  document.title = page.title;
});

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.dataset.refused) return;
  event.preventDefault();
  const given = new FormData(form, event.submitter);
  const buttons = document.querySelectorAll("[data-refused] button");
  for (const button of buttons) button.disabled = true;
  const problem = await send(form, given);
  if (problem) say(problem);
  await read();
  for (const button of buttons) button.disabled = false;
  if (problem) say(problem);
  if (document.activeElement !== document.body) return;
  if (event.submitter.isConnected) event.submitter.focus({ preventScroll: true });
  else goOn(document.getElementById("decide"));
});

/** Who came to a place by keys goes on from what stands there now. */
function goOn(place) {
  (place.querySelector(".next") ?? place).focus({ preventScroll: true });
}

/** Sends what the form would, to the same place of the API; returns what went wrong, in a sentence. */
async function send(form, given) {
  const { csrf, ...word } = Object.fromEntries(given);
  try {
    const answer = await fetch(`/api/v1${new URL(form.action).pathname}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
      body: JSON.stringify(word),
      signal: AbortSignal.timeout(30000),
    });
    if (answer.ok) return null;
    const why = (await answer.json()).detail;
    return `${form.dataset.refused}: ${why[0].toLowerCase()}${why.slice(1)}`;
  } catch {
    return "The broker did not answer: it is unknown whether this was done. Reload before you do it again.";
  }
}

function say(problem) {
  const note = document.getElementById("note");
  note.textContent = problem;
  note.hidden = false;
  const ended = document.querySelector("#decide .ended");
  if (ended) ended.hidden = true; // the note says it
}

follow((id) => { if (id === null || id === mine) read(); });
document.addEventListener("timeover", () => read());
