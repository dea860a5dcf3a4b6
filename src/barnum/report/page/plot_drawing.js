// The drawing of a part of a run's curve, with its windows, new transfers and first alarm.
import { axes } from "./axes.js";
import { binsWithin, detailsWithin, highestOf } from "./curve.js";
import { svg } from "./dom.js";
import { count } from "./format.js";
import { scale } from "./layout.js";
import { stepName, unit } from "./run.js";

const HEIGHT = 230;

// a step of a curve
const step = (from, to, tall) => `L${from},${tall}L${to},${tall}`;

// maxima as an area and means as a line
function drawBins({ inside, x, y, box, low, high }, { curve, transfers }) {
  const [first, last] = binsWithin(curve, low, high);
  if (first >= last) return;
  const edge = (bin) => x(Math.min(bin * curve.each, transfers)).toFixed(1);
  const outline = [];
  const middle = [];
  for (let bin = first; bin < last; bin++) {
    outline.push(step(edge(bin), edge(bin + 1), y(curve.highest[bin]).toFixed(1)));
    middle.push(step(edge(bin), edge(bin + 1), y(curve.mean[bin]).toFixed(1)));
  }
  const area = `M${edge(first)},${box.bottom}${outline.join("")}L${edge(last)},${box.bottom}Z`;
  inside.append(svg("path", { class: "peak", d: area }));
  inside.append(svg("path", { class: "mean", d: `M${middle.join("").slice(1)}` }));
}

// single predictions take the place of the bins that hold them
function drawCover({ inside, x, box }, detail, transfers) {
  const begin = x(detail.begin);
  const end = x(Math.min(transfers, detail.begin + detail.each * detail.values.length));
  const width = Math.max(0, end - begin);
  inside.append(svg("rect", { class: "cover", x: begin, width, y: box.top, height: box.bottom - box.top }));
}

function drawWindows({ inside, x, box, low, high }, windows) {
  const labelled = [];
  windows.forEach((win, number) => {
    if (win.end <= low || win.begin >= high) return;
    const from = x(win.begin);
    // a window of a long run is thinner than a pixel
    const width = Math.max(3, x(win.end) - from);
    inside.append(svg("rect", { class: "band", x: from, width, y: box.top, height: box.bottom - box.top }));
    // the first of several that lie together has the label
    const at = Math.max(from, box.left) + 2;
    if (labelled.some((other) => Math.abs(other - at) < 12)) return;
    labelled.push(at);
    inside.append(svg("text", { class: "band-label", x: at, y: box.top - 3 }, String(number + 1)));
  });
}

function drawDetail({ inside, x, y, box }, { begin, each, values }) {
  const edge = (index) => x(begin + index * each).toFixed(1);
  const steps = values.map((value, index) => step(edge(index), edge(index + 1), y(value).toFixed(1)));
  const area = `M${edge(0)},${box.bottom}${steps.join("")}L${edge(values.length)},${box.bottom}Z`;
  inside.append(svg("path", { class: "detail", d: area }));
}

// new transfers, the taller the more novel
function drawNews({ inside, x, box, low, high }, news) {
  const most = news.reduce((highest, [, novelty]) => Math.max(highest, novelty), 0) || 1;
  for (const [prediction, novelty] of news) {
    if (prediction < low || prediction >= high) continue;
    const at = x(prediction + 0.5);
    const top = box.bottom - 4 - (18 * novelty) / most;
    inside.append(svg("line", { class: "news", x1: at, x2: at, y1: box.bottom, y2: top }));
  }
}

function drawAlarm({ inside, x, box, low, high }, alarm) {
  if (!alarm || alarm.prediction < low || alarm.prediction >= high) return;
  const at = x(alarm.prediction + 0.5);
  const left = at > (box.left + box.right) / 2;
  const label = { x: at + (left ? -5 : 5), y: box.top + 10, "text-anchor": left ? "end" : "start" };
  inside.append(svg("line", { class: "alarm", x1: at, x2: at, y1: box.top, y2: box.bottom }));
  inside.append(svg("text", { class: "alarm-label", ...label }, "first alarm"));
}

// Predictions low to high in so many pixels. Gives the SVG (root), its scale x, where the curve lies in it
// (box), the details that are shown, and two marks to be moved: cross and selection.
export function drawCurve(sample, low, high, width) {
  const { curve, windows, transfers } = sample;
  const box = { left: 46, right: width - 8, top: 26, bottom: HEIGHT - 40 };
  const label = `${unit(sample)} of ${stepName(sample)}s ${count(low)} to ${count(high)}`;
  const root = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": label });
  const x = scale(low, high, box.left, box.right);
  const top = highestOf(curve, ...binsWithin(curve, low, high));
  const y = scale(0, top > 0 ? top * 1.05 : 1, box.bottom, box.top);
  axes(root, box, x, y, { x: stepName(sample), y: unit(sample) });
  const inside = svg("g", { "clip-path": "url(#inside)" });
  const clip = { width: Math.max(1, box.right - box.left), height: box.bottom - box.top + 14 };
  root.append(svg("defs", {}, svg("clipPath", { id: "inside" },
    svg("rect", { x: box.left, y: box.top - 14, ...clip }))), inside);
  const drawing = { inside, x, y, box, low, high };
  const details = detailsWithin(windows, low, high, box.right - box.left);
  drawBins(drawing, sample);
  for (const detail of details) drawCover(drawing, detail, transfers);
  drawWindows(drawing, windows);
  for (const detail of details) drawDetail(drawing, detail);
  drawNews(drawing, curve.news);
  drawAlarm(drawing, sample.first_alarm);
  const cross = svg("line", { class: "cross", y1: box.top, y2: box.bottom, visibility: "hidden" });
  const tall = { y: box.top, height: box.bottom - box.top };
  const selection = svg("rect", { class: "drag", ...tall, visibility: "hidden" });
  root.append(cross, selection);
  return { root, box, x, details, cross, selection };
}
