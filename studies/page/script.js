"use strict";
// Switches: a line is shown while none of its keys is off. The address keeps them: #off=caption,antennas%3D4x4
const boxes = [...document.querySelectorAll(".chart input")];
const lines = [...document.querySelectorAll(".chart [data-of]")].map(line => [line, JSON.parse(line.dataset.of)]);

function show() {
  const off = new Set(boxes.filter(box => !box.checked).map(box => box.value));
  for (const [line, keys] of lines) line.toggleAttribute("hidden", keys.some(key => off.has(key)));
  return off;
}

function keep(changed) {
  for (const box of boxes) if (changed.has(box.value)) box.checked = changed.get(box.value);
  history.replaceState(null, "", "#off=" + [...show()].map(encodeURIComponent).join(","));
}

function decoded(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

function follow() {
  if (!location.hash.startsWith("#off=")) return;
  const off = new Set(location.hash.slice(5).split(",").map(decoded));
  for (const box of boxes) box.checked = !off.has(box.value);
  show();
}

for (const set of document.querySelectorAll(".chart fieldset")) {
  set.disabled = false;
  set.addEventListener("change", event => keep(new Map([[event.target.value, event.target.checked]])));
  set.addEventListener("click", event => {
    const all = event.target.dataset.all;
    if (all) keep(new Map([...set.querySelectorAll("input")].map(box => [box.value, all === "all"])));
  });
}
addEventListener("hashchange", follow);
follow();

// Points: a tip with the interval, under the pointer or in focus; arrow keys go along a line.
for (const svg of document.querySelectorAll(".chart > svg")) {
  const tip = svg.querySelector(".tip");
  const [rect, ...texts] = tip.children;

  function tell(event) {
    const point = event.target.closest(".point");
    tip.toggleAttribute("hidden", !point);
    if (!point) return;
    const { label, value, x, y } = point.dataset;
    texts[0].textContent = label;
    texts[1].textContent = value;
    const em = parseFloat(getComputedStyle(texts[0]).fontSize);
    const width = Math.max(...texts.map(text => text.getComputedTextLength())) + em;
    const left = Math.min(Math.max(+x - width / 2, 2), svg.viewBox.baseVal.width - width - 2);
    const top = +y > 3.6 * em + 12 ? +y - 3.2 * em - 12 : +y + 14;
    tip.setAttribute("transform", `translate(${left} ${top})`);
    rect.setAttribute("width", width);
    rect.setAttribute("height", 3.2 * em);
    texts.forEach((text, i) => { text.setAttribute("x", em / 2); text.setAttribute("y", (1.25 + 1.35 * i) * em); });
  }

  svg.addEventListener("pointerover", tell);
  svg.addEventListener("pointerleave", tell);
  svg.addEventListener("focusin", tell);
  svg.addEventListener("focusout", () => tip.setAttribute("hidden", ""));
  svg.addEventListener("keydown", event => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const line = event.target.closest(".line");
    const points = line ? [...line.querySelectorAll(".point")] : [];
    if (!step || !points.length) return;
    event.preventDefault();
    const at = points.indexOf(event.target.closest(".point"));
    points[at < 0 ? (step > 0 ? 0 : points.length - 1) : Math.min(Math.max(at + step, 0), points.length - 1)].focus();
  });
}

// Paper shows what a screen unfolds.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(part => { part.open = true; }));
