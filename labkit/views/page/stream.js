// The event stream: a table with filters; the rows that don't fit any more go out of the page.

const SAVED = 60; // rows in a saved notebook

function render({ model, el }) {
  el.classList.add("lk-view");
  const kept = (model.get("state") || {}).kept || 500;
  const filters = document.createElement("div");
  filters.className = "lk-filters";
  const table = document.createElement("table");
  table.innerHTML =
    "<thead><tr><th>time</th><th>topic</th><th>order</th><th>type</th><th>partition</th><th>offset</th></tr></thead>";
  const body = document.createElement("tbody");
  table.append(body);
  const rows = document.createElement("div");
  rows.className = "lk-rows";
  rows.setAttribute("role", "region");
  rows.setAttribute("aria-label", "Records in Kafka, the newest above");
  rows.tabIndex = 0;
  rows.append(table);
  const record = document.createElement("pre");
  record.className = "lk-record";
  record.hidden = true;
  const counted = document.createElement("span");
  el.append(filters, rows, record);

  const wanted = { order: "", type: "", topic: "" };
  const place = { topic: 1, order: 2, type: 3 };
  for (const name of ["order", "type", "topic"]) {
    const label = document.createElement("label");
    label.textContent = name;
    const input = document.createElement("input");
    input.size = name === "order" ? 9 : 18;
    input.placeholder = "all";
    input.addEventListener("input", () => {
      wanted[name] = input.value.trim().toLowerCase();
      for (const row of body.rows) row.hidden = !fits(row);
    });
    label.append(input);
    filters.append(label);
  }
  filters.append(counted);

  function fits(row) {
    return Object.entries(wanted).every(([name, text]) => row.cells[place[name]].textContent.toLowerCase().includes(text));
  }

  function open(row, line) {
    for (const other of body.querySelectorAll("[aria-selected]")) other.removeAttribute("aria-selected");
    row.setAttribute("aria-selected", "true");
    record.textContent = line.whole;
    record.hidden = false;
  }

  function add(line) {
    const row = document.createElement("tr");
    row.tabIndex = 0;
    row.line = line;
    if (line.back) row.className = "lk-back";
    for (const cell of line.cells) row.insertCell().textContent = cell;
    row.hidden = !fits(row);
    row.addEventListener("click", () => open(row, line));
    row.addEventListener("keydown", (event) => event.key === "Enter" && open(row, line));
    body.prepend(row);
  }

  function name(named) {
    for (const row of body.rows) {
      for (const [end, called] of Object.entries(named)) {
        if (row.line.whole.includes(end)) row.line.whole = row.line.whole.replaceAll(end, called);
        if (row.cells[place.order].textContent === end) row.cells[place.order].textContent = called;
      }
      row.hidden = !fits(row);
    }
  }

  function take(message) {
    if (message.named && Object.keys(message.named).length) name(message.named);
    for (const line of message.lines || []) add(line);
    while (body.rows.length > kept) body.lastElementChild.remove();
    if (message.count !== undefined) {
      const shown = body.rows.length;
      counted.textContent = message.count > shown ? `${message.count} records, ${shown} of them here` : `${shown} records`;
    }
  }

  return follow(model, el, {
    whole(message) {
      body.replaceChildren();
      take(message);
    },
    batch: take,
    kept(state, { kind, lines = [], count = state.count }) {
      const before = kind === "whole" ? [] : state.lines;
      const last = before.at(-1)?.n || 0; // another view of the same page may have kept these lines already
      return { ...state, lines: [...before, ...lines.filter((line) => line.n > last)].slice(-SAVED), count };
    },
  });
}

export default { render };
