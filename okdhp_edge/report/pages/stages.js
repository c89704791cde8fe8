// Stages in the order a frame goes through them, each with one colour on both pages.
const STAGES = [
  ["wait", "#9aa5b1"], ["detect", "#8e5bd0"], ["preprocess", "#1fa3a3"], ["infer", "#2f7de1"],
  ["decode", "#3faa55"], ["track", "#d9a520"], ["handoff", "#c9b8a8"], ["draw", "#df6a9b"],
  ["output", "#a5673f"],
];
const ms = (v) => v === null || v === undefined ? "–" : v >= 100 ? v.toFixed(0) : v.toFixed(2);
function element(kind, text, className) {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}
function legendEntry(name, colour, value) {
  const entry = element("span");
  const dot = element("i");
  dot.style.background = colour;
  entry.append(dot, `${name} ${value}`);
  return entry;
}
