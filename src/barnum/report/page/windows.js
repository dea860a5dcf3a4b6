// A window of a run: what was expected in it, and what happened.
import { el } from "./dom.js";
import { asOffset, between, chance, count, fixed, percent } from "./format.js";
import { placeOf } from "./place.js";

// by a transfer's "seen"
const SEEN = ["target never seen", "target seen, not from here", "seen"];

const REASONS = {
  novelty: "chosen by novelty",
  surprisal: "chosen by surprisal",
  mistakes: "chosen by confident mistakes",
};

const ALIKE = "how often the same was expected and the same happened in this window";

function summaryOf(win, number, alarm) {
  const parts = [`predictions ${between(win.begin, win.end - 1)}`];
  if (win.position !== null) parts.push(`steps ${between(win.position, win.position_end)}`);
  if (win.novelty !== null) parts.push(`novelty ${win.novelty.toFixed(2)} nats`);
  if (win.surprisal !== null) parts.push(`mean surprisal ${win.surprisal.toFixed(2)} nats`);
  parts.push(`${percent(win.wrong)} wrong`);
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
  return el("td", { class: "num", title: `prediction ${count(transfer.prediction)}` },
    count(steps ? transfer.position : transfer.prediction),
    transfer.times > 1 ? el("div", { class: "muted", title: ALIKE }, `× ${count(transfer.times)}`) : null);
}

function sourceCell(report, transfer) {
  const { instruction_offset: offset } = transfer;
  const title = offset === null ? null : `at ${asOffset(offset)} of the module`;
  return placeCell(placeOf(report, transfer.source), transfer.instruction || transfer.kind || "", title);
}

function actualCell(report, { correct, actual, probability, seen }) {
  // of targets that training never saw the model knows how likely any of them is, not which
  const before = seen === 0 ? "any target never seen: " : "with ";
  return placeCell(correct ? el("span", {}, "as expected") : placeOf(report, actual),
    probability === null ? "" : `${before}${chance(probability)}`);
}

function tableOf(report, win) {
  const known = (name) => win.transfers.some((transfer) => transfer[name] !== null);
  const steps = known("position");
  const sources = known("source");
  const seen = known("seen");
  const surprisal = known("surprisal");
  const head = (title, number) => el("th", { scope: "col", class: number ? "num" : null }, title);
  const heads = [
    head(steps ? "Step" : "Prediction", true),
    sources ? head("From") : null,
    head("Expected"),
    head("Happened"),
    ...(seen ? [head("In training"), head("Novelty", true)] : []),
    surprisal ? head("Surprisal", true) : null,
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
    summaryOf(win, number, sample.first_alarm),
    el("div", { class: "plotbar controls" }, button),
    el("div", { class: "inner" }, tableOf(report, win)));
}
