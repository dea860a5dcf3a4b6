// What is known along a run: bins of the whole, and single predictions around windows.
import { between, count } from "./format.js";
import { showsMistakes, stepName } from "./run.js";

const lengthOf = (detail) => detail.each * detail.values.length;

// details that are worth drawing in so many pixels: values that are at least half a pixel wide
export function detailsWithin(windows, low, high, width) {
  const visible = (detail) => detail.begin + lengthOf(detail) > low && detail.begin < high;
  const wide = (detail) => (width * detail.each) / (high - low) >= 0.5;
  return windows.map(({ detail }) => detail).filter((detail) => visible(detail) && wide(detail));
}

// the first and the last (exclusive) bin between two predictions
export function binsWithin(curve, low, high) {
  return [
    Math.max(0, Math.floor(low / curve.each)),
    Math.min(curve.mean.length, Math.ceil(high / curve.each)),
  ];
}

// the highest of bins first to last (exclusive), 0 where nothing is above it
export function highestOf(curve, first, last) {
  return curve.highest.slice(first, last).reduce((high, value) => Math.max(high, value), 0);
}

// what is known at a place of the run, by one of the details where one of them shows it
export function textAt(sample, details, at) {
  const { curve, transfers } = sample;
  const nats = showsMistakes(sample) ? "" : " nats";
  const name = stepName(sample);
  const detail = details.find((one) => at >= one.begin && at < one.begin + lengthOf(one));
  if (detail) {
    const index = Math.floor((at - detail.begin) / detail.each);
    const from = detail.begin + index * detail.each;
    const where = detail.each === 1
      ? `${name} ${count(from)}`
      : `${name}s ${between(from, from + detail.each - 1)}, maximum`;
    return `${where}: ${detail.values[index].toFixed(2)}${nats}`;
  }
  const bin = Math.min(curve.mean.length - 1, Math.floor(at / curve.each));
  const last = Math.min(transfers, Math.ceil((bin + 1) * curve.each)) - 1;
  return `${name}s ${between(Math.ceil(bin * curve.each), last)}: ` +
    `mean ${curve.mean[bin].toFixed(3)}, maximum ${curve.highest[bin].toFixed(2)}${nats}`;
}
