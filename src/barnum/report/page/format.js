// Numbers as texts. A dash stands for what is not known.
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const count = (number) => whole.format(number);

export const fixed = (number, digits) => (number === null ? "–" : number.toFixed(digits));

export const percent = (share, digits = 1) => (share === null ? "–" : `${(100 * share).toFixed(digits)} %`);

// a probability, however small
export function chance(p) {
  if (p === null) return "–";
  if (p >= 0.9995) return "> 99.9 %";
  if (p >= 0.001) return percent(p);
  if (p < 1e-8) return "< 0.000001 %";
  // one digit that counts
  return `${Number((100 * p).toPrecision(1)).toFixed(6).replace(/0+$/, "")} %`;
}

// at a tick of an axis
export const short = (number) =>
  Math.abs(number) >= 1000 ? count(number) : String(Number(number.toPrecision(4)));

// the bounds of a confidence interval, each written by text
export const interval = ({ low, high }, text) => `95 %: ${text(low)} to ${text(high)}`;

// predictions first to last (inclusive)
export const between = (first, last) => `${count(first)}–${count(last)}`;

export const asOffset = (number) => `+0x${number.toString(16)}`;
