// The training viewer in the browser: two charts over the steps, and one picture through the checkpoints.
// While a training runs, the kernel sets the underscored traits; everything else happens here.

const TRAITS = ["part", "log_scale", "metric", "moment", "picture", "threshold", "state"];
const METRICS = ["AP", "AP50", "AP75", "mask AP"]; // of a moment's values, in this order
const LOSSES = ["boxes", "classification", "masks", "proposals", "total"];
const PARTS = [...LOSSES, "learning rate", "gradient norm"];
const PLAY_MS = 700; // a checkpoint while playing
const MOST_TAGS = 10; // on a picture: more would hide it
const STATES = {
  training: "training", pausing: "finishing the step, then pausing", paused: "paused; all is saved",
  stopping: "finishing the step, then stopping", stopped: "stopped; all is saved", finished: "finished",
  failed: "failed; training.log in the run folder says why", recorded: "a recorded run",
};
const ALLOWED = { training: ["pause", "stop"], pausing: ["stop"], paused: ["go on", "stop"] }; // by state; else nothing

// ---------------------------------------------------------------- numbers: no DOM below this line

function decodeLog(raw) {
  const { total = 0, left = -1, classes = [], colors = [], lines = [] } = raw; // before the first step it is empty
  const steps = raw.steps ? [...floats(raw.steps)] : [];
  const decoded = lines.map((line) => ({ ...line, steps, values: [...floats(line.values)], smooth: [...floats(line.smooth)] }));
  return { total, left, classes, colors, steps, lines: decoded };
}

function decodeMoment(raw) {
  return { ...raw, found: raw.found.map((found) => ({ ...found, boxes: floats(found.boxes) })) };
}

const boxAt = (values, index, scale) => [...values.subarray(index * 4, index * 4 + 4)].map((value) => value * scale);
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

const percent = (value) => (Number.isFinite(value) ? value.toFixed(1) : "–"); // of null too: an AP may be undefined
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

const MARGIN = { left: 48, right: 88, top: 10, bottom: 26 }; // around a chart's lines, in CSS pixels

// Where a value stands on a chart, from the ends of its axis to CSS pixels.
function scaleOf(low, high, from, to, logarithmic = false) {
  const of = logarithmic ? Math.log : (value) => value;
  return (value) => from + ((of(value) - of(low)) / (of(high) - of(low) || 1)) * (to - from);
}

// The ends of the value axis, or null without a value. Sorting is the slow part, so it is done once for each line.
function endsOf(lines, logarithmic) {
  const usable = lines.map((line) => {
    line.sorted ??= [...line.smooth, ...(line.dots ? [] : line.values)].filter(Number.isFinite).sort((a, b) => a - b);
    return logarithmic ? line.sorted.slice(placeOf(line.sorted, 0) + 1) : line.sorted;
  }).filter((values) => values.length);
  if (!usable.length) return null;
  const at = (values, share) => values[Math.floor((values.length - 1) * share)];
  // A first spike must not flatten the rest, so the highest hundredth of a line may leave the chart.
  const top = lines[0].dots ? Math.max(10, ...usable.map(last)) : Math.max(...usable.map((values) => at(values, 0.985)));
  const low = logarithmic ? Math.max(Math.min(...usable.map((values) => at(values, 0.01))), top / 1e5) : 0;
  return [low, (top > low ? top : low + 1) * (logarithmic ? 1.1 : 1.05)];
}

// ``marks`` are the steps of the checkpoints, ``at`` is the chosen one or null.
function drawChart(canvas, box, { lines, total, logarithmic, marks, at, unit, colors }) {
  const { context, width, height } = fitCanvas(canvas, box, [230, Math.max(box.clientWidth, 200)], 230);
  context.fillStyle = colors.paper;
  context.fillRect(0, 0, width, height);
  context.textAlign = "start";
  context.fillStyle = colors.soft;
  const ends = endsOf(lines, logarithmic);
  if (!ends) return context.fillText("nothing was recorded yet", 16, height / 2);
  const [low, high] = ends, steps = Math.max(total, 1);
  const left = MARGIN.left, right = width - MARGIN.right, top = MARGIN.top, bottom = height - MARGIN.bottom;
  const x = scaleOf(0, steps, left, right), y = scaleOf(low, high, bottom, top, logarithmic);

  context.lineWidth = 1;
  context.textAlign = "right";
  for (const value of ticksOf(low, high, logarithmic)) {
    segment(context, [left, y(value)], [right, y(value)], colors.line);
    context.fillText(short(value), left - 6, y(value));
  }
  context.fillText("step", right + 36, bottom + 13);
  context.textAlign = "center";
  for (const value of ticksOf(0, steps, false)) context.fillText(short(value), x(value), bottom + 13);
  context.textAlign = "start";
  context.fillText(unit, 4, 6);

  for (const step of marks) { // as small feet on the axis
    context.fillStyle = step === at ? colors.ink : colors.soft;
    context.fillRect(x(step) - 1, bottom, 2, step === at ? 6 : 4);
  }
  context.setLineDash([2, 3]);
  if (at !== null) segment(context, [x(at), top], [x(at), bottom], colors.ink);
  context.setLineDash([]);
  context.save();
  context.beginPath();
  context.rect(left, top - 6, right - left + 3, bottom - top + 8);
  context.clip();
  for (const line of lines) {
    const color = line.color ?? colors.ink; // black on white, white on black
    if (!line.dots) strokeLine(context, line.steps, line.values, x, y, { color, dash: [], width: 0.8 }, 0.35);
    strokeLine(context, line.steps, line.smooth, x, y, { ...line, color, width: line.width + 0.4 }, 1);
    if (line.dots) fillDots(context, line.steps, line.smooth, x, y, color);
  }
  context.restore();
  labelEnds(context, lines, x, y, [top + 2, bottom], colors);
}

function segment(context, from, to, color) {
  context.strokeStyle = color;
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
}

function fillDots(context, steps, values, x, y, color) {
  context.fillStyle = color;
  values.forEach((value, i) => {
    if (!Number.isFinite(value)) return;
    context.beginPath();
    context.arc(x(steps[i]), y(value), 2.6, 0, 2 * Math.PI);
    context.fill();
  });
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
  const ends = lines.map((line) => ({ name: line.name, color: line.color, step: last(line.steps), value: last(line.smooth.filter(Number.isFinite)) }))
    .filter((end) => Number.isFinite(end.value)).map((end) => ({ ...end, at: clamp(y(end.value), top, bottom) })).sort((a, b) => a.at - b.at);
  ends.forEach((end, i) => { end.place = Math.max(end.at, i ? ends[i - 1].place + 14 : top); });
  for (let i = ends.length - 1, limit = bottom; i >= 0; i -= 1, limit = ends[i + 1].place - 14) ends[i].place = Math.min(ends[i].place, limit);
  context.lineWidth = 1.2;
  context.fillStyle = colors.ink;
  for (const end of ends) {
    const start = x(end.step) + 4;
    segment(context, [start, end.at], [start + 10, end.place], end.color ?? colors.ink);
    context.fillText(end.name, start + 13, end.place);
  }
}

// ---------------------------------------------------------------- the viewer

function render({ model, el }) {
  const get = (name) => model.get(name);
  // An exported page has nobody who could pause: its stand-in for the model sends no messages.
  const live = typeof model.send === "function" && get("state") !== "recorded";
  let log, moments, stale = true, pictures = [], bitmaps = [], asked = "", playing = 0, tableKey = "";

  const index = () => (get("moment") < 0 ? moments.length - 1 : Math.min(get("moment"), moments.length - 1));
  const moment = () => moments[index()];
  function goTo(place) {
    const wanted = clamp(place, 0, moments.length - 1);
    put({ moment: wanted === moments.length - 1 ? -1 : wanted }); // at the end it follows the newest
  }

  // ---- elements, top to bottom
  const headline = make("strong", {});
  const bar = make("span", {});
  const progress = make("span", { class: "tv-progress", role: "progressbar", "aria-label": "Steps", "aria-valuemin": 0 }, bar);
  const pauseButton = make("button", { type: "button", onclick: () => ask(get("state") === "paused" ? "go on" : "pause") });
  const stopButton = make("button", { type: "button", onclick: () => ask("stop") }, "Stop and save");
  const select = (label, options, name) => {
    const node = make("select", { "aria-label": label, onchange: () => put({ [name]: node.value }) });
    fillOptions(node, options.map((option) => [option, option]), get(name));
    return node;
  };
  const part = select("Which losses", PARTS, "part");
  const logarithmic = make("input", { type: "checkbox", onchange: () => put({ log_scale: logarithmic.checked }) });
  const metric = select("Which AP", METRICS, "metric");
  const chart = () => make("canvas", { class: "tv-chart", role: "img", onclick: goToClick });
  const lossChart = chart(), apChart = chart();
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
  const help = keyboardHelp(
    [keycap("←"), keycap("→"), " on the slider or the picture: another checkpoint, ", keycap("Home"), keycap("End"), " first or last, ", keycap("Space"), " plays"],
    [keycap("L"), " logarithmic losses, ", keycap("N"), " next picture"],
    ["a click on a chart: the checkpoint nearest to it"]);
  const root = make("section", { class: "cascade-lab training-viewer", "aria-label": "Training viewer", onkeydown: onKey },
    make("div", { class: "tv-head" }, headline, progress, make("div", { class: "tv-controls" }, ...(live ? [pauseButton, stopButton] : []))),
    make("div", { class: "cl-body" },
      make("div", { class: "tv-left" },
        make("div", { class: "tv-title" }, make("h3", {}, "Losses"), part, make("label", {}, logarithmic, "logarithmic")), lossBox,
        make("div", { class: "tv-title" }, make("h3", {}, "At the checkpoints"), metric), apBox, caption, table),
      make("div", { class: "tv-right" }, pictureButtons, pictureBox, status,
        make("div", { class: "tv-transport" }, playButton, slider),
        make("div", { class: "cl-tools" }, make("label", {}, "score ≥ ", threshold, thresholdValue),
          make("span", { class: "tv-truth" }, swatch({ color: "#fff", dash: [] }), "ground truth")), help)), spoken);
  el.replaceChildren(root);
  const { put, schedule, stop } = follow(model, TRAITS, root, paint);

  // ---- what the kernel sends while it trains
  function receive() {
    if (!stale) return;
    stale = false;
    log = decodeLog(get("_log"));
    moments = get("_moments").map(decodeMoment);
    tableKey = "";
  }
  function receivePictures() {
    pictures = get("_pictures").map((raw) => ({ ...raw, targets: floats(raw.targets) }));
    bitmaps = pictures.map(() => null);
    pictures.forEach(async (shown, i) => { bitmaps[i] = await decodePicture(shown.picture); schedule(); });
    const buttons = pictures.map((shown, i) => make("button", { type: "button", onclick: () => put({ picture: i }) }, shown.name));
    pictureButtons.replaceChildren(...(buttons.length < 2 ? [] : buttons));
  }
  const renew = () => { stale = true; schedule(); };
  const heard = [
    ["change:_log", renew], ["change:_moments", renew], ["change:_pictures", () => { receivePictures(); schedule(); }],
    ["change:state", () => { asked = ""; }],
  ];
  heard.forEach(([event, call]) => model.on(event, call));

  // ---- what the reader does
  function ask(wish) {
    if (!allowed().includes(wish)) return;
    asked = wish;
    model.send({ wish });
    schedule();
  }
  const allowed = () => ALLOWED[get("state")] ?? [];

  function goToClick(event) {
    if (!moments.length) return;
    const area = event.target.getBoundingClientRect(), { left, right } = MARGIN;
    const step = ((event.clientX - area.left - left) / (area.width - left - right)) * log.total;
    const far = moments.map((one) => Math.abs(one.step - step));
    halt();
    goTo(far.indexOf(Math.min(...far)));
  }

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
    receive();
    const style = getComputedStyle(root), color = (name) => style.getPropertyValue(name).trim();
    const colors = { paper: style.backgroundColor, ink: style.color, soft: color("--soft"), line: color("--line") };
    paintHead();
    paintCharts(colors);
    paintPicture();
    paintControls();
    paintTable();
    root.dataset.painted = [get("state"), log.steps.length, moments.length, index(), get("picture"), two(get("threshold")), get("part"), get("log_scale"), get("metric"), playing ? 1 : 0].join(":");
  }

  function paintHead() {
    const state = get("state"), done = last(log.steps) ?? 0, running = state === "training";
    const said = asked ? `asked to ${asked}` : STATES[state] ?? state;
    const words = [said, done ? `step ${done} of ${log.total}` : running ? "it begins" : "", running && done ? `${clockText(log.left)} left` : ""];
    headline.textContent = words.filter(Boolean).join(" · ");
    progress.setAttribute("aria-valuemax", log.total);
    progress.setAttribute("aria-valuenow", done);
    bar.style.width = `${(100 * done) / Math.max(log.total, 1)}%`;
    pauseButton.textContent = state === "paused" ? "Go on" : "Pause and save";
    // Not disabled: that would take the focus away from a button that is pressed by keyboard.
    pauseButton.setAttribute("aria-disabled", !["pause", "go on"].some((wish) => allowed().includes(wish)));
    stopButton.setAttribute("aria-disabled", !allowed().includes("stop"));
    if (spoken.textContent !== said) spoken.textContent = said; // only the state is spoken, not every step
  }

  function paintCharts(colors) {
    const marks = moments.map((one) => one.step), at = moments.length ? moment().step : null;
    const losses = log.lines.filter((line) => line.part === get("part"));
    const common = { total: log.total, marks, at, colors };
    drawChart(lossChart, lossBox, { ...common, lines: losses, logarithmic: get("log_scale"), unit: LOSSES.includes(get("part")) ? "loss" : "" });
    const which = METRICS.indexOf(get("metric"));
    const curves = (moments[0]?.scores ?? []).map((score, place) => ({
      ...score, dots: true, steps: marks, smooth: moments.map((one) => one.scores[place].values[which] ?? NaN),
    }));
    drawChart(apChart, apBox, { ...common, lines: curves, logarithmic: false, unit: "%" });
    const ends = losses.map((line) => `${line.name} ${short(last(line.smooth))}`).join(", ");
    lossChart.setAttribute("aria-label", `${get("part")} over the steps${ends ? `, at the end ${ends}` : ": nothing yet"}`);
    const aps = curves.map((curve) => `${curve.name} ${percent(curve.smooth[index()])}`).join(", ");
    apChart.setAttribute("aria-label", `${get("metric")} at the checkpoints${aps ? `, at step ${at}: ${aps}` : ": none yet"}`);
  }

  function paintPicture() {
    const shown = pictures[get("picture")], seen = moment()?.found[get("picture")], bitmap = bitmaps[get("picture")];
    const { context, width, height, scale } = fitCanvas(canvas, pictureBox, shown?.size ?? [3, 4], 400);
    if (bitmap) context.drawImage(scaledPicture(shown, bitmap, canvas), 0, 0, width, height);
    else {
      context.fillStyle = "#2b2b2b";
      context.fillRect(0, 0, width, height);
      context.fillStyle = "#fff";
      context.fillText("the first checkpoint is still to come", 16, height / 2);
    }
    const objects = (shown?.targets.length ?? 0) / 4;
    const kept = (seen?.scores ?? []).flatMap((score, i) => (score >= get("threshold") ? [i] : [])); // the surest first
    if (bitmap && seen) {
      const boxOf = (i) => boxAt(seen.boxes, i, scale), colorOf = (i) => log.colors[seen.labels[i]] ?? "#fff", taken = [];
      strokeBoxes(context, Array.from({ length: objects }, (_, i) => boxAt(shown.targets, i, scale)), { color: "#fff", dash: [] }, 1.25);
      for (const i of [...kept].reverse()) strokeBoxes(context, [boxOf(i)], { color: colorOf(i), dash: [] }, 2.25);
      for (const i of kept.slice(0, MOST_TAGS)) {
        const text = `${log.classes[seen.labels[i]] ?? "object"} ${two(seen.scores[i])}`;
        const spot = labelSpot(context, text, boxOf(i), [width, height], taken);
        if (spot) tag(context, text, ...spot, colorOf(i));
      }
    }
    const step = moments.length ? `step ${moment().step}` : "no checkpoint yet";
    const found = seen ? `${kept.length} ${kept.length === 1 ? "box" : "boxes"}` : "", truth = shown ? `${objects} objects` : "";
    status.replaceChildren(make("strong", {}, step), make("span", {}, found), make("span", {}, truth));
    const told = [step, found].filter(Boolean).join(", ");
    canvas.setAttribute("aria-label", shown ? `${shown.name}, ${told}, ${truth}. Arrow keys choose a checkpoint.` : told);
    slider.setAttribute("aria-valuetext", told);
  }

  function paintControls() {
    const most = Math.max(moments.length - 1, 0), place = Math.max(index(), 0);
    slider.max = most;
    slider.value = place;
    slider.disabled = moments.length < 2;
    slider.style.setProperty("--filled", `${(100 * place) / Math.max(most, 1)}%`);
    playButton.textContent = playing ? "❚❚" : "▶";
    playButton.setAttribute("aria-label", playing ? "Halt" : "Play through the checkpoints");
    threshold.value = get("threshold");
    thresholdValue.textContent = two(get("threshold"));
    part.value = get("part");
    metric.value = get("metric");
    logarithmic.checked = get("log_scale");
    [...pictureButtons.children].forEach((button, i) => button.setAttribute("aria-pressed", i === get("picture")));
  }

  // Losses (running means) and AP of every stage at the chosen checkpoint.
  function paintTable() {
    if (tableKey === `at ${index()}`) return;
    tableKey = `at ${index()}`;
    if (!moments.length) {
      caption.textContent = "The table of the stages appears with the first checkpoint.";
      return table.replaceChildren();
    }
    const now = moment(), place = placeOf(log.steps, now.step);
    const loss = (name, of) => log.lines.find((line) => line.name === name && line.part === of)?.smooth[place];
    const head = (text, columns = 1) => make("th", { scope: columns > 1 ? "colgroup" : "col", colspan: columns }, text);
    const heads = [[head(""), head("loss", 3), head("AP in %", 4)], ["", "class", "box", "mask", ...METRICS.slice(0, 3), "mask"].map((text) => head(text))];
    const rows = now.scores.map((score) => make("tr", { "data-mode": score.mode },
      make("th", { scope: "row" }, swatch({ ...score, color: score.color ?? "#fff" }), score.name),
      ...["classification", "boxes", "masks"].map((of) => make("td", {}, score.mode.includes("~") ? "" : two(loss(score.name, of)))),
      ...score.values.map((value) => make("td", {}, percent(value)))));
    caption.textContent = `Step ${now.step}. AP on ${now.measured} validation pictures; losses as logged, that is, times the weight of their stage.`;
    table.replaceChildren(make("table", {}, make("thead", {}, ...heads.map((cells) => make("tr", {}, ...cells))), make("tbody", {}, ...rows)));
  }

  receive();
  receivePictures();
  schedule();
  return () => {
    halt();
    heard.forEach(([event, call]) => model.off(event, call));
    stop();
  };
}

export default { render };
