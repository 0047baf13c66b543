"use strict";
// What all parts of the page share: the data, the selection, elements, colors and the tooltip.

const data = JSON.parse(document.getElementById("data").textContent);
const selected = new Set();  // paths of runs, in the order in which they were selected
const redraws = [];  // functions that draw a part of the page again

const byId = (id) => document.getElementById(id);

/** Make an element; texts become text, never markup. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Escape a text for Plotly, which reads a few tags, links, entities and formulas in its labels. */
const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", $: "&#36;" };
const plain = (text) => String(text).replace(/[&<>$]/g, (character) => ENTITIES[character]);

function shown(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return Math.abs(value) < 1e5 ? String(value) : value.toLocaleString("en");
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  return size < 1e-3 ? value.toExponential(2) : value.toFixed(size < 10 ? 4 : 2);
}

const setting = (value) => (value === null ? "null" : typeof value === "number" ? String(+value.toPrecision(4)) : String(value));

// Okabe and Ito's colors, which people who are color-blind can tell apart; every color has its own dash too.
const LIGHT = ["#0072b2", "#d55e00", "#009e73", "#b4568f", "#8a6d00", "#3a3f45", "#56b4e9", "#e69f00"];
const DARK = ["#56b4e9", "#e69f00", "#2bc79a", "#e79fca", "#f0e442", "#e6e9ec", "#4a9bd4", "#f08a4b"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "8px,2px,2px,2px,2px,2px", "1px,3px"];
// Five steps of cividis, from the worst to the best.
const STEPS_LIGHT = ["#c9b75c", "#a29a70", "#757575", "#3f5a78", "#00306f"];
const STEPS_DARK = ["#4d5f96", "#6d7a9a", "#8f9097", "#c9bd6a", "#ffe945"];
const NARROW = 2, WIDE = 3;

const dark = window.matchMedia("screen and (prefers-color-scheme: dark)");
let printing = false;
const isDark = () => dark.matches && !printing;
const palette = () => (isDark() ? DARK : LIGHT);
const variable = (name) => (printing ? { "--text": "#1b1f24", "--line": "#d0d7de", "--faint": "#b4bbc3", "--accent": "#0072b2" }[name]
  : getComputedStyle(document.documentElement).getPropertyValue(name).trim());

const styleOf = (place) => ({ color: palette()[place % 8], dash: DASHES[(place + Math.floor(place / 8)) % 8] });

/** Return the groups of runs that share a line style: [{name, color, dash, runs}]. */
function groups() {
  const by = byId("color").value;
  if (by === "run") {
    const colored = selected.size ? data.runs.filter((run) => selected.has(run.path)) : data.runs.slice(0, 8);
    const rest = data.runs.filter((run) => !colored.includes(run));
    const found = colored.map((run, place) => ({ name: run.label, ...styleOf(place), runs: [run] }));
    if (rest.length) found.push({ name: `${rest.length} other runs`, color: variable("--faint"), dash: "solid", runs: rest });
    return found;
  }
  if (by === "result") return byResult();
  const values = new Map();
  for (const run of data.runs) {
    const name = setting(run.settings[by]);
    values.set(name, [...(values.get(name) ?? []), run]);
  }
  const names = [...values.keys()].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  return names.map((name, place) => ({ name: `${by} = ${name}`, ...styleOf(place), runs: values.get(name) }));
}

function byResult() {
  const { name } = data.metric;
  const order = data.runs.filter((run) => typeof run.metrics[name] === "number").sort((a, b) => -compareResults(a, b));
  const colors = isDark() ? STEPS_DARK : STEPS_LIGHT;
  const count = Math.min(5, order.length);
  const found = [];
  for (let step = 0; step < count; step++) {
    const runs = order.slice(Math.floor((step * order.length) / count), Math.floor(((step + 1) * order.length) / count));
    const ends = [runs[0], runs[runs.length - 1]].map((run) => shown(run.metrics[name]));
    found.push({ name: `${name} ${ends[0]} to ${ends[1]}`, color: colors[step + 5 - count], dash: "solid", runs });
  }
  const rest = data.runs.filter((run) => typeof run.metrics[name] !== "number");
  if (rest.length) found.unshift({ name: `without ${name}`, color: variable("--faint"), dash: "dot", runs: rest });
  return found;
}

/** Compare by the page's metric: negative if `a` is better. */
const compareResults = (a, b) =>
  (data.metric.goal === "min" ? 1 : -1) * (a.metrics[data.metric.name] - b.metrics[data.metric.name]);

function swatch(style) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("width", 26);
  svg.setAttribute("height", 10);
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  const lengths = { solid: "", dash: "7,4", dot: "2,3", dashdot: "7,3,2,3", longdash: "11,4", longdashdot: "11,3,2,3" };
  for (const [name, value] of Object.entries({ x1: 0, x2: 26, y1: 5, y2: 5, stroke: style.color, "stroke-width": 3,
    "stroke-dasharray": lengths[style.dash] ?? style.dash.replaceAll("px", "") })) line.setAttribute(name, value);
  svg.append(line);
  return svg;
}

function select(path, on = !selected.has(path)) {
  if (on) selected.add(path); else selected.delete(path);
  redraw();
}

function redraw() {
  const styles = new Map();
  const found = groups();
  for (const group of found) for (const run of group.runs) styles.set(run.path, group);
  byId("chosen").textContent = selected.size ? `${selected.size} of ${data.runs.length} runs selected` : "";
  byId("clear").disabled = !selected.size;
  byId("legend").replaceChildren(...found.map((group) =>
    make("li", {}, swatch(group), group.runs.length > 1 && !group.name.endsWith("other runs") ? `${group.name} (${group.runs.length})` : group.name)));
  for (const draw of redraws) draw(found, styles);
}

/** Show a run's facts beside the pointer. */
function showTip(event, style, lines) {
  const tip = byId("tip");
  tip.replaceChildren(...lines.map((line, place) => make(place ? "div" : "strong", {}, line)));
  if (style) tip.prepend(swatch(style), " ");
  tip.hidden = false;
  const { clientX: x, clientY: y } = event;
  tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${y + tip.offsetHeight + 24 > innerHeight ? Math.max(4, y - tip.offsetHeight - 10) : y + 14}px`;
}

const hideTip = () => { byId("tip").hidden = true; };

function describe(run) {
  const lines = data.varied.slice(0, 8).map((key) => `${key} = ${setting(run.settings[key])}`);
  const result = run.metrics[data.metric.name];
  return [...lines, ...(typeof result === "number" ? [`${data.metric.name} ${shown(result)}`] : []), run.state];
}

function layout(more) {
  const axis = { gridcolor: variable("--line"), linecolor: variable("--line"), zerolinecolor: variable("--line"), automargin: true };
  const { xaxis, yaxis, ...rest } = more;
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
    font: { family: "system-ui, sans-serif", size: 12, color: variable("--text") },
    margin: { l: 50, r: 12, t: 28, b: 40 }, uirevision: "kept",
    dragmode: window.matchMedia("(pointer: coarse)").matches ? false : "zoom",
    modebar: { bgcolor: "rgba(0,0,0,0)", color: variable("--faint"), activecolor: variable("--accent") },
    xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis }, ...rest,
  };
}

// The buttons are named: by default one sends the plot's data to Plotly's server.
const OPTIONS = { displaylogo: false, responsive: true, scrollZoom: false, plotlyServerURL: "",
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };

/** Draw a plot; hover and click name the run of a point, whose path is in the trace's customdata. */
async function draw(id, traces, shape, options = OPTIONS) {
  const place = byId(id);
  const first = !place.data;
  await Plotly.react(place, traces, shape, options);
  if (!first) return;
  place.on("plotly_hover", ({ points: [point], event }) => {
    const run = point.customdata && data.runs.find(({ path }) => path === point.customdata);
    if (!run) return;
    const where = place.pointText ? place.pointText(point) : [];
    showTip(event, place.styles?.get(run.path), [run.label, ...where, ...describe(run)]);
  });
  place.on("plotly_unhover", hideTip);
  place.on("plotly_click", ({ points: [point] }) => { if (point.customdata) select(point.customdata); });
}

/** Join runs' points into one trace, with a gap between two runs: hundreds of traces would be slow. */
function joined(runs, points) {
  const x = [], y = [], customdata = [];
  for (const run of runs) {
    const [xs, ys] = points(run);
    for (let place = 0; place < xs.length; place++) { x.push(xs[place]); y.push(ys[place]); customdata.push(run.path); }
    x.push(null); y.push(null); customdata.push(null);
  }
  return { x, y, customdata };
}

/** Traces of groups: unselected runs first and faint if others are selected, then the selected ones. */
function lines(found, points, wide = WIDE) {
  const traces = [];
  const base = { type: "scatter", mode: "lines", hoverinfo: "none" };
  const many = data.runs.length > 100;
  for (const group of found) {
    const rest = group.runs.filter((run) => !selected.has(run.path));
    const line = selected.size ? { color: variable("--faint"), width: 1 } : { color: group.color, dash: group.dash, width: many ? 1 : NARROW };
    if (rest.length) traces.push({ ...base, ...joined(rest, points), line, opacity: selected.size ? 0.35 : many ? 0.6 : 0.9 });
  }
  for (const group of found) {
    const runs = group.runs.filter((run) => selected.has(run.path));
    const line = { color: group.color, dash: group.dash, width: wide };
    if (runs.length) traces.push({ ...base, ...joined(runs, points), line });
  }
  return traces;
}
