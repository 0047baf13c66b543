// The table of runs, configurations, evaluations and mistakes.

const sorting = { column: data.metric.name, descending: data.metric.goal !== "min" };
const PREFERRED = ["val/accuracy", "val/loss", "test/accuracy", "test/loss", "train/loss", "train/accuracy"];

function columns() {
  const settings = data.varied.slice(0, 10).map((key) => ({ name: key, value: (run) => run.settings[key], text: setting }));
  const measured = (name) => data.runs.some((run) => run.metrics[name] !== undefined);
  const metrics = [data.metric.name, ...PREFERRED.filter((name) => name !== data.metric.name)].filter(measured);
  return [
    { name: "run", value: (run) => run.label, text: shown },
    { name: "state", value: (run) => run.state, text: shown },
    ...metrics.map((name) => ({ name, value: (run) => run.metrics[name], text: shown })),
    ...settings,
    { name: "parameters", value: (run) => run.parameters, text: shown },
    { name: "minutes", value: (run) => (run.seconds === null || run.seconds === undefined ? null : run.seconds / 60), text: (value) => (value === null ? "" : value.toFixed(1)) },
    { name: "step", value: (run) => run.step, text: shown },
  ];
}

function compared(a, b) {
  const lacks = (value) => value === null || value === undefined || value === "";
  if (lacks(a) || lacks(b)) return lacks(a) - lacks(b);
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  return sorting.descending ? -order : order;
}

function drawRuns(found, styles) {
  const shownColumns = columns();
  const by = shownColumns.find(({ name }) => name === sorting.column) ?? shownColumns[0];
  const runs = [...data.runs].sort((a, b) => compared(by.value(a), by.value(b)));
  const measured = data.runs.filter((run) => typeof run.metrics[data.metric.name] === "number").sort(compareResults);
  const numeric = shownColumns.map(({ value }) => data.runs.some((run) => typeof value(run) === "number"));
  const heads = shownColumns.map((column, place) => {
    const sorted = column === by ? (sorting.descending ? "descending" : "ascending") : undefined;
    const sort = () => {
      sorting.descending = column === by ? !sorting.descending : numeric[place] && column.name === data.metric.name && data.metric.goal !== "min";
      sorting.column = column.name;
      redraw();
    };
    const arrow = sorted ? (sorting.descending ? " ▼" : " ▲") : "";
    return make("th", { scope: "col", "aria-sort": sorted, class: numeric[place] ? "number" : undefined },
      make("button", { type: "button", onclick: sort }, `${column.name}${arrow}`));
  });
  const rows = runs.map((run) => {
    const box = make("input", { type: "checkbox", "aria-label": `select ${run.label}`, onclick: (event) => { event.stopPropagation(); select(run.path); } });
    box.checked = selected.has(run.path);
    const cells = shownColumns.map(({ name, value, text }, place) => {
      const best = run === measured[0] && name === data.metric.name && data.runs.length > 1 ? " best" : "";
      if (!place) return make("th", { scope: "row", title: run.path }, box, " ", swatch(styles.get(run.path)), " ", run.label);
      return make("td", { class: `${numeric[place] ? "number" : ""}${best}` }, text(value(run)) + (best ? " ★" : ""));
    });
    return make("tr", { class: selected.has(run.path) ? "selected" : undefined, onclick: () => select(run.path) }, ...cells);
  });
  const goal = data.metric.goal === "min" ? "smallest" : "largest";
  byId("best-is").textContent = data.runs.length > 1 ? `★ is the run with the ${goal} ${data.metric.name}.` : "";
  byId("runs").replaceChildren(make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows));
}

const FEW_COLUMNS = 8;

/** Keys that differ: a column per run of a few, else the values of each key with how many runs have them. */
function drawDifferences() {
  const runs = selected.size ? data.runs.filter((run) => selected.has(run.path)) : data.runs;
  const keys = data.varied.filter((key) => runs.some((run) => setting(run.settings[key]) !== setting(runs[0].settings[key])));
  const of = selected.size ? `${runs.length} selected runs` : `${runs.length} runs`;
  byId("differences-facts").textContent = runs.length === 1 ? "" : `${keys.length} keys differ between ${of}${selected.size ? "" : "; select some to compare those"}.`;
  let heads, rows;
  if (runs.length <= FEW_COLUMNS) {
    heads = ["key", ...runs.map((run) => run.label)];
    rows = keys.map((key) => [key, ...runs.map((run) => setting(run.settings[key]))]);
  } else {
    heads = ["key", "values", "runs of each"];
    rows = keys.map((key) => {
      const counts = new Map();
      for (const run of runs) counts.set(setting(run.settings[key]), (counts.get(setting(run.settings[key])) ?? 0) + 1);
      const numbers = runs.map((run) => run.settings[key]).filter((value) => typeof value === "number").sort((a, b) => a - b);
      if (counts.size > 12 && numbers.length === runs.length) return [key, String(counts.size), `${setting(numbers[0])} to ${setting(numbers[numbers.length - 1])}`];
      const order = [...counts].sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }));
      return [key, String(counts.size), order.slice(0, 12).map(([text, count]) => `${text} (${count})`).join(", ") + (order.length > 12 ? ", …" : "")];
    });
  }
  byId("differences").replaceChildren(...(keys.length ? tableOf(heads, rows) : []));
  byId("shared").replaceChildren(...tableOf(["key", "value"], Object.entries(data.shared).map(([key, value]) => [key, setting(value)])));
}

function tableOf(heads, rows) {
  const body = rows.map(([first, ...cells]) => make("tr", {}, make("th", { scope: "row" }, first), ...cells.map((cell) => make("td", {}, cell))));
  return [make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)))), make("tbody", {}, ...body)];
}

function startEvaluation() {
  const choice = byId("evaluated");
  const before = choice.value;
  choice.replaceChildren(...data.evaluations.map((one, place) => {
    const run = data.runs.find(({ path }) => path === one.run);
    return make("option", { value: String(place) }, `${run ? run.label : one.run}, ${one.split}`);
  }));
  if (before && data.evaluations[before]) choice.value = before;
  byId("evaluation-section").hidden = !data.evaluations.length;
  choice.onchange = drawEvaluation;
  byId("word").oninput = drawMistakes;
  drawEvaluation();
}

const evaluation = () => data.evaluations[Number(byId("evaluated").value)];

function drawEvaluation() {
  if (!data.evaluations.length) return;
  const one = evaluation();
  const figures = Object.entries(one.figures).map(([name, value]) => `${name.replaceAll("_", " ")} ${value === null ? "NaN" : shown(value)}`);
  byId("figures").textContent = `${shown(one.reviews)} reviews: ${figures.join(", ")}`;
  drawConfusion(one.confusion);
  drawReliability(one.reliability);
  drawMistakes();
}

function drawConfusion(confusion) {
  byId("confusion-facts").textContent = !confusion ? "There is none: the model has diverged, or a review has several labels."
    : "Counts, and percent of the label's reviews." + (confusion.left_out ? ` ${confusion.left_out} classes with fewer mistakes are left out.` : "");
  if (!confusion) { byId("confusion").replaceChildren(); return; }
  const { classes, matrix, totals } = confusion;
  const rows = matrix.map((counts, label) => make("tr", {}, make("th", { scope: "row" }, classes[label]), ...counts.map((count, place) => {
    const share = totals[label] ? count / totals[label] : 0;
    const cell = make("td", { class: label === place ? "right" : undefined }, shown(count), make("br"), `${(100 * share).toFixed(1)} %`);
    cell.style.background = `color-mix(in srgb, var(--accent) ${Math.round(55 * share)}%, transparent)`;
    return cell;
  })));
  const heads = ["label ╲ prediction", ...classes].map((text) => make("th", { scope: "col" }, text));
  byId("confusion").replaceChildren(make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows));
}

function drawReliability(bins) {
  const points = bins ?? [];
  const most = points.reduce((top, bin) => Math.max(top, bin.reviews), 1);
  const line = { type: "scatter", mode: "lines", x: [0, 1], y: [0, 1], hoverinfo: "skip", line: { color: variable("--faint"), dash: "dash", width: 1.5 } };
  const trace = { type: "scatter", mode: "lines+markers", x: points.map((bin) => bin.confidence), y: points.map((bin) => bin.accuracy),
    text: points.map((bin) => `probability ${bin.confidence.toFixed(3)}<br>right ${bin.accuracy.toFixed(3)}<br>${bin.reviews} reviews`), hoverinfo: "text",
    line: { color: variable("--accent"), width: 1.5 }, marker: { color: variable("--accent"), size: points.map((bin) => 6 + 18 * Math.sqrt(bin.reviews / most)), opacity: 0.85 } };
  const low = points.reduce((least, bin) => Math.min(least, bin.confidence, bin.accuracy), 1);
  const start = Math.max(0, Math.floor(10 * low) / 10 - 0.05);
  draw("reliability", [line, trace], layout({
    xaxis: { title: { text: "mean probability of the predicted label" }, range: [start, 1.03] },
    yaxis: { title: { text: "share that is right" }, range: [start, 1.03] }, uirevision: byId("evaluated").value,
    annotations: points.length
      ? [{ text: "the larger a dot, the more reviews", xref: "paper", yref: "paper", x: 1, y: 0, showarrow: false, font: { size: 11 } }]
      : [{ text: "no probabilities to compare", xref: "paper", yref: "paper", x: 0.5, y: 0.5, showarrow: false }],
  }));
}

/** Split a text at a word, whatever its case. */
function marked(text, word) {
  if (!word) return [text];
  const parts = [];
  const pattern = new RegExp(word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "giu");
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    parts.push(text.slice(end, match.index), make("mark", {}, match[0]));
    end = match.index + match[0].length;
  }
  return [...parts, text.slice(end)];
}

function drawMistakes() {
  const word = byId("word").value.trim();
  const { mistakes } = evaluation();
  const found = mistakes.filter(({ text }) => !word || marked(text, word).length > 1);
  byId("found").textContent = word ? `in ${found.length} of ${mistakes.length} mistakes` : `${mistakes.length} mistakes`;
  byId("mistakes").replaceChildren(...found.map((one) => make("li", {},
    make("div", {}, make("strong", {}, one.label), " taken for ", make("strong", {}, one.predicted),
      one.probability === null ? "" : `, probability ${one.probability.toFixed(4)}`, `, row ${one.index}`),
    make("div", { class: "text", tabindex: "0" }, ...marked(one.text, word), one.cut ? " … (cut)" : ""))));
}
