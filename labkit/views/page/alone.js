// A live view on a page of its own: requests take the place of the kernel's messages.

const ASK_EVERY = 250; // milliseconds
const HIDDEN_AFTER = 5000;

function alone(render, state, direct) {
  const listeners = new Set();
  // JupyterLab shows this page in a sandbox, which has no access to JupyterLab's own address.
  const base = self.origin === "null" ? direct : ".";
  let after = 0;
  let view = "";

  async function request(path, options) {
    try {
      const answer = await fetch(`${base}/${path}`, options);
      if (answer.ok) return answer;
    } catch {
      // The server has stopped. The page says so by itself.
    }
    return null;
  }

  async function ask() {
    const answer = await request(`messages?after=${after}&view=${view}`);
    if (!answer) return;
    const { last, messages } = await answer.json();
    after = last;
    for (const message of messages) for (const listener of listeners) listener(message);
  }

  const model = {
    silent: "○ no data: JupyterLab or the lab's page server has stopped.",
    get: (name) => (name === "state" ? state : ""),
    on: (_, listener) => listeners.add(listener),
    off: (_, listener) => listeners.delete(listener),
    send(message) {
      view = message.view;
      if (isVisible() || message.kind === "gone") request("messages", { method: "POST", body: JSON.stringify(message) });
    },
  };

  // A browser draws only what is visible. A hidden page asks nothing and says nothing, so that the view ends.
  let drawn = performance.now();
  const isVisible = () => performance.now() - drawn < HIDDEN_AFTER;
  let asked = 0;
  async function step(now) {
    const wasHidden = !isVisible();
    drawn = performance.now();
    if (wasHidden) model.send({ kind: "here", view });
    if (now - asked > ASK_EVERY) {
      asked = now;
      await ask();
    }
    requestAnimationFrame(step);
  }
  render({ model, el: document.getElementById("view") });
  requestAnimationFrame(step);
}
