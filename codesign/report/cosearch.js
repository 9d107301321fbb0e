"use strict";
// The page of a co-search. Everything shown comes from the JSON in the page; names are text, never markup.
const run = JSON.parse(document.getElementById("run").textContent);
const byId = (id) => document.getElementById(id);
const state = { x: run.axes.x, y: run.axes.y, point: run.front[0] };
const metric = (name) => run.metrics.find((one) => one.name === name);
const value = (point, name) => run.points[point].values[name];
const short = (number) => number.toLocaleString("en", { maximumSignificantDigits: Number.isInteger(number) ? 21 : 4 });
const brief = (number) => number.toLocaleString("en", { notation: "compact", maximumSignificantDigits: 3 });

function colors() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return { ink: of("--ink"), soft: of("--soft"), line: of("--line"), accent: of("--accent"), blue: of("--blue"), stall: "#f2b134" };
}

function layout(height, more = {}) {
  const { ink, line } = colors();
  const axis = { gridcolor: line, zerolinecolor: line, automargin: true };
  const { xaxis = {}, yaxis = {}, ...others } = more;
  return {
    height, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 13, color: ink }, margin: { l: 10, r: 10, t: 10, b: 10 },
    legend: { orientation: "h", yanchor: "bottom", y: 1.02, x: 0 },
    xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis }, ...others,
  };
}

const config = { displayModeBar: false, responsive: true };
const draw = (id, traces, form) => Plotly.react(byId(id), traces, form, config);

// ---- fronts over any two metrics

function frontOf(points, x, y) {
  const sign = (name) => (metric(name).more ? -1 : 1);
  const cost = (point) => [sign(x) * value(point, x), sign(y) * value(point, y)];
  const beats = (a, b) => a[0] <= b[0] && a[1] <= b[1] && (a[0] < b[0] || a[1] < b[1]);
  return points.filter((point) => !points.some((other) => beats(cost(other), cost(point))))
    .sort((a, b) => value(a, x) - value(b, x));
}

function known(x, y) {
  return run.points.map((_, index) => index).filter((index) => value(index, x) !== null && value(index, y) !== null);
}

function plotFront() {
  const { x, y } = state;
  const { accent, blue, soft, ink } = colors();
  const points = known(x, y);
  const best = frontOf(points.filter((point) => run.points[point].keeps), x, y);
  const trace = (name, members, marker, more = {}) => ({
    type: "scatter", mode: "markers", name, x: members.map((point) => value(point, x)), y: members.map((point) => value(point, y)),
    customdata: members, text: members.map((point) => run.points[point].text), hovertemplate: "%{text}<extra></extra>", marker, ...more,
  });
  const onFront = new Set(run.front);
  draw("front", [
    trace("front of these two", best, {}, { mode: "lines", hoverinfo: "skip", hovertemplate: null, line: { color: soft, width: 1.5, dash: "dot", shape: "hv" } }),
    trace("other points", points.filter((point) => !onFront.has(point)), { color: soft, size: 8, opacity: 0.6 }),
    trace("on the front, on RTL", points.filter((point) => onFront.has(point)), { color: blue, size: 12, line: { color: ink, width: 1 } }),
    trace("shown below", points.filter((point) => point === state.point), { color: accent, size: 17, symbol: "star" }),
  ], layout(400, { xaxis: { title: { text: metric(x).label } }, yaxis: { title: { text: metric(y).label } } }));
}

function plotParallel() {
  const { accent, blue, soft, ink } = colors();
  const shown = run.metrics.filter((one) => run.points.every((point) => point.values[one.name] !== null));
  const ranges = shown.map((one) => {
    const all = run.points.map((point) => point.values[one.name]);
    return [Math.min(...all), Math.max(...all)];
  });
  const height = (point, place) => {
    const [low, high] = ranges[place];
    return high === low ? 0.5 : (value(point, shown[place].name) - low) / (high - low);
  };
  const lines = (name, members, color, width, opacity) => {
    const x = [], y = [], text = [], customdata = [];
    for (const point of members) {
      shown.forEach((one, place) => {
        x.push(place); y.push(height(point, place)); text.push(run.points[point].text); customdata.push(point);
      });
      x.push(null); y.push(null); text.push(""); customdata.push(null);
    }
    return { type: "scatter", mode: "lines+markers", name, x, y, text, customdata, opacity, hovertemplate: "%{text}<extra></extra>", line: { color, width }, marker: { size: 5, color } };
  };
  const onFront = new Set(run.front);
  const others = run.points.map((_, index) => index).filter((index) => !onFront.has(index));
  const ends = shown.flatMap((one, place) => [0, 1].map((end) => ({
    x: place, y: end, text: brief(ranges[place][end]), showarrow: false, yshift: end ? 12 : -12, font: { size: 11, color: ink },
  })));
  draw("parallel", [
    lines("other points", others, soft, 1, 0.35), lines("on the front, on RTL", run.front, blue, 1.6, 0.9),
    lines("shown below", [state.point], accent, 3, 1),
  ], layout(360, {
    annotations: ends,
    xaxis: { tickvals: shown.map((_, place) => place), ticktext: shown.map((one) => one.brief), zeroline: false, range: [-0.4, shown.length - 0.6] },
    yaxis: { visible: false, range: [-0.12, 1.12] },
  }));
}

// ---- one point of the front

function facts(list, pairs) {
  list.replaceChildren(...pairs.map(([name, text]) => {
    const box = document.createElement("div"), term = document.createElement("dt"), said = document.createElement("dd");
    term.textContent = name; said.textContent = text;
    box.append(term, said);
    return box;
  }));
}

function plotPoint() {
  const { accent, blue, soft, stall, ink } = colors();
  const point = run.details[state.point];
  facts(byId("facts"), point.facts);
  byId("again").textContent = point.again;
  byId("configuration").textContent = point.configuration;
  const names = point.layers.map((layer) => layer.name);
  const bits = point.layers.map((layer) => layer.bits);
  const bar = (name, key, color, more = {}) => ({
    type: "bar", name, x: names, y: point.layers.map((layer) => layer[key]), marker: { color }, text: bits, textposition: "none",
    hovertemplate: "%{x}: %{y:,} cycles, bits %{text}", ...more,
  });
  draw("layers", [
    bar("array is fed", "compute", blue), bar("waiting", "stalls", stall),
    { type: "scatter", mode: "text", name: "bits", showlegend: false, x: names, y: point.layers.map((layer) => layer.compute + layer.stalls), text: bits, textposition: "top center", cliponaxis: false, hoverinfo: "skip", textfont: { size: 11, color: ink } },
  ], layout(380, { barmode: "stack", bargap: 0.3, xaxis: { type: "category" }, yaxis: { title: { text: "cycles" } } }));
  draw("bands", [{
    type: "bar", orientation: "h", y: point.bands.map((band) => band.name), x: point.bands.map((band) => 100 * band.share), marker: { color: blue },
    hovertemplate: "%{y}: %{x:.1f} % of all cycles<extra></extra>",
  }], layout(90 + 40 * point.bands.length, { xaxis: { title: { text: "% of all cycles" }, range: [0, 100] }, yaxis: { type: "category", autorange: "reversed" } }));
  const roof = point.roofline;
  const under = (memory) => roof.points.filter((one) => one.memory === memory);
  const marks = (name, list, color) => ({
    type: "scatter", mode: "markers", name, x: list.map((one) => one.intensity), y: list.map((one) => one.gops), text: list.map((one) => one.text),
    marker: { color, size: 11, line: { color: ink, width: 0.5 } }, hovertemplate: "%{text}<br>%{x:.4g} operations/byte, %{y:.4g} GOP/s<extra></extra>",
  });
  draw("roofline", [
    { type: "scatter", mode: "lines", name: roof.says, x: roof.line.map((one) => one[0]), y: roof.line.map((one) => one[1]), line: { color: soft, width: 2 }, hoverinfo: "skip" },
    marks("the memory's roof", under(true), stall), marks("the array's roof", under(false), blue),
  ], layout(380, { xaxis: { type: "log", dtick: "D2", title: { text: "operations a byte" } }, yaxis: { type: "log", dtick: "D2", title: { text: "GOP/s" } } }));
  byId("resources").replaceChildren(...point.resources.map(([name, used, total]) => {
    const row = document.createElement("tr"), bar = document.createElement("span"), fill = document.createElement("i");
    for (const text of [name, short(used), short(total), `${(100 * used / total).toFixed(1)} %`]) row.insertCell().textContent = text;
    bar.className = "bar"; fill.style.width = `${Math.min(100, 100 * used / total)}%`;
    if (used > total) fill.className = "over";
    bar.append(fill); row.insertCell().append(bar);
    return row;
  }));
  byId("point").value = String(state.point);
}

function plotRounds() {
  const { accent, blue, soft } = colors();
  const onFront = new Set(run.front);
  const line = (point, index) => ({
    type: "scatter", mode: "lines+markers", x: point.rounds.map((one) => one[0]), y: point.rounds.map((one) => 100 * one[1]),
    text: point.rounds.map(() => point.text), hovertemplate: "%{text}<br>%{x} epochs: %{y:.2f} %<extra></extra>", showlegend: false, customdata: point.rounds.map(() => index),
    line: { color: index === state.point ? accent : onFront.has(index) ? blue : soft, width: index === state.point ? 3 : 1.3 }, opacity: onFront.has(index) ? 1 : 0.4,
  });
  draw("rounds", run.points.map(line), layout(340, { xaxis: { title: { text: "epochs with quantizers" } }, yaxis: { title: { text: "validation accuracy, %" } } }));
}

function show(point) {
  if (!run.details[point]) return;
  state.point = point;
  all();
}

function all() {
  plotFront(); plotParallel(); plotRounds(); plotPoint();
}

for (const axis of ["x", "y"]) {
  const menu = byId(axis);
  for (const one of run.metrics) menu.add(new Option(one.label, one.name));
  menu.value = state[axis];
  menu.addEventListener("change", () => { state[axis] = menu.value; plotFront(); });
}
for (const point of run.front) byId("point").add(new Option(run.points[point].title, String(point)));
byId("point").addEventListener("change", (event) => show(Number(event.target.value)));
all();
for (const id of ["front", "parallel", "rounds"]) {
  byId(id).on("plotly_click", (event) => { if (event.points.length) show(event.points[0].customdata); });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
