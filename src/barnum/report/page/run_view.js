// One run: its facts, its plot and its windows.
import { el } from "./dom.js";
import { chance, count, percent } from "./format.js";
import { Plot } from "./plot.js";
import { nameOf, showsMistakes, showsNovelty, stepName, verdictTag } from "./run.js";
import { alarmOf, signsOf } from "./signs.js";
import { windowOf } from "./windows.js";

// a text of what is not null
const known = (value, text) => (value === null ? null : text(value));

function alarmText(sample) {
  const { first_alarm: alarm, transfers, verdict } = sample;
  if (alarm) {
    const step = alarm.position === null ? "" : `, step ${count(alarm.position)}`;
    const share = percent(alarm.prediction / transfers);
    return `${stepName(sample)} ${count(alarm.prediction)}${step}, after ${share} of the run`;
  }
  if (verdict === "anomalous") return alarmOf(sample) || "the run is judged as a whole";
  return verdict ? "never" : null;
}

// where what was judged of a run ended
function endOf(sample, cut) {
  const lost = sample.incomplete ? "something was lost or " : "";
  return lost + (cut === "effect" ? "it did what no nominal run does" : "another process was started");
}

function factsOf({ classifier, window, cut }, sample) {
  const { judged, transfers } = sample;
  const by = classifier && classifier.by ? ` (${classifier.by})` : "";
  const facts = [
    ["Label", sample.label],
    ["Sample", el("span", { class: "mono" }, sample.sample)],
    ["Score", known(sample.score, (score) => (sample.incomplete ? "at least " : "") + score.toFixed(2) + by)],
    ["p-value", known(sample.p_value, (p) => (sample.incomplete ? "at most " : "") + p.toFixed(3))],
    ["Anomalous from a false discovery rate of", known(sample.q, (q) => percent(q))],
    ["First alarm", alarmText(sample)],
    ["Wrong predictions", known(sample.wrong, (share) => `${percent(share)} of ${count(judged)}`)],
    ["Judged", judged < transfers
      ? `the first ${count(judged)} of ${count(transfers)} ${stepName(sample)}s, ` +
        `before ${endOf(sample, cut)}`
      : null],
    ["Their mean confidence", known(sample.wrong_confidence, (mean) => mean.toFixed(3))],
    ["Mean surprisal", known(sample.surprisal, (nats) => `${nats.toFixed(3)} nats`)],
    ["Worst 1,000 transfers", known(sample.surprisal_window, (nats) => `${nats.toFixed(2)} nats a transfer`)],
    ["Transfers never seen", known(sample.new, (share) => `${count(share * judged)} (${chance(share)})`)],
    ["New transfers", known(sample.distinct_new, (number) => `${count(number)} distinct ones`)],
    ["Novelty", known(sample.novelty, (nats) =>
      `${nats.toFixed(2)} nats, at most ${sample.novelty_window.toFixed(2)} in ${count(window)} transfers`)],
  ];
  return el("dl", { class: "facts" }, facts.map(([name, value]) =>
    known(value, () => el("div", {}, el("dt", {}, name), el("dd", {}, value)))));
}

// what is said where no window can be shown
function nothing(sample) {
  if (sample.learnt) return "The detector has learnt this very run.";
  if (showsNovelty(sample)) return "Nominal runs took every transfer that this run took.";
  return showsMistakes(sample)
    ? "Every prediction was right."
    : "Nothing new and no surprisal: every transfer was expected with certainty.";
}

const CURVES = {
  mistakes: "Confidence of wrong predictions along the trace",
  novelty: "Novelty along the run",
  surprisal: "Surprisal along the trace",
};

const warning = (text) => el("p", { class: "warn" }, text);

const heading = (text) => el("h3", {}, text);

export class RunView {
  constructor(report, root) {
    this.report = report;
    this.root = root;
    this.plot = null;
  }

  show(sample) {
    const { report, root } = this;
    const { windows } = sample;
    if (this.plot) this.plot.close();
    const plot = (this.plot = new Plot(sample, report.window));
    const none = showsNovelty(sample) ? "Nothing new" : "Nothing surprising";
    root.replaceChildren(
      el("h2", { id: "sample-title" }, nameOf(sample), " ", sample.verdict ? verdictTag(sample) : null),
      factsOf(report, sample),
      ...(sample.refused ? [warning(`Refused: ${sample.refused}`)] : []),
      ...(sample.incomplete ? [warning(`Anomalous, though incomplete: ${sample.incomplete}`)] : []),
      ...signsOf(sample),
      ...sample.notes.map(warning),
      heading(CURVES[sample.curve.value]),
      plot.node,
      heading(windows.length ? "Most telling windows" : none),
      ...(windows.length ? [] : [el("p", { class: "muted" }, nothing(sample))]),
      ...windows.map((win, number) => windowOf(report, sample, number, () => plot.show(win))),
    );
    plot.draw();
  }
}
