// What is said of a run in several places.
import { el } from "./dom.js";

// in the original's format curves show mistakes, not surprisal
export const showsMistakes = (sample) => sample.curve.value === "mistakes";

// where nothing predicted the run
export const showsNovelty = (sample) => sample.curve.value === "novelty";

const UNITS = {
  mistakes: "confidence of wrong predictions",
  novelty: "novelty, nats",
  surprisal: "surprisal, nats",
};

// of curves
export const unit = (sample) => UNITS[sample.curve.value];

// what counts along a run
export const stepName = (sample) => (showsNovelty(sample) ? "transfer" : "prediction");

export const nameOf = (sample) => sample.name || "(no name)";

// a verdict that is not what the label says
export const wrongVerdict = (sample) =>
  (sample.verdict === "anomalous" && sample.label === "benign") ||
  (sample.verdict === "nominal" && sample.label === "malicious");

export function verdictTag(sample) {
  if (!sample.verdict) return el("span", { class: "muted" }, "–");
  const node = el("span", {}, el("span", { class: `tag ${sample.verdict}` }, sample.verdict));
  if (wrongVerdict(sample)) {
    node.append(" ", el("span", { class: "mark", title: "not what the label says" }, "≠ label"));
  }
  const by = { evidence: "by evidence", effect: "by an effect" }[sample.because];
  if (by) node.append(" ", el("span", { class: "muted" }, by));
  if (sample.refused) node.title = sample.refused;
  if (sample.incomplete) node.title = `incomplete: ${sample.incomplete}`;
  return node;
}
