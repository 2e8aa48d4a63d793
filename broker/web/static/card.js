// One approval: what happens to it elsewhere shows here, and a decision is sent without leaving the page.

import { setTime } from "./countdown.js";
import { follow, reader } from "./live.js";

const mine = document.body.dataset.approval;

const read = reader((page, status) => {
  if (status === 404) location.reload();
  if (status !== 200) return;
  setTime(page);
  for (const old of document.querySelectorAll("[data-live]")) {
    const now = page.getElementById(old.id);
    if (now && now.dataset.live !== old.dataset.live) old.replaceWith(document.adoptNode(now));
  }
  document.title = page.title;
});

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.closest("#decide")) return;
  event.preventDefault();
  const given = new FormData(form, event.submitter);
  const buttons = document.querySelectorAll("#decide button");
  for (const button of buttons) button.disabled = true;
  const problem = await send(given);
  if (problem) say(problem);
  await read();
  for (const button of buttons) button.disabled = false;
  if (problem) say(problem);
});

async function send(given) {
  const word = { decision: given.get("decision"), revision: given.get("revision"), reason: given.get("reason") };
  try {
    const answer = await fetch(`/api/v1/approvals/${mine}/decision`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRF-Token": given.get("csrf") },
      body: JSON.stringify(word),
    });
    if (answer.ok) return null;
    const why = (await answer.json()).detail;
    const word_given = word.decision === "approve" ? "approval" : "rejection";
    return `Your ${word_given} was not taken: ${why[0].toLowerCase()}${why.slice(1)}`;
  } catch {
    return "The broker did not answer: it is unknown whether your decision was taken. Reload before you decide again.";
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
