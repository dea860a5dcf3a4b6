// In print everything of the chosen run, and of the overview, is open.
import { byId } from "./dom.js";

export function setUpPrint() {
  let closed = [];
  byId("print").addEventListener("click", () => window.print());
  window.addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const details of closed) details.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const details of closed) details.open = false;
  });
}
