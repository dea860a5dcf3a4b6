// The axes of a chart.
import { svg } from "./dom.js";
import { short } from "./format.js";
import { ticks } from "./layout.js";

// box: where the chart lies; x and y: its scales; labels: x and y, and xText and yText of their ticks
export function axes(root, box, x, y, labels) {
  const { left, right, top, bottom } = box;
  const text = (at, anchor, words) => svg("text", { ...at, "text-anchor": anchor }, words);
  for (const at of ticks(y.low, y.high, 5)) {
    root.append(svg("line", { class: "grid", x1: left, x2: right, y1: y(at), y2: y(at) }));
    root.append(text({ x: left - 6, y: y(at) + 4 }, "end", (labels.yText || short)(at)));
  }
  for (const at of ticks(x.low, x.high, Math.max(2, Math.floor((right - left) / 90)))) {
    root.append(svg("line", { class: "axis", x1: x(at), x2: x(at), y1: bottom, y2: bottom + 4 }));
    root.append(text({ x: x(at), y: bottom + 16 }, "middle", (labels.xText || short)(at)));
  }
  root.append(svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
  if (labels.x) root.append(text({ x: (left + right) / 2, y: bottom + 31 }, "middle", labels.x));
  if (labels.y) root.append(text({ x: left, y: top - 8 }, "start", labels.y));
}
