// A basic block, as far as it is known.
import { el } from "./dom.js";
import { asOffset } from "./format.js";

const lastPart = (path) => path.replaceAll("\\", "/").split("/").at(-1) || path;

// index: of the report's places, null where it is not known
export function placeOf(report, index) {
  if (index === null) return el("span", { class: "muted" }, "unknown");
  const place = report.places[index];
  const node = el("span", { class: "where" });
  if (place.block_class !== null) {
    node.append(`class ${place.block_class}`);
    return node;
  }
  if (place.module === null) {
    node.append(place.block);
    node.title = "no memory map tells its module";
    return node;
  }
  node.append(el("span", { class: "module" }, lastPart(place.module)), " ");
  if (report.calls && place.offset === null) {
    node.title = `call ${place.module}`;
    return node;
  }
  const offset = asOffset(place.offset || 0);
  if (place.function !== null) {
    const inside = place.function_offset ? asOffset(place.function_offset) : "";
    node.append(`${place.function}${inside} `, el("span", { class: "module" }, offset));
  } else node.append(offset);
  node.title = `${place.module} ${offset}\n${place.branch ? "last byte of the branch" : `block ${place.block}`}`;
  return node;
}
