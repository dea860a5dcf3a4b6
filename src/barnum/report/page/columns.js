// The columns of the table of runs: only those that a report has something for.
import { count, fixed, percent } from "./format.js";
import { showsMistakes, showsNovelty, verdictTag } from "./run.js";

export const hasScores = (samples) => samples.some((sample) => sample.score !== null);

function alarm(sample) {
  const { first_alarm: first, transfers } = sample;
  return first ? `${count(first.prediction)} (${percent(first.prediction / transfers, 0)})` : "–";
}

const countOf = (signs) => (signs === null ? "–" : count(signs.length));

const neverSeen = (sample) => (sample.new === null ? "–" : count(sample.new * sample.judged));

// of runs that were predicted
function predicted(samples) {
  const number = true;
  const columns = [{ title: "Wrong", key: (s) => s.wrong, number, cell: (s) => percent(s.wrong) }];
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
  return columns;
}

// of others: how much is new in them
function compared() {
  const number = true;
  const signs = (title, name) =>
    ({ title, key: (s) => (s[name] === null ? -1 : s[name].length), number, cell: (s) => countOf(s[name]) });
  return [
    { title: "New transfers", key: (s) => s.distinct_new, number, cell: (s) => count(s.distinct_new) },
    signs("Evidence", "evidence"),
    signs("New effects", "effects"),
  ];
}

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
  const novel = samples.some(showsNovelty);
  columns.push(...(novel ? compared() : predicted(samples)));
  if (scored && samples.some((s) => s.first_alarm)) {
    const key = (s) => (s.first_alarm ? s.first_alarm.prediction : Infinity);
    columns.push({ title: "First alarm", key, number, cell: alarm });
  }
  const title = novel ? "Transfers" : "Predictions";
  columns.push({ title, key: (s) => s.transfers, number, cell: (s) => count(s.transfers) });
  return columns;
}
