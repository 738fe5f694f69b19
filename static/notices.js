// Notices of the gateway on this desktop, by the browser: off until somebody allows them here, and only while this page is open.
const key = "countersign-notices", store = localStorage, box = document.querySelector("[data-notices]");
const on = () => store[key] !== undefined && Notification.permission === "granted";

const look = async (silent) => {
  const answer = await fetch("/api/v1/notices?after=" + (store[key] || ""));
  if (!answer.ok) return;
  const { items } = await answer.json();
  if (items.length) store[key] = items[0].id;
  if (!silent) for (const n of items.slice(0, 3)) new Notification(n.title, { body: n.text, tag: n.id }); // text, whatever it holds
};

if (window.Notification) {
  setInterval(() => on() && look().catch(() => {}), 20000); // where the gateway is away, the next look tells
  if (box) {
    const button = box.querySelector("button");
    const show = () => { button.textContent = (on() ? "Stop" : "Allow") + " on this desktop"; };
    button.onclick = async () => {
      if (on()) delete store[key];
      else if ((await Notification.requestPermission()) === "granted") {
        store[key] = "";
        await look(true).catch(() => {});
      }
      show();
    };
    box.hidden = false;
    show();
  }
}
