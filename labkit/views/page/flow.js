// The outbox flow: the kernel draws the lanes, the page shows them.

function render({ model, el }) {
  el.classList.add("lk-view");
  const picture = document.createElement("div");
  el.append(picture);
  const show = (message) => {
    if (message.html) picture.innerHTML = message.html;
  };
  return follow(model, el, { whole: show, batch: show });
}

export default { render };
