// The page of a report: draws the document that it holds.
import { runOf, setAddress } from "./address.js";
import { byId } from "./dom.js";
import { drawOverview } from "./overview.js";
import { setUpPrint } from "./print.js";
import { RunView } from "./run_view.js";
import { RunTable } from "./table.js";
import { setUpTheme } from "./theme.js";

const report = JSON.parse(byId("report").textContent);
const { samples } = report;

setUpTheme();
setUpPrint();
drawOverview(report);
const view = new RunView(report, byId("sample"));
const table = new RunTable(samples, (index) => {
  view.show(samples[index]);
  setAddress(index);
});
table.list();
// of runs that are anomalous by evidence the score may be low; a browser that remembers filters may show none
const first = table.shown.find((index) => samples[index].verdict === "anomalous") ?? table.shown[0] ?? 0;
if (samples.length) table.choose(runOf(location.hash, samples.length) ?? first, false);
