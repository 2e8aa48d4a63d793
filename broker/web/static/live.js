// The stream of events: staying connected, saying so in #live, and pages that follow it.

import { clock } from "./zone.js";

const EVENTS = ["created", "changed", "resolved"];
const RETRY = 3000;
const SILENCE = 10000; // the stream says something every two seconds: after this it is gone, whatever the browser thinks

/**
 * Listens to the stream at `address`; `hear` has a function for each event by its name, and gets the event's data.
 * `lost` is called when the server refuses the stream: somebody may have been signed out.
 */
export function listen(address, hear, lost) {
  const status = document.getElementById("live");
  let source;
  let heard;
  const say = (isLost, ...words) => {
    status?.classList.toggle("lost", isLost);
    status?.replaceChildren(...words);
  };
  const sayLost = () => {
    if (status?.classList.contains("lost")) return;
    say(true, "Connection lost at ", clock(new Date()), ". This may be old; trying again.");
  };
  const open = () => {
    heard = performance.now();
    source = new EventSource(address);
    for (const [name, tell] of Object.entries({ beat() {}, ...hear })) {
      source.addEventListener(name, (event) => {
        heard = performance.now();
        if (name === "ready") say(false, "Live");
        tell(JSON.parse(event.data));
      });
    }
    source.onerror = () => {
      sayLost();
      if (source.readyState !== EventSource.CLOSED) return;
      lost();
      setTimeout(open, RETRY);
    };
  };
  open();
  setInterval(() => {
    if (source.readyState === EventSource.CLOSED || performance.now() - heard < SILENCE) return;
    sayLost();
    source.close();
    open();
  }, RETRY);
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
        const signal = AbortSignal.timeout(SILENCE);
        const answer = await fetch(location.pathname + location.search, { headers: { Accept: "text/html" }, signal });
        if (answer.redirected) { signedOut(); break; }
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        if (answer.status >= 500) setTimeout(read, RETRY); // what it knows is old, though the stream is there
        else put(page, answer.status);
      } catch { setTimeout(read, RETRY); }
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
