// The plot of a run: the whole or a part, chosen by buttons, keys and the pointer.
import { textAt } from "./curve.js";
import { el } from "./dom.js";
import { between, count } from "./format.js";
import { rangeWithin, zoomed } from "./layout.js";
import { drawCurve } from "./plot_drawing.js";
import { stepName } from "./run.js";

const LABEL = "Plot: plus and minus zoom, arrows move, 0 shows the whole run";

const KEYS = {
  "+": (plot) => plot.zoom(0.5),
  "=": (plot) => plot.zoom(0.5),
  "-": (plot) => plot.zoom(2),
  ArrowLeft: (plot) => plot.pan(-0.25),
  ArrowRight: (plot) => plot.pan(0.25),
  ArrowUp: (plot) => plot.zoom(0.5),
  ArrowDown: (plot) => plot.zoom(2),
  0: (plot) => plot.showAll(),
  Home: (plot) => plot.set(0, plot.high - plot.low),
  End: (plot) => plot.set(plot.end, plot.end + plot.high - plot.low),
  Escape: (plot) => plot.showAll(),
};

function legendOf(sample) {
  const { curve, windows, first_alarm: alarm } = sample;
  const unit = stepName(sample);
  const item = (name, text) => el("span", {}, el("i", { class: `i-${name}`, "aria-hidden": "true" }), text);
  const each = curve.each > 1 ? `about ${count(curve.each)} ${unit}s` : `one ${unit}`;
  return el("div", { class: "legend" },
    item("peak", "maximum of a bin"),
    item("mean", "mean of a bin"),
    windows.length ? item("band", "window") : null,
    curve.news.length ? item("news", "new transfer, by novelty") : null,
    alarm ? item("alarm", "first alarm") : null,
    el("span", {}, `${count(curve.mean.length)} bins of ${each}; around windows single ${unit}s`));
}

const button = (text, label, act) =>
  el("button", { type: "button", "aria-label": label, title: label, onclick: act }, text);

export class Plot {
  // window: how many predictions a window of novelty has
  constructor(sample, window) {
    this.sample = sample;
    this.window = window;
    this.low = 0;
    this.high = this.end = sample.transfers;
    this.surface = this.makeSurface();
    this.readout = el("div", { class: "readout" });
    this.node = el("div", {}, this.makeBar(), this.surface, this.readout, legendOf(sample));
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.surface);
  }

  close() {
    this.observer.disconnect();
  }

  makeSurface() {
    return el("div", {
      class: "plot", tabindex: "0", role: "application", "aria-label": LABEL,
      onkeydown: (event) => this.key(event),
      onpointerdown: (event) => this.press(event),
      onpointermove: (event) => this.hover(event),
      onpointerup: (event) => this.release(event),
      onpointercancel: () => this.cancel(),
      onpointerleave: () => this.leave(),
      ondblclick: () => this.showAll(),
    });
  }

  makeBar() {
    const { windows, first_alarm: alarm } = this.sample;
    this.range = el("span", { class: "range", role: "status" });
    this.out = button("−", "Zoom out (minus)", () => this.zoom(2));
    this.whole = button("Whole run", "Show the whole run (0)", () => this.showAll());
    return el("div", { class: "plotbar controls" },
      button("+", "Zoom in (plus)", () => this.zoom(0.5)),
      this.out,
      button("←", "Earlier (left arrow)", () => this.pan(-0.25)),
      button("→", "Later (right arrow)", () => this.pan(0.25)),
      this.whole,
      windows.map((win, index) =>
        button(`Window ${index + 1}`, `Show window ${index + 1}`, () => this.show(win))),
      alarm ? button("First alarm", "Show the first alarm", () => this.around(alarm.prediction)) : null,
      this.range);
  }

  // what is shown

  set(low, high) {
    [this.low, this.high] = rangeWithin(low, high, this.end);
    this.draw();
  }

  showAll() {
    this.set(0, this.end);
  }

  zoom(factor) {
    this.set(...zoomed(this.low, this.high, factor));
  }

  pan(share) {
    const by = (this.high - this.low) * share;
    this.set(this.low + by, this.high + by);
  }

  show(win) {
    const margin = (win.end - win.begin) / 2;
    this.set(win.begin - margin, win.end + margin);
    this.surface.scrollIntoView({ block: "nearest" });
    this.surface.focus({ preventScroll: true });
  }

  around(prediction) {
    const half = Math.max(this.window, 50);
    this.set(prediction - half, prediction + half);
  }

  draw() {
    const { low, high, end } = this;
    this.drawing = drawCurve(this.sample, low, high, this.surface.clientWidth || 900);
    this.surface.replaceChildren(this.drawing.root);
    const all = high - low >= end;
    const name = stepName(this.sample);
    this.out.disabled = this.whole.disabled = all;
    this.range.textContent = all
      ? `all ${count(end)} ${name}s`
      : `${name}s ${between(low, high)} of ${count(end)}`;
    this.surface.dataset.low = Math.round(low);
    this.surface.dataset.high = Math.round(high);
  }

  // keys and the pointer

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (!Object.hasOwn(KEYS, event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    KEYS[event.key](this);
  }

  // the prediction that the pointer is at
  at(event) {
    const { root, box } = this.drawing;
    const place = Math.max(box.left, Math.min(box.right, event.clientX - root.getBoundingClientRect().left));
    return this.low + ((place - box.left) / (box.right - box.left)) * (this.high - this.low);
  }

  press(event) {
    if (event.button !== 0 || event.pointerType === "touch") return;
    this.from = this.at(event);
    this.surface.setPointerCapture(event.pointerId);
  }

  // the selection that ends at a prediction
  selected(at) {
    return [Math.min(this.from, at), Math.max(this.from, at)];
  }

  hover(event) {
    const { x, details, cross, selection } = this.drawing;
    const at = this.at(event);
    cross.setAttribute("x1", x(at));
    cross.setAttribute("x2", x(at));
    cross.setAttribute("visibility", "visible");
    if (this.from !== undefined) {
      const [low, high] = this.selected(at);
      selection.setAttribute("x", x(low));
      selection.setAttribute("width", Math.max(0, x(high) - x(low)));
      selection.setAttribute("visibility", "visible");
    }
    this.readout.textContent = textAt(this.sample, details, at);
  }

  release(event) {
    if (this.from === undefined) return;
    const { x } = this.drawing;
    const [low, high] = this.selected(this.at(event));
    this.cancel();
    // a click is no selection
    if (x(high) - x(low) > 4) this.set(low, high);
  }

  cancel() {
    this.from = undefined;
    if (this.drawing) this.drawing.selection.setAttribute("visibility", "hidden");
  }

  leave() {
    if (this.drawing) this.drawing.cross.setAttribute("visibility", "hidden");
    this.readout.textContent = "";
  }
}
