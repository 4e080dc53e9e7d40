"use strict";
// Only comfort: without this the page shows the same.
document.documentElement.classList.add("js");

// Legends: a model is shown or hidden in all plots, by all its switches at once.
for (const key of document.querySelectorAll(".key")) {
  key.addEventListener("click", () => {
    const isShown = key.getAttribute("aria-pressed") !== "true";
    for (const other of document.querySelectorAll(`.key[data-model="${key.dataset.model}"]`)) {
      other.setAttribute("aria-pressed", String(isShown));
    }
    for (const series of document.querySelectorAll(`.plot [data-model="${key.dataset.model}"]`)) {
      series.classList.toggle("off", !isShown);
    }
  });
}

// Points: a tooltip at once, and their row in the raw data on a click.
const tip = document.getElementById("tip");
for (const point of document.querySelectorAll(".point")) {
  const title = point.querySelector("title");
  const text = title.textContent;
  // A browser shows a title as well, later and over the tooltip.
  title.remove();
  point.setAttribute("aria-label", text);
  const show = () => {
    tip.textContent = text;
    tip.hidden = false;
    const at = point.querySelector(".reach").getBoundingClientRect();
    const left = Math.min(at.left, document.documentElement.clientWidth - tip.offsetWidth - 8);
    const isRoomAbove = at.top > tip.offsetHeight + 8;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${isRoomAbove ? at.top - tip.offsetHeight - 4 : at.bottom + 4}px`;
  };
  const hide = () => { tip.hidden = true; };
  point.addEventListener("mouseenter", show);
  point.addEventListener("focus", show);
  point.addEventListener("mouseleave", hide);
  point.addEventListener("blur", hide);
  // Points of a plot without a table lead nowhere.
  if (!point.hasAttribute("href")) continue;
  point.addEventListener("click", () => {
    const row = document.getElementById(point.getAttribute("href").slice(1));
    row.closest("details").open = true;
  });
}
document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
