// Which runs are listed, and in which order.
import { wrongVerdict } from "./run.js";

const order = (a, b) => (a < b ? -1 : Number(a > b));

function filterOf({ find, label, verdict }) {
  const words = find.trim().toLowerCase();
  const named = (name) => name.toLowerCase().includes(words);
  return (sample) =>
    (!words || named(sample.name) || named(sample.sample)) &&
    (!label || sample.label === label) &&
    (!verdict || (verdict === "wrong" ? wrongVerdict(sample) : sample.verdict === verdict));
}

// The indices of the samples that fit a filter (find, label, verdict: empty for any), by a key of theirs;
// equal ones by name, and then as they came.
export function chosenRuns(samples, filter, key, down) {
  const sign = down ? -1 : 1;
  const byKey = (a, b) => sign * order(key(samples[a]), key(samples[b]));
  const byName = (a, b) => order(samples[a].name, samples[b].name);
  const fits = filterOf(filter);
  const indices = [...samples.keys()].filter((index) => fits(samples[index]));
  return indices.sort((a, b) => byKey(a, b) || byName(a, b) || a - b);
}

// the run that lies so many rows from the chosen one in the list, the first where that is not in it
export function runAfter(shown, chosen, rows) {
  const at = shown.indexOf(chosen);
  return shown[at < 0 ? 0 : Math.max(0, Math.min(shown.length - 1, at + rows))];
}
