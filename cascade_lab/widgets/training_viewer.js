// The training viewer in the browser: two charts over the steps, and one picture through the checkpoints.
// While a training runs, the kernel sets the underscored traits; everything else happens here.

const TRAITS = ["part", "log_scale", "metric", "moment", "picture", "threshold", "state"];
const SENT = ["_about", "_lines", "_moments"]; // besides _pictures, which have to be decoded
const METRICS = ["AP", "AP50", "AP75", "mask AP"];
const PARTS = ["boxes", "classification", "masks", "proposals", "total", "learning rate", "gradient norm"];
const LOSSES = { boxes: "loss", classification: "loss", masks: "loss", proposals: "loss", total: "loss" };
const PLAY_MS = 700; // a checkpoint while playing
const STATES = {
  training: "training", pausing: "finishing the step, then pausing", paused: "paused; all is saved",
  stopping: "finishing the step, then stopping", stopped: "stopped; all is saved", finished: "finished",
  failed: "failed; training.log in the run folder says why", recorded: "a run that is there already",
};

// ---------------------------------------------------------------- numbers: no DOM below this line

function decodeMoment(raw) {
  return { ...raw, found: raw.found.map((one) => ({ ...one, boxes: floats(one.boxes) })) };
}

const quad = (values, index) => [...values.subarray(index * 4, index * 4 + 4)];
const last = (values) => values[values.length - 1];

// The place of the last step up to ``step``; -1 before the first.
function placeOf(steps, step) {
  let place = -1;
  while (place + 1 < steps.length && steps[place + 1] <= step) place += 1;
  return place;
}

function clockText(seconds) {
  if (!(seconds >= 0)) return "";
  return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

const one = (value) => (Number.isFinite(value) && value !== null ? value.toFixed(1) : "–");
function short(value) {
  if (!Number.isFinite(value)) return "–";
  return value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(0) : String(Number(value.toPrecision(3)));
}

// Round numbers between two ends: at most six of them, or the powers of ten with their halves and fifths.
function ticksOf(low, high, logarithmic) {
  if (logarithmic) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
      for (const digit of high / low > 200 ? [1] : [1, 2, 5]) ticks.push(digit * 10 ** power);
    }
    return ticks.filter((value) => value >= low * 0.999 && value <= high * 1.001);
  }
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((size) => size >= rough);
  return Array.from({ length: Math.floor(high / step) + 1 }, (_, i) => i * step).filter((value) => value >= low);
}

// ---------------------------------------------------------------- a chart

// Where a value stands on a chart, from the ends of its axes to CSS pixels.
function scaleOf(low, high, from, to, logarithmic = false) {
  const of = logarithmic ? Math.log : (value) => value;
  return (value) => from + ((of(value) - of(low)) / (of(high) - of(low) || 1)) * (to - from);
}

// The ends of the value axis, or null without a value. Sorting is the slow part, so it is done once for each line.
function endsOf(lines, logarithmic) {
  const known = lines.map((line) => (line.sorted ??= [...line.smooth, ...(line.dots ? [] : line.values)].filter(Number.isFinite).sort((a, b) => a - b)));
  const usable = known.map((values) => (logarithmic ? values.slice(placeOf(values, 0) + 1) : values)).filter((values) => values.length);
  if (!usable.length) return null;
  const at = (values, share) => values[Math.floor((values.length - 1) * share)];
  // A first spike must not flatten the rest, so the highest hundredth of a line may leave the chart.
  const top = lines[0].dots ? Math.max(10, ...usable.map(last)) : Math.max(...usable.map((values) => at(values, 0.985)));
  const low = logarithmic ? Math.max(Math.min(...usable.map((values) => at(values, 0.01))), top / 1e5) : 0;
  return [low, (top > low ? top : low + 1) * (logarithmic ? 1.1 : 1.05)];
}

function drawChart(canvas, box, { lines, total, logarithmic, marks, at, unit, colors }) {
  const { context, width, height } = fitCanvas(canvas, box, [230, Math.max(box.clientWidth, 200)], 230);
  context.fillStyle = colors.paper;
  context.fillRect(0, 0, width, height);
  context.textAlign = "start";
  context.fillStyle = colors.soft;
  const ends = endsOf(lines, logarithmic);
  if (!ends) return context.fillText("nothing was recorded yet", 16, height / 2);
  const [low, high] = ends;
  const left = 48, right = width - 88, bottom = height - 26;
  const x = scaleOf(0, Math.max(total, 1), left, right), y = scaleOf(low, high, bottom, 10, logarithmic);

  context.lineWidth = 1;
  context.textAlign = "right";
  for (const value of ticksOf(low, high, logarithmic)) {
    context.strokeStyle = colors.line;
    context.beginPath();
    context.moveTo(left, y(value));
    context.lineTo(right, y(value));
    context.stroke();
    context.fillText(short(value), left - 6, y(value));
  }
  context.textAlign = "center";
  for (const value of ticksOf(0, Math.max(total, 1), false)) context.fillText(short(value), x(value), bottom + 13);
  context.textAlign = "right";
  context.fillText("step", right + 36, bottom + 13);
  context.textAlign = "start";
  context.fillText(unit, 4, 6);

  for (const step of marks) { // the checkpoints, as small feet on the axis
    context.fillStyle = step === at ? colors.ink : colors.soft;
    context.fillRect(x(step) - 1, bottom, 2, step === at ? 6 : 4);
  }
  if (at !== null) {
    context.strokeStyle = colors.ink;
    context.setLineDash([2, 3]);
    context.beginPath();
    context.moveTo(x(at), 10);
    context.lineTo(x(at), bottom);
    context.stroke();
    context.setLineDash([]);
  }
  context.save();
  context.beginPath();
  context.rect(left, 4, right - left + 3, bottom - 2);
  context.clip();
  for (const line of lines) {
    const color = line.color === "#1F2328" ? colors.ink : line.color; // black on white, white on black
    if (!line.dots) strokeLine(context, line.steps, line.values, x, y, { color, dash: [], width: 0.8 }, 0.35);
    strokeLine(context, line.steps, line.smooth, x, y, { ...line, color, width: line.width + 0.4 }, 1);
    if (line.dots) {
      context.fillStyle = color;
      line.smooth.forEach((value, i) => { if (Number.isFinite(value)) { context.beginPath(); context.arc(x(line.steps[i]), y(value), 2.6, 0, 7); context.fill(); } });
    }
  }
  context.restore();
  labelEnds(context, lines, x, y, [12, bottom], colors);
}

function strokeLine(context, steps, values, x, y, { color, dash, width }, alpha) {
  context.globalAlpha = alpha;
  context.strokeStyle = color;
  context.lineWidth = width;
  context.setLineDash(dash);
  context.beginPath();
  let drawing = false;
  steps.forEach((step, i) => {
    if (!Number.isFinite(values[i])) { drawing = false; return; }
    context[drawing ? "lineTo" : "moveTo"](x(step), y(values[i]));
    drawing = true;
  });
  context.stroke();
  context.setLineDash([]);
  context.globalAlpha = 1;
}

// The name of every line beside its end, moved apart where two would overlap.
function labelEnds(context, lines, x, y, [top, bottom], colors) {
  const ends = lines.map((line) => ({ name: line.name, color: line.color, step: last(line.steps), value: last([...line.smooth].filter(Number.isFinite)) }))
    .filter((end) => Number.isFinite(end.value)).map((end) => ({ ...end, at: clamp(y(end.value), top, bottom) })).sort((a, b) => a.at - b.at);
  ends.forEach((end, i) => { end.place = Math.max(end.at, i ? ends[i - 1].place + 14 : top); });
  for (let i = ends.length - 1, limit = bottom; i >= 0; i -= 1, limit = ends[i + 1].place - 14) ends[i].place = Math.min(ends[i].place, limit);
  for (const end of ends) {
    const start = x(end.step) + 4;
    context.strokeStyle = end.color === "#1F2328" ? colors.ink : end.color;
    context.lineWidth = 1.2;
    context.beginPath();
    context.moveTo(start, end.at);
    context.lineTo(start + 10, end.place);
    context.stroke();
    context.fillStyle = colors.ink;
    context.fillText(end.name, start + 13, end.place);
  }
}

// ---------------------------------------------------------------- the viewer

function render({ model, el }) {
  const get = (name) => model.get(name);
  // An exported page has nobody who could pause: its stand-in for the model sends no messages.
  const live = typeof model.send === "function" && get("state") !== "recorded";
  let about, lines, moments, pictures = [], bitmaps = [], playing = 0, tableKey = "", pictureKey = "";

  const index = () => (get("moment") < 0 ? moments.length - 1 : Math.min(get("moment"), moments.length - 1));
  const moment = () => moments[index()];
  function goTo(place) {
    const wanted = clamp(place, 0, moments.length - 1);
    put({ moment: wanted === moments.length - 1 ? -1 : wanted }); // at the end it follows the newest
  }

  // ---- elements, top to bottom
  const headline = make("strong", {});
  const progress = make("span", { class: "tv-progress", role: "progressbar", "aria-label": "Steps", "aria-valuemin": 0 }, make("span", {}));
  const pauseButton = make("button", { type: "button", onclick: () => put({ wish: get("state") === "paused" ? "go on" : "pause" }) });
  const stopButton = make("button", { type: "button", onclick: () => put({ wish: "stop" }) }, "Stop and save");
  const select = (label, options, name) => {
    const node = make("select", { "aria-label": label, onchange: () => put({ [name]: node.value }) });
    fillOptions(node, options, get(name));
    return node;
  };
  const part = select("Which losses", PARTS.map((name) => [name, name]), "part");
  const log = make("input", { type: "checkbox", onchange: () => put({ log_scale: log.checked }) });
  const metric = select("Which AP", METRICS.map((name) => [name, name]), "metric");
  const chart = (label) => make("canvas", { class: "tv-chart", role: "img", "aria-label": label });
  const lossChart = chart("Losses"), apChart = chart("AP");
  const lossBox = make("div", { class: "tv-box" }, lossChart), apBox = make("div", { class: "tv-box" }, apChart);
  const caption = make("p", { class: "cl-hint" });
  const table = make("div", { class: "cl-scroll" });
  const pictureButtons = make("div", { class: "cl-pictures", role: "group", "aria-label": "Picture" });
  const canvas = make("canvas", { tabindex: 0, class: "cl-canvas", role: "application", "aria-roledescription": "picture" });
  const pictureBox = make("div", { class: "cl-picture" }, canvas);
  const status = make("div", { class: "cl-status", "aria-hidden": "true" });
  const playButton = make("button", { type: "button", class: "cl-play", onclick: () => (playing ? halt() : play()) });
  const slider = make("input", { type: "range", min: 0, step: 1, class: "cl-slider", "aria-label": "Checkpoint", oninput: () => { halt(); goTo(Number(slider.value)); } });
  const threshold = make("input", { type: "range", min: 0, max: 1, step: 0.01, class: "tv-threshold", "aria-label": "Least score", oninput: () => put({ threshold: Number(threshold.value) }) });
  const thresholdValue = make("output", {});
  const spoken = make("div", { class: "cl-hidden", "aria-live": "polite" });
  const key = (name) => make("kbd", {}, name);
  const help = make("details", { class: "cl-help" }, make("summary", {}, "Keyboard"), make("ul", {},
    make("li", {}, key("Tab"), " goes from control to control; ", key("←"), key("→"), " on slider or picture: another checkpoint, ", key("Space"), " plays"),
    make("li", {}, key("L"), " logarithmic losses, ", key("N"), " next picture"),
    make("li", {}, "the charts can be clicked: the checkpoint nearest to the click")));
  const controls = make("div", { class: "tv-controls" }, ...(live ? [pauseButton, stopButton] : []));
  const root = make("section", { class: "cascade-lab training-viewer", "aria-label": "Training viewer", onkeydown: onKey },
    make("div", { class: "tv-head" }, headline, progress, controls),
    make("div", { class: "cl-body" },
      make("div", { class: "tv-left" },
        make("div", { class: "tv-title" }, make("h3", {}, "Losses"), make("label", {}, part), make("label", {}, log, "logarithmic")), lossBox,
        make("div", { class: "tv-title" }, make("h3", {}, "At the checkpoints"), make("label", {}, metric)), apBox, caption, table),
      make("div", { class: "tv-right" }, pictureButtons, pictureBox, status,
        make("div", { class: "tv-transport" }, playButton, slider),
        make("div", { class: "cl-tools" }, make("label", {}, "score ≥ ", threshold, thresholdValue),
          make("span", { class: "tv-truth" }, swatch({ color: "#fff", dash: [] }), "ground truth")), help)), spoken);
  el.replaceChildren(root);
  receive();
  const { put, schedule, stop } = follow(model, TRAITS, root, paint);

  // ---- what the kernel sends while it trains
  function receive() {
    const raw = get("_about");
    about = { total: 0, left: -1, classes: [], colors: [], ...raw, steps: raw.steps ? [...floats(raw.steps)] : [] };
    lines = get("_lines").map((line) => ({ ...line, steps: about.steps, values: [...floats(line.values)], smooth: [...floats(line.smooth)] }));
    moments = get("_moments").map(decodeMoment);
  }
  function receivePictures() {
    pictures = get("_pictures").map((raw) => ({ ...raw, targets: floats(raw.targets) }));
    bitmaps = pictures.map(() => null);
    pictures.forEach(async (shown, i) => { bitmaps[i] = await decodePicture(shown.picture); schedule(); });
    pictureButtons.replaceChildren(...(pictures.length < 2 ? [] : pictures.map((shown, i) => make("button", { type: "button", onclick: () => put({ picture: i }) }, shown.name))));
  }
  let waiting = 0;
  const renew = () => { clearTimeout(waiting); waiting = setTimeout(() => { receive(); schedule(); }); }; // several traits, one look
  SENT.forEach((name) => model.on(`change:${name}`, renew));
  const renewPictures = () => { receivePictures(); schedule(); };
  model.on("change:_pictures", renewPictures);
  receivePictures();

  // ---- pointer and keyboard
  [[lossChart, lossBox], [apChart, apBox]].forEach(([node]) => node.addEventListener("click", (event) => {
    if (!moments.length) return;
    const area = node.getBoundingClientRect(), step = ((event.clientX - area.left - 48) / (area.width - 124)) * about.total;
    const far = moments.map((one_) => Math.abs(one_.step - step));
    halt();
    goTo(far.indexOf(Math.min(...far)));
  }));

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    const onPicture = event.target === canvas, letter = event.key.toLowerCase();
    const act =
      letter === "l" ? () => put({ log_scale: !get("log_scale") })
      : letter === "n" && pictures.length ? () => put({ picture: (get("picture") + 1) % pictures.length })
      : event.key === " " && (onPicture || event.target === slider) ? () => (playing ? halt() : play())
      : !onPicture || !moments.length ? null
      : event.key === "ArrowRight" ? () => { halt(); goTo(index() + 1); }
      : event.key === "ArrowLeft" ? () => { halt(); goTo(index() - 1); }
      : event.key === "Home" ? () => { halt(); goTo(0); }
      : event.key === "End" ? () => { halt(); goTo(moments.length - 1); } : null;
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  // From checkpoint to checkpoint; jumps are all there is, so reduced motion needs nothing else.
  function play() {
    if (!moments.length) return;
    const next = (place) => { goTo(place); playing = place < moments.length - 1 ? setTimeout(() => next(place + 1), PLAY_MS) : 0; schedule(); };
    next(index() >= moments.length - 1 ? 0 : index() + 1);
  }
  function halt() {
    clearTimeout(playing);
    playing = 0;
    schedule();
  }

  // ---- painting
  function paint() {
    const style = getComputedStyle(root), color = (name) => style.getPropertyValue(name).trim();
    const colors = { paper: style.backgroundColor, ink: style.color, soft: color("--soft"), line: color("--line") };
    paintHead();
    paintCharts(colors);
    paintPicture();
    paintTable();
    root.dataset.painted = [get("state"), about.steps.length, moments.length, index(), get("picture"), two(get("threshold")), get("part"), get("log_scale"), get("metric"), playing ? 1 : 0].join(":");
  }

  function paintHead() {
    const state = get("state"), done = about.steps.length ? last(about.steps) : 0, running = state === "training";
    const words = [STATES[state] ?? state, done ? `step ${done} of ${about.total}` : state === "training" ? "it begins" : "", running && done ? `${clockText(about.left)} left` : ""].filter(Boolean).join(" · ");
    headline.textContent = words;
    progress.setAttribute("aria-valuemax", about.total);
    progress.setAttribute("aria-valuenow", done);
    progress.firstChild.style.width = `${(100 * done) / Math.max(about.total, 1)}%`;
    pauseButton.textContent = state === "paused" ? "Go on" : "Pause and save";
    pauseButton.disabled = !(running || state === "paused");
    stopButton.disabled = !(running || state === "paused" || state === "pausing");
    const said = STATES[state] ?? state; // only the state is spoken, not every step
    if (spoken.textContent !== said) spoken.textContent = said;
  }

  function paintCharts(colors) {
    const marks = moments.map((one_) => one_.step), at = moments.length ? moment().step : null;
    const shown = lines.filter((line) => line.part === get("part"));
    const common = { total: about.total, marks, at, colors };
    drawChart(lossChart, lossBox, { ...common, lines: shown, logarithmic: get("log_scale"), unit: LOSSES[get("part")] ?? "" });
    const which = METRICS.indexOf(get("metric"));
    const curves = (moments[0]?.scores ?? []).map((score, place) => ({
      ...score, dots: true, steps: marks, smooth: moments.map((one_) => one_.scores[place].values[which] ?? NaN),
    }));
    drawChart(apChart, apBox, { ...common, lines: curves, logarithmic: false, unit: "%" });
    const ends = shown.map((line) => `${line.name} ${short(last(line.smooth) ?? NaN)}`).join(", ");
    lossChart.setAttribute("aria-label", `${get("part")} over the steps${ends ? `, at the end ${ends}` : ": nothing yet"}`);
    const aps = curves.map((curve) => `${curve.name} ${one(curve.smooth[index()])}`).join(", ");
    apChart.setAttribute("aria-label", `${get("metric")} at the checkpoints${aps ? `, at step ${at}: ${aps}` : ": none yet"}`);
  }

  function paintPicture() {
    const shown = pictures[get("picture")], seen = moments.length ? moment().found[get("picture")] : null;
    const { context, width, height, scale } = fitCanvas(canvas, pictureBox, shown?.size ?? [3, 4], 400);
    const bitmap = bitmaps[get("picture")];
    if (bitmap) context.drawImage(scaledPicture(shown, bitmap, canvas), 0, 0, width, height);
    else {
      context.fillStyle = "#2b2b2b";
      context.fillRect(0, 0, width, height);
      context.fillStyle = "#fff";
      context.fillText("the first checkpoint is still to come", 16, height / 2);
    }
    let count = 0;
    if (bitmap && seen) {
      const all = Array.from({ length: shown.targets.length / 4 }, (_, i) => quad(shown.targets, i).map((v) => v * scale));
      strokeBoxes(context, all, { color: "#fff", dash: [] }, 1.25);
      const kept = seen.scores.map((score, i) => i).filter((i) => seen.scores[i] >= get("threshold")), taken = [];
      count = kept.length;
      for (const i of [...kept].reverse()) strokeBoxes(context, [quad(seen.boxes, i).map((v) => v * scale)], { color: about.colors[seen.labels[i]] ?? "#fff", dash: [] }, 2.25);
      for (const i of kept.slice(0, 10)) {
        const text = `${about.classes[seen.labels[i]] ?? "object"} ${two(seen.scores[i])}`;
        const spot = labelSpot(context, text, quad(seen.boxes, i).map((v) => v * scale), [width, height], taken);
        if (spot) tag(context, text, ...spot, about.colors[seen.labels[i]] ?? "#fff");
      }
    }
    const step = moments.length ? `step ${moment().step}` : "no checkpoint yet";
    const boxes = `${count} ${count === 1 ? "box" : "boxes"}`, objects = shown ? `${shown.targets.length / 4} objects` : "";
    status.replaceChildren(make("strong", {}, step), make("span", {}, boxes), make("span", {}, objects));
    canvas.setAttribute("aria-label", `${shown?.name ?? "no picture"}, ${step}: ${boxes}, ${objects}. Arrow keys choose a checkpoint.`);
    slider.max = Math.max(moments.length - 1, 0);
    slider.value = Math.max(index(), 0);
    slider.disabled = moments.length < 2;
    slider.setAttribute("aria-valuetext", `${step}, ${boxes}`);
    slider.style.setProperty("--filled", `${(100 * Math.max(index(), 0)) / Math.max(moments.length - 1, 1)}%`);
    root.style.setProperty("--stage", "#0072B2");
    playButton.textContent = playing ? "❚❚" : "▶";
    playButton.setAttribute("aria-label", playing ? "Halt" : "Play through the checkpoints");
    threshold.value = get("threshold");
    thresholdValue.textContent = two(get("threshold"));
    part.value = get("part");
    metric.value = get("metric");
    log.checked = get("log_scale");
    [...pictureButtons.children].forEach((button, i) => button.setAttribute("aria-pressed", i === get("picture")));
  }

  // Losses (running means) and AP of every stage at the chosen checkpoint.
  function paintTable() {
    const next = JSON.stringify([about.steps.length, moments.length, index()]);
    if (next === tableKey) return;
    tableKey = next;
    if (!moments.length) {
      caption.textContent = "The table of the stages appears with the first checkpoint.";
      return table.replaceChildren();
    }
    const now = moment(), place = placeOf(about.steps, now.step);
    const loss = (name, of) => lines.find((line) => line.name === name && line.part === of)?.smooth[place] ?? NaN;
    const head = ["", "class loss", "box loss", "mask loss", ...METRICS].map((text) => make("th", { scope: "col" }, text));
    const rows = now.scores.map((score) => make("tr", { "data-mode": score.mode },
      make("th", { scope: "row" }, swatch({ ...score, color: score.color === "#1F2328" ? "#fff" : score.color }), ` ${score.name}`),
      ...["classification", "boxes", "masks"].map((of) => make("td", {}, score.mode.includes("~") ? "" : two(loss(score.name, of)))),
      ...score.values.map((value) => make("td", {}, one(value)))));
    caption.textContent = `Step ${now.step}. AP on ${now.measured} validation pictures; losses as logged, that is, times the weight of their stage.`;
    table.replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)));
  }

  schedule();
  return () => {
    halt();
    clearTimeout(waiting);
    SENT.forEach((name) => model.off(`change:${name}`, renew));
    model.off("change:_pictures", renewPictures);
    stop();
  };
}

export default { render };
