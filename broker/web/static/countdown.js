// Time left, in words and as a bar: once a second, and not while the tab is hidden.

let ahead = 0;

/** Takes the server's time from `page`, so that a wrong clock here shows no wrong time left. */
export function setTime(page) {
  ahead = Date.parse(page.body.dataset.now) - Date.now();
  tick();
}

function words(seconds) {
  if (seconds <= 0) return "time is over";
  if (seconds <= 60) return `${seconds} s left`;
  if (seconds <= 7200) return `${Math.ceil(seconds / 60)} min left`;
  return seconds <= 172800 ? `${Math.ceil(seconds / 3600)} h left` : `${Math.ceil(seconds / 86400)} days left`;
}

function tick() {
  if (document.hidden) return;
  for (const left of document.querySelectorAll("[data-until]")) {
    const seconds = Math.ceil((Date.parse(left.dataset.until) - Date.now() - ahead) / 1000);
    const text = words(seconds);
    const label = left.querySelector(".left-words");
    if (label.textContent !== text) label.textContent = text;
    left.querySelector("progress").value = Math.max(seconds, 0);
  }
}

setTime(document);
setInterval(tick, 1000);
document.addEventListener("visibilitychange", tick);
