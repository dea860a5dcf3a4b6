// Evidence of a hijack and effects that no nominal run shows.
import { el } from "./dom.js";
import { asOffset, count } from "./format.js";

const lastPart = (path) => path.replaceAll("\\", "/").split("/").at(-1) || path;

const stepOf = ({ position }) => (position === null ? "step not known" : `step ${count(position)}`);

// evidence says its step itself
function textOf(sign, stepped) {
  const place = sign.module === null || sign.offset === null ? null : `${sign.module} ${asOffset(sign.offset)}`;
  return el("li", { title: place },
    stepped ? `${stepOf(sign)}: ` : null,
    sign.text.replace(/ \[strong\]$/, ""),
    sign.strong ? el("span", { class: "mark" }, " · enough alone") : null);
}

function listOf(title, signs, stepped) {
  if (signs === null || !signs.length) return null;
  return el("div", { class: "signs" }, el("h3", {}, title),
    el("ul", {}, signs.map((sign) => textOf(sign, stepped))));
}

// what makes a run stand out beside its transfers, in words
export function signsOf({ evidence, effects }) {
  return [
    listOf("Evidence of a hijack that no nominal run shows", evidence, false),
    listOf("What it did that no nominal run did", effects, true),
  ].filter((node) => node !== null);
}

// the place of the evidence, or effect, that made a run anomalous
export function alarmOf({ because, evidence, effects }) {
  if (because === "effect" && effects && effects.length) return `effect at ${stepOf(effects[0])}`;
  if (because !== "evidence" || !evidence) return null;
  // programs also die of mistakes, and give up by a jump back: that alone makes no run anomalous
  const sign = evidence.find(({ strong }) => strong) ??
    evidence.find(({ kind }) => kind !== "death" && kind !== "jump");
  if (!sign) return null;
  const where = sign.module === null || sign.offset === null
    ? "" : `, ${lastPart(sign.module)} ${asOffset(sign.offset)}`;
  return `evidence at ${stepOf(sign)}${where}`;
}
