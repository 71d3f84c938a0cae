// The cascade viewer in the browser: one canvas, one slider, one panel of numbers.
// The notebook calls render() through anywidget; an exported page calls the same function with a stand-in
// for the model. Everything is drawn from arrays that came once, so dragging asks the kernel for nothing.

const STEP = 0.05; // of a stage, per arrow key
const MASK_ZOOM = 3; // mask sprites are drawn three times finer than the network's grid
const MOST_LABELS = 14; // more than this on the picture and nobody can read any
const MOST_BLENDED = 40; // more masks than this are drawn coarser and not blended, so that dragging stays smooth
const BINS = 20; // of the histograms
const TRAITS = [
  "picture", "position", "threshold", "show_masks", "show_targets", "show_positives", "class_filter", "selected",
];
const WHITE = { color: "#fff", dash: [] }; // the ground truth

// ---------------------------------------------------------------- numbers: no DOM below this line

function decode(raw) {
  const labels = integers(raw.labels);
  return {
    ...raw, labels,
    stages: raw.thresholds.length, count: labels.length,
    boxes: floats(raw.boxes), // (S + 1, D, 4)
    scores: floats(raw.scores), // (S + 1, D)
    finalScores: floats(raw.final_scores), // (D,)
    targets: floats(raw.targets), // (M, 4)
    targetLabels: integers(raw.target_labels), // (M,)
    targetIndex: integers(raw.target_index), // (D,)
    masks: new Uint8Array(slice(raw.masks)), // (S, D, h, w)
    sprites: new Map(),
  };
}

// Between two stages a box is where a straight line between its corners puts it.
function boxAt(view, box, position) {
  const stage = Math.min(Math.floor(position), view.stages - 1), t = position - stage;
  const a = (stage * view.count + box) * 4, b = a + view.count * 4;
  return [0, 1, 2, 3].map((i) => view.boxes[a + i] * (1 - t) + view.boxes[b + i] * t);
}

function targetOf(view, box) {
  const index = view.targetIndex[box];
  return index < 0 ? null : cornersOf(view.targets, index);
}

function iouAt(view, box, position) {
  const target = targetOf(view, box);
  return target ? iou(boxAt(view, box, position), target) : NaN;
}

// The IoU from which on the stage that boxes enter at this position calls them positive; after the last, its own.
const limitAt = (view, position) => view.thresholds[Math.min(Math.floor(position), view.stages - 1)];
const isPositive = (view, box, position) => iouAt(view, box, position) >= limitAt(view, position);

// A score exists only at a stage, so between two stages the nearer one speaks.
const scoreAt = (view, box, position) => view.scores[Math.round(position) * view.count + box];

function place(view, position) {
  const low = Math.floor(position), share = Math.round((position - low) * 100);
  if (share === 0) return low === 0 ? "proposals" : `after stage ${low} of ${view.stages}`;
  return `${share} % of the way from ${view.styles[low].name} to ${view.styles[low + 1].name}`;
}

function className(view, label) {
  return view.classes[label] ?? "object";
}

// What stands beside a box on the picture; a proposal has no class yet.
function labelOf(view, box, position) {
  const what = Math.round(position) ? className(view, view.labels[box]) : "objectness";
  const text = `${what} ${two(scoreAt(view, box, position))}`, value = iouAt(view, box, position);
  return Number.isFinite(value) ? `${text} · IoU ${two(value)}` : view.targets.length ? `${text} · no object` : text;
}

function headline(view, box) {
  const target = view.targetIndex[box];
  const truth = target < 0 ? "overlaps no known object"
    : `compared with object ${target + 1} (${className(view, view.targetLabels[target])})`;
  return `Box ${box + 1}, ${className(view, view.labels[box])}: final score ${two(view.finalScores[box])}, ${truth}.`;
}

function verdict(view, box) {
  if (view.targetIndex[box] < 0) return "";
  const ious = view.styles.map((_, k) => iouAt(view, box, k));
  const gains = ious.slice(1).map((value, k) => value - ious[k]);
  const best = gains.indexOf(Math.max(...gains));
  if (gains[best] <= 0.005) return "No stage raised the IoU.";
  return `Stage ${best + 1} raised the IoU most (${signed(gains[best])}).`;
}

// ---------------------------------------------------------------- elements

// How many values lie in each twentieth from 0 to 1.
function countBins(values) {
  const counts = new Array(BINS).fill(0);
  for (const value of values.filter(Number.isFinite)) counts[Math.min(Math.floor(value * BINS), BINS - 1)] += 1;
  return counts;
}

// One stage's IoUs as a row of bars from 0 to 1, with a line at their mean and one at the next stage's threshold.
function histogram(values, most, style, limit) {
  const width = 150, height = 30, known = values.filter(Number.isFinite), average = mean(known);
  const from = (least) => known.filter((value) => value >= least).length;
  const next = limit === undefined ? "" : `, ${from(limit)} positive for the next stage, at ${two(limit)} or more`;
  const svg = make("svg", {
    viewBox: `0 0 ${width} ${height}`, class: "cv-histogram", role: "img",
    "aria-label": `${known.length} boxes, mean IoU ${two(average)}, ${from(0.75)} of them at 0.75 or more${next}`,
  });
  const upright = (value, y1, name) =>
    svg.append(make("line", { x1: value * width, x2: value * width, y1, y2: height, class: name }));
  svg.append(make("line", { x1: 0, x2: width, y1: height - 0.5, y2: height - 0.5, class: "cv-axis" }));
  countBins(known).forEach((count, bin) => {
    const bar = count ? Math.max(2, (count / most) * (height - 4)) : 0;
    svg.append(make("rect", {
      x: (bin * width) / BINS + 0.5, width: width / BINS - 1, y: height - 1 - bar, height: bar, fill: style.color,
    }));
  });
  if (limit !== undefined) upright(limit, -2, "cv-limit");
  if (Number.isFinite(average)) upright(average, 0, "cv-mean");
  return svg;
}

// ---------------------------------------------------------------- the canvas

// A mask as a small tinted picture: a light fill and a strong rim, made once per stage and box.
function maskSprite(view, stage, box) {
  const key = stage * view.count + box;
  if (view.sprites.has(key)) return view.sprites.get(key);
  const [rows, columns] = view.mask_size, width = columns * MASK_ZOOM, height = rows * MASK_ZOOM;
  const start = key * rows * columns, inside = new Uint8Array(width * height);
  for (let y = 0; y < height; y += 1) {
    const v = clamp((y + 0.5) / MASK_ZOOM - 0.5, 0, rows - 1), y0 = Math.min(Math.floor(v), rows - 2), fy = v - y0;
    for (let x = 0; x < width; x += 1) {
      const u = clamp((x + 0.5) / MASK_ZOOM - 0.5, 0, columns - 1);
      const x0 = Math.min(Math.floor(u), columns - 2), fx = u - x0, at = start + y0 * columns + x0;
      const upper = view.masks[at] * (1 - fx) + view.masks[at + 1] * fx;
      const lower = view.masks[at + columns] * (1 - fx) + view.masks[at + columns + 1] * fx;
      inside[y * width + x] = upper * (1 - fy) + lower * fy >= 127.5 ? 1 : 0;
    }
  }
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  const color = parseInt(view.styles[stage + 1].color.slice(1), 16);
  for (let i = 0; i < inside.length; i += 1) {
    if (!inside[i]) continue;
    const x = i % width, y = (i / width) | 0;
    const rim = !x || !y || x === width - 1 || y === height - 1 ||
      !(inside[i - 1] && inside[i + 1] && inside[i - width] && inside[i + width]);
    image.data.set([color >> 16, (color >> 8) & 255, color & 255, rim ? 235 : 85], i * 4);
  }
  context.putImageData(image, 0, 0);
  view.sprites.set(key, canvas);
  return canvas;
}

function drawMask(context, view, box, position, corners, alpha, blend) {
  const [x1, y1, x2, y2] = corners, low = Math.floor(position);
  const t = blend || low === 0 ? position - low : Math.round(position - low);
  // Position k shows the mask of stage k; a proposal has none yet, so that of stage 1 fades in.
  for (const [stage, share] of [[low - 1, 1 - t], [low, t]]) {
    if (stage < 0 || share <= 0 || stage >= view.stages) continue;
    context.globalAlpha = alpha * share;
    context.drawImage(maskSprite(view, stage, box), x1, y1, x2 - x1, y2 - y1);
  }
  context.globalAlpha = 1;
}

// An empty canvas with half the dots each way, where a hundred masks cost a quarter of the time.
function coarseLayer({ width, height }, dense) {
  coarseLayer.canvas ??= document.createElement("canvas");
  Object.assign(coarseLayer.canvas, { width: Math.round(width / 2), height: Math.round(height / 2) }); // clears it
  const context = coarseLayer.canvas.getContext("2d");
  context.setTransform(dense / 2, 0, 0, dense / 2, 0, 0);
  return context;
}

function drawTrail(context, view, box, scale) {
  const trail = view.styles.map((_, k) => boxAt(view, box, k).map((value) => value * scale));
  context.strokeStyle = "rgba(255, 255, 255, 0.85)";
  context.lineWidth = 1;
  for (const [i, j] of [[0, 1], [2, 1], [2, 3], [0, 3]]) {
    context.beginPath();
    trail.forEach((corners, k) => context[k ? "lineTo" : "moveTo"](corners[i], corners[j]));
    context.stroke();
  }
  trail.forEach((corners, k) => strokeBoxes(context, [corners], view.styles[k], 1.5));
}

// P, 1, 2, 3 on the lower edge of each box of the trail, side by side.
function drawTrailNames(context, view, box, scale) {
  const trail = view.styles.map((_, k) => boxAt(view, box, k).map((value) => value * scale));
  if (trail[0][2] - trail[0][0] < 22 * trail.length) return; // no room for them
  context.textAlign = "center";
  trail.forEach(([x1, , x2, y2], k) => {
    const x = x1 + ((k + 0.5) * (x2 - x1)) / trail.length;
    context.fillStyle = "rgba(0, 0, 0, 0.88)";
    context.beginPath();
    context.arc(x, y2, 9, 0, 7);
    context.fill();
    context.fillStyle = view.styles[k].color;
    context.fillText(k || "P", x, y2 + 0.5);
  });
  context.textAlign = "start";
}

// ---------------------------------------------------------------- the viewer

function render({ model, el }) {
  const views = model.get("_views").map(decode);
  const get = (name) => model.get(name);
  const view = () => views[get("picture")];
  const names = [...new Set(views.flatMap((one) => [...one.labels].map((label) => className(one, label))))].sort();
  const position = () => clamp(get("position"), 0, view().stages);
  let hovered = -1, shown = [], panelKey = "";

  const moveTo = (value) => put({ position: Math.round(clamp(value, 0, view().stages) * 1000) / 1000 });
  const goTo = (value) => { play.pause(); moveTo(value); }; // by hand
  const select = (box) => put({ selected: box });

  // ---- elements, top to bottom
  const source = make("span", { class: "cl-source" });
  const toPicture = (index) => { play.pause(); put({ picture: index, selected: -1 }); };
  const pictures = pictureButtons(views, toPicture, () => schedule());
  const canvas = make("canvas", { tabindex: 0, class: "cl-canvas", role: "application", "aria-roledescription": "picture" });
  const stageBox = make("div", { class: "cl-picture" }, canvas);
  const status = make("div", { class: "cl-status", "aria-hidden": "true" });
  const track = { place: position, last: () => view().stages, moveTo };
  const play = player("Play from the proposals through all stages", track);
  const slider = make("input", {
    type: "range", min: 0, step: STEP, class: "cl-slider", "aria-label": "Stage",
    oninput: () => goTo(Number(slider.value)),
  });
  const ticks = make("div", { class: "cv-ticks" });
  const checkbox = (name, text, ...more) => {
    const input = make("input", { type: "checkbox", onchange: () => put({ [name]: input.checked }) });
    return [input, make("label", {}, input, text, ...more)];
  };
  const [masks, masksLabel] = checkbox("show_masks", "masks");
  const [targets, targetsLabel] = checkbox("show_targets", "ground truth", swatch(WHITE));
  const [positives, positivesLabel] = checkbox("show_positives", "who is positive");
  const classes = make("select", { "aria-label": "Class", onchange: () => put({ class_filter: classes.value }) });
  const threshold = make("input", {
    type: "range", min: 0, max: 1, step: 0.01, "aria-label": "Least final score",
    oninput: () => put({ threshold: Number(threshold.value) }),
  });
  const thresholdValue = make("output", {});
  const summary = make("h3", {});
  const rows = make("div", { class: "cv-rows" });
  const chooser = make("select", { "aria-label": "Box to follow", onchange: () => select(Number(chooser.value)) });
  const arrow = (text, label, step) =>
    make("button", { type: "button", "aria-label": label, onclick: () => walk(step) }, text);
  const story = make("div", { class: "cv-story" });
  const live = make("div", { class: "cl-hidden", "aria-live": "polite" });
  const help = keyboardHelp(
    [keycap("Tab"), " goes from control to control"],
    [keycap("←"), keycap("→"), " on slider and picture: move the boxes, ", keycap("Space"), " play"],
    [keycap("Page ↑"), keycap("Page ↓"), " there: one stage on or back"],
    [keycap("0"), " proposals, ", keycap("1"), " stage 1, and so on"],
    [keycap("N"), keycap("P"), " next or previous box, ", keycap("Esc"), " no box"],
    [keycap("↓"), keycap("↑"), " on the picture: next or previous box"],
    [keycap("M"), " masks, ", keycap("G"), " ground truth, ", keycap("U"), " who is positive"]);
  const lines = "Dotted line: the mean IoU. " +
    "Solid line: from this IoU on, a box is a positive for the stage that it enters next.";
  const root = make("section", {
    class: "cascade-lab cascade-viewer", "aria-label": "Cascade viewer", onkeydown: keyListener(actionOf),
  }, make("div", { class: "cl-head" }, pictures.row, source),
    make("div", { class: "cl-body" },
      make("div", {}, stageBox, status,
        make("div", { class: "cl-transport" }, play.button, make("div", { class: "cl-track" }, slider, ticks)),
        make("div", { class: "cl-tools" }, masksLabel, targetsLabel, positivesLabel,
          make("label", {}, "class ", classes),
          make("label", {}, "final score ≥ ", threshold, thresholdValue)), help),
      make("div", {}, summary, rows,
        make("p", { class: "cl-hint" }, lines),
        make("div", { class: "cv-choose" }, make("h3", {}, "Follow one box"),
          arrow("‹", "Previous box", -1), chooser, arrow("›", "Next box", 1)), story)), live);
  el.replaceChildren(root);
  const { put, schedule, stop } = follow(model, TRAITS, stageBox, paint);

  // ---- what is shown
  function updateShown() {
    const one = view(), wanted = get("class_filter"), least = get("threshold");
    shown = [];
    for (let box = 0; box < one.count; box += 1) {
      if (one.finalScores[box] >= least && (!wanted || className(one, one.labels[box]) === wanted)) shown.push(box);
    }
  }

  const order = () => [...shown].sort((a, b) => view().finalScores[b] - view().finalScores[a]);

  function walk(step) {
    const boxes = order(), at = boxes.indexOf(get("selected")), from = at < 0 && step < 0 ? 0 : at;
    if (boxes.length) select(boxes[(from + step + boxes.length) % boxes.length]);
  }

  function boxesUnder(event) {
    const one = view(), area = canvas.getBoundingClientRect(), scale = one.size[1] / area.width;
    const x = (event.clientX - area.left) * scale, y = (event.clientY - area.top) * scale, slack = 4 * scale;
    const size = (b) => (b[2] - b[0]) * (b[3] - b[1]);
    return shown.map((box) => [box, boxAt(one, box, position())])
      .filter(([, b]) => x >= b[0] - slack && x <= b[2] + slack && y >= b[1] - slack && y <= b[3] + slack)
      .sort((a, b) => size(a[1]) - size(b[1])).map(([box]) => box);
  }

  canvas.addEventListener("click", (event) => {
    const boxes = boxesUnder(event); // the smallest first; a further click takes the one behind it
    select(boxes.length ? boxes[(boxes.indexOf(get("selected")) + 1) % boxes.length] : -1);
  });
  canvas.addEventListener("pointermove", (event) => setHovered(boxesUnder(event)[0] ?? -1));
  canvas.addEventListener("pointerleave", () => setHovered(-1));
  function setHovered(box) {
    if (box === hovered) return;
    hovered = box;
    canvas.style.cursor = box < 0 ? "default" : "pointer";
    schedule();
  }

  // ---- keyboard
  function actionOf({ key, target }) {
    const onPicture = target === canvas, moves = onPicture || target === slider;
    const at = position(), stage = key.length === 1 ? "0123456789".indexOf(key) : -1, letter = key.toLowerCase();
    return stage >= 0 && stage <= view().stages ? () => goTo(stage)
      : letter === "m" ? () => put({ show_masks: !get("show_masks") })
      : letter === "g" ? () => put({ show_targets: !get("show_targets") })
      : letter === "u" ? () => put({ show_positives: !get("show_positives") })
      : letter === "n" || (onPicture && key === "ArrowDown") ? () => walk(1)
      : letter === "p" || (onPicture && key === "ArrowUp") ? () => walk(-1)
      : key === "Escape" && get("selected") >= 0 ? () => select(-1)
      : !moves ? null
      : key === " " ? play.toggle
      : key === "PageUp" ? () => goTo(Math.floor(at + 1))
      : key === "PageDown" ? () => goTo(Math.ceil(at - 1))
      : !onPicture ? null
      : key === "ArrowRight" ? () => goTo(at + STEP)
      : key === "ArrowLeft" ? () => goTo(at - STEP)
      : key === "Home" ? () => goTo(0)
      : key === "End" ? () => goTo(view().stages) : null;
  }

  // ---- painting
  function paint() {
    updateShown();
    paintCanvas();
    paintControls();
    paintPanel();
    root.dataset.painted = `${get("picture")}:${position()}`; // what the picture shows now, for tests
  }

  function paintCanvas() {
    const one = view(), at = position(), bitmap = pictures.bitmaps[get("picture")];
    const { context, width, height, dense, scale } = fitCanvas(canvas, stageBox, one.size);
    if (bitmap) context.drawImage(scaledPicture(one, bitmap, canvas), 0, 0, width, height);

    const chosen = shown.includes(get("selected")) ? get("selected") : -1;
    const corners = new Map(shown.map((box) => [box, boxAt(one, box, at).map((value) => value * scale)]));
    const faint = chosen < 0 ? 1 : 0.3, style = one.styles[Math.round(at)];
    if (get("show_masks") && one.mask_size[0]) {
      const few = shown.length <= MOST_BLENDED, onto = few ? context : coarseLayer(canvas, dense);
      for (const box of shown) drawMask(onto, one, box, at, corners.get(box), box === chosen ? 1 : faint, few);
      if (!few) context.drawImage(onto.canvas, 0, 0, width, height);
    }
    if (get("show_targets")) {
      const all = Array.from(one.targetLabels, (_, i) => cornersOf(one.targets, i).map((value) => value * scale));
      const mine = one.targetIndex[chosen] ?? -1;
      strokeBoxes(context, all.filter((_, i) => i !== mine), WHITE, 1.25, faint);
      strokeBoxes(context, all.filter((_, i) => i === mine), WHITE, 2);
    }
    const others = shown.filter((box) => box !== chosen);
    const strong = (box) => !get("show_positives") || isPositive(one, box, at);
    strokeBoxes(context, others.filter((box) => !strong(box)).map((box) => corners.get(box)), style, 1, 0.35);
    strokeBoxes(context, others.filter(strong).map((box) => corners.get(box)), style, 2.25, faint);
    if (chosen >= 0) {
      drawTrail(context, one, chosen, scale);
      strokeBoxes(context, [corners.get(chosen)], style, 3.25);
      drawTrailNames(context, one, chosen, scale);
    }
    const few = shown.length <= MOST_LABELS && chosen < 0, taken = [];
    for (const box of [chosen, hovered, ...(few ? order() : [])]) {
      if (!corners.has(box)) continue;
      const text = labelOf(one, box, at), spot = labelSpot(context, text, corners.get(box), [width, height], taken);
      if (spot) tag(context, text, ...spot, style.color);
    }
  }

  function countWords(one, at) {
    const some = `${shown.length} of ${one.count} boxes`;
    if (!get("show_positives")) return `${some} shown`;
    const positive = shown.filter((box) => isPositive(one, box, at)).length;
    return `${some}, ${positive} positive at IoU ${two(limitAt(one, at))}`;
  }

  function paintControls() {
    const one = view(), at = position(), style = one.styles[Math.round(at)];
    const now = mean(shown.map((box) => iouAt(one, box, at)));
    const said = [place(one, at), countWords(one, at), Number.isFinite(now) ? `mean IoU ${two(now)}` : "IoU unknown"];
    const words = said.join(", "), keys = "Arrow keys left and right move the boxes, up and down choose one.";
    canvas.setAttribute("aria-label", `${one.name}: ${words}. ${keys}`);
    slider.max = one.stages;
    slider.value = at;
    slider.setAttribute("aria-valuetext", words);
    slider.style.setProperty("--filled", `${(100 * at) / one.stages}%`);
    root.style.setProperty("--stage", style.color);
    status.replaceChildren(...said.map((text, i) => make(i ? "span" : "strong", {}, text)));
    masks.checked = get("show_masks");
    masks.disabled = !one.mask_size[0];
    positives.checked = get("show_positives");
    positives.disabled = !one.targets.length;
    targets.checked = get("show_targets");
    targets.disabled = !one.targets.length;
    threshold.value = get("threshold");
    thresholdValue.textContent = two(get("threshold"));
    source.textContent = one.source;
    pictures.mark(get("picture"));
    [...rows.children].forEach((row, k) => row.classList.toggle("cv-now", k === at));
    [...ticks.children].forEach((tick, k) => tick.setAttribute("aria-current", k === at ? "step" : "false"));
    const nowRow = story.querySelector(".cv-between");
    if (nowRow && shown.includes(get("selected"))) {
      nowRow.style.visibility = Number.isInteger(at) ? "hidden" : "visible"; // at a stage that stage's row says it
      fillRow(nowRow, one, get("selected"), at);
    }
    story.querySelectorAll("tr[data-stage]").forEach((row, k) => row.classList.toggle("cv-now", k === at));
  }

  // Rebuilt only when picture, filters or the chosen box change; moving the slider touches one row of it.
  function paintPanel() {
    const one = view(), chosen = get("selected");
    const next = JSON.stringify([get("picture"), chosen, shown]);
    if (next === panelKey) return;
    panelKey = next;
    paintHistograms(one);
    if (ticks.dataset.picture !== String(get("picture"))) paintTicks(one); // else a tick would lose the focus
    fillOptions(classes, [["", "all"], ...names.map((name) => [name, name])], get("class_filter"));
    const option = (box) => [box, `${box + 1} · ${className(one, one.labels[box])} · ${two(one.finalScores[box])}`];
    const none = [-1, shown.length ? "none" : "no box shown"];
    fillOptions(chooser, [none, ...order().map(option)], shown.includes(chosen) ? chosen : -1);
    paintStory(one, chosen);
    paintControls(); // the rows just made do not know the position yet
  }

  function paintHistograms(one) {
    const ious = one.styles.map((_, k) => shown.map((box) => iouAt(one, box, k)));
    const compared = ious[0].filter(Number.isFinite).length, boxes = compared === 1 ? "box" : "boxes";
    const most = Math.max(...ious.flatMap(countBins)); // of all stages, so that their bars can be compared
    summary.textContent = compared ? `IoU of ${compared} ${boxes} at every stage` : "IoU at every stage: unknown";
    const row = (style, k) => make("div", { class: "cv-row" },
      make("span", { class: "cv-name" }, swatch(style), style.name),
      histogram(ious[k], most, style, one.thresholds[k]), make("span", { class: "cl-number" }, two(mean(ious[k]))));
    const ends = ["0", ".25", ".5", ".75", "1"].map((text) => make("span", {}, text));
    rows.replaceChildren(...one.styles.map(row), make("div", { class: "cv-row cv-scale", "aria-hidden": "true" },
      make("span", {}), make("span", { class: "cv-ends" }, ...ends), make("span", { class: "cl-number" }, "mean")));
  }

  function paintTicks(one) {
    ticks.dataset.picture = get("picture");
    const trained = (k) => `trained with boxes of IoU ${one.thresholds[k - 1]} or more as positives`;
    ticks.replaceChildren(...one.styles.map((style, k) => make("button", {
      type: "button", style: `--at: ${k / one.stages}`, class: k === 0 ? "cv-first" : k === one.stages ? "cv-last" : "",
      "aria-label": k ? `Go to stage ${k}` : "Go to proposals", title: k ? trained(k) : "what the RPN proposed",
      onclick: () => goTo(k),
    }, swatch(style), make("span", {}, style.name))));
  }

  function paintStory(one, chosen) {
    if (chosen < 0 || !shown.includes(chosen)) {
      const why = chosen >= 0 ? "The box you follow is hidden by the filters."
        : "Press ▶ to watch the boxes go through the stages. Click a box, or press N, to follow it.";
      story.replaceChildren(make("p", { class: "cl-hint" }, why));
      live.textContent = chosen < 0 ? "" : why;
      return;
    }
    const lines = one.styles.map((style, k) =>
      fillRow(makeRow({ "data-stage": k }, [swatch(style), style.name], []), one, chosen, k));
    const between = fillRow(makeRow({ class: "cv-between" }, ["on screen"], []), one, chosen, position());
    story.replaceChildren(make("p", { class: "cl-headline" }, headline(one, chosen)),
      makeTable(["", "score", "IoU", "gain", "x1", "y1", "x2", "y2"], [...lines, between]),
      make("p", { class: "cv-verdict" }, verdict(one, chosen)),
      make("p", { class: "cl-hint" }, "The score of the proposal is its objectness; it has no class yet."));
    live.textContent = `${headline(one, chosen)} ${verdict(one, chosen)}`;
  }

  function fillRow(row, one, box, at) {
    const value = iouAt(one, box, at), gain = at > 0 ? value - iouAt(one, box, Math.ceil(at) - 1) : NaN;
    const corners = boxAt(one, box, at).map((corner) => corner.toFixed(1));
    const cells = [two(scoreAt(one, box, at)), two(value), Number.isFinite(gain) ? signed(gain) : "", ...corners];
    while (row.children.length > 1) row.lastChild.remove();
    row.append(...cells.map((text, i) => make("td", i === 2 && gain < -0.005 ? { class: "cv-worse" } : {}, text)));
    return row;
  }

  schedule();
  return () => {
    play.pause();
    stop();
  };
}

export default { render };
