// All runs together: tiles, charts, and what was refused.
import { calibrationChart, distributionChart, rocChart } from "./charts.js";
import { byId, el } from "./dom.js";
import { count, interval, percent } from "./format.js";

const MOST_LISTED = 200;

function tile(value, label, bad) {
  return el("div", { class: bad ? "tile bad" : "tile" }, el("b", {}, value), el("span", {}, label));
}

function rateTile(rate, label) {
  const text = `${label} (${percent(rate.rate)}; ${interval(rate, percent)})`;
  return tile(`${rate.wrong} of ${rate.runs}`, text);
}

function tilesOf({ overview, classifier, samples, failed, predicts }) {
  const { runs, benign, malicious, unknown, anomalous, refused, roc } = overview;
  const wrongAlarms = overview.false_positives;
  const missed = overview.false_negatives;
  const area = roc && `area under the ROC curve (${interval(roc, (at) => at.toFixed(3))})`;
  const transfers = samples.reduce((sum, sample) => sum + sample.transfers, 0);
  const others = unknown ? `, ${count(unknown)} unknown` : "";
  const labels = `${count(benign)} benign, ${count(malicious)} malicious${others}`;
  return [
    tile(count(runs), `${runs === 1 ? "run" : "runs"}: ${labels}`),
    classifier ? tile(count(anomalous), "called anomalous", anomalous > 0) : null,
    refused ? tile(count(refused), "refused") : null,
    failed.length ? tile(count(failed.length), "not judged") : null,
    wrongAlarms ? rateTile(wrongAlarms, "benign called anomalous") : null,
    missed ? rateTile(missed, "malicious called nominal") : null,
    roc ? tile(roc.auc.toFixed(3), area) : null,
    tile(count(transfers), predicts ? "predictions" : "transfers"),
  ].filter((node) => node !== null);
}

// detectors that look at how the program ended alone
function trivialText(trivial) {
  const parts = trivial.map(({ name, false_positives: benign, false_negatives: malicious }) => {
    const runs = [];
    if (benign) runs.push(`${benign.wrong} of ${benign.runs} benign runs`);
    if (malicious) runs.push(`${malicious.runs - malicious.wrong} of ${malicious.runs} malicious ones`);
    return `“${name}” alone would call ${runs.join(" and ")} anomalous`;
  });
  return `For comparison: ${parts.join("; ")}.`;
}

function listOf(title, all, rest) {
  const lines = all.slice(0, MOST_LISTED);
  const more = all.length - MOST_LISTED;
  if (more > 0) lines.push(`and ${more} more${rest}`);
  return el("details", { class: "notes", open: all.length <= 5 },
    el("summary", {}, `${title} (${all.length})`),
    el("ul", {}, lines.map((line) => el("li", {}, line))));
}

export function drawOverview(report) {
  const { overview, samples, failed } = report;
  byId("tiles").append(...tilesOf(report));
  const charts = byId("charts");
  const known = report.predicts || samples.some((sample) => sample.score !== null);
  if (known && (overview.benign || overview.malicious)) charts.append(distributionChart(report));
  if (overview.roc) charts.append(rocChart(overview));
  if (overview.calibration) charts.append(calibrationChart(overview.calibration));
  if (overview.exchangeability && overview.exchangeability.text) {
    const { text } = overview.exchangeability;
    byId("tiles").after(el("p", { class: "warn alike" }, `${text[0].toUpperCase()}${text.slice(1)}.`));
  }
  if (overview.trivial.length) {
    charts.after(el("p", { class: "muted trivial" }, trivialText(overview.trivial)));
  }
  const refused = samples.filter((sample) => sample.verdict === "refused")
    .map((sample) => `${sample.name}: ${sample.refused}`);
  if (refused.length) byId("overview").append(listOf("Refused runs", refused, ": see the table"));
  if (failed.length) byId("overview").append(listOf("Documents that could not be judged", failed, ""));
}
