// What the pages of all live views have in common: they say that they are there, and tell when nothing comes any more.

const SAY_EVERY = 20000; // milliseconds
const SILENT_AFTER = 7000; // the kernel sends a pulse every two seconds

function follow(model, el, { whole, batch }) {
  const view = Math.random().toString(36).slice(2);
  const note = document.createElement("div");
  note.className = "lk-note";
  el.appendChild(note);
  let heard = Date.now();
  let over = false;
  let trouble = [];

  function tell() {
    const silent = Date.now() - heard > SILENT_AFTER;
    const state = over
      ? "○ stopped. Run the cell again to continue."
      : silent
        ? model.silent || "○ no data: the kernel has stopped or was restarted. Run the cell again to continue."
        : "● live";
    note.textContent = [state, ...trouble].join("  ·  ");
    el.classList.toggle("lk-silent", over || silent);
  }

  function hear(message) {
    if (message.kind === "whole" && message.view !== view) return;
    heard = Date.now();
    over = message.kind === "over";
    trouble = message.trouble || [];
    if (message.kind === "whole") whole(message);
    if (message.kind === "batch") batch(message);
    tell();
  }

  const say = () => model.send({ kind: "here", view });
  model.on("msg:custom", hear);
  whole(model.get("state"));
  say();
  tell();
  const saying = setInterval(say, SAY_EVERY);
  const telling = setInterval(tell, 1000);
  return () => {
    clearInterval(saying);
    clearInterval(telling);
    model.off("msg:custom", hear);
    try {
      model.send({ kind: "gone", view });
    } catch {
      // the kernel was gone first
    }
  };
}
