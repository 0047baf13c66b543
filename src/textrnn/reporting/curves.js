// Curves of all runs, two metrics at a time.

/** Smooth values by an exponential moving average that is divided by the sum of its weights; gaps stay gaps. */
function smooth(values, weight) {
  if (!weight) return values;
  let sum = 0, weights = 0;
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value;
    weights = weight * weights + (1 - weight);
    return sum / weights;
  });
}

function metricNames() {
  const known = new Set();
  for (const run of data.runs) for (const name of Object.keys(run.curves)) known.add(name);
  const both = [...known].filter((name) => name.startsWith("val/") && known.has(name.replace("val", "train")));
  return [...both.map((name) => `${name} and ${name.replace("val", "train")}`), ...known];
}

function startCurves() {
  const wanted = [["val/loss", "train/loss"], [...(data.metric.name.endsWith("loss") ? [] : [data.metric.name]), "val/accuracy", "train/accuracy"]];
  if (data.runs.length < 4) for (const quantity of ["loss", "accuracy"]) wanted[quantity === "loss" ? 0 : 1].unshift(`val/${quantity} and train/${quantity}`);
  const names = metricNames();
  for (const place of [0, 1]) {
    const choice = byId(`metric-${place}`);
    choice.replaceChildren(...names.map((name) => make("option", {}, name)));
    choice.value = wanted[place].find((name) => names.includes(name)) ?? names[place] ?? names[0] ?? "";
    choice.addEventListener("change", () => redraw());
  }
  byId("smoothing").addEventListener("input", () => {
    byId("smoothed").textContent = Number(byId("smoothing").value).toFixed(2);
    requestAnimationFrame(redraw);
  });
  byId("logarithmic").addEventListener("change", () => redraw());
  redraws.push(drawCurves);
}

function drawCurves(found, styles) {
  const weight = Number(byId("smoothing").value);
  const few = selected.size ? data.runs.filter((run) => selected.has(run.path)) : data.runs;
  for (const place of [0, 1]) {
    const choice = byId(`metric-${place}`).value;
    const [name, second] = choice.split(" and ");
    const raw = (run, metric = name) => run.curves[metric] ?? [[], []];
    const smoothed = (metric) => (run) => [raw(run, metric)[0], smooth(raw(run, metric)[1], weight)];
    const traces = lines(found, smoothed(name));
    if (weight && few.length <= 8) traces.unshift(...few.map((run) => thin(...raw(run), styles.get(run.path))));
    if (second) traces.unshift(...few.map((run) => thin(...smoothed(second)(run), styles.get(run.path), 0.6)));
    // A curve of one point, such as a test's, has no line.
    if (data.runs.every((run) => raw(run)[0].length < 2)) for (const trace of traces) Object.assign(trace, { mode: "markers", marker: { color: trace.line.color, size: 8 } });
    const plot = byId(`curves-${place}`);
    plot.styles = styles;
    plot.pointText = (point) => [`step ${shown(point.x)}: ${name} ${shown(point.y)}${weight ? " (smoothed)" : ""}`];
    const type = byId("logarithmic").checked ? "log" : "linear";
    draw(plot.id, traces, layout({
      xaxis: { title: { text: "step" } },
      yaxis: { title: { text: plain(second ? `${name} (thin: train)` : name) }, type },
      uirevision: `${choice} ${type}`,
    }));
  }
}

/** Return the trace of a curve behind the others. */
function thin(x, y, style, opacity = 0.3) {
  return { type: "scatter", mode: "lines", hoverinfo: "skip", x, y, opacity, line: { color: style?.color, width: 1 } };
}
