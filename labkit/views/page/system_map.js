// The system map: lights up arrows, writes counts, greys boxes out.

const LIT_FOR = 900; // milliseconds

function render({ model, el }) {
  el.classList.add("lk-view");
  const picture = document.createElement("div");
  const told = document.createElement("div");
  told.className = "lk-told";
  el.append(picture, told);
  const timers = new Map();

  function show(message) {
    for (const box of picture.querySelectorAll("[data-box]")) {
      const id = box.dataset.box;
      const off = (message.off || {})[id];
      box.classList.toggle("lk-off", Boolean(off));
      box.querySelector(".lk-text").textContent = off || (message.notes || {})[id] || "";
    }
    for (const [id, dead] of Object.entries(message.dead || {})) {
      picture.querySelector(`[data-arrow="${id}"]`)?.classList.toggle("lk-dead", dead);
    }
    picture.querySelector("svg")?.setAttribute("aria-label", message.alt || "");
    told.replaceChildren(
      ...(message.told || []).map(([words, way]) => {
        const line = document.createElement("div");
        line.className = `lk-${way}`;
        line.textContent = words;
        return line;
      }),
    );
  }

  function light(id, way) {
    const arrow = picture.querySelector(`[data-arrow="${id}"]`);
    if (!arrow) return;
    const target = picture.querySelector(`[data-box="${id.split(":")[0].split(">")[1]}"]`);
    for (const one of [arrow, target]) {
      if (!one) continue;
      one.classList.remove("lk-lit-on", "lk-lit-back");
      one.classList.add(`lk-lit-${way}`);
      clearTimeout(timers.get(one));
      timers.set(
        one,
        setTimeout(() => one.classList.remove("lk-lit-on", "lk-lit-back"), LIT_FOR),
      );
    }
  }

  const leave = follow(model, el, {
    whole(message) {
      if (message.svg) picture.innerHTML = message.svg;
      show(message);
    },
    batch(message) {
      if (message.notes) show(message);
      for (const [id, way] of message.lit || []) light(id, way);
    },
  });
  return () => {
    leave();
    for (const timer of timers.values()) clearTimeout(timer);
  };
}

export default { render };
