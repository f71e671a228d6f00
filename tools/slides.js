"use strict";
// Without this script all slides stand below each other. With it one is shown at a time.
const slides = [...document.querySelectorAll("section")];
const count = document.querySelector("nav output");

function show(number) {
  const now = Math.min(Math.max(number, 1), slides.length);
  slides.forEach((slide, place) => slide.classList.toggle("now", place === now - 1));
  count.value = `${now} / ${slides.length}`;
  history.replaceState(null, "", `#${now}`);
}

function current() {
  return slides.findIndex((slide) => slide.classList.contains("now")) + 1;
}

const keys = {
  ArrowRight: () => show(current() + 1),
  ArrowDown: () => show(current() + 1),
  PageDown: () => show(current() + 1),
  " ": () => show(current() + 1),
  ArrowLeft: () => show(current() - 1),
  ArrowUp: () => show(current() - 1),
  PageUp: () => show(current() - 1),
  Home: () => show(1),
  End: () => show(slides.length),
  n: () => document.body.classList.toggle("notes"),
};

document.addEventListener("keydown", (event) => {
  if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " " && event.target.closest("button")) return;
  event.preventDefault();
  keys[event.key]();
});
document.querySelector("#before").addEventListener("click", keys.ArrowLeft);
document.querySelector("#after").addEventListener("click", keys.ArrowRight);
document.querySelector("#notes").addEventListener("click", keys.n);
document.body.classList.add("live");
show(Number(location.hash.slice(1)) || 1);
