// Where things go: scales, ticks, bins and ranges. Numbers in, numbers out.

// a function from low…high to from…to, which remembers its bounds
export function scale(low, high, from, to) {
  const place = (value) => from + ((value - low) / (high - low || 1)) * (to - from);
  place.low = low;
  place.high = high;
  return place;
}

// round numbers between low and high, at most about + 1 of them
export function ticks(low, high, about) {
  const span = high - low || 1;
  if (!Number.isFinite(span)) return [];
  const power = 10 ** Math.floor(Math.log10(span / about));
  const step = [1, 2, 5].map((times) => times * power).find((size) => span / size <= about) || 10 * power;
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  // no -0
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => (first + index) * step + 0);
}

// how many of the values lie in each of so many equal bins of low…high
export function histogram(values, low, high, bins) {
  const counts = Array.from({ length: bins }, () => 0);
  for (const value of values) {
    counts[Math.min(bins - 1, Math.floor(((value - low) / (high - low)) * bins))]++;
  }
  return counts;
}

// the data of an SVG path through points
export function line(points, x, y) {
  return points.map(([a, b], index) => `${index ? "L" : "M"}${x(a).toFixed(1)},${y(b).toFixed(1)}`).join("");
}

// the steps of an empirical distribution of sorted values in 0…1
export function distributionSteps(values) {
  const points = [[0, 0]];
  values.forEach((value, index) => {
    points.push([value, index / values.length], [value, (index + 1) / values.length]);
  });
  points.push([1, 1]);
  return points;
}

// the range nearest to low…high that lies in 0…end and shows no less than 20
export function rangeWithin(low, high, end) {
  const size = Math.max(Math.min(20, end), Math.min(end, high - low));
  const from = Math.max(0, Math.min(end - size, low));
  return [from, from + size];
}

// the range around its middle by a factor of its size
export function zoomed(low, high, factor) {
  const centre = (low + high) / 2;
  return [centre - (centre - low) * factor, centre + (high - centre) * factor];
}
