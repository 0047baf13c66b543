// Parallel coordinates of settings and results, and the importance of parameters.

/** Return the axis of a setting: where its values lie between 0 and 1, and its ticks. */
function axisOf(name, values) {
  const known = values.filter((value) => value !== null && value !== undefined);
  const distinct = [...new Set(known)];
  if (known.length === values.length && distinct.every((value) => typeof value === "number") && distinct.length > 1) {
    const [low, high] = [distinct.reduce((a, b) => Math.min(a, b)), distinct.reduce((a, b) => Math.max(a, b))];
    const median = [...known].sort((a, b) => a - b)[Math.floor(known.length / 2)];
    const logarithmic = low > 0 && high / low >= 30 && median < high / 4;  // not for numbers that are drawn evenly
    const scale = logarithmic ? Math.log : (value) => value;
    const place = (value) => (scale(value) - scale(low)) / (scale(high) - scale(low));
    const between = (share) => (logarithmic ? Math.exp(Math.log(low) + share * Math.log(high / low)) : low + share * (high - low));
    const ticks = distinct.length <= 5 ? distinct : [0, 0.25, 0.5, 0.75, 1].map(between);
    return { name: logarithmic ? `${name} (log)` : name, place, ticks: ticks.map((value) => [place(value), String(+value.toPrecision(3))]) };
  }
  const texts = [...new Set(values.map(setting))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const place = (value) => (texts.length === 1 ? 0.5 : texts.indexOf(setting(value)) / (texts.length - 1));
  const step = Math.ceil(texts.length / 10);
  return { name, place, ticks: texts.map((text, at) => [texts.length === 1 ? 0.5 : at / (texts.length - 1), text]).filter((_, at) => at % step === 0) };
}

function drawParallel(found, styles) {
  const { name } = data.metric;
  const measured = data.runs.filter((run) => typeof run.metrics[name] === "number");
  const important = data.importance.parameters.map((one) => one.name);
  const keys = [...data.varied].sort((a, b) => rank(important, a) - rank(important, b)).slice(0, 10);
  byId("search-section").hidden = measured.length < 3 || !keys.length;
  if (byId("search-section").hidden) return;
  const axes = keys.map((key) => ({ key, ...axisOf(key, measured.map((run) => run.settings[key])) }));
  axes.push({ key: null, ...axisOf(name, measured.map((run) => run.metrics[name])) });
  const value = (run, axis) => (axis.key === null ? run.metrics[name] : run.settings[axis.key]);
  const points = (run) => (typeof run.metrics[name] === "number"
    ? [axes.map((_, at) => at), axes.map((axis) => axis.place(value(run, axis)))] : [[], []]);
  const traces = lines(found, points).map((trace) => ({ ...trace, mode: "lines+markers",
    marker: { size: 6, color: trace.line.color }, selected: { marker: { opacity: 1 } }, unselected: { marker: { opacity: 1 } } }));
  const note = { showarrow: false, xref: "x", yref: "y" };
  const plot = byId("parallel");
  plot.style.minWidth = `${axes.length * 105}px`;
  plot.styles = styles;
  plot.pointText = (point) => [`${axes[point.x].key ?? name} = ${setting(value(data.runs.find(({ path }) => path === point.customdata), axes[point.x]))}`];
  draw("parallel", traces, layout({
    xaxis: { range: [-0.02, axes.length - 0.98], visible: false, fixedrange: true },
    yaxis: { range: [-0.06, 1.16], visible: false, fixedrange: true },
    margin: { l: 88, r: 45, t: 28, b: 8 }, dragmode: "select", selectdirection: "any", uirevision: axes.length,
    shapes: axes.map((_, at) => ({ type: "line", x0: at, x1: at, y0: 0, y1: 1, line: { color: variable("--text"), width: 1 }, layer: "below" })),
    annotations: axes.flatMap((axis, at) => [
      { ...note, x: at, y: 1.05, yanchor: "bottom", text: folded(axis.name), font: { size: 12, weight: 700 } },
      ...axis.ticks.map(([y, text]) => ({ ...note, x: at, y, xanchor: "right", xshift: -5, text: plain(cut(text, 12)), font: { size: 11 },
        bgcolor: isDark() ? "rgba(20,23,27,.75)" : "rgba(255,255,255,.75)", borderpad: 1 })),
    ]),
  }), { ...OPTIONS, modeBarButtons: [["toImage"]] });
  if (plot.listens) return;
  plot.listens = true;
  plot.on("plotly_selected", (event) => {
    if (!event) return;
    const boxed = new Map();  // axis: runs with a point in a box
    for (const { x, customdata } of event.points) boxed.set(x, (boxed.get(x) ?? new Set()).add(customdata));
    const sets = [...boxed.values()];
    selected.clear();
    if (sets.length) for (const path of sets[0]) if (sets.every((set) => set.has(path))) selected.add(path);
    setTimeout(redraw);  // Plotly is still in its own event
  });
}

const rank = (names, name) => (names.includes(name) ? names.indexOf(name) : names.length);
const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** Fold a dotted key after a dot, so that two axes' names don't overlap. */
const folded = (name) => plain(name).replace(/\.(?=[^.]*$)/, ".<br>");

function drawImportance() {
  const { runs, parameters } = data.importance;
  byId("importance-section").hidden = !parameters.length;
  byId("importance-facts").textContent =
    `The bar is the share of the differences in ${data.metric.name} between ${runs} ended runs that one parameter alone explains: the ` +
    "squared correlation ratio of ranks, with numbers cut into four groups of equal size. The line is the share that 95 % of random orders of " +
    "the results stay below: a striped bar is no more than chance. The correlation is Spearman's, of ranks: above 0 the metric rises with the parameter. Parameters that " +
    "only matter together look unimportant, and a search that prefers good values (Bayes) makes shares smaller.";
  const rows = parameters.map(({ name, share, chance, correlation }) => {
    const bar = make("div", { class: share > chance ? "bar" : "bar chance" }, make("i"), make("b"));
    bar.firstChild.style.width = `${100 * share}%`;
    bar.lastChild.style.left = `${100 * Math.min(chance, 1)}%`;
    const direction = correlation === null ? "" : `${correlation < 0 ? "−" : "+"}${Math.abs(correlation).toFixed(2)}`;
    return make("tr", {}, make("th", { scope: "row" }, name), make("td", { class: "number" }, `${Math.round(100 * share)} %`),
      make("td", {}, bar), make("td", { class: "number" }, `${Math.round(100 * chance)} %`), make("td", { class: "number" }, direction));
  });
  const heads = ["parameter", "share", "", "chance", "correlation"].map((text) => make("th", { scope: "col" }, text));
  byId("importance").replaceChildren(make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows));
}
