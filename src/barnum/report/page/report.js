"use strict";
(() => {
  const report = JSON.parse(document.getElementById("report").textContent);
  const samples = report.samples;
  const SVG = "http://www.w3.org/2000/svg";

  // elements: text goes in as text alone
  function el(tag, attributes, ...children) {
    return fill(document.createElement(tag), attributes, children);
  }
  function svg(tag, attributes, ...children) {
    return fill(document.createElementNS(SVG, tag), attributes, children);
  }
  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else node.setAttribute(name, value === true ? "" : String(value));
    }
    for (const child of children.flat()) {
      if (child !== null && child !== undefined) node.append(child);
    }
    return node;
  }
  const byId = (id) => document.getElementById(id);

  // numbers and words
  const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
  const count = (number) => whole.format(number);
  const fixed = (number, digits) => (number === null ? "–" : number.toFixed(digits));
  const percent = (number, digits = 1) => (number === null ? "–" : `${(100 * number).toFixed(digits)} %`);
  function chance(p) {
    if (p === null) return "–";
    if (p >= 0.9995) return "> 99.9 %";
    if (p >= 0.001) return percent(p);
    // one digit that counts
    return p < 1e-8 ? "< 0.000001 %" : `${(100 * p).toFixed(7).replace(/(\.0*[1-9])\d*$/, "$1")} %`;
  }
  const SEEN = ["target never seen", "target seen, not from here", "seen"];
  const isMistakes = samples[0].curve.value === "mistakes";
  const unit = isMistakes ? "confidence of wrong predictions" : "surprisal, nats";
  const wrongVerdict = (sample) =>
    (sample.verdict === "anomalous" && sample.label === "benign") ||
    (sample.verdict === "nominal" && sample.label === "malicious");

  function place(index) {
    if (index === null) return el("span", { class: "muted" }, "unknown");
    const its = report.places[index];
    const node = el("span", { class: "where" });
    if (its.block_class !== null) {
      node.append(`class ${its.block_class}`);
      return node;
    }
    if (its.module === null) {
      node.append(its.block);
      node.title = "no memory map tells its module";
      return node;
    }
    const parts = its.module.replaceAll("\\", "/").split("/");
    node.append(el("span", { class: "module" }, parts[parts.length - 1] || its.module), " ");
    if (report.calls && its.offset === null) {
      node.title = `call ${its.module}`;
      return node;
    }
    const offset = `+0x${(its.offset || 0).toString(16)}`;
    if (its.function !== null) {
      const inside = its.function_offset ? `+0x${its.function_offset.toString(16)}` : "";
      node.append(`${its.function}${inside} `, el("span", { class: "module" }, offset));
    } else node.append(offset);
    node.title = `${its.module} ${offset}\nblock ${its.block}`;
    return node;
  }

  // theme
  const theme = byId("theme");
  function setTheme(name) {
    if (name === "auto") document.documentElement.removeAttribute("data-theme");
    else document.documentElement.setAttribute("data-theme", name);
    theme.value = name;
  }
  theme.addEventListener("change", () => {
    setTheme(theme.value);
    try { localStorage.setItem("barnum-theme", theme.value); } catch { /* a page from a file may have no store */ }
  });
  try { setTheme(["light", "dark"].find((name) => name === localStorage.getItem("barnum-theme")) || "auto"); } catch { setTheme("auto"); }
  byId("print").addEventListener("click", () => window.print());

  // scales and axes
  function ticks(low, high, about) {
    const span = high - low || 1;
    const power = 10 ** Math.floor(Math.log10(span / about));
    const step = [1, 2, 5, 10].map((times) => times * power).find((size) => span / size <= about) || 10 * power;
    const found = [];
    for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-9; at += step) found.push(Math.abs(at) < step * 1e-9 ? 0 : at);
    return found;
  }
  const short = (number) => (Math.abs(number) >= 1000 ? count(number) : String(+number.toPrecision(4)));
  function axes(root, box, x, y, labels) {
    for (const at of ticks(y.low, y.high, 5)) {
      root.append(svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y(at), y2: y(at) }));
      root.append(svg("text", { x: box.left - 6, y: y(at) + 4, "text-anchor": "end" }, labels.yText ? labels.yText(at) : short(at)));
    }
    for (const at of ticks(x.low, x.high, Math.max(2, Math.floor((box.right - box.left) / 90)))) {
      root.append(svg("line", { class: "axis", x1: x(at), x2: x(at), y1: box.bottom, y2: box.bottom + 4 }));
      root.append(svg("text", { x: x(at), y: box.bottom + 16, "text-anchor": "middle" }, labels.xText ? labels.xText(at) : short(at)));
    }
    root.append(svg("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
    if (labels.x) root.append(svg("text", { x: (box.left + box.right) / 2, y: box.bottom + 31, "text-anchor": "middle" }, labels.x));
    if (labels.y) root.append(svg("text", { x: box.left, y: box.top - 8, "text-anchor": "start" }, labels.y));
  }
  function scale(low, high, from, to) {
    const made = (value) => from + ((value - low) / (high - low || 1)) * (to - from);
    made.low = low;
    made.high = high;
    return made;
  }

  // overview
  const interval = (its, text) => `95 %: ${text(its.low)} to ${text(its.high)}`;
  function tile(value, label, bad) {
    return el("div", { class: bad ? "tile bad" : "tile" }, el("b", {}, value), el("span", {}, label));
  }
  function overview() {
    const all = report.overview;
    const tiles = byId("tiles");
    tiles.append(tile(count(all.runs), `${all.runs === 1 ? "run" : "runs"}: ${count(all.benign)} benign, ${count(all.malicious)} malicious`));
    if (report.classifier) tiles.append(tile(count(all.anomalous), "called anomalous", all.anomalous > 0));
    if (all.refused) tiles.append(tile(count(all.refused), "refused"));
    for (const [rate, label] of [[all.false_positives, "benign called anomalous"], [all.false_negatives, "malicious called nominal"]]) {
      if (rate) tiles.append(tile(`${rate.wrong} of ${rate.runs}`, `${label} (${percent(rate.rate)}; ${interval(rate, percent)})`));
    }
    if (all.roc) tiles.append(tile(all.roc.auc.toFixed(3), `area under the ROC curve (${interval(all.roc, (at) => at.toFixed(3))})`));
    tiles.append(tile(count(samples.reduce((sum, sample) => sum + sample.transfers, 0)), "predictions"));
    const charts = byId("charts");
    charts.append(distribution());
    if (all.roc) charts.append(rocChart(all.roc));
    if (all.calibration) charts.append(calibrationChart(all.calibration));
    if (all.trivial.length) {
      const told = all.trivial.map((its) => {
        const parts = [];
        if (its.false_positives) parts.push(`${its.false_positives.wrong} of ${its.false_positives.runs} benign runs`);
        if (its.false_negatives) parts.push(`${its.false_negatives.runs - its.false_negatives.wrong} of ${its.false_negatives.runs} malicious ones`);
        return `“${its.name}” alone would call ${parts.join(" and ")} anomalous`;
      });
      byId("charts").after(el("p", { class: "muted trivial" }, `For comparison: ${told.join("; ")}.`));
    }
    const refused = samples.filter((sample) => sample.verdict === "refused");
    if (refused.length) {
      const list = el("ul");
      for (const sample of refused.slice(0, 200)) list.append(el("li", {}, `${sample.name}: ${sample.refused}`));
      if (refused.length > 200) list.append(el("li", {}, `and ${refused.length - 200} more: see the table`));
      byId("overview").append(el("details", { class: "notes", open: refused.length <= 5 }, el("summary", {}, `Refused runs (${refused.length})`), list));
    }
  }
  function chart(title, height, label) {
    const root = svg("svg", { viewBox: `0 0 380 ${height}`, role: "img", "aria-label": label });
    return [root, el("figure", {}, el("h3", {}, title), root)];
  }
  function distribution() {
    const judged = samples.filter((sample) => sample.score !== null);
    const scored = judged.length > 0;
    const value = (sample) => (scored ? sample.score : sample.wrong);
    const shown = scored ? judged : samples;
    const threshold = scored && report.classifier ? report.classifier.threshold : null;
    const values = shown.map(value);
    const low = Math.min(0, ...[values.reduce((a, b) => Math.min(a, b), Infinity)]);
    let high = values.reduce((a, b) => Math.max(a, b), threshold === null ? 0 : threshold);
    if (high <= low) high = low + 1;
    const title = scored ? "Scores by label" : "Share of wrong predictions by label";
    const [root, figure] = chart(title, 220, `${title}: ${shown.length} runs`);
    const box = { left: 40, right: 372, top: 20, bottom: 180 };
    const bins = 40;
    const rows = {};
    for (const label of ["benign", "malicious"]) {
      rows[label] = new Array(bins).fill(0);
      for (const sample of shown) {
        if (sample.label === label) rows[label][Math.min(bins - 1, Math.floor(((value(sample) - low) / (high - low)) * bins))]++;
      }
    }
    const tallest = Math.max(1, ...rows.benign, ...rows.malicious);
    const x = scale(low, high, box.left, box.right);
    const y = scale(-tallest, tallest, box.bottom, box.top);
    axes(root, box, x, y, { x: scored ? "score" : "share", y: "runs: benign upwards, malicious downwards", yText: (at) => (Number.isInteger(at) ? String(Math.abs(at)) : "") });
    root.append(svg("line", { class: "axis", x1: box.left, x2: box.right, y1: y(0), y2: y(0) }));
    const width = (box.right - box.left) / bins;
    for (let bin = 0; bin < bins; bin++) {
      const at = box.left + bin * width + 0.5;
      if (rows.benign[bin]) root.append(svg("rect", { class: "fill-benign", x: at, width: width - 1, y: y(rows.benign[bin]), height: y(0) - y(rows.benign[bin]) }));
      if (rows.malicious[bin]) root.append(svg("rect", { class: "fill-malicious", x: at, width: width - 1, y: y(0), height: y(-rows.malicious[bin]) - y(0) }));
    }
    let caption = scored ? "How far apart the labels are." : "No run has a score: this is what is known of them.";
    if (threshold !== null) {
      root.append(svg("line", { class: "threshold", x1: x(threshold), x2: x(threshold), y1: box.top, y2: box.bottom }));
      root.append(svg("text", { class: "threshold-label", x: x(threshold) + 4, y: box.top + 10 }, threshold.toFixed(2)));
      caption = `Runs above the threshold of ${threshold.toFixed(2)} are anomalous.`;
    }
    figure.append(el("figcaption", {}, caption));
    return figure;
  }
  function line(points, x, y) {
    return points.map(([a, b], at) => `${at ? "L" : "M"}${x(a).toFixed(1)},${y(b).toFixed(1)}`).join("");
  }
  function rocChart(roc) {
    const [root, figure] = chart("ROC", 220, `ROC curve, area ${roc.auc.toFixed(3)}`);
    const box = { left: 46, right: 372, top: 20, bottom: 180 };
    const x = scale(0, 1, box.left, box.right);
    const y = scale(0, 1, box.bottom, box.top);
    axes(root, box, x, y, { x: "benign called anomalous", y: "malicious called anomalous", xText: (at) => percent(at, 0), yText: (at) => percent(at, 0) });
    root.append(svg("path", { class: "diagonal", d: line([[0, 0], [1, 1]], x, y) }));
    root.append(svg("path", { class: "line roc", d: line(roc.benign.map((at, index) => [at, roc.malicious[index]]), x, y) }));
    const all = report.overview;
    let caption = `Area ${roc.auc.toFixed(3)}.`;
    if (all.false_positives && all.false_negatives) {
      const at = [all.false_positives.rate, 1 - all.false_negatives.rate];
      root.append(svg("circle", { class: "fill-malicious", cx: x(at[0]), cy: y(at[1]), r: 4.5 }));
      caption += ` The dot is where these verdicts are: ${percent(at[1])} of malicious and ${percent(at[0])} of benign runs are called anomalous.`;
    }
    figure.append(el("figcaption", {}, caption));
    return figure;
  }
  function calibrationChart(calibration) {
    const p = calibration.p_values;
    const [root, figure] = chart("Calibration", 220, `p-values of ${p.length} benign runs against uniform ones`);
    const box = { left: 46, right: 372, top: 20, bottom: 180 };
    const x = scale(0, 1, box.left, box.right);
    const y = scale(0, 1, box.bottom, box.top);
    axes(root, box, x, y, { x: "p-value", y: "share of benign runs at most at it" });
    root.append(svg("path", { class: "diagonal", d: line([[0, 0], [1, 1]], x, y) }));
    const points = [[0, 0]];
    p.forEach((value, index) => points.push([value, index / p.length], [value, (index + 1) / p.length]));
    points.push([1, 1]);
    root.append(svg("path", { class: "line benign", d: line(points, x, y) }));
    let worst = 0;
    p.forEach((value, index) => { worst = Math.max(worst, (index + 1) / p.length - value); });
    figure.append(el("figcaption", {}, `p-values of ${p.length} benign runs; well calibrated ones follow the diagonal, those above it are too small (here by at most ${worst.toFixed(2)}). ` +
      (calibration.scores ? `${calibration.scores} scores for calibration came with the model.` : "")));
    return figure;
  }

  // the table of runs
  const hasScores = samples.some((sample) => sample.score !== null);
  const COLUMNS = [
    { title: "Document", key: (s) => s.name, cell: null },
    { title: "Label", key: (s) => s.label, cell: (s) => s.label },
    { title: "Verdict", key: (s) => s.verdict || "", cell: verdictCell },
    ...(hasScores ? [
      { title: "Score", key: (s) => (s.score === null ? -Infinity : s.score), number: true, cell: (s) => fixed(s.score, 2) },
      { title: "p", key: (s) => (s.p_value === null ? 2 : s.p_value), number: true, cell: (s) => fixed(s.p_value, 3) },
    ] : []),
    { title: "Wrong", key: (s) => s.wrong, number: true, cell: (s) => percent(s.wrong) },
    ...(isMistakes ? [{ title: "Confidence of wrong", key: (s) => s.wrong_confidence, number: true, cell: (s) => fixed(s.wrong_confidence, 3) }]
      : [{ title: "Mean surprisal", key: (s) => s.surprisal, number: true, cell: (s) => fixed(s.surprisal, 3) }]),
    ...(samples.some((s) => s.new !== null) ? [{ title: "Never seen", key: (s) => s.new, number: true, cell: (s) => (s.new === null ? "–" : count(s.new * s.judged)) }] : []),
    ...(hasScores && samples.some((s) => s.first_alarm) ? [{ title: "First alarm", key: (s) => (s.first_alarm ? s.first_alarm.prediction : Infinity), number: true, cell: alarmCell }] : []),
    { title: "Predictions", key: (s) => s.transfers, number: true, cell: (s) => count(s.transfers) },
  ];
  function verdictCell(sample) {
    if (!sample.verdict) return el("span", { class: "muted" }, "–");
    const node = el("span", {}, el("span", { class: `tag ${sample.verdict}` }, sample.verdict));
    if (wrongVerdict(sample)) node.append(" ", el("span", { class: "mark", title: "not what the label says" }, "≠ label"));
    if (sample.refused) node.title = sample.refused;
    return node;
  }
  function alarmCell(sample) {
    if (!sample.first_alarm) return "–";
    return `${count(sample.first_alarm.prediction)} (${percent(sample.first_alarm.prediction / sample.transfers, 0)})`;
  }
  const state = { sort: hasScores ? 3 : COLUMNS.findIndex((c) => c.title === "Wrong"), down: true, chosen: 0, shown: [] };
  const rows = samples.map((sample, index) => {
    const row = el("tr", { "data-sample": index, onclick: () => choose(index, true) });
    for (const column of COLUMNS) {
      if (column.cell) row.append(el("td", { class: column.number ? "num" : null }, column.cell(sample)));
      else row.append(el("td", { class: "name" }, el("button", { type: "button", tabindex: "-1", title: sample.sample }, sample.name || "(no name)")));
    }
    return row;
  });
  const heads = COLUMNS.map((column, index) => el("th", { scope: "col", class: column.number ? "num" : null },
    el("button", { type: "button", onclick: () => sortBy(index) }, column.title)));
  const body = el("tbody");
  byId("table").append(el("table", {}, el("caption", {}, "All runs. A head sorts; a row shows the run below."), el("thead", {}, el("tr", {}, heads)), body));

  function sortBy(index) {
    state.down = state.sort === index ? !state.down : !!COLUMNS[index].number;
    state.sort = index;
    list();
  }
  function list() {
    const find = byId("find").value.trim().toLowerCase();
    const label = byId("by-label").value;
    const verdict = byId("by-verdict").value;
    state.shown = samples.map((_, index) => index).filter((index) => {
      const sample = samples[index];
      return (!find || sample.name.toLowerCase().includes(find) || sample.sample.toLowerCase().includes(find)) &&
        (!label || sample.label === label) &&
        (!verdict || (verdict === "wrong" ? wrongVerdict(sample) : sample.verdict === verdict));
    });
    const key = COLUMNS[state.sort].key;
    const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    state.shown.sort((a, b) => (state.down ? -1 : 1) * order(key(samples[a]), key(samples[b])) || order(samples[a].name, samples[b].name) || a - b);
    body.replaceChildren(...state.shown.map((index) => rows[index]));
    if (!state.shown.length) body.append(el("tr", {}, el("td", { colspan: COLUMNS.length, class: "muted" }, "no run is like that")));
    heads.forEach((head, index) => {
      if (index === state.sort) head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    byId("count").textContent = `${count(state.shown.length)} of ${count(samples.length)} runs`;
  }
  byId("find").addEventListener("input", list);
  for (const id of ["by-label", "by-verdict"]) byId(id).addEventListener("change", list);

  const buttonOf = (index) => rows[index].querySelector("button");
  function choose(index, focus) {
    rows[state.chosen].classList.remove("chosen");
    buttonOf(state.chosen).removeAttribute("aria-current");
    buttonOf(state.chosen).tabIndex = -1;
    state.chosen = index;
    rows[index].classList.add("chosen");
    buttonOf(index).setAttribute("aria-current", "true");
    buttonOf(index).tabIndex = 0;
    if (focus) buttonOf(index).focus({ preventScroll: true });
    const scroll = byId("table");
    const row = rows[index];
    if (row.isConnected) {
      const head = scroll.querySelector("thead").offsetHeight;
      if (row.offsetTop - head < scroll.scrollTop) scroll.scrollTop = row.offsetTop - head;
      else if (row.offsetTop + row.offsetHeight > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = row.offsetTop + row.offsetHeight - scroll.clientHeight;
    }
    showSample(index);
    try { history.replaceState(null, "", `#run=${index}`); } catch { /* not every place lets a page have an address */ }
  }
  function move(by) {
    if (!state.shown.length) return;
    const at = state.shown.indexOf(state.chosen);
    choose(state.shown[at < 0 ? 0 : Math.max(0, Math.min(state.shown.length - 1, at + by))], true);
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const inTable = event.target.closest && event.target.closest("#table");
    const typing = event.target.closest && event.target.closest("input, select, textarea");
    if (typing) return;
    const steps = { j: 1, k: -1 };
    if (inTable) Object.assign(steps, { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity });
    if (!(event.key in steps)) return;
    event.preventDefault();
    move(Math.max(-samples.length, Math.min(samples.length, steps[event.key])));
  });

  // one run
  let plot = null;
  function fact(name, value) {
    return value === null || value === undefined ? null : el("div", {}, el("dt", {}, name), el("dd", {}, value));
  }
  function showSample(index) {
    const sample = samples[index];
    const root = byId("sample");
    if (plot) plot.close();
    root.replaceChildren();
    root.append(el("h2", { id: "sample-title" }, sample.name || "(no name)", " ", sample.verdict ? verdictCell(sample) : null));
    const alarm = sample.first_alarm;
    root.append(el("dl", { class: "facts" },
      fact("Label", sample.label),
      fact("Sample", el("span", { class: "mono" }, sample.sample)),
      fact("Score", sample.score === null ? null : sample.score.toFixed(2) + (report.classifier && report.classifier.by ? ` (${report.classifier.by})` : "")),
      fact("p-value", sample.p_value === null ? null : sample.p_value.toFixed(3)),
      fact("First alarm", alarm ? `prediction ${count(alarm.prediction)}${alarm.position === null ? "" : `, step ${count(alarm.position)}`}, after ${percent(alarm.prediction / sample.transfers)} of the run`
        : sample.verdict === "anomalous" ? "the run is judged as a whole" : sample.verdict ? "never" : null),
      fact("Wrong predictions", `${percent(sample.wrong)} of ${count(sample.judged)}`),
      fact("Judged", sample.judged < sample.transfers ? `the first ${count(sample.judged)} of ${count(sample.transfers)} predictions, before another process was started` : null),
      fact("Their mean confidence", sample.wrong_confidence.toFixed(3)),
      fact("Mean surprisal", sample.surprisal === null ? null : `${sample.surprisal.toFixed(3)} nats`),
      fact("Worst 1,000 transfers", sample.surprisal_window === null ? null : `${sample.surprisal_window.toFixed(2)} nats a transfer`),
      fact("Transfers never seen", sample.new === null ? null : `${count(sample.new * sample.judged)} (${chance(sample.new)})`),
      fact("Novelty", sample.novelty === null ? null : `${sample.novelty.toFixed(2)} nats, at most ${sample.novelty_window.toFixed(2)} in ${count(report.window)} transfers`)));
    if (sample.refused) root.append(el("p", { class: "warn" }, `Refused: ${sample.refused}`));
    for (const note of sample.notes) root.append(el("p", { class: "warn" }, note));
    plot = new Plot(sample);
    root.append(el("h3", {}, isMistakes ? "Confidence of wrong predictions along the trace" : "Surprisal along the trace"), plot.node);
    root.append(el("h3", {}, sample.windows.length ? "Most telling windows" : "Nothing surprising"));
    if (!sample.windows.length) root.append(el("p", { class: "muted" }, isMistakes ? "Every prediction was right." : "Nothing new and no surprisal: every transfer was expected with certainty."));
    sample.windows.forEach((its, number) => root.append(windowOf(sample, its, number)));
    plot.draw();
  }
  function windowOf(sample, its, number) {
    const told = [`predictions ${count(its.begin)}–${count(its.end - 1)}`];
    if (its.position !== null) told.push(`steps ${count(its.position)}–${count(its.position_end)}`);
    if (its.novelty !== null) told.push(`novelty ${its.novelty.toFixed(2)} nats`);
    if (its.surprisal !== null) told.push(`mean surprisal ${its.surprisal.toFixed(2)} nats`);
    told.push(`${percent(its.wrong)} wrong`);
    const holds = sample.first_alarm && sample.first_alarm.prediction >= its.begin && sample.first_alarm.prediction < its.end;
    const details = el("details", { class: "window", open: number < 2 },
      el("summary", {}, el("b", {}, `Window ${number + 1}`), told.join(" · "),
        its.above_threshold ? el("span", { class: "mark" }, " · above the threshold") : null,
        holds ? el("span", { class: "mark" }, " · first alarm") : null));
    const known = its.transfers.some((transfer) => transfer.source !== null);
    const knowsSeen = its.transfers.some((transfer) => transfer.seen !== null);
    const knowsSurprisal = its.transfers.some((transfer) => transfer.surprisal !== null);
    const steps = its.transfers.some((transfer) => transfer.position !== null);
    const head = [steps ? "Step" : "Prediction", known ? "From" : null, "Expected", "Happened", knowsSeen ? "In training" : null,
      knowsSeen ? "Novelty" : null, knowsSurprisal ? "Surprisal" : null];
    const numbers = ["Prediction", "Step", "Novelty", "Surprisal"];
    const lines = its.transfers.map((transfer) => el("tr", {},
      el("td", { class: "num", title: `prediction ${count(transfer.prediction)}` }, count(steps ? transfer.position : transfer.prediction),
        transfer.times > 1 ? el("div", { class: "muted", title: "how often the same was expected and the same happened in this window" }, `× ${count(transfer.times)}`) : null),
      known ? el("td", { class: "place" }, place(transfer.source), el("br"),
        el("span", { class: "insn", title: transfer.instruction_offset === null ? null : `at +0x${transfer.instruction_offset.toString(16)} of the module` },
          transfer.instruction || transfer.kind || "")) : null,
      el("td", { class: "place" }, place(transfer.expected), el("br"), el("span", { class: "insn" }, `with ${chance(transfer.confidence)}`)),
      el("td", { class: "place" }, transfer.correct ? el("span", {}, "as expected") : place(transfer.actual), el("br"),
        // of targets that training never saw the model knows how likely any of them is, not which
        el("span", { class: "insn" }, transfer.probability === null ? "" : `${transfer.seen === 0 ? "any target never seen: " : "with "}${chance(transfer.probability)}`)),
      knowsSeen ? el("td", { class: transfer.seen < 2 ? "new" : null }, SEEN[transfer.seen]) : null,
      knowsSeen ? el("td", { class: "num" }, transfer.novelty ? transfer.novelty.toFixed(2) : "–") : null,
      knowsSurprisal ? el("td", { class: "num" }, fixed(transfer.surprisal, 2)) : null));
    const why = { novelty: "chosen by novelty", surprisal: "chosen by surprisal", mistakes: "chosen by confident mistakes" }[its.chosen_by];
    details.append(el("div", { class: "plotbar controls" }, el("button", { type: "button", onclick: () => plot.show(its) }, "Show in the plot")),
      el("div", { class: "inner" }, el("table", { class: "transfers" },
        el("caption", {}, `The most telling of ${count(its.end - its.begin)} transfers, in order; × counts those alike${its.left_out ? `; ${count(its.left_out)} others are left out` : ""}. The window was ${why}.`),
        el("thead", {}, el("tr", {}, head.filter((name) => name).map((name) => el("th", { scope: "col", class: numbers.includes(name) ? "num" : null }, name)))),
        el("tbody", {}, lines))));
    return details;
  }

  // the plot of a run: bins of the whole, single predictions around windows
  class Plot {
    constructor(sample) {
      this.sample = sample;
      this.low = 0;
      this.high = sample.transfers;
      this.range = el("span", { class: "range", role: "status" });
      this.surface = el("div", { class: "plot", tabindex: "0", role: "application", "aria-label": "Plot: plus and minus zoom, arrows move, 0 shows the whole run",
        onkeydown: (event) => this.key(event), onpointerdown: (event) => this.press(event), onpointermove: (event) => this.hover(event),
        onpointerup: (event) => this.release(event), onpointercancel: () => this.cancel(), onpointerleave: () => this.leave(), ondblclick: () => this.set(0, sample.transfers) });
      this.readout = el("div", { class: "readout" });
      const button = (text, label, act) => el("button", { type: "button", "aria-label": label, title: label, onclick: act }, text);
      this.out = button("−", "Zoom out (minus)", () => this.zoom(2));
      this.whole = button("Whole run", "Show the whole run (0)", () => this.set(0, sample.transfers));
      const bar = el("div", { class: "plotbar controls" }, button("+", "Zoom in (plus)", () => this.zoom(0.5)), this.out,
        button("←", "Earlier (left arrow)", () => this.pan(-0.25)), button("→", "Later (right arrow)", () => this.pan(0.25)), this.whole);
      sample.windows.forEach((its, number) => bar.append(button(`Window ${number + 1}`, `Show window ${number + 1}`, () => this.show(its))));
      if (sample.first_alarm) bar.append(button("First alarm", "Show the first alarm", () => this.around(sample.first_alarm.prediction)));
      bar.append(this.range);
      this.node = el("div", {}, bar, this.surface, this.readout, this.legend());
      this.observer = new ResizeObserver(() => this.draw());
      this.observer.observe(this.surface);
    }
    close() { this.observer.disconnect(); }
    legend() {
      const item = (name, text) => el("span", {}, el("i", { class: `i-${name}`, "aria-hidden": "true" }), text);
      const curve = this.sample.curve;
      return el("div", { class: "legend" }, item("peak", "maximum of a bin"), item("mean", "mean of a bin"),
        this.sample.windows.length ? item("band", "window") : null, curve.news.length ? item("news", "new transfer, by novelty") : null,
        this.sample.first_alarm ? item("alarm", "first alarm") : null,
        el("span", {}, `${count(curve.mean.length)} bins of ${curve.each > 1 ? `about ${count(curve.each)} predictions` : "one prediction"}; around windows single predictions`));
    }
    set(low, high) {
      const least = Math.min(20, this.sample.transfers);
      const size = Math.max(least, Math.min(this.sample.transfers, high - low));
      this.low = Math.max(0, Math.min(this.sample.transfers - size, low));
      this.high = this.low + size;
      this.draw();
    }
    zoom(factor, at) {
      const centre = at === undefined ? (this.low + this.high) / 2 : at;
      this.set(centre - (centre - this.low) * factor, centre + (this.high - centre) * factor);
    }
    pan(share) {
      const by = (this.high - this.low) * share;
      this.set(this.low + by, this.high + by);
    }
    show(its) {
      const margin = (its.end - its.begin) / 2;
      this.set(its.begin - margin, its.end + margin);
      this.surface.scrollIntoView({ block: "nearest" });
      this.surface.focus({ preventScroll: true });
    }
    around(prediction) {
      const half = Math.max(report.window, 50);
      this.set(prediction - half, prediction + half);
    }
    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const acts = { "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2), ArrowLeft: () => this.pan(-0.25), ArrowRight: () => this.pan(0.25),
        ArrowUp: () => this.zoom(0.5), ArrowDown: () => this.zoom(2), 0: () => this.set(0, this.sample.transfers), Home: () => this.set(0, this.high - this.low),
        End: () => this.set(this.sample.transfers, this.sample.transfers + this.high - this.low), Escape: () => this.set(0, this.sample.transfers) };
      if (!(event.key in acts)) return;
      event.preventDefault();
      event.stopPropagation();
      acts[event.key]();
    }
    // details that are worth drawing: a window's single predictions where they are at least half a pixel wide
    details() {
      return this.sample.windows.map((its) => its.detail).filter((detail) => {
        const end = detail.begin + detail.each * detail.values.length;
        return end > this.low && detail.begin < this.high && ((this.box.right - this.box.left) * detail.each) / (this.high - this.low) >= 0.5;
      });
    }
    draw() {
      const width = this.surface.clientWidth || 900;
      const height = 230;
      const box = (this.box = { left: 46, right: width - 8, top: 26, bottom: height - 40 });
      const { curve, windows, transfers } = this.sample;
      const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${unit} of predictions ${count(this.low)} to ${count(this.high)}` });
      const x = (this.x = scale(this.low, this.high, box.left, box.right));
      const details = this.details();
      const firstBin = Math.max(0, Math.floor(this.low / curve.each));
      const lastBin = Math.min(curve.mean.length, Math.ceil(this.high / curve.each));
      let top = 0;
      for (let bin = firstBin; bin < lastBin; bin++) top = Math.max(top, curve.highest[bin]);
      const y = scale(0, top > 0 ? top * 1.05 : 1, box.bottom, box.top);
      axes(root, box, x, y, { x: "prediction", y: unit });
      const clip = svg("clipPath", { id: "inside" }, svg("rect", { x: box.left, y: box.top - 14, width: Math.max(1, box.right - box.left), height: box.bottom - box.top + 14 }));
      const inside = svg("g", { "clip-path": "url(#inside)" });
      root.append(svg("defs", {}, clip), inside);
      const outline = [];
      const middle = [];
      for (let bin = firstBin; bin < lastBin; bin++) {
        const from = x(bin * curve.each).toFixed(1);
        const to = x(Math.min((bin + 1) * curve.each, transfers)).toFixed(1);
        const tall = y(curve.highest[bin]).toFixed(1);
        const mean = y(curve.mean[bin]).toFixed(1);
        outline.push(`L${from},${tall}L${to},${tall}`);
        middle.push(`${middle.length ? "L" : "M"}${from},${mean}L${to},${mean}`);
      }
      if (outline.length) {
        const begin = x(firstBin * curve.each).toFixed(1);
        const end = x(Math.min(lastBin * curve.each, transfers)).toFixed(1);
        inside.append(svg("path", { class: "peak", d: `M${begin},${box.bottom}${outline.join("")}L${end},${box.bottom}Z` }));
        inside.append(svg("path", { class: "mean", d: middle.join("") }));
      }
      for (const detail of details) {
        // single predictions take the place of the bins that hold them
        const begin = x(detail.begin);
        const end = x(Math.min(transfers, detail.begin + detail.each * detail.values.length));
        inside.append(svg("rect", { class: "cover", x: begin, width: Math.max(0, end - begin), y: box.top, height: box.bottom - box.top }));
      }
      const labelled = [];
      windows.forEach((its, number) => {
        if (its.end <= this.low || its.begin >= this.high) return;
        // a window of a long run is thinner than a pixel
        const from = x(its.begin);
        const wide = Math.max(3, x(its.end) - from);
        inside.append(svg("rect", { class: "band", x: from, width: wide, y: box.top, height: box.bottom - box.top }));
        // the first of several that lie together has the label
        const at = Math.max(from, box.left) + 2;
        if (labelled.some((other) => Math.abs(other - at) < 12)) return;
        labelled.push(at);
        inside.append(svg("text", { class: "band-label", x: at, y: box.top - 3 }, String(number + 1)));
      });
      for (const detail of details) {
        const steps = detail.values.map((value, index) => {
          const from = x(detail.begin + index * detail.each).toFixed(1);
          const to = x(detail.begin + (index + 1) * detail.each).toFixed(1);
          const tall = y(value).toFixed(1);
          return `L${from},${tall}L${to},${tall}`;
        });
        const from = x(detail.begin).toFixed(1);
        const to = x(detail.begin + detail.each * detail.values.length).toFixed(1);
        inside.append(svg("path", { class: "detail", d: `M${from},${box.bottom}L${steps.join("").slice(1)}L${to},${box.bottom}Z` }));
      }
      const most = curve.news.reduce((high, [, weight]) => Math.max(high, weight), 0) || 1;
      for (const [at, weight] of curve.news) {
        if (at < this.low || at >= this.high) continue;
        inside.append(svg("line", { class: "news", x1: x(at + 0.5), x2: x(at + 0.5), y1: box.bottom, y2: box.bottom - 4 - (18 * weight) / most }));
      }
      const alarm = this.sample.first_alarm;
      if (alarm && alarm.prediction >= this.low && alarm.prediction < this.high) {
        const at = x(alarm.prediction + 0.5);
        const left = at > (box.left + box.right) / 2;
        inside.append(svg("line", { class: "alarm", x1: at, x2: at, y1: box.top, y2: box.bottom }));
        inside.append(svg("text", { class: "alarm-label", x: at + (left ? -5 : 5), y: box.top + 10, "text-anchor": left ? "end" : "start" }, "first alarm"));
      }
      this.cross = svg("line", { class: "cross", y1: box.top, y2: box.bottom, visibility: "hidden" });
      this.selection = svg("rect", { class: "drag", y: box.top, height: box.bottom - box.top, visibility: "hidden" });
      root.append(this.cross, this.selection);
      this.surface.replaceChildren(root);
      this.root = root;
      const all = this.high - this.low >= transfers;
      this.out.disabled = this.whole.disabled = all;
      this.range.textContent = all ? `all ${count(transfers)} predictions` : `predictions ${count(this.low)}–${count(this.high)} of ${count(transfers)}`;
      this.surface.dataset.low = Math.round(this.low);
      this.surface.dataset.high = Math.round(this.high);
    }
    at(event) {
      const box = this.root.getBoundingClientRect();
      const place = Math.max(this.box.left, Math.min(this.box.right, event.clientX - box.left));
      return this.low + ((place - this.box.left) / (this.box.right - this.box.left)) * (this.high - this.low);
    }
    press(event) {
      if (event.button !== 0 || event.pointerType === "touch") return;
      this.from = this.at(event);
      this.surface.setPointerCapture(event.pointerId);
    }
    hover(event) {
      const at = this.at(event);
      this.cross.setAttribute("x1", this.x(at));
      this.cross.setAttribute("x2", this.x(at));
      this.cross.setAttribute("visibility", "visible");
      if (this.from !== undefined) {
        const [low, high] = [Math.min(this.from, at), Math.max(this.from, at)];
        this.selection.setAttribute("x", this.x(low));
        this.selection.setAttribute("width", Math.max(0, this.x(high) - this.x(low)));
        this.selection.setAttribute("visibility", "visible");
      }
      this.tell(at);
    }
    tell(at) {
      const { curve, transfers } = this.sample;
      const detail = this.details().find((its) => at >= its.begin && at < its.begin + its.each * its.values.length);
      if (detail) {
        const index = Math.floor((at - detail.begin) / detail.each);
        const from = detail.begin + index * detail.each;
        const where = detail.each === 1 ? `prediction ${count(from)}` : `predictions ${count(from)}–${count(from + detail.each - 1)}, maximum`;
        this.readout.textContent = `${where}: ${detail.values[index].toFixed(2)}${isMistakes ? "" : " nats"}`;
        return;
      }
      const bin = Math.min(curve.mean.length - 1, Math.floor(at / curve.each));
      const last = Math.min(transfers, Math.ceil((bin + 1) * curve.each)) - 1;
      this.readout.textContent = `predictions ${count(Math.ceil(bin * curve.each))}–${count(last)}: mean ${curve.mean[bin].toFixed(3)}, maximum ${curve.highest[bin].toFixed(2)}${isMistakes ? "" : " nats"}`;
    }
    release(event) {
      if (this.from === undefined) return;
      const [low, high] = [Math.min(this.from, this.at(event)), Math.max(this.from, this.at(event))];
      this.cancel();
      // a click is no selection
      if (this.x(high) - this.x(low) > 4) this.set(low, high);
    }
    cancel() {
      this.from = undefined;
      if (this.selection) this.selection.setAttribute("visibility", "hidden");
    }
    leave() {
      if (this.cross) this.cross.setAttribute("visibility", "hidden");
      this.readout.textContent = "";
    }
  }

  // print: everything of the chosen run, and of the overview, is open
  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const details of closed) details.open = true;
  });
  window.addEventListener("afterprint", () => { for (const details of closed) details.open = false; });

  overview();
  list();
  const asked = /^#run=(\d+)$/.exec(location.hash);
  const first = asked && Number(asked[1]) < samples.length ? Number(asked[1]) : state.shown[0];
  choose(first, false);
})();
