// A window of a run: what was expected in it, and what happened; or, where nothing predicts, what is new in it.
import { el } from "./dom.js";
import { asOffset, between, chance, count, fixed, percent } from "./format.js";
import { placeOf } from "./place.js";
import { stepName } from "./run.js";

// by a transfer's "seen"
const SEEN = ["target never seen", "target seen, not from here", "seen"];

// the same of nominal runs
const REACHED = ["target never reached", "target reached, not from here", "seen"];

const REASONS = {
  novelty: "chosen by novelty",
  surprisal: "chosen by surprisal",
  mistakes: "chosen by confident mistakes",
};

const ALIKE = "how often the same was expected and the same happened in this window";
const WAYS = "how many new transfers in this window led there soon after";

function summaryOf(win, number, sample) {
  const { first_alarm: alarm } = sample;
  const parts = [`${stepName(sample)}s ${between(win.begin, win.end - 1)}`];
  if (win.position !== null) parts.push(`steps ${between(win.position, win.position_end)}`);
  if (win.novelty !== null) parts.push(`novelty ${win.novelty.toFixed(2)} nats`);
  if (win.surprisal !== null) parts.push(`mean surprisal ${win.surprisal.toFixed(2)} nats`);
  if (win.wrong !== null) parts.push(`${percent(win.wrong)} wrong`);
  const mark = (text) => el("span", { class: "mark" }, ` · ${text}`);
  return el("summary", {}, el("b", {}, `Window ${number + 1}`), parts.join(" · "),
    win.above_threshold ? mark("above the threshold") : null,
    alarm && alarm.prediction >= win.begin && alarm.prediction < win.end ? mark("first alarm") : null);
}

// the cells of a transfer, each with a place and what is known of it

const placeCell = (place, text, title) =>
  el("td", { class: "place" }, place, el("br"), el("span", { class: "insn", title }, text));

const numberCell = (text) => el("td", { class: "num" }, text);

function whenCell(transfer, steps) {
  const at = steps ? transfer.position : transfer.prediction;
  const title = `${transfer.expected === null ? "transfer" : "prediction"} ${count(transfer.prediction)}`;
  return el("td", { class: "num", title },
    at === null ? "–" : count(at),
    transfer.times > 1 ? el("div", { class: "muted", title: transfer.way ? WAYS : ALIKE }, `× ${count(transfer.times)}`) : null);
}

// a way into the kernel has no instruction of its own: it began with a transfer from its source
const leftBy = (transfer) => (transfer.way ? "soon after" : transfer.instruction || transfer.kind || "");

function sourceCell(report, transfer) {
  const { instruction_offset: offset } = transfer;
  const title = offset === null ? null : `at ${asOffset(offset)} of the module`;
  return placeCell(placeOf(report, transfer.source), leftBy(transfer), title);
}

function actualCell(report, { correct, actual, probability, seen }) {
  // of targets that training never saw the model knows how likely any of them is, not which
  const before = seen === 0 ? "any target never seen: " : "with ";
  return placeCell(correct ? el("span", {}, "as expected") : placeOf(report, actual),
    probability === null ? "" : `${before}${chance(probability)}`);
}

const headOf = (title, number) => el("th", { scope: "col", class: number ? "num" : null }, title);

function newCells(report, transfer) {
  const how = transfer.way ? "system call, on a way never gone" : REACHED[transfer.seen];
  return [
    placeCell(placeOf(report, transfer.actual), transfer.way ? "system call" : ""),
    el("td", { class: "new" }, how),
    numberCell(transfer.novelty ? transfer.novelty.toFixed(2) : "–"),
  ];
}

// what is new in a window of a run that nothing predicted
function newTableOf(report, win) {
  const rows = win.transfers.map((transfer) => el("tr", {},
    whenCell(transfer, true), sourceCell(report, transfer), newCells(report, transfer)));
  const others = win.left_out ? `; ${count(win.left_out)} more left out` : "";
  const again = win.transfers.some(({ novelty }) => !novelty) ? " A dash: like a new one before it." : "";
  const caption = `What is new among ${count(win.end - win.begin)} transfers, in order${others}. ` +
    `Nominal runs show none of it.${again}`;
  const heads = [headOf("Step", true), headOf("From"), headOf("To"), headOf("In nominal runs"),
    headOf("Novelty", true)];
  return el("table", { class: "transfers" }, el("caption", {}, caption),
    el("thead", {}, el("tr", {}, heads)), el("tbody", {}, rows));
}

function tableOf(report, win) {
  const known = (name) => win.transfers.some((transfer) => transfer[name] !== null);
  const steps = known("position");
  const sources = known("source");
  const seen = known("seen");
  const surprisal = known("surprisal");
  const heads = [
    headOf(steps ? "Step" : "Prediction", true),
    sources ? headOf("From") : null,
    headOf("Expected"),
    headOf("Happened"),
    ...(seen ? [headOf("In training"), headOf("Novelty", true)] : []),
    surprisal ? headOf("Surprisal", true) : null,
  ];
  const rows = win.transfers.map((transfer) => el("tr", {},
    whenCell(transfer, steps),
    sources ? sourceCell(report, transfer) : null,
    placeCell(placeOf(report, transfer.expected), `with ${chance(transfer.confidence)}`),
    actualCell(report, transfer),
    seen ? el("td", { class: transfer.seen < 2 ? "new" : null }, SEEN[transfer.seen]) : null,
    seen ? numberCell(transfer.novelty ? transfer.novelty.toFixed(2) : "–") : null,
    surprisal ? numberCell(fixed(transfer.surprisal, 2)) : null));
  const all = count(win.end - win.begin);
  const others = win.left_out ? `; ${count(win.left_out)} others are left out` : "";
  const caption = `The most telling of ${all} transfers, in order; × counts those alike${others}. ` +
    `The window was ${REASONS[win.chosen_by]}.`;
  return el("table", { class: "transfers" }, el("caption", {}, caption),
    el("thead", {}, el("tr", {}, heads)), el("tbody", {}, rows));
}

// onShow is called when the window is to be shown in the plot
export function windowOf(report, sample, number, onShow) {
  const win = sample.windows[number];
  const button = el("button", { type: "button", onclick: onShow }, "Show in the plot");
  return el("details", { class: "window", open: number < 2 },
    summaryOf(win, number, sample),
    el("div", { class: "plotbar controls" }, button),
    el("div", { class: "inner" }, report.predicts ? tableOf(report, win) : newTableOf(report, win)));
}
