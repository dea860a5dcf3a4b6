// The columns of the table of runs: only those that a report has something for.
import { count, fixed, percent } from "./format.js";
import { showsMistakes, verdictTag } from "./run.js";

export const hasScores = (samples) => samples.some((sample) => sample.score !== null);

function alarm(sample) {
  const { first_alarm: first, transfers } = sample;
  return first ? `${count(first.prediction)} (${percent(first.prediction / transfers, 0)})` : "–";
}

const neverSeen = (sample) => (sample.new === null ? "–" : count(sample.new * sample.judged));

// key: what a column is sorted by; cell: what it shows, a button with the name where it is null
export function columnsOf(samples) {
  const scored = hasScores(samples);
  const number = true;
  const columns = [
    { title: "Document", key: (s) => s.name, cell: null },
    { title: "Label", key: (s) => s.label, cell: (s) => s.label },
    { title: "Verdict", key: (s) => s.verdict || "", cell: verdictTag },
  ];
  if (scored) {
    columns.push(
      { title: "Score", key: (s) => s.score ?? -Infinity, number, cell: (s) => fixed(s.score, 2) },
      { title: "p", key: (s) => s.p_value ?? 2, number, cell: (s) => fixed(s.p_value, 3) },
    );
  }
  columns.push({ title: "Wrong", key: (s) => s.wrong, number, cell: (s) => percent(s.wrong) });
  if (samples.some(showsMistakes)) {
    const cell = (s) => fixed(s.wrong_confidence, 3);
    columns.push({ title: "Confidence of wrong", key: (s) => s.wrong_confidence, number, cell });
  } else {
    const cell = (s) => fixed(s.surprisal, 3);
    columns.push({ title: "Mean surprisal", key: (s) => s.surprisal, number, cell });
  }
  if (samples.some((s) => s.new !== null)) {
    columns.push({ title: "Never seen", key: (s) => s.new, number, cell: neverSeen });
  }
  if (scored && samples.some((s) => s.first_alarm)) {
    const key = (s) => (s.first_alarm ? s.first_alarm.prediction : Infinity);
    columns.push({ title: "First alarm", key, number, cell: alarm });
  }
  columns.push({ title: "Predictions", key: (s) => s.transfers, number, cell: (s) => count(s.transfers) });
  return columns;
}
