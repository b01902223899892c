// What the pages of all live views have in common: they say that they are there, tell when nothing comes any more, keep
// the state that a saved notebook shows without a kernel, and move to a panel beside the notebook.

const SAY_EVERY = 20000; // milliseconds
const SILENT_AFTER = 7000; // the kernel sends a pulse every two seconds
const PANEL = ".jupyterlab-sidecar"; // the class that the package sidecar gives its panels

function follow(model, el, { whole, batch, kept = (state, message) => ({ ...state, ...message }) }) {
  const view = Math.random().toString(36).slice(2);
  const note = document.createElement("div");
  note.className = "lk-note";
  const said = document.createElement("span");
  const pin = document.createElement("button");
  pin.className = "lk-pin";
  pin.textContent = "⇥ keep beside the notebook";
  pin.addEventListener("click", () => model.send({ kind: "beside", view }));
  note.append(said, pin);
  el.appendChild(note);
  const key = model.get("key") || view;
  el.dataset.key = key;
  let heard = 0;
  const began = Date.now();
  let over = false;
  let inPanel = false;
  let left = false;
  let trouble = [];

  function tell() {
    const silent = Date.now() - Math.max(heard, began) > SILENT_AFTER;
    const state = over
      ? "○ stopped. Run the cell again to continue."
      : silent
        ? model.silent || "○ no data: the kernel has stopped or was restarted. Run the cell again to continue."
        : heard
          ? "● live"
          : "○ waiting for the kernel";
    if (inPanel && !el.isConnected) return leave(); // the panel was closed
    inPanel = el.closest(PANEL) !== null;
    const elsewhere = heard > 0 && !inPanel && document.querySelector(`${PANEL} [data-key="${key}"]`) !== null;
    said.textContent = [state, ...(elsewhere ? ["in the panel beside the notebook"] : []), ...trouble].join("  ·  ");
    pin.hidden = inPanel || elsewhere || silent || !document.getElementById("jp-main-dock-panel");
    el.classList.toggle("lk-silent", over || silent);
    el.classList.toggle("lk-elsewhere", elsewhere);
  }

  function hear(message) {
    if (message.kind === "whole" && message.view !== view) return;
    heard = Date.now();
    over = message.kind === "over";
    trouble = message.trouble || [];
    if (message.kind === "whole") whole(message);
    if (message.kind === "batch") batch(message);
    if (message.kind !== "over") model.set?.("state", kept(model.get("state"), message));
    tell();
  }

  const say = () => model.send({ kind: "here", view });
  model.on("msg:custom", hear);
  whole(model.get("state"));
  say();
  tell();
  const saying = setInterval(say, SAY_EVERY);
  const telling = setInterval(tell, 1000);
  return leave;

  function leave() {
    if (left) return;
    left = true;
    clearInterval(saying);
    clearInterval(telling);
    model.off("msg:custom", hear);
    try {
      model.send({ kind: "gone", view, panel: inPanel });
    } catch {
      // the kernel was gone first
    }
  }
}
