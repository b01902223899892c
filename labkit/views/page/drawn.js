// A view that the kernel draws as HTML: the page shows it.

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
