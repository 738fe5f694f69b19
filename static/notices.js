// Notices of the gateway on this desktop, through the browser's Notification API: off until somebody allows them here, and
// only while a page of the dashboard is open.
const key = "countersign-notices";
const every = 20000;

const list = async (after) => {
  const answer = await fetch("/api/v1/notices?after=" + encodeURIComponent(after), { headers: { Accept: "application/json" } });
  return answer.ok ? (await answer.json()).items : [];
};

const look = async () => {
  const last = localStorage.getItem(key);
  if (last === null || Notification.permission !== "granted") return;
  try {
    const items = await list(last);
    if (items.length === 0) return;
    localStorage.setItem(key, items[0].id);
    for (const n of items.slice(0, 3).reverse()) {
      const shown = new Notification(n.title, { body: n.text, tag: n.id }); // text, whatever it holds
      shown.onclick = () => {
        window.focus();
        if (n.path.startsWith("/") && !n.path.startsWith("//")) location.assign(n.path);
      };
    }
  } catch {
    // the gateway is away: the next look will tell
  }
};

const settings = document.querySelector("[data-notices]");
if (settings && "Notification" in window) {
  const button = settings.querySelector("button");
  const said = settings.querySelector("[role=status]");
  const show = () => {
    const on = localStorage.getItem(key) !== null && Notification.permission === "granted";
    button.textContent = on ? "Stop on this desktop" : "Allow on this desktop";
    said.textContent = Notification.permission === "denied" ? "This browser was told to show none." : on ? "Shown while a page of the dashboard is open." : "";
  };
  button.addEventListener("click", async () => {
    if (localStorage.getItem(key) !== null && Notification.permission === "granted") {
      localStorage.removeItem(key);
    } else if ((await Notification.requestPermission()) === "granted") {
      const items = await list("").catch(() => []);
      localStorage.setItem(key, items.length > 0 ? items[0].id : "");
    }
    show();
  });
  settings.hidden = false;
  show();
}
if ("Notification" in window && localStorage.getItem(key) !== null) setInterval(look, every);
