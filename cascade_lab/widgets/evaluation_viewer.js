// The evaluation viewer in the browser: one canvas for the chart, one for the pictures behind the chosen part of it.
// Every chart is a list of items (a bar, a cell, a strip over a point) with a place and words, and a way to draw it;
// clicking, arrow keys and the spoken label need no more than that list.

const CHARTS = [
  ["errors", "Kinds of error"], ["confusion", "Confusion"], ["precision", "Precision and recall"],
  ["iou", "AP and IoU"], ["pictures", "Pictures"],
];
const ERRORS = [
  ["wrong class", "on an object, under another name"], ["too loose", "the right class, at the wrong place"],
  ["both", "too loose, and not of that class"], ["duplicate", "a second box of a found object"],
  ["background", "on nothing"], ["missed", "objects that nothing is near"],
];
const RIGHT = 0, CLASSIFICATION = 1, LOCALISATION = 2, BOTH = 3, DUPLICATE = 4, MISSED = 6, IGNORED = 7; // Kind of errors.py
const LEFT_OUT = -2, NEIGHBOURS = 6, RECALLS = 101, IOUS = 10;
const GOOD = { color: "#009E73", dash: [] }, BAD = { color: "#D55E00", dash: [7, 3] }, LOST = { color: "#F0E442", dash: [2, 3] };
const OTHER = { color: "#DADADA", dash: [1, 3] }, TRUTH = { color: "#fff", dash: [] };
const EVALUATION_TRAITS = ["chart", "stages", "class_filter", "iou", "threshold", "item", "picture"];

// ---------------------------------------------------------------- numbers: no DOM below this line

function decodeEvaluation(raw) {
  const readings = raw.readings.map((one) => ({
    ...one,
    count: one.labels.byteLength / 4,
    boxes: floats(one.boxes), labels: integers(one.labels), scores: floats(one.scores), picture: integers(one.picture),
    matched: integers(one.matched), // (T, D): the object taken, -1 none, -2 neither right nor wrong
    kinds: integers(one.kinds), objects: integers(one.objects), ious: floats(one.ious), // (T, D)
    paired: integers(one.paired), // (D,)
    gains: floats(one.gains), // (T, 6, K + 1), the mean last
    precision: floats(one.precision), recallScores: floats(one.recall_scores), // (T, 101, K)
  }));
  return {
    ...raw, readings,
    objectBoxes: floats(raw.object_boxes), objectLabels: integers(raw.object_labels),
    objectPicture: integers(raw.object_picture), objectIgnored: integers(raw.object_ignored),
    bitmaps: raw.pictures.map(() => null), holders: raw.pictures.map(() => ({})),
  };
}

const at = (one, name, iou, row) => one[name][iou * one.count + row];
const matchedAt = (one, iou, row) => at(one, "matched", iou, row);
const range = (count) => Array.from({ length: count }, (_, i) => i);
const percent = (value) => (Number.isFinite(value) ? value.toFixed(1) : "–");
const nth = (iou) => `.${50 + 5 * iou}`;

// Precision at every recall: of one class, or the mean over the classes that have objects.
function precisionAt(view, one, iou, label) {
  const classes = view.classes.length, value = (r, k) => one.precision[(iou * RECALLS + r) * classes + k];
  const known = range(classes).filter((k) => Number.isFinite(value(0, k)) && (label === null || k === label));
  return range(RECALLS).map((r) => known.reduce((sum, k) => sum + value(r, k), 0) / known.length);
}

const apAt = (view, one, iou, label) => 100 * mean(precisionAt(view, one, iou, label));

// Objects that neither a right detection nor a repairable mistake of at least this score is about.
function missedObjects(view, one, iou, least) {
  const finding = range(one.count).filter((d) => at(one, "kinds", iou, d) <= LOCALISATION && one.scores[d] >= least);
  const met = new Set(finding.map((d) => at(one, "objects", iou, d)));
  return range(view.objectLabels.length).filter((m) => !view.objectIgnored[m] && !met.has(m));
}

function confusionCell(view, one, cell, least) {
  const classes = view.classes.length, said = cell % (classes + 1), truth = Math.floor(cell / (classes + 1));
  const counted = range(one.count).filter((d) => one.scores[d] >= least && one.paired[d] !== LEFT_OUT);
  if (said === classes) {
    const met = new Set(counted.map((d) => one.paired[d]));
    return [[], range(view.objectLabels.length).filter((m) => !met.has(m) && !view.objectIgnored[m] && view.objectLabels[m] === truth)];
  }
  const on = (d) => (one.paired[d] < 0 ? classes : view.objectLabels[one.paired[d]]);
  return [counted.filter((d) => on(d) === truth && one.labels[d] === said), []];
}

function confusionCounts(view, one, least) {
  const classes = view.classes.length, counts = new Array((classes + 1) ** 2).fill(0), met = new Set();
  for (let d = 0; d < one.count; d += 1) {
    if (one.scores[d] < least || one.paired[d] === LEFT_OUT) continue;
    met.add(one.paired[d]);
    counts[(one.paired[d] < 0 ? classes : view.objectLabels[one.paired[d]]) * (classes + 1) + one.labels[d]] += 1;
  }
  view.objectLabels.forEach((label, m) => { if (!met.has(m) && !view.objectIgnored[m]) counts[label * (classes + 1) + classes] += 1; });
  return counts;
}

// Right, wrong and missed of every picture, and its F1.
function pictureCounts(view, one, { iou, least }) {
  const counts = view.names.map(() => ({ right: 0, wrong: 0, objects: 0 }));
  view.objectPicture.forEach((p, m) => { if (!view.objectIgnored[m]) counts[p].objects += 1; });
  for (let d = 0; d < one.count; d += 1) {
    const match = matchedAt(one, iou, d);
    if (one.scores[d] >= least && match !== LEFT_OUT) counts[one.picture[d]][match >= 0 ? "right" : "wrong"] += 1;
  }
  return counts.map(({ right, wrong, objects }, picture) => {
    const missed = objects - right, total = right + (wrong + missed) / 2;
    return { picture, right, wrong, missed, score: total > 0 ? right / total : 1 };
  }).sort((a, b) => a.score - b.score || a.picture - b.picture);
}

function aroundPoint(view, one, { item, label, iou }) {
  const classes = view.classes.length, detections = [], objects = [];
  const met = new Set(range(one.count).map((d) => matchedAt(one, iou, d)).filter((m) => m >= 0));
  for (const k of label === null ? range(classes) : [label]) {
    const point = (iou * RECALLS + item) * classes + k;
    if (one.precision[point] > 0) {
      const rows = range(one.count).filter((d) => one.labels[d] === k && matchedAt(one, iou, d) !== LEFT_OUT && one.scores[d] >= one.recallScores[point]);
      detections.push(...rows.sort((a, b) => one.scores[b] - one.scores[a] || a - b).slice(-NEIGHBOURS));
    } else {
      objects.push(...range(view.objectLabels.length).filter((m) => view.objectLabels[m] === k && !view.objectIgnored[m] && !met.has(m)));
    }
  }
  return [detections, objects];
}

// The rows of the detections and objects behind an item; evaluation_cases.py says the same in Python.
function inQuestion(view, one, choice) {
  const { chart, item, label, iou, least } = choice;
  const mine = (d) => label === null || one.labels[d] === label;
  if (chart === "errors") {
    if (item + 1 === MISSED) return [[], missedObjects(view, one, iou, least).filter((m) => label === null || view.objectLabels[m] === label)];
    return [range(one.count).filter((d) => at(one, "kinds", iou, d) === item + 1 && one.scores[d] >= least && mine(d)), []];
  }
  if (chart === "confusion") return confusionCell(view, one, item, least);
  if (chart === "precision") return aroundPoint(view, one, choice);
  if (chart === "iou") {
    return [range(one.count).filter((d) => mine(d) && matchedAt(one, item, d) >= 0 && !(item + 1 < IOUS && matchedAt(one, item + 1, d) >= 0)), []];
  }
  const { picture } = pictureCounts(view, one, choice)[item];
  const seen = range(one.count).filter((d) => one.picture[d] === picture && one.scores[d] >= least && matchedAt(one, iou, d) !== LEFT_OUT);
  const met = new Set(seen.map((d) => matchedAt(one, iou, d)));
  return [seen, range(view.objectLabels.length).filter((m) => view.objectPicture[m] === picture && !view.objectIgnored[m] && !met.has(m))];
}

function casesOf(view, one, choice) {
  const [detections, objects] = inQuestion(view, one, choice), found = new Map();
  const of = (picture) => {
    if (!found.has(picture)) found.set(picture, { picture, detections: [], objects: [] });
    return found.get(picture);
  };
  if (choice.chart === "pictures") of(pictureCounts(view, one, choice)[choice.item].picture);
  for (const d of detections) of(one.picture[d]).detections.push(d);
  for (const m of objects) of(view.objectPicture[m]).objects.push(m);
  const size = (one) => one.detections.length + one.objects.length;
  return [...found.values()].sort((a, b) => size(b) - size(a) || a.picture - b.picture);
}

// The IoU that a chart speaks of.
const iouOf = ({ chart, item, iou }) => (chart === "iou" ? item : chart === "confusion" ? 0 : iou);
const isRight = (one, choice, d) => matchedAt(one, iouOf(choice), d) >= 0;

function detectionWords(view, one, choice, d) {
  const iou = iouOf(choice), kind = at(one, "kinds", iou, d), object = at(one, "objects", iou, d);
  const other = object < 0 ? "" : view.classes[view.objectLabels[object]], overlap = `IoU ${two(at(one, "ious", iou, d))}`;
  const why = kind === RIGHT ? overlap
    : kind === CLASSIFICATION ? `on ${other}, ${overlap}`
    : kind === LOCALISATION ? `too loose, ${overlap}`
    : kind === BOTH ? `too loose on ${other}, ${overlap}`
    : kind === DUPLICATE ? `found already, ${overlap}`
    : kind === IGNORED ? "in a crowd" : "on nothing";
  return `${kind === RIGHT ? "right" : kind === IGNORED ? "left out" : "wrong"}: ${view.classes[one.labels[d]]} ${two(one.scores[d])}, ${why}`;
}

// ---------------------------------------------------------------- charts: items with a place, and how to draw them

// Each chart gets (view, the reading shown, choice, { width, height }) and returns
// { items: [{ id, place: [x1, y1, x2, y2], words }], draw(context, look), plain: marks its own chosen item }.

const count = (number, what) => `${number} ${what}${number === 1 ? "" : what === "box" ? "es" : "s"}`;

function errorsChart(view, one, choice, { width, height }) {
  const classes = view.classes.length, top = 8, row = (height - top - 8) / ERRORS.length, left = 12, right = width - 64;
  const column = choice.label ?? classes, gains = range(ERRORS.length).map((e) => one.gains[(choice.iou * ERRORS.length + e) * (classes + 1) + column]);
  const most = Math.max(1, ...gains.filter(Number.isFinite));
  const items = ERRORS.map(([name, why], e) => {
    const [detections, objects] = inQuestion(view, one, { ...choice, item: e });
    const number = e + 1 === MISSED ? count(objects.length, "object") : count(detections.length, "box");
    const words = `${name}, ${why}: ${number}; repaired, AP${50 + 5 * choice.iou} changes by ${percent(gains[e])} points`;
    return { id: e, place: [0, top + e * row, width, top + (e + 1) * row], words, name, why, number };
  });
  const draw = (context, look) => items.forEach(({ id, place: [, y], name, why, number }) => {
    const length = (Math.max(gains[id] || 0, 0) / most) * (right - left), middle = y + row * 0.36;
    context.fillStyle = look.ink;
    context.font = look.bold;
    context.fillText(name, left, middle);
    const wide = context.measureText(name).width;
    context.font = look.plain;
    context.fillStyle = look.soft;
    if (width > 430) context.fillText(why, left + wide + 10, middle);
    context.textAlign = "right";
    context.fillText(number, width - 12, middle);
    context.textAlign = "left";
    context.fillStyle = look.bar;
    context.fillRect(left, y + row * 0.58, Math.max(length, 1.5), row * 0.24);
    context.fillStyle = look.ink;
    context.fillText(signed1(gains[id]), left + Math.max(length, 1.5) + 8, y + row * 0.7);
  });
  return { items, draw };
}

const signed1 = (value) => (Number.isFinite(value) ? (value < 0 ? "−" : "+") + Math.abs(value).toFixed(1) : "–");

function confusionChart(view, one, choice, { width, height }) {
  const side = view.classes.length + 1, left = Math.min(104, width * 0.25), top = 44, counts = confusionCounts(view, one, choice.least);
  const w = (width - left - 8) / side, h = (height - top - 8) / side, last = side - 1;
  const rows = [...view.classes, "background"], columns = [...view.classes, "missed"];
  const sums = range(side).map((r) => counts.slice(r * side, (r + 1) * side).reduce((a, b) => a + b, 0));
  const items = range(side * side).map((id) => {
    const r = Math.floor(id / side), c = id % side;
    const words = c === last ? `${counts[id]} of ${sums[r]} objects of class ${rows[r]} are missed`
      : r === last ? `${counts[id]} ${count(counts[id], "box").split(" ")[1]} called ${columns[c]} on background`
      : `${counts[id]} of ${sums[r]} objects of class ${rows[r]} are called ${columns[c]}`;
    return { id, place: [left + c * w, top + r * h, left + (c + 1) * w, top + (r + 1) * h], words, r, c };
  });
  items[items.length - 1].words = "background called background is not counted";
  const draw = (context, look) => {
    context.font = look.plain;
    context.fillStyle = look.soft;
    context.textAlign = "center";
    context.fillText("found as", left + (w * side) / 2, 12);
    context.fillStyle = look.ink;
    columns.forEach((name, c) => { if (w > 26) context.fillText(fit(context, name, w - 4), left + (c + 0.5) * w, 31); });
    context.textAlign = "right";
    rows.forEach((name, r) => { if (h > 12) context.fillText(fit(context, name, left - 10), left - 8, top + (r + 0.5) * h); });
    context.textAlign = "center";
    for (const { id, place: [x, y], r, c } of items) {
      const share = sums[r] ? counts[id] / sums[r] : 0, nobody = r === last && c === last;
      context.fillStyle = look.raised;
      context.fillRect(x + 1, y + 1, w - 2, h - 2);
      context.globalAlpha = counts[id] ? 0.18 + 0.82 * share : 0;
      context.fillStyle = r === c ? GOOD.color : "#E69F00";
      context.fillRect(x + 1, y + 1, w - 2, h - 2);
      context.globalAlpha = 1;
      context.fillStyle = counts[id] && share > 0.35 ? "#000" : counts[id] ? look.ink : look.soft;
      context.font = r === c ? look.bold : look.plain;
      if (w > 20 && h > 14) context.fillText(nobody ? "–" : counts[id], x + w / 2, y + h / 2);
    }
    context.textAlign = "left";
  };
  return { items, draw };
}

function fit(context, text, room) {
  let short = text;
  while (short.length > 2 && context.measureText(short).width > room) short = `${short.slice(0, -2)}…`;
  return short;
}

// A frame with both axes; x and y turn values into places.
function axes({ width, height }, [low, high], names, ticks) {
  const left = 58, top = 12, bottom = height - 40, right = width - 16;
  const x = (value) => left + ((value - low) / (high - low)) * (right - left), y = (value) => bottom - value * (bottom - top);
  const draw = (context, look) => {
    context.font = look.plain;
    context.fillStyle = look.soft;
    context.strokeStyle = look.line;
    context.lineWidth = 1;
    for (const value of [0, 0.25, 0.5, 0.75, 1]) {
      line(context, [[left, y(value)], [right, y(value)]]);
      context.textAlign = "right";
      context.fillText(names.tick(value), left - 6, y(value));
    }
    context.textAlign = "center";
    for (const value of ticks) context.fillText(value % 1 ? value.toFixed(2).replace(/^0/, "") : value, x(value), bottom + 12);
    context.fillText(names.x, (left + right) / 2, height - 10);
    context.save();
    context.translate(11, (top + bottom) / 2);
    context.rotate(-Math.PI / 2);
    context.fillText(names.y, 0, 0);
    context.restore();
    context.textAlign = "left";
  };
  return { x, y, top, bottom, left, right, draw };
}

function line(context, points) {
  context.beginPath();
  points.forEach(([x, y], i) => context[i ? "lineTo" : "moveTo"](x, y));
  context.stroke();
}

function drawReadings(context, look, view, one, points) {
  for (const reading of [...view.readings.filter((r) => r !== one), one]) {
    context.strokeStyle = reading.color || look.ink;
    context.lineWidth = reading === one ? 3.2 : 1.8;
    context.setLineDash(reading.dash);
    line(context, points(reading));
  }
  context.setLineDash([]);
}

function dot(context, look, x, y) {
  context.beginPath();
  context.arc(x, y, 6, 0, 2 * Math.PI);
  context.fillStyle = look.ink;
  context.fill();
  context.lineWidth = 2;
  context.strokeStyle = look.paper;
  context.stroke();
}

function precisionChart(view, one, choice, size) {
  const frame = axes(size, [0, 1], { x: "recall", y: "precision", tick: two }, [0, 0.2, 0.4, 0.6, 0.8, 1]);
  const curves = new Map(view.readings.map((reading) => [reading, precisionAt(view, reading, choice.iou, choice.label)]));
  const step = (frame.right - frame.left) / (RECALLS - 1);
  const items = curves.get(one).map((precision, id) => ({
    id, place: [frame.x(id / 100) - step / 2, frame.top, frame.x(id / 100) + step / 2, frame.bottom],
    words: precision > 0 ? `recall ${two(id / 100)}, precision ${two(precision)}` : `recall ${two(id / 100)} is never reached`,
  }));
  const draw = (context, look) => {
    frame.draw(context, look);
    drawReadings(context, look, view, one, (reading) => curves.get(reading).map((value, id) => [frame.x(id / 100), frame.y(value)]));
    dot(context, look, frame.x(choice.item / 100), frame.y(curves.get(one)[choice.item] || 0));
  };
  return { items, draw, plain: true };
}

function iouChart(view, one, choice, size) {
  const frame = axes(size, [0.48, 0.97], { x: "IoU asked of a match", y: "AP", tick: (v) => Math.round(100 * v) }, range(IOUS).map((t) => 0.5 + 0.05 * t));
  const curves = new Map(view.readings.map((reading) => [reading, range(IOUS).map((t) => apAt(view, reading, t, choice.label))]));
  const half = (frame.x(0.55) - frame.x(0.5)) / 2;
  const items = curves.get(one).map((ap, id) => ({
    id, place: [frame.x(0.5 + 0.05 * id) - half, frame.top, frame.x(0.5 + 0.05 * id) + half, frame.bottom],
    words: `AP at IoU ${nth(id)} is ${percent(ap)}`,
  }));
  const draw = (context, look) => {
    frame.draw(context, look);
    drawReadings(context, look, view, one, (reading) => curves.get(reading).map((ap, t) => [frame.x(0.5 + 0.05 * t), frame.y(ap / 100)]));
    dot(context, look, frame.x(0.5 + 0.05 * choice.item), frame.y(curves.get(one)[choice.item] / 100 || 0));
  };
  return { items, draw, plain: true };
}

function picturesChart(view, one, choice, size) {
  const counts = pictureCounts(view, one, choice);
  const frame = axes(size, [0, counts.length], { x: "pictures, the worst first", y: "F1", tick: two }, []);
  const items = counts.map(({ picture, right, wrong, missed, score }, id) => ({
    id, place: [frame.x(id), frame.top, frame.x(id + 1), frame.bottom], score,
    words: `${view.names[picture]}: F1 ${two(score)}, ${right} right, ${wrong} wrong, ${missed} missed`,
  }));
  const draw = (context, look) => {
    frame.draw(context, look);
    for (const { id, place: [x1, , x2], score } of items) {
      context.fillStyle = id === choice.item ? look.ink : look.bar;
      context.fillRect(x1 + 0.5, frame.y(score) - 2, Math.max(x2 - x1 - 1, 0.5), frame.bottom - frame.y(score) + 2);
    }
  };
  return { items, draw, plain: true };
}

const MAKERS = { errors: errorsChart, confusion: confusionChart, precision: precisionChart, iou: iouChart, pictures: picturesChart };

// ---------------------------------------------------------------- the viewer

function render({ model, el }) {
  const view = decodeEvaluation(model.get("_view"));
  const get = (name) => model.get(name);
  let chart = { items: [] }, cases = [], hovered = -1;

  const reading = () => view.readings.find((one) => one.mode === get("stages")) ?? view.readings.at(-1);
  const choice = () => ({
    chart: get("chart"), item: get("item"), iou: (get("iou") - 50) / 5, least: get("threshold"),
    label: get("class_filter") ? view.classes.indexOf(get("class_filter")) : null,
  });
  // Items and columns of the chosen chart, also when it is not painted yet: keys may come faster than frames.
  function extent() {
    const side = view.classes.length + 1, name = get("chart");
    const number = { errors: ERRORS.length, confusion: side * side, precision: RECALLS, iou: IOUS, pictures: view.names.length }[name];
    return { count: number, columns: name === "errors" ? 1 : name === "confusion" ? side : number };
  }
  const current = () => cases[clamp(get("picture"), 0, Math.max(cases.length - 1, 0))];

  // ---- elements
  const canvas = make("canvas", { class: "cl-canvas", tabindex: 0, role: "application" });
  const chartBox = make("div", { class: "ev-chart" }, canvas);
  const photo = make("canvas", { class: "cl-canvas ev-photo", tabindex: 0, role: "application" });
  const photoBox = make("div", { class: "cl-picture" }, photo);
  const tabs = make("div", { class: "ev-tabs", role: "group", "aria-label": "Chart" }, ...CHARTS.map(([name, text]) =>
    make("button", { type: "button", "data-chart": name, onclick: () => toChart(name) }, text)));
  const legend = make("div", { class: "ev-legend" });
  const dropdown = (label, name, options, read = (value) => value) => {
    const select = make("select", { "aria-label": label, onchange: () => put({ [name]: read(select.value), picture: 0 }) });
    fillOptions(select, options, get(name));
    return select;
  };
  const stages = dropdown("Stages", "stages", view.readings.map((one) => [one.mode, one.name]));
  const classes = dropdown("Class", "class_filter", [["", "all"], ...view.classes.map((name) => [name, name])]);
  const iou = dropdown("IoU", "iou", range(IOUS).map((t) => [50 + 5 * t, nth(t)]), Number);
  const threshold = make("input", {
    type: "range", min: 0, max: 1, step: 0.01, class: "ev-threshold", "aria-label": "Least score",
    oninput: () => put({ threshold: Number(threshold.value), picture: 0 }),
  });
  const thresholdValue = make("output", {});
  const label = (text, ...more) => make("label", { class: "ev-option" }, text, ...more);
  const options = { class_filter: label("class ", classes), iou: label("IoU ", iou), threshold: make("label", { class: "ev-least" }, "score ≥ ", threshold, thresholdValue) };
  const headline = make("p", { class: "cl-headline", "aria-live": "polite" });
  const place = make("strong", {});
  const list = make("ul", { class: "ev-list", "aria-label": "Boxes in question" });
  const arrow = (text, words, step) => make("button", { type: "button", "aria-label": words, onclick: () => walk(step) }, text);
  const key = (name) => make("kbd", {}, name);
  const help = make("details", { class: "cl-help" }, make("summary", {}, "Keyboard"), make("ul", {},
    make("li", {}, key("Tab"), " goes from control to control; ", key("1"), " … ", key("5"), " choose a chart"),
    make("li", {}, key("←"), key("→"), key("↑"), key("↓"), key("Home"), key("End"), " on the chart choose a bar, a cell or a point; ", key("Enter"), " goes to its pictures"),
    make("li", {}, key("N"), key("P"), " or ", key("←"), key("→"), " on the picture: next or previous picture; ", key("Esc"), " goes back to the chart")));
  const source = make("div", { class: "cl-source" }, view.source);
  const root = make("section", { class: "cascade-lab evaluation-viewer", "aria-label": "Evaluation viewer", onkeydown: onKey },
    make("div", { class: "cl-head" }, tabs, source),
    make("div", { class: "cl-body" },
      make("div", {}, chartBox, legend,
        make("div", { class: "cl-tools" }, label("read from ", stages), options.class_filter, options.iou, options.threshold), help),
      make("div", { class: "ev-panel" }, headline, photoBox,
        make("div", { class: "ev-walk" }, arrow("‹", "Previous picture", -1), place, arrow("›", "Next picture", 1)), list)));
  el.replaceChildren(root);
  const { put, schedule, stop } = follow(model, EVALUATION_TRAITS, root, paint);
  const dark = matchMedia("(prefers-color-scheme: dark)"), theme = new MutationObserver(schedule);
  dark.addEventListener("change", schedule);
  theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });

  // ---- choosing
  const toChart = (name) => { if (name !== get("chart")) put({ chart: name, item: 0, picture: 0 }); };
  const choose = (item) => put({ item: clamp(item, 0, extent().count - 1), picture: 0 });
  function walk(step) {
    if (cases.length) put({ picture: (clamp(get("picture"), 0, cases.length - 1) + step + cases.length) % cases.length });
  }

  function itemUnder(event) {
    const area = canvas.getBoundingClientRect(), x = event.clientX - area.left, y = event.clientY - area.top;
    return chart.items.find(({ place: [x1, y1, x2, y2] }) => x >= x1 && x < x2 && y >= y1 && y < y2)?.id ?? -1;
  }

  canvas.addEventListener("click", (event) => { if (itemUnder(event) >= 0) choose(itemUnder(event)); });
  canvas.addEventListener("pointermove", (event) => setHovered(itemUnder(event)));
  canvas.addEventListener("pointerleave", () => setHovered(-1));
  function setHovered(item) {
    if (item === hovered) return;
    hovered = item;
    canvas.title = item < 0 ? "" : chart.items[item].words;
    schedule();
  }

  // ---- keyboard
  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    const onChart = event.target === canvas, onPhoto = event.target === photo, at = get("item"), { count: items, columns } = extent(), last = items - 1;
    const digit = event.key.length === 1 ? "12345".indexOf(event.key) : -1;
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, PageUp: -10, PageDown: 10 };
    const act =
      digit >= 0 ? () => toChart(CHARTS[digit][0])
      : event.key === "n" || event.key === "N" || (onPhoto && event.key === "ArrowRight") ? () => walk(1)
      : event.key === "p" || event.key === "P" || (onPhoto && event.key === "ArrowLeft") ? () => walk(-1)
      : onPhoto && event.key === "Escape" ? () => canvas.focus()
      : !onChart ? null
      : event.key === "Enter" || event.key === " " ? () => photo.focus()
      : event.key === "Home" ? () => choose(0)
      : event.key === "End" ? () => choose(last)
      : event.key in moves ? () => { const next = at + moves[event.key]; if ((next >= 0 && next <= last) || event.key.startsWith("Page")) choose(next); } : null;
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  // ---- painting
  function look() {
    const style = getComputedStyle(root), read = (name) => style.getPropertyValue(name).trim();
    return {
      ink: read("--ink"), soft: read("--soft"), line: read("--line"), paper: read("--paper"), raised: read("--raised"),
      bar: "#56B4E9", plain: "12px system-ui, sans-serif", bold: "600 12px system-ui, sans-serif",
    };
  }

  function paint() {
    const now = choice(), one = reading();
    cases = casesOf(view, one, now);
    paintChart(one, now);
    paintPhoto(one, now);
    paintControls(one, now);
    root.dataset.painted = [...EVALUATION_TRAITS.map(get), cases.length].join(":"); // what is shown now, for tests
  }

  function paintChart(one, now) {
    const { context, width, height } = fitCanvas(canvas, chartBox, [270, 420], 470), colours = look();
    chart = MAKERS[now.chart](view, one, now, { width, height });
    context.fillStyle = colours.paper;
    context.fillRect(0, 0, width, height);
    for (const [item, style, alpha] of [[hovered, colours.soft, 0.12], [chart.plain ? -1 : get("item"), colours.soft, 0.16]]) {
      if (!chart.items[item] || now.chart === "confusion") continue;
      const [x1, y1, x2, y2] = chart.items[item].place;
      context.globalAlpha = alpha;
      context.fillStyle = style;
      context.fillRect(x1, y1, x2 - x1, y2 - y1);
      context.globalAlpha = 1;
    }
    chart.draw(context, colours);
    const chosen = chart.items[get("item")];
    if (chosen && !chart.plain) {
      const [x1, y1, x2, y2] = chosen.place;
      context.strokeStyle = colours.ink;
      context.lineWidth = 2;
      context.strokeRect(x1 + 2, y1 + 2, x2 - x1 - 4, y2 - y1 - 4);
    }
    const title = CHARTS.find(([name]) => name === now.chart)[1];
    canvas.setAttribute("aria-label", `${title}, ${one.name}. ${chosen?.words ?? ""}. Arrow keys choose, Enter goes to the pictures.`);
  }

  function paintPhoto(one, now) {
    const shown = current();
    photo.style.visibility = shown ? "visible" : "hidden";
    if (!shown) return photo.setAttribute("aria-label", "No picture");
    const { picture } = shown, bitmap = view.bitmaps[picture];
    const { context, width, height, scale } = fitCanvas(photo, photoBox, view.sizes[picture], 404);
    context.fillStyle = "#888";
    context.fillRect(0, 0, width, height);
    if (bitmap) context.drawImage(scaledPicture(view.holders[picture], bitmap, photo), 0, 0, width, height);
    else if (!view.holders[picture].asked) {
      view.holders[picture].asked = true;
      decodePicture(view.pictures[picture]).then((decoded) => { view.bitmaps[picture] = decoded; schedule(); });
    }
    const box = (boxes, row) => [...boxes.subarray(row * 4, row * 4 + 4)].map((value) => value * scale);
    const objects = range(view.objectLabels.length).filter((m) => view.objectPicture[m] === picture && !shown.objects.includes(m));
    const others = range(one.count).filter((d) => one.picture[d] === picture && one.scores[d] >= now.least && !shown.detections.includes(d));
    strokeBoxes(context, objects.map((m) => box(view.objectBoxes, m)), TRUTH, 1.25);
    strokeBoxes(context, others.map((d) => box(one.boxes, d)), OTHER, 1.25, 0.8);
    const marks = [
      ...shown.objects.map((m) => ({ corners: box(view.objectBoxes, m), style: LOST, text: `missed ${view.classes[view.objectLabels[m]]}` })),
      ...shown.detections.map((d) => ({ corners: box(one.boxes, d), style: isRight(one, now, d) ? GOOD : BAD, text: `${view.classes[one.labels[d]]} ${two(one.scores[d])}` })),
    ];
    marks.forEach(({ corners, style }) => strokeBoxes(context, [corners], style, 2.5));
    const taken = [];
    for (const { corners, style, text } of marks) {
      const spot = labelSpot(context, text, corners, [width, height], taken);
      if (spot) tag(context, text, ...spot, style.color);
    }
    photo.setAttribute("aria-label", `${view.names[picture]}, ${cases.indexOf(shown) + 1} of ${count(cases.length, "picture")}: ` +
      `${count(marks.length, "box")} in question. Arrow keys left and right change the picture.`);
  }

  function paintControls(one, now) {
    for (const button of tabs.children) button.setAttribute("aria-pressed", button.dataset.chart === now.chart);
    const curves = ["precision", "iou"].includes(now.chart);
    options.class_filter.hidden = ["confusion", "pictures"].includes(now.chart);
    options.iou.hidden = ["confusion", "iou"].includes(now.chart);
    options.threshold.hidden = curves;
    [[stages, "stages"], [classes, "class_filter"], [iou, "iou"], [threshold, "threshold"]].forEach(([control, name]) => { control.value = get(name); });
    thresholdValue.textContent = two(now.least);
    paintLegend(one, now, curves);
    const shown = current(), boxes = cases.reduce((sum, one) => sum + one.detections.length + one.objects.length, 0);
    const words = chart.items[now.item]?.words ?? "";
    headline.textContent = `${words[0]?.toUpperCase() ?? ""}${words.slice(1)}.`;
    place.textContent = shown ? `${view.names[shown.picture]}, ${cases.indexOf(shown) + 1} of ${count(cases.length, "picture")}` : "No picture to show";
    list.replaceChildren(...(shown ? [
      ...shown.objects.map((m) => entry(LOST, `missed: ${view.classes[view.objectLabels[m]]}`)),
      ...shown.detections.map((d) => entry(isRight(one, now, d) ? GOOD : BAD, detectionWords(view, one, now, d))),
    ] : []));
    root.dataset.boxes = boxes;
  }

  const entry = (style, words) => make("li", {}, swatch(style), make("span", {}, words));

  function paintLegend(one, now, curves) {
    if (curves) {
      legend.replaceChildren(...view.readings.map((reading) => {
        const ap = now.chart === "precision" ? apAt(view, reading, now.iou, now.label) : mean(range(IOUS).map((t) => apAt(view, reading, t, now.label)));
        const style = { color: reading.color || "#fff", dash: reading.dash };
        return make("span", { class: reading === one ? "ev-now" : "" }, swatch(style), `${reading.name}: AP${now.chart === "precision" ? 50 + 5 * now.iou : ""} ${percent(ap)}`);
      }));
      return;
    }
    const text = {
      errors: `Bars: points of AP${50 + 5 * now.iou} to be won if nothing of this kind were left. All scores count for the bars; the numbers on the right count from the least score on.`,
      confusion: "Shade: share of the row. The surest box on an object, by IoU .5 or more, says what it is taken for; further boxes on it are not counted.",
      pictures: `F1 at IoU ${nth(now.iou)}: right boxes over right boxes plus half of the wrong and half of the missed.`,
    }[now.chart];
    legend.replaceChildren(make("span", {}, text));
  }

  schedule();
  return () => {
    stop();
    theme.disconnect();
    dark.removeEventListener("change", schedule);
  };
}

export default { render };
