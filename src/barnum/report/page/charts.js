// The charts of the overview.
import { axes } from "./axes.js";
import { el, svg } from "./dom.js";
import { percent } from "./format.js";
import { distributionSteps, histogram, line, scale } from "./layout.js";

const HEIGHT = 220;
const BINS = 40;

function chart(title, label) {
  const root = svg("svg", { viewBox: `0 0 380 ${HEIGHT}`, role: "img", "aria-label": label });
  return [root, el("figure", {}, el("h3", {}, title), root)];
}

// both axes from 0 to 1, and the diagonal
function unitChart(title, label, labels) {
  const [root, figure] = chart(title, label);
  const box = { left: 46, right: 372, top: 20, bottom: 180 };
  const x = scale(0, 1, box.left, box.right);
  const y = scale(0, 1, box.bottom, box.top);
  axes(root, box, x, y, labels);
  root.append(svg("path", { class: "diagonal", d: line([[0, 0], [1, 1]], x, y) }));
  return { root, figure, x, y };
}

// what a chart of the distribution shows: scores, or mistakes where no run has a score
function shownValues({ samples: all, classifier }) {
  const samples = all.filter((sample) => sample.label !== "unknown");
  const judged = samples.filter((sample) => sample.score !== null);
  const scored = judged.length > 0;
  const value = (sample) => (scored ? sample.score : sample.wrong);
  const shown = scored ? judged : samples;
  const threshold = scored && classifier ? classifier.threshold : null;
  const values = shown.map(value);
  const low = values.reduce((least, one) => Math.min(least, one), 0);
  const high = values.reduce((most, one) => Math.max(most, one), threshold === null ? 0 : threshold);
  const of = (label) => shown.filter((sample) => sample.label === label).map(value);
  return { scored, threshold, of, runs: shown.length, low, high: high > low ? high : low + 1 };
}

function bars(root, box, scaleY, benign, malicious) {
  const width = (box.right - box.left) / BINS;
  for (let bin = 0; bin < BINS; bin++) {
    const x = box.left + bin * width + 0.5;
    const bar = (label, y, bottom) =>
      svg("rect", { class: `fill-${label}`, x, width: width - 1, y, height: bottom - y });
    if (benign[bin]) root.append(bar("benign", scaleY(benign[bin]), scaleY(0)));
    if (malicious[bin]) root.append(bar("malicious", scaleY(0), scaleY(-malicious[bin])));
  }
}

export function distributionChart(report) {
  const { scored, threshold, of, runs, low, high } = shownValues(report);
  const title = scored ? "Scores by label" : "Share of wrong predictions by label";
  const [root, figure] = chart(title, `${title}: ${runs} runs`);
  const box = { left: 40, right: 372, top: 20, bottom: 180 };
  const benign = histogram(of("benign"), low, high, BINS);
  const malicious = histogram(of("malicious"), low, high, BINS);
  const tallest = Math.max(1, ...benign, ...malicious);
  const x = scale(low, high, box.left, box.right);
  const y = scale(-tallest, tallest, box.bottom, box.top);
  axes(root, box, x, y, {
    x: scored ? "score" : "share",
    y: "runs: benign upwards, malicious downwards",
    yText: (at) => (Number.isInteger(at) ? String(Math.abs(at)) : ""),
  });
  root.append(svg("line", { class: "axis", x1: box.left, x2: box.right, y1: y(0), y2: y(0) }));
  bars(root, box, y, benign, malicious);
  let caption = scored
    ? "How far apart the labels are."
    : "No run has a score: this is what is known of them.";
  if (threshold !== null) {
    const at = x(threshold);
    const text = threshold.toFixed(2);
    root.append(svg("line", { class: "threshold", x1: at, x2: at, y1: box.top, y2: box.bottom }));
    root.append(svg("text", { class: "threshold-label", x: at + 4, y: box.top + 10 }, text));
    caption = `Runs above the threshold of ${text} are anomalous.`;
  }
  figure.append(el("figcaption", {}, caption));
  return figure;
}

export function rocChart({ roc, false_positives: wrongAlarms, false_negatives: missed }) {
  const area = roc.auc.toFixed(3);
  const asPercent = (at) => percent(at, 0);
  const { root, figure, x, y } = unitChart("ROC", `ROC curve, area ${area}`, {
    x: "benign called anomalous",
    y: "malicious called anomalous",
    xText: asPercent,
    yText: asPercent,
  });
  const points = roc.benign.map((share, index) => [share, roc.malicious[index]]);
  root.append(svg("path", { class: "line roc", d: line(points, x, y) }));
  let caption = `Area ${area}.`;
  if (wrongAlarms && missed) {
    const [benign, malicious] = [wrongAlarms.rate, 1 - missed.rate];
    root.append(svg("circle", { class: "fill-malicious", cx: x(benign), cy: y(malicious), r: 4.5 }));
    caption += ` The dot is where these verdicts are: ${percent(malicious)} of malicious and ` +
      `${percent(benign)} of benign runs are called anomalous.`;
  }
  figure.append(el("figcaption", {}, caption));
  return figure;
}

export function calibrationChart({ p_values: p, scores }) {
  const runs = `p-values of ${p.length} benign runs`;
  const { root, figure, x, y } = unitChart("Calibration", `${runs} against uniform ones`, {
    x: "p-value",
    y: "share of benign runs at most at it",
  });
  root.append(svg("path", { class: "line benign", d: line(distributionSteps(p), x, y) }));
  const worst = p.reduce((most, value, index) => Math.max(most, (index + 1) / p.length - value), 0);
  figure.append(el("figcaption", {},
    `${runs}; well calibrated ones follow the diagonal, those above it are too small (here by at most ` +
    `${worst.toFixed(2)}). ${scores ? `${scores} scores for calibration came with the model.` : ""}`));
  return figure;
}
