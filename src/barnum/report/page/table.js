// The table of runs: sorted by its heads, filtered by what stands above it, walked through by keys.
import { chosenRuns, runAfter } from "./choice.js";
import { columnsOf, hasScores } from "./columns.js";
import { byId, el } from "./dom.js";
import { count } from "./format.js";
import { nameOf } from "./run.js";

const STEPS = { j: 1, k: -1 };
const STEPS_IN_TABLE = {
  ...STEPS,
  ArrowDown: 1,
  ArrowUp: -1,
  PageDown: 10,
  PageUp: -10,
  Home: -Infinity,
  End: Infinity,
};

const numeric = (column) => (column.number ? "num" : null);

export class RunTable {
  // onChoose is called with the index of each run that is chosen
  constructor(samples, onChoose) {
    this.samples = samples;
    this.onChoose = onChoose;
    this.columns = columnsOf(samples);
    const first = hasScores(samples) ? "Score" : "Wrong";
    this.sorted = Math.max(0, this.columns.findIndex(({ title }) => title === first));
    this.down = true;
    this.chosen = 0;
    this.shown = [];
    this.rows = samples.map((sample, index) => this.rowOf(sample, index));
    this.heads = this.columns.map((column, index) =>
      el("th", { scope: "col", class: numeric(column) },
        el("button", { type: "button", onclick: () => this.sortBy(index) }, column.title)));
    this.body = el("tbody");
    byId("table").append(el("table", {},
      el("caption", {}, "All runs. A head sorts; a row shows the run below."),
      el("thead", {}, el("tr", {}, this.heads)), this.body));
    byId("find").addEventListener("input", () => this.list());
    for (const id of ["by-label", "by-verdict"]) byId(id).addEventListener("change", () => this.list());
    document.addEventListener("keydown", (event) => this.key(event));
  }

  rowOf(sample, index) {
    const row = el("tr", { "data-sample": index, onclick: () => this.choose(index, true) });
    for (const column of this.columns) {
      if (column.cell) row.append(el("td", { class: numeric(column) }, column.cell(sample)));
      else {
        const button = { type: "button", tabindex: "-1", title: sample.sample };
        row.append(el("td", { class: "name" }, el("button", button, nameOf(sample))));
      }
    }
    return row;
  }

  // by another column numbers come down from the highest, and texts up
  sortBy(index) {
    this.down = this.sorted === index ? !this.down : Boolean(this.columns[index].number);
    this.sorted = index;
    this.list();
  }

  list() {
    const [find, label, verdict] = ["find", "by-label", "by-verdict"].map((id) => byId(id).value);
    const filter = { find, label, verdict };
    this.shown = chosenRuns(this.samples, filter, this.columns[this.sorted].key, this.down);
    this.body.replaceChildren(...this.shown.map((index) => this.rows[index]));
    if (!this.shown.length) {
      const cell = { colspan: this.columns.length, class: "muted" };
      this.body.append(el("tr", {}, el("td", cell, "no run is like that")));
    }
    this.heads.forEach((head, index) => {
      if (index === this.sorted) head.setAttribute("aria-sort", this.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    byId("count").textContent = `${count(this.shown.length)} of ${count(this.samples.length)} runs`;
  }

  choose(index, focus) {
    this.mark(this.chosen, false);
    this.chosen = index;
    const button = this.mark(index, true);
    if (focus) button.focus({ preventScroll: true });
    if (this.rows[index].isConnected) this.scrollTo(this.rows[index]);
    this.onChoose(index);
  }

  // the chosen row's button is the one that the tab key reaches
  mark(index, chosen) {
    this.rows[index].classList.toggle("chosen", chosen);
    const button = this.rows[index].querySelector("button");
    if (chosen) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
    button.tabIndex = chosen ? 0 : -1;
    return button;
  }

  scrollTo(row) {
    const scroll = byId("table");
    const top = row.offsetTop - scroll.querySelector("thead").offsetHeight;
    const bottom = row.offsetTop + row.offsetHeight;
    if (top < scroll.scrollTop) scroll.scrollTop = top;
    else if (bottom > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = bottom - scroll.clientHeight;
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const inside = (selector) => event.target.closest && event.target.closest(selector);
    if (inside("input, select, textarea")) return;
    const steps = inside("#table") ? STEPS_IN_TABLE : STEPS;
    if (!Object.hasOwn(steps, event.key)) return;
    event.preventDefault();
    const all = this.samples.length;
    if (this.shown.length) {
      const rows = Math.max(-all, Math.min(all, steps[event.key]));
      this.choose(runAfter(this.shown, this.chosen, rows), true);
    }
  }
}
