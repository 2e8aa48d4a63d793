// Time left, in words and as a bar: once a second, and not while the tab is hidden. What is possible until an instant
// (`data-ends`) goes at that instant, whatever the server says and when; a `timeover` event tells the page.

let ahead = 0;

/** Takes the server's time from `page`, if one was read, so that a wrong clock here shows no wrong time left. */
export function setTime(page) {
  if (page) ahead = Date.parse(page.body.dataset.now) - Date.now();
  tick();
}

function words(seconds) {
  if (seconds <= 0) return "time is over";
  if (seconds <= 60) return `${seconds} s left`;
  if (seconds <= 7200) return `${Math.ceil(seconds / 60)} min left`;
  return seconds <= 172800 ? `${Math.ceil(seconds / 3600)} h left` : `${Math.ceil(seconds / 86400)} days left`;
}

const secondsTo = (instant) => Math.ceil((Date.parse(instant) - Date.now() - ahead) / 1000);

function tick() {
  if (document.hidden) return;
  for (const left of document.querySelectorAll("[data-until]")) {
    const seconds = secondsTo(left.dataset.until);
    const text = words(seconds);
    const label = left.querySelector(".left-words");
    if (label.textContent !== text) label.textContent = text;
    const bar = left.querySelector("progress");
    bar.value = Math.max(seconds, 0);
    left.classList.toggle("last", seconds * 5 < bar.max);
    left.classList.toggle("short", seconds * 2 < bar.max && seconds * 5 >= bar.max);
  }
  const over = [...document.querySelectorAll("[data-ends]:not([hidden])")].filter((it) => secondsTo(it.dataset.ends) <= 0);
  for (const it of over) it.hidden = true;
  if (over.length) document.dispatchEvent(new Event("timeover"));
}

setTime(document);
setInterval(tick, 1000);
document.addEventListener("visibilitychange", tick);
