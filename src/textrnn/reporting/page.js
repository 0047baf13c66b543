// The start of the page, and its news while runs train.

function startColors() {
  const choice = byId("color");
  const before = choice.value;
  const distinct = (key) => new Set(data.runs.map((run) => setting(run.settings[key]))).size;
  const keys = data.varied.filter((key) => distinct(key) > 1 && distinct(key) <= 8);
  const result = data.runs.some((run) => typeof run.metrics[data.metric.name] === "number");
  const options = [["run", "run"], ...(result && data.runs.length > 1 ? [["result", `result: ${data.metric.name}`]] : []), ...keys.map((key) => [key, key])];
  choice.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  const grouping = keys.find((key) => key !== "seed" && data.kind !== "sweep");
  const preferred = data.runs.length > 8 ? grouping ?? (result ? "result" : "run") : data.runs.length > 3 ? grouping ?? "run" : "run";
  choice.value = options.some(([value]) => value === before) ? before : preferred;
  choice.onchange = () => redraw();
}

function startHeader() {
  byId("title").textContent = data.title;
  const states = new Map();
  for (const run of data.runs) states.set(run.state, (states.get(run.state) ?? 0) + 1);
  const counts = [...states].map(([state, count]) => `${count} ${state}`).join(", ");
  byId("facts").textContent = `${data.runs.length} run${data.runs.length === 1 ? "" : "s"} (${counts}), ` +
    (data.live ? "live" : `written ${data.written.slice(0, 16).replace("T", " ")} UTC`);
  byId("notes").replaceChildren(...data.notes.map((text) => make("li", {}, text)));
}

function start() {
  startHeader();
  startColors();
  startCurves();
  redraws.push(drawRuns, drawParallel, drawDifferences);
  drawImportance();
  startEvaluation();
  byId("clear").addEventListener("click", () => { selected.clear(); redraw(); });
  const redrawAll = () => { redraw(); drawEvaluation(); };
  dark.addEventListener("change", redrawAll);
  addEventListener("beforeprint", () => { printing = true; redrawAll(); });
  addEventListener("afterprint", () => { printing = false; redrawAll(); });
  redraw();
  if (data.live) setTimeout(poll, SECONDS * 1000, data.news);
}

const SECONDS = 2;

/** Ask the server for rows and runs that are newer than the last news. */
async function poll(news) {
  let next = news;
  try {
    const answer = await fetch(`news?after=${news}`);
    if (!answer.ok) throw new Error(answer.statusText);
    const update = await answer.json();
    if (update.news !== news) take(update);
    next = update.news;
    startHeader();
  } catch (error) {
    byId("facts").textContent = `the server doesn't answer (${error.message}); the page shows the last state`;
  }
  setTimeout(poll, SECONDS * 1000, next);
}

/** Take an update: all but the curves if a run has begun, ended or changed, and the rows that are new. */
function take(update) {
  const curves = new Map(data.runs.map((run) => [run.path, run.curves]));
  if (update.page) {
    Object.assign(data, update.page);
    for (const run of data.runs) run.curves = curves.get(run.path) ?? {};
    for (const path of selected) if (!data.runs.some((run) => run.path === path)) selected.delete(path);
  }
  for (const run of data.runs) {
    const fresh = update.runs[run.path];
    if (!fresh) continue;
    if (fresh.restarted) run.curves = {};
    run.metrics = fresh.metrics;
    for (const [name, [steps, values]] of Object.entries(fresh.curves)) {
      const curve = (run.curves[name] ??= [[], []]);
      if (curve[0].length && curve[0][curve[0].length - 1] === steps[0]) { curve[0].pop(); curve[1].pop(); }
      curve[0].push(...steps);
      curve[1].push(...values);
    }
  }
  const names = metricNames();
  for (const place of [0, 1]) {
    const choice = byId(`metric-${place}`);
    for (const name of names) if (![...choice.options].some((option) => option.value === name)) choice.append(make("option", {}, name));
  }
  if (update.page) { startColors(); drawImportance(); startEvaluation(); }
  redraw();
}

start();
