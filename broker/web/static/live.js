// The stream of events: staying connected, saying so in #live, and pages that follow it.

import { clock } from "./zone.js";

const EVENTS = ["created", "changed", "resolved"];
const RETRY = 3000;

/**
 * Listens to the stream at `address`; `hear` has a function for each event by its name, and gets the event's data.
 * `lost` is called when the server refuses the stream: somebody may have been signed out.
 */
export function listen(address, hear, lost) {
  const status = document.getElementById("live");
  let source;
  const say = (isLost, ...words) => {
    status?.classList.toggle("lost", isLost);
    status?.replaceChildren(...words);
  };
  const open = () => {
    source = new EventSource(address);
    for (const [name, tell] of Object.entries(hear)) {
      source.addEventListener(name, (event) => {
        if (name === "ready") say(false, "Live");
        tell(JSON.parse(event.data));
      });
    }
    source.onerror = () => {
      if (!status?.classList.contains("lost")) {
        say(true, "Connection lost at ", clock(new Date()), ". This may be old; trying again.");
      }
      if (source.readyState !== EventSource.CLOSED) return;
      lost();
      setTimeout(open, RETRY);
    };
  };
  open();
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => { if (event.persisted) open(); });
}

/** Calls `look(id or null)` whenever something may have changed with an approval, or with any. */
export function follow(look) {
  const hear = { ready: () => look(null) };
  for (const name of EVENTS) hear[name] = (told) => look(told.id);
  listen("/api/v1/events", hear, () => look(null));
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(null); });
}

/** Reads this page again and gives it to `put`; calls that come meanwhile lead to one more reading. */
export function reader(put) {
  let reading = false;
  let again = false;
  return async function read() {
    if (reading) { again = true; return; }
    reading = true;
    do {
      again = false;
      try {
        const answer = await fetch(location.pathname + location.search, { headers: { Accept: "text/html" } });
        if (answer.redirected) { signedOut(); break; }
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        put(page, answer.status);
      } catch { /* the stream says that the connection is lost, and reads again when it is back */ }
    } while (again);
    reading = false;
  };
}

function signedOut() {
  const status = document.getElementById("live");
  if (!status) return;
  const link = document.createElement("a");
  link.href = `/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`;
  link.textContent = "Sign in";
  status.classList.add("lost");
  status.replaceChildren("You are signed out: nothing here is new. ", link);
}
