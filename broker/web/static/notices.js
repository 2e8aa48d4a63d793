// Desktop notifications: asked for by a button, never by themselves, and only while nobody looks at the page. They say
// which tool, whose agent and what risk; never what the call is about.

const WANTED = "notify";
const MOST = 3;
const button = document.getElementById("notify");

const possible = () => "Notification" in window && isSecureContext;
const wanted = () => possible() && Notification.permission === "granted" && localStorage.getItem(WANTED) !== null;

/** Shows the button where there are notifications. */
export function offerNotices() {
  if (!button || !possible()) return;
  button.addEventListener("click", async () => {
    if (wanted()) localStorage.removeItem(WANTED);
    else if (await Notification.requestPermission() === "granted") localStorage.setItem(WANTED, "");
    show();
  });
  button.hidden = false;
  show();
}

function show() {
  const denied = Notification.permission === "denied";
  button.textContent = denied ? "Notifications are blocked in this browser" : wanted() ? "Stop notifying me" : "Notify me";
  button.disabled = denied;
}

/** Tells of new rows that wait for whoever uses this browser. */
export function notify(rows) {
  if (!rows.length || !document.hidden || !wanted()) return;
  if (rows.length > MOST) { tell(`${rows.length} calls wait for you`, "", "many", "/?mine=1"); return; }
  for (const row of rows) {
    const [tool, agent, risk] = [".tool-name", ".agent", ".risk"].map((place) => row.querySelector(place).textContent);
    tell(`${tool} waits for you`, `${agent}, risk: ${risk}`, row.id, row.querySelector("a").href);
  }
}

function tell(title, body, tag, address) {
  try {
    const notice = new Notification(title, { body, tag });
    notice.onclick = () => { window.focus(); location.assign(address); };
  } catch { button.hidden = true; /* a phone's browser has them for workers only */ }
}
