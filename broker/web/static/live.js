// The stream of events, and pages that follow it. An event is a hint: the page is read again, and what changed is put in.

const EVENTS = ["created", "changed", "resolved"];
const RETRY = 3000;

/** Calls `look(id or null)` whenever something may have changed, and says in #live how it stands with the stream. */
export function follow(look) {
  const status = document.getElementById("live");
  let source;
  const say = (text, lost) => {
    if (!status) return;
    status.classList.toggle("lost", lost);
    if (status.textContent !== text) status.textContent = text;
  };
  const open = () => {
    source = new EventSource("/api/v1/events");
    source.addEventListener("ready", () => { say("Live", false); look(null); });
    for (const name of EVENTS) source.addEventListener(name, (event) => look(JSON.parse(event.data).id));
    source.onerror = () => {
      if (!status?.classList.contains("lost")) {
        say(`Connection lost at ${new Date().toISOString().slice(11, 19)} UTC. This may be old; trying again.`, true);
      }
      if (source.readyState === EventSource.CLOSED) setTimeout(() => { look(null); open(); }, RETRY);
    };
  };
  open();
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(null); });
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => { if (event.persisted) { open(); } });
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
  status.classList.add("lost");
  status.innerHTML = 'You are signed out: nothing here is new. <a href="/sign-in">Sign in</a>';
}
