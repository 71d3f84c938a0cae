// The evaluation viewer in the browser: one canvas for the chart, one for the pictures behind the chosen part of it.
// Every chart is a list of items (a bar, a cell, a strip over a point) with a place and words, and a way to draw it;
// clicking, arrow keys and the spoken label need no more than that list.

// Of each chart: what it asks, which controls it heeds, its items as rows and columns for the arrow keys, a footnote
// (none: the readings are listed there), and the function that lays it out.
const CHARTS = {
  errors: {
    title: "Kinds of error", controls: ["class_filter", "iou", "threshold"], layOut: errorsChart,
    grid: (view) => [view.errors.length, 1],
    lead: ({ iou }) => `By how much would ${apName(iou)} rise if nothing of one kind went wrong? ` +
      "Click a bar to see its pictures.",
    note: ({ least }) => "Bars count boxes of every score; " +
      `the numbers at the right count those that score ${two(least)} or more.`,
  },
  confusion: {
    title: "Confusion", controls: ["threshold"], layOut: confusionChart,
    grid: (view) => [view.classes.length + 1, view.classes.length + 1],
    lead: () => "Which class is taken for which? Click a cell to see its pictures.",
    note: () => "The stronger the colour, the larger the share of the row. The surest box that overlaps an object " +
      "by IoU .50 or more speaks for it; further boxes on it are not counted.",
  },
  precision: {
    title: "Precision and recall", controls: ["class_filter", "iou"], layOut: precisionChart,
    grid: () => [1, RECALLS],
    lead: ({ iou }) => "Taking the surest boxes first: which share of them is right (precision) once this share of " +
      `the objects is found (recall)? The area under a line is its ${apName(iou)}. Click a recall to see its boxes.`,
  },
  iou: {
    title: "AP and IoU", controls: ["class_filter"], layOut: iouChart,
    grid: () => [1, IOUS],
    lead: () => "What is left of AP if a right box must overlap its object more? " +
      "Click an IoU to see which boxes the next one refuses.",
  },
  pictures: {
    title: "Pictures", controls: ["iou", "threshold"], layOut: picturesChart,
    grid: (view) => [1, view.names.length],
    lead: () => "How well does the detector do on each picture? Click a bar to see it.",
    note: ({ iou }) => `F1 at IoU ${nth(iou)}: right boxes over right boxes plus half of the wrong and half of the ` +
      "missed; 1.00 is perfect.",
  },
};
const RIGHT = 0, CLASSIFICATION = 1, LOCALISATION = 2, BOTH = 3, DUPLICATE = 4, MISSED = 6; // Kind; bar e is kind e + 1
const LEFT_OUT = -2, RECALLS = 101, IOUS = 10;
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
const detectionsWhere = (one, test) => range(one.count).filter(test);
const objectsWhere = (view, test) => range(view.objectLabels.length).filter((m) => !view.objectIgnored[m] && test(m));
const nth = (iou) => `.${50 + 5 * iou}`;
const apName = (iou) => `AP${50 + 5 * iou}`;
const count = (number, what) => `${number} ${what}${number === 1 ? "" : what === "box" ? "es" : "s"}`;

// Change of a score in points.
function gain(value) {
  if (!Number.isFinite(value)) return "–";
  const text = Math.abs(value).toFixed(1);
  return text === "0.0" ? "0.0" : (value < 0 ? "−" : "+") + text;
}

// Precision at a recall; NaN for a class without objects, 0 where the recall is never reached.
const precisionAt = (view, one, iou, recall, k) => one.precision[(iou * RECALLS + recall) * view.classes.length + k];
const labelsOf = (view, label) => (label === null ? range(view.classes.length) : [label]);

// Precision at every recall: of one class, or the mean over the classes that have objects. Loops, for 80 classes.
function curveOf(view, one, iou, label) {
  const labels = labelsOf(view, label).filter((k) => Number.isFinite(precisionAt(view, one, iou, 0, k)));
  return range(RECALLS).map((recall) => {
    let sum = 0;
    for (const k of labels) sum += precisionAt(view, one, iou, recall, k);
    return sum / labels.length;
  });
}

const apAt = (view, one, iou, label) => 100 * mean(curveOf(view, one, iou, label));

// Objects that neither a right detection nor a repairable mistake of at least this score is about.
function missedObjects(view, one, iou, least) {
  const finding = detectionsWhere(one, (d) => at(one, "kinds", iou, d) <= LOCALISATION && one.scores[d] >= least);
  const met = new Set(finding.map((d) => at(one, "objects", iou, d)));
  return objectsWhere(view, (m) => !met.has(m));
}

// The row of the confusion matrix: the class of the object that a detection is on; background stands last.
const rowOf = (view, one, d) => (one.paired[d] < 0 ? view.classes.length : view.objectLabels[one.paired[d]]);

function confusionCell(view, one, cell, least) {
  const classes = view.classes.length, said = cell % (classes + 1), truth = Math.floor(cell / (classes + 1));
  const counted = detectionsWhere(one, (d) => one.scores[d] >= least && one.paired[d] !== LEFT_OUT);
  if (said === classes) {
    const met = new Set(counted.map((d) => one.paired[d]));
    return [[], objectsWhere(view, (m) => !met.has(m) && view.objectLabels[m] === truth)];
  }
  return [counted.filter((d) => rowOf(view, one, d) === truth && one.labels[d] === said), []];
}

function confusionCounts(view, one, least) {
  const classes = view.classes.length, counts = new Array((classes + 1) ** 2).fill(0), met = new Set();
  for (let d = 0; d < one.count; d += 1) {
    if (one.scores[d] < least || one.paired[d] === LEFT_OUT) continue;
    met.add(one.paired[d]);
    counts[rowOf(view, one, d) * (classes + 1) + one.labels[d]] += 1;
  }
  for (const m of objectsWhere(view, (m) => !met.has(m))) counts[view.objectLabels[m] * (classes + 1) + classes] += 1;
  return counts;
}

// Right, wrong and missed of every picture, and its F1.
function pictureCounts(view, one, { iou, least }) {
  const counts = view.names.map(() => ({ right: 0, wrong: 0, objects: 0 }));
  for (const m of objectsWhere(view, () => true)) counts[view.objectPicture[m]].objects += 1;
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
  const detections = [], objects = [];
  const met = new Set(range(one.count).map((d) => matchedAt(one, iou, d)).filter((m) => m >= 0));
  for (const k of labelsOf(view, label)) {
    if (precisionAt(view, one, iou, item, k) > 0) {
      const least = one.recallScores[(iou * RECALLS + item) * view.classes.length + k];
      const counted = (d) => one.scores[d] >= least && matchedAt(one, iou, d) !== LEFT_OUT;
      const rows = detectionsWhere(one, (d) => one.labels[d] === k && counted(d));
      detections.push(...rows.sort((a, b) => one.scores[b] - one.scores[a] || a - b).slice(-view.neighbours));
    } else {
      objects.push(...objectsWhere(view, (m) => view.objectLabels[m] === k && !met.has(m)));
    }
  }
  return [detections, objects];
}

// The rows of the detections and objects behind an item; evaluation_cases.py says the same in Python.
function inQuestion(view, one, choice) {
  const { chart, item, label, iou, least } = choice;
  const asked = (its) => label === null || its === label, mine = (d) => asked(one.labels[d]);
  if (chart === "errors" && item + 1 === MISSED) {
    return [[], missedObjects(view, one, iou, least).filter((m) => asked(view.objectLabels[m]))];
  }
  if (chart === "errors") {
    const ofKind = (d) => at(one, "kinds", iou, d) === item + 1;
    return [detectionsWhere(one, (d) => ofKind(d) && one.scores[d] >= least && mine(d)), []];
  }
  if (chart === "confusion") return confusionCell(view, one, item, least);
  if (chart === "precision") return aroundPoint(view, one, choice);
  if (chart === "iou") {
    const rightAt = (t, d) => t < IOUS && matchedAt(one, t, d) >= 0;
    return [detectionsWhere(one, (d) => mine(d) && rightAt(item, d) && !rightAt(item + 1, d)), []];
  }
  const { picture } = pictureCounts(view, one, choice)[item];
  const counted = (d) => one.scores[d] >= least && matchedAt(one, iou, d) !== LEFT_OUT;
  const seen = detectionsWhere(one, (d) => one.picture[d] === picture && counted(d));
  const met = new Set(seen.map((d) => matchedAt(one, iou, d)));
  return [seen, objectsWhere(view, (m) => view.objectPicture[m] === picture && !met.has(m))];
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

// A detection in words; crowds, which are neither right nor wrong, are never in question.
function detectionWords(view, one, choice, d) {
  const iou = iouOf(choice), kind = at(one, "kinds", iou, d), object = at(one, "objects", iou, d);
  const other = object < 0 ? "" : view.classes[view.objectLabels[object]], overlap = `IoU ${two(at(one, "ious", iou, d))}`;
  const why = kind === RIGHT ? overlap
    : kind === CLASSIFICATION ? `on ${other}, ${overlap}`
    : kind === LOCALISATION ? `too loose, ${overlap}`
    : kind === BOTH ? `too loose on ${other}, ${overlap}`
    : kind === DUPLICATE ? `found already, ${overlap}`
    : "on nothing";
  return `${kind === RIGHT ? "right" : "wrong"}: ${view.classes[one.labels[d]]} ${two(one.scores[d])}, ${why}`;
}

// A missed object, and the box of its class that comes closest, whatever its score: it often tells why.
function missedWords(view, one, m) {
  const name = view.classes[view.objectLabels[m]], object = cornersOf(view.objectBoxes, m);
  let closest = -1, most = 0;
  for (let d = 0; d < one.count; d += 1) {
    if (one.picture[d] !== view.objectPicture[m] || one.labels[d] !== view.objectLabels[m]) continue;
    const overlap = iou(object, cornersOf(one.boxes, d));
    if (overlap > most) [closest, most] = [d, overlap];
  }
  if (closest < 0) return `missed: ${name}, no ${name} box touches it`;
  return `missed: ${name}, closest box scores ${two(one.scores[closest])}, IoU ${two(most)}`;
}

// What is in question in a picture: corners, style, the tag on the picture and the line below it, numbered alike.
function marksOf(view, one, choice, { objects, detections }) {
  const marks = [
    ...objects.map((m) => ({
      box: cornersOf(view.objectBoxes, m), style: view.styles.missed,
      tag: `missed ${view.classes[view.objectLabels[m]]}`, words: missedWords(view, one, m),
    })),
    ...detections.map((d) => ({
      box: cornersOf(one.boxes, d), style: isRight(one, choice, d) ? view.styles.right : view.styles.wrong,
      tag: `${view.classes[one.labels[d]]} ${two(one.scores[d])}`, words: detectionWords(view, one, choice, d),
    })),
  ];
  if (marks.length === 1) return marks;
  return marks.map((mark, i) => ({ ...mark, tag: `${i + 1} · ${mark.tag}`, words: `${i + 1} · ${mark.words}` }));
}

// ---------------------------------------------------------------- charts: items with a place, and how to draw them

// Each chart gets (view, the reading shown, choice, { width, height }) and returns
// { items: [{ place: [x1, y1, x2, y2], words }], draw(context, look), plain: marks its own chosen item }.

function errorsChart(view, one, choice, { width, height }) {
  const columns = view.classes.length + 1, column = choice.label ?? columns - 1; // the mean stands last
  const top = 8, row = (height - top - 8) / view.errors.length, left = 12, right = width - 64;
  const gains = view.errors.map((_, e) => one.gains[(choice.iou * view.errors.length + e) * columns + column]);
  const most = Math.max(1, ...gains.filter(Number.isFinite));
  const items = view.errors.map(([name, why], e) => {
    const [detections, objects] = inQuestion(view, one, { ...choice, item: e });
    const number = e + 1 === MISSED ? count(objects.length, "object") : count(detections.length, "box");
    const words = `${name}, ${why}: ${number}. Without them ${apName(choice.iou)} would change by ${gain(gains[e])} points`;
    return { place: [0, top + e * row, width, top + (e + 1) * row], words, name, why, number };
  });
  const draw = (context, look) => items.forEach(({ place: [, y], name, why, number }, e) => {
    const length = Math.max((Math.max(gains[e] || 0, 0) / most) * (right - left), 1.5), middle = y + row * 0.36;
    context.fillStyle = look.ink;
    context.font = look.bold;
    context.fillText(name, left, middle);
    const wide = context.measureText(name).width;
    context.font = look.plain;
    context.fillStyle = look.soft;
    context.fillText(fit(context, why, width - left - wide - 100), left + wide + 10, middle);
    context.textAlign = "right";
    context.fillText(number, width - 12, middle);
    context.textAlign = "left";
    context.fillStyle = view.bar_color;
    context.fillRect(left, y + row * 0.58, length, row * 0.24);
    context.fillStyle = look.ink;
    context.fillText(gain(gains[e]), left + length + 8, y + row * 0.7);
  });
  return { items, draw };
}

function confusionChart(view, one, choice, { width, height }) {
  const rows = [...view.classes, "background"], columns = [...view.classes, "missed"], side = rows.length, last = side - 1;
  const left = Math.min(28 + 7 * Math.max(...rows.map((name) => name.length)), width * 0.3), top = 44;
  const w = (width - left - 4) / side, h = (height - top - 4) / side, counts = confusionCounts(view, one, choice.least);
  const sums = rows.map((_, r) => counts.slice(r * side, (r + 1) * side).reduce((a, b) => a + b, 0));
  const items = counts.map((number, id) => {
    const r = Math.floor(id / side), c = id % side;
    const amount = r < last ? `${number} of ${count(sums[r], "object")}` : c < last ? count(number, "box") : "not counted";
    const words = `${rows[r]} ${c < last ? `found as ${columns[c]}` : r < last ? "missed" : "found as background"}: ${amount}`;
    return { place: [left + c * w, top + r * h, left + (c + 1) * w, top + (r + 1) * h], words, number, r, c };
  });
  const draw = (context, look) => {
    context.font = look.plain;
    context.fillStyle = look.soft;
    context.textAlign = "center";
    context.fillText("found as", left + (w * side) / 2, 12);
    sideways(context, "true class", 10, top + (h * side) / 2);
    context.fillStyle = look.ink;
    if (w < 60) context.font = look.small;
    columns.forEach((name, c) => { if (w > 26) context.fillText(fit(context, name, w - 2), left + (c + 0.5) * w, 31); });
    context.font = look.plain;
    context.textAlign = "right";
    rows.forEach((name, r) => { if (h > 12) context.fillText(fit(context, name, left - 26), left - 6, top + (r + 0.5) * h); });
    context.textAlign = "center";
    for (const { place: [x, y], number, r, c } of items) {
      const share = number / sums[r];
      context.fillStyle = look.raised;
      context.fillRect(x + 1, y + 1, w - 2, h - 2);
      context.globalAlpha = number ? 0.18 + 0.82 * share : 0;
      context.fillStyle = r === c ? view.styles.right.color : view.confused_color;
      context.fillRect(x + 1, y + 1, w - 2, h - 2);
      context.globalAlpha = 1;
      context.fillStyle = !number ? look.soft : share > 0.35 ? "#000" : look.ink;
      context.font = r === c ? look.bold : look.plain;
      if (w > 20 && h > 14) context.fillText(r === last && c === last ? "–" : number, x + w / 2, y + h / 2);
    }
    context.textAlign = "left";
  };
  return { items, draw };
}

function sideways(context, text, x, y) {
  context.save();
  context.translate(x, y);
  context.rotate(-Math.PI / 2);
  context.fillText(text, 0, 0);
  context.restore();
}

// A text that is cut to the room there is; of less than two letters nothing is left.
function fit(context, text, room) {
  let short = text;
  while (short.length > 2 && context.measureText(short).width > room) short = `${short.slice(0, -2)}…`;
  return context.measureText(short).width > room ? "" : short;
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
    sideways(context, names.y, 11, (top + bottom) / 2);
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
  const curves = new Map(view.readings.map((reading) => [reading, curveOf(view, reading, choice.iou, choice.label)]));
  const step = (frame.right - frame.left) / (RECALLS - 1);
  const items = curves.get(one).map((precision, id) => {
    const recall = `recall ${two(id / 100)}`, x = frame.x(id / 100);
    const all = labelsOf(view, choice.label).every((k) => precisionAt(view, one, choice.iou, id, k) !== 0);
    const shown = all ? "the last boxes of each class on the way there"
      : "the last boxes of each class that gets there, and what the others miss";
    const words = precision > 0 ? `${recall}, precision ${two(precision)}: ${shown}`
      : `${recall} is never reached: these objects are missed`;
    return { place: [x - step / 2, frame.top, x + step / 2, frame.bottom], words };
  });
  const draw = (context, look) => {
    frame.draw(context, look);
    const points = (reading) => curves.get(reading).map((value, id) => [frame.x(id / 100), frame.y(value)]);
    drawReadings(context, look, view, one, points);
    dot(context, look, frame.x(choice.item / 100), frame.y(curves.get(one)[choice.item] || 0));
  };
  return { items, draw, plain: true };
}

function iouChart(view, one, choice, size) {
  const names = { x: "IoU asked of a match", y: "AP", tick: (value) => Math.round(100 * value) };
  const frame = axes(size, [0.48, 0.97], names, range(IOUS).map((t) => 0.5 + 0.05 * t));
  const apsOf = (reading) => range(IOUS).map((t) => apAt(view, reading, t, choice.label));
  const curves = new Map(view.readings.map((reading) => [reading, apsOf(reading)]));
  const half = (frame.x(0.55) - frame.x(0.5)) / 2;
  const items = curves.get(one).map((ap, id) => ({
    place: [frame.x(0.5 + 0.05 * id) - half, frame.top, frame.x(0.5 + 0.05 * id) + half, frame.bottom],
    words: `AP at IoU ${nth(id)} is ${percent(ap)}: boxes that are right ` +
      (id + 1 < IOUS ? `here and no longer at ${nth(id + 1)}` : "even here"),
  }));
  const draw = (context, look) => {
    frame.draw(context, look);
    const points = (reading) => curves.get(reading).map((ap, t) => [frame.x(0.5 + 0.05 * t), frame.y(ap / 100)]);
    drawReadings(context, look, view, one, points);
    dot(context, look, frame.x(0.5 + 0.05 * choice.item), frame.y(curves.get(one)[choice.item] / 100 || 0));
  };
  return { items, draw, plain: true };
}

function picturesChart(view, one, choice, size) {
  const counts = pictureCounts(view, one, choice);
  const frame = axes(size, [0, counts.length], { x: "pictures, the worst first", y: "F1", tick: two }, []);
  const items = counts.map(({ picture, right, wrong, missed, score }, id) => ({
    place: [frame.x(id), frame.top, frame.x(id + 1), frame.bottom], score,
    words: `${view.names[picture]}: F1 ${two(score)}, ${right} right, ${wrong} wrong, ${missed} missed`,
  }));
  const draw = (context, look) => {
    frame.draw(context, look);
    items.forEach(({ place: [x1, , x2], score }, id) => {
      context.fillStyle = id === choice.item ? look.ink : view.bar_color;
      context.fillRect(x1 + 0.5, frame.y(score) - 2, Math.max(x2 - x1 - 1, 0.5), frame.bottom - frame.y(score) + 2);
    });
  };
  return { items, draw, plain: true };
}

// ---------------------------------------------------------------- the viewer

function render({ model, el }) {
  const view = decodeEvaluation(model.get("_view"));
  const get = (name) => model.get(name);
  let chart = { items: [] }, cases = [], hovered = -1;

  const reading = () => view.readings.find((one) => one.mode === get("stages"));
  const lastItem = () => CHARTS[get("chart")].grid(view).reduce((rows, columns) => rows * columns) - 1;
  const choice = () => ({
    chart: get("chart"),
    item: Math.min(get("item"), lastItem()), // from Python, chart and item come one after the other
    iou: (get("iou") - 50) / 5, least: get("threshold"),
    label: get("class_filter") ? view.classes.indexOf(get("class_filter")) : null,
  });
  const current = () => cases[clamp(get("picture"), 0, cases.length - 1)];
  const placeOf = (shown) => (cases.length === 1 ? view.names[shown.picture]
    : `${view.names[shown.picture]}, ${cases.indexOf(shown) + 1} of ${count(cases.length, "picture")}`);

  // ---- elements
  const tabs = make("div", { class: "ev-tabs", role: "group", "aria-label": "Chart" },
    ...Object.entries(CHARTS).map(([name, { title }]) =>
      make("button", { type: "button", "data-chart": name, onclick: () => toChart(name) }, title)));
  const dropdown = (name, label, options, read = (value) => value) => {
    const select = make("select", { "aria-label": label, onchange: () => put({ [name]: read(select.value), picture: 0 }) });
    fillOptions(select, options, get(name));
    return select;
  };
  const threshold = make("input", {
    type: "range", min: 0, max: 1, step: 0.01, "aria-label": "Least score",
    oninput: () => put({ threshold: Number(threshold.value), picture: 0 }),
  });
  const thresholdValue = make("output", {});
  const controls = {
    stages: dropdown("stages", "Read from", view.readings.map((one) => [one.mode, one.name])),
    class_filter: dropdown("class_filter", "Class", [["", "all"], ...view.classes.map((name) => [name, name])]),
    iou: dropdown("iou", "IoU", range(IOUS).map((t) => [50 + 5 * t, nth(t)]), Number),
    threshold,
  };
  const tools = make("div", { class: "cl-tools" },
    make("label", {}, "read from", controls.stages), make("label", {}, "class", controls.class_filter),
    make("label", {}, "IoU", controls.iou), make("label", {}, "least score", threshold, thresholdValue));
  const lead = make("p", { class: "ev-lead" });
  const drawing = { tabindex: 0, role: "application" };
  const canvas = make("canvas", { class: "cl-canvas", ...drawing, "aria-roledescription": "chart" });
  const chartBox = make("div", { class: "ev-chart" }, canvas);
  const legend = make("div", { class: "ev-legend" });
  const headline = make("p", { class: "cl-headline", "aria-live": "polite" });
  const place = make("strong", { "aria-live": "polite" });
  const arrow = (text, words, step) =>
    make("button", { type: "button", "aria-label": words, onclick: () => walk(step) }, text);
  const arrows = [arrow("‹", "Previous picture", -1), arrow("›", "Next picture", 1)];
  const photo = make("canvas", { class: "cl-canvas ev-photo", ...drawing, "aria-roledescription": "picture" });
  const photoBox = make("div", { class: "cl-picture" }, photo);
  const key = make("div", { class: "ev-key cl-hint" });
  const list = make("ul", { class: "ev-list", "aria-label": "Boxes in question" });
  const evidence = make("div", {}, photoBox, list, key);
  const help = keyboardHelp(
    [keycap("Tab"), " goes from control to control, ", keycap("1"), " … ", keycap("5"), " choose a chart"],
    [...["←", "→", "↑", "↓", "Home", "End"].map(keycap), " on the chart choose a bar, a cell or a point, ",
      keycap("Enter"), " goes to its pictures"],
    [keycap("N"), keycap("P"), " or ", keycap("←"), keycap("→"), " on the picture: next or previous picture, ",
      keycap("Esc"), " goes back to the chart"]);
  const about = { class: "cascade-lab evaluation-viewer", "aria-label": "Evaluation viewer" };
  const root = make("section", { ...about, onkeydown: keyListener(find) },
    make("div", { class: "cl-head" }, tabs, make("div", { class: "cl-source" }, view.source)), tools,
    make("div", { class: "cl-body" },
      make("div", {}, lead, chartBox, legend),
      make("div", {}, headline, make("div", { class: "ev-walk" }, arrows[0], place, arrows[1]), evidence)), help);
  el.replaceChildren(root);
  const { put, schedule, stop } = follow(model, EVALUATION_TRAITS, root, paint);

  // ---- choosing
  function toChart(name) {
    if (name !== get("chart")) put({ chart: name, item: 0, picture: 0 });
  }

  function walk(step) {
    if (cases.length) put({ picture: (cases.indexOf(current()) + step + cases.length) % cases.length });
  }

  function itemUnder(event) {
    const area = canvas.getBoundingClientRect(), x = event.clientX - area.left, y = event.clientY - area.top;
    return chart.items.findIndex(({ place: [x1, y1, x2, y2] }) => x >= x1 && x < x2 && y >= y1 && y < y2);
  }

  function hover(item) {
    if (item === hovered) return;
    hovered = item;
    schedule();
  }

  canvas.addEventListener("click", (event) => { if (itemUnder(event) >= 0) put({ item: itemUnder(event), picture: 0 }); });
  canvas.addEventListener("pointermove", (event) => hover(itemUnder(event)));
  canvas.addEventListener("pointerleave", () => hover(-1));

  // ---- keyboard
  function find({ key, target }) {
    const onChart = target === canvas, onPhoto = target === photo, letter = key.toLowerCase();
    const named = Object.keys(CHARTS)[Number(key) - 1];
    return named ? () => toChart(named)
      : letter === "n" || (onPhoto && key === "ArrowRight") ? () => walk(1)
      : letter === "p" || (onPhoto && key === "ArrowLeft") ? () => walk(-1)
      : onPhoto && key === "Escape" ? () => canvas.focus()
      : !onChart ? null
      : key === "Enter" || key === " " ? () => photo.focus()
      : stepTo(key);
  }

  // What a key does to the chosen item. The chart may not be painted yet: keys can come faster than frames.
  function stepTo(key) {
    const [, columns] = CHARTS[get("chart")].grid(view), last = lastItem(), { item } = choice();
    const ends = { Home: 0, End: last, PageUp: Math.max(item - 10, 0), PageDown: Math.min(item + 10, last) };
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    if (!(key in ends || key in moves)) return null;
    const next = ends[key] ?? item + moves[key];
    return () => { if (next >= 0 && next <= last) put({ item: next, picture: 0 }); };
  }

  // ---- painting
  function look() {
    const style = getComputedStyle(root), read = (name) => style.getPropertyValue(name).trim();
    return {
      ink: read("--ink"), soft: read("--soft"), line: read("--line"), paper: read("--paper"), raised: read("--raised"),
      plain: "12px system-ui, sans-serif", small: "11px system-ui, sans-serif", bold: "600 12px system-ui, sans-serif",
    };
  }

  function paint() {
    const now = choice(), one = reading();
    cases = casesOf(view, one, now);
    const shown = current(), marks = shown ? marksOf(view, one, now, shown) : [];
    paintChart(one, now);
    paintControls(now);
    paintLegend(one, now);
    paintEvidence(one, now, shown, marks);
    root.dataset.boxes = cases.reduce((sum, each) => sum + each.detections.length + each.objects.length, 0);
    root.dataset.painted = [...EVALUATION_TRAITS.map(get), cases.length].join(":"); // what is shown now, for tests
  }

  function paintChart(one, now) {
    const narrow = chartBox.clientWidth < 500, colours = look(), { title, layOut } = CHARTS[now.chart];
    const { context, width, height } = fitCanvas(canvas, chartBox, narrow ? [3, 4] : [23, 40], 470);
    chart = layOut(view, one, now, { width, height });
    const chosen = chart.plain ? -1 : now.item;
    context.fillStyle = colours.paper;
    context.fillRect(0, 0, width, height);
    chart.draw(context, colours);
    for (const item of [hovered, chosen]) {
      if (!chart.items[item]) continue;
      const [x1, y1, x2, y2] = chart.items[item].place;
      context.globalAlpha = 0.13;
      context.fillStyle = colours.soft;
      context.fillRect(x1, y1, x2 - x1, y2 - y1);
      context.globalAlpha = 1;
      context.strokeStyle = colours.ink;
      context.lineWidth = 2;
      if (item === chosen) context.strokeRect(x1 + 2, y1 + 2, x2 - x1 - 4, y2 - y1 - 4);
    }
    const { words } = chart.items[now.item];
    canvas.title = chart.items[hovered]?.words ?? "";
    say(headline, `${words[0].toUpperCase()}${words.slice(1)}.`);
    canvas.setAttribute("aria-label", `${title}, ${one.name}. ${words}. Arrow keys choose, Enter goes to the pictures.`);
  }

  // Of a live region a screen reader speaks anew whenever its text is set, also to the same.
  function say(region, text) {
    if (region.textContent !== text) region.textContent = text;
  }

  function paintControls(now) {
    const { lead: question, controls: heeded } = CHARTS[now.chart];
    lead.textContent = question(now);
    for (const button of tabs.children) button.setAttribute("aria-pressed", button.dataset.chart === now.chart);
    for (const [name, control] of Object.entries(controls)) {
      control.value = get(name);
      control.parentElement.hidden = name !== "stages" && !heeded.includes(name);
    }
    thresholdValue.textContent = two(now.least);
    threshold.setAttribute("aria-valuetext", two(now.least));
  }

  function paintLegend(one, now) {
    const { note } = CHARTS[now.chart];
    if (note) return legend.replaceChildren(make("span", {}, note(now)));
    const [name, ious] = now.chart === "iou" ? ["AP", range(IOUS)] : [apName(now.iou), [now.iou]];
    legend.replaceChildren(...view.readings.map((each) => {
      const ap = mean(ious.map((t) => apAt(view, each, t, now.label)));
      return make("span", { class: each === one ? "ev-now" : "" }, lineSample(each), `${each.name}: ${name} ${percent(ap)}`);
    }));
  }

  // As swatch() of the kit, but on the paper on which the chart is drawn.
  function lineSample({ color, dash }) {
    return make("svg", { width: 44, height: 12, "aria-hidden": "true", class: "cl-swatch" },
      make("line", {
        x1: 1, x2: 43, y1: 6, y2: 6, stroke: color || "currentColor", "stroke-width": 2.5,
        "stroke-dasharray": dash.join(" ") || "none",
      }));
  }

  function paintEvidence(one, now, shown, marks) {
    say(place, shown ? placeOf(shown) : "No picture to show");
    arrows.forEach((button) => { button.disabled = cases.length < 2; });
    if (!shown && photo.matches(":focus")) canvas.focus(); // what is hidden loses the focus
    evidence.hidden = !shown;
    if (!shown) return;
    list.replaceChildren(...marks.map(({ style, words }) => make("li", {}, swatch(style), make("span", {}, words))));
    key.replaceChildren(
      make("span", {}, swatch(view.styles.object), "ground truth"),
      make("span", {}, swatch(view.styles.other), `other box, score ≥ ${two(now.least)}`));
    photo.setAttribute("aria-label", `${placeOf(shown)}: ${count(marks.length, "box")} in question. ` +
      "Arrow keys left and right change the picture.");
    paintPhoto(one, now, shown, marks);
  }

  function paintPhoto(one, now, { picture, objects, detections }, marks) {
    const bitmap = view.bitmaps[picture], holder = view.holders[picture];
    const { context, width, height, scale } = fitCanvas(photo, photoBox, view.sizes[picture], 404);
    context.fillStyle = "#888";
    context.fillRect(0, 0, width, height);
    if (bitmap) context.drawImage(scaledPicture(holder, bitmap, photo), 0, 0, width, height);
    else if (!holder.asked) {
      holder.asked = true;
      decodePicture(view.pictures[picture]).then((decoded) => { view.bitmaps[picture] = decoded; schedule(); });
    }
    const scaled = (box) => box.map((value) => value * scale);
    const truth = range(view.objectLabels.length).filter((m) => view.objectPicture[m] === picture && !objects.includes(m));
    const sure = detectionsWhere(one, (d) => one.picture[d] === picture && one.scores[d] >= now.least);
    const others = sure.filter((d) => !detections.includes(d));
    strokeBoxes(context, others.map((d) => scaled(cornersOf(one.boxes, d))), view.styles.other, 1.25, 0.8);
    strokeBoxes(context, truth.map((m) => scaled(cornersOf(view.objectBoxes, m))), view.styles.object, 1.25);
    marks.forEach(({ box, style }) => strokeBoxes(context, [scaled(box)], style, 2.5));
    const taken = [];
    for (const { box, style, tag: text } of marks) {
      const spot = labelSpot(context, text, scaled(box), [width, height], taken);
      if (spot) tag(context, text, ...spot, style.color);
    }
  }

  schedule();
  return stop;
}

export default { render };
