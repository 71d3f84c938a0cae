// The what-if viewer in the browser: the heads have spoken once, and every way to read them is computed here.
// Boxes follow the controls in the same frame; AP over all pictures follows as soon as the hand lets the browser
// breathe. Nothing asks the kernel.

const CHOICE = ["stages", "ensemble", "foreign", "score_threshold", "nms_iou", "targets_added"];
const TRAITS = ["picture", ...CHOICE, "positive_iou", "layer", "show_plain"];
const IOUS = Array.from({ length: 10 }, (_, i) => 0.5 + i * ((0.95 - 0.5) / 9)); // as numpy.linspace rounds them
const RECALLS = Array.from({ length: 101 }, (_, i) => (i < 100 ? i * 0.01 : 1));
const FINEST = 65535; // boxes come as 16-bit shares of width and height
const MOST_PER_CLASS = 100; // COCO looks at no more detections of a class in one picture
const MOST_LABELS = 8, LEAST_LABELLED = 0.3;

// ---------------------------------------------------------------- numbers: no DOM below this line

const words16 = (bytes) => new Uint16Array(slice(bytes));

function decode(raw, stages, classes) {
  const counts = integers(raw.counts), starts = [0];
  for (const count of counts) starts.push(starts.at(-1) + count);
  const [height, width] = raw.size, sides = [width, height, width, height];
  const pixels = (bytes) => Float32Array.from(words16(bytes), (share, i) => (share * sides[i % 4]) / FINEST);
  const isTarget = new Uint8Array(slice(raw.is_target));
  return {
    size: raw.size, picture: raw.picture, starts, isTarget,
    targets: floats(raw.targets), targetLabels: integers(raw.target_labels),
    logits: floats(raw.logits), // (S, S, R, K + 1)
    count: isTarget.length, stages, classes,
    rows: words16(raw.rows), labels: words16(raw.labels), boxes: pixels(raw.boxes), // of each cell, one after another
    entering: pixels(raw.entering), // (S, all rows, 4)
  };
}

// Which head places the boxes, and from the boxes of which stage.
const cellOf = (choice) => (choice.foreign.length ? choice.foreign : [choice.stages - 1, choice.stages - 1]);

// Whose words count: [head, stage whose boxes it sees] of every voter.
function voters({ stages, ensemble, foreign }) {
  if (foreign.length) return [foreign];
  const last = ensemble === "last_rois_probabilities";
  return Array.from({ length: stages }, (_, k) => [k, last ? stages - 1 : k]);
}

// What decides the scores of a choice: with one voter there is nothing to average.
function scoreKey(choice) {
  const heads = voters(choice), rule = heads.length > 1 ? choice.ensemble : "";
  return JSON.stringify([heads, rule, cellOf(choice), choice.score_threshold, choice.nms_iou, choice.targets_added]);
}

// The probability (R, K) of every class for every row; the background gets the rest.
function vote(one, choice) {
  const { count, classes, stages, logits } = one, width = classes + 1, heads = voters(choice);
  const starts = heads.map(([h, k]) => (h * stages + k) * count * width);
  const logitsFirst = choice.ensemble === "own_rois_logits", rounds = logitsFirst ? [starts] : starts.map((s) => [s]);
  const found = new Float64Array(count * classes), said = new Float64Array(width);
  for (let row = 0; row < count; row += 1) {
    for (const round of rounds) {
      let top = -Infinity, sum = 0;
      for (let c = 0; c < width; c += 1) {
        said[c] = 0;
        for (const start of round) said[c] += logits[start + row * width + c] / round.length;
        if (said[c] > top) top = said[c];
      }
      for (let c = 0; c < width; c += 1) sum += said[c] = Math.exp(said[c] - top);
      for (let c = 0; c < classes; c += 1) found[row * classes + c] += said[c] / sum / rounds.length;
    }
  }
  return found;
}

function overlap(a, i, b, j) {
  const width = Math.min(a[i + 2], b[j + 2]) - Math.max(a[i], b[j]);
  const height = Math.min(a[i + 3], b[j + 3]) - Math.max(a[i + 1], b[j + 1]);
  if (width <= 0 || height <= 0) return 0;
  const shared = width * height;
  return shared / ((a[i + 2] - a[i]) * (a[i + 3] - a[i + 1]) + (b[j + 2] - b[j]) * (b[j + 3] - b[j + 1]) - shared);
}

// Threshold, then NMS class by class: detections {at, label, score}, best first; ``at`` is where the box begins.
function detect(one, choice, about) {
  const scores = vote(one, choice), [h, k] = cellOf(choice), cell = h * one.stages + k;
  const waiting = [], kept = [];
  for (let c = one.starts[cell]; c < one.starts[cell + 1]; c += 1) {
    const score = scores[one.rows[c] * one.classes + one.labels[c]];
    if (score <= choice.score_threshold || (one.isTarget[one.rows[c]] && !choice.targets_added)) continue;
    waiting.push({ at: c * 4, label: one.labels[c], score });
  }
  waiting.sort((a, b) => b.score - a.score);
  for (const next of waiting) {
    if (kept.length === about.max_detections) break;
    const falls = kept.some((better) => better.label === next.label &&
      overlap(one.boxes, better.at, one.boxes, next.at) > choice.nms_iou);
    if (!falls) kept.push(next);
  }
  return kept;
}

// Which detections of one class in one picture are right, at each of the ten IoUs: each takes the free object that
// it overlaps best, the better detection first (pycocotools, COCOeval.evaluateImg).
function match(one, detections, label) {
  const objects = [...one.targetLabels.keys()].filter((g) => one.targetLabels[g] === label);
  const mine = detections.filter((d) => d.label === label).slice(0, MOST_PER_CLASS);
  const ious = mine.map((d) => objects.map((g) => overlap(one.boxes, d.at, one.targets, g * 4)));
  const right = mine.map(() => new Uint8Array(IOUS.length));
  IOUS.forEach((least, t) => {
    const taken = objects.map(() => false);
    ious.forEach((row, d) => {
      let best = least, which = -1;
      row.forEach((value, g) => { if (!taken[g] && value >= best) [best, which] = [value, g]; });
      if (which < 0) return;
      taken[which] = true;
      right[d][t] = 1;
    });
  });
  return mine.map((d, i) => ({ score: d.score, right: right[i] }));
}

// Precision at 101 recalls, from the right the best so far (COCOeval.accumulate); their mean.
function areaUnderCurve(ranked, t, objects) {
  let hits = 0;
  const recalls = [], precisions = [];
  ranked.forEach((d, i) => {
    hits += d.right[t];
    recalls.push(hits / objects);
    precisions.push(hits / (i + 1));
  });
  for (let i = precisions.length - 2; i >= 0; i -= 1) precisions[i] = Math.max(precisions[i], precisions[i + 1]);
  let i = 0, sum = 0;
  for (const recall of RECALLS) {
    while (i < recalls.length && recalls[i] < recall) i += 1;
    sum += precisions[i] ?? 0;
  }
  return sum / RECALLS.length;
}

// AP, AP50, AP75 in percent over all pictures, and how many detections there are. NaN without any object.
function measure(all, choice, about) {
  const found = all.map((one) => detect(one, choice, about)), perClass = [];
  for (let label = 0; label < about.classes.length; label += 1) {
    const objects = all.reduce((sum, one) => sum + one.targetLabels.filter((l) => l === label).length, 0);
    if (!objects) continue;
    const ranked = all.flatMap((one, i) => match(one, found[i], label)).sort((a, b) => b.score - a.score);
    perClass.push(IOUS.map((_, t) => areaUnderCurve(ranked, t, objects)));
  }
  const at = (index) => 100 * mean(perClass.map((row) => row[index]));
  return {
    AP: 100 * mean(perClass.map(mean)), AP50: at(0), AP75: at(5),
    detections: found.reduce((sum, one) => sum + one.length, 0),
  };
}

// The IoU of a box with the object it overlaps best, whatever its class: what makes a positive in training.
function bestIou(one, boxes, at) {
  let best = 0;
  for (let g = 0; g < one.targetLabels.length; g += 1) best = Math.max(best, overlap(boxes, at, one.targets, g * 4));
  return best;
}

// What training would see: where the boxes that enter a stage begin; the added ground truths are the last rows.
function enteringAt(one, stage, targetsAdded) {
  const rows = one.entering.length / 4 / one.stages, shown = targetsAdded ? rows : rows - one.targetLabels.length;
  return Array.from({ length: shown }, (_, row) => (stage * rows + row) * 4);
}

function readingWords({ stages, ensemble, foreign }, about) {
  if (foreign.length) return `head ${foreign[0] + 1} on the boxes that enter stage ${foreign[1] + 1}`;
  return stages === 1 ? "1 stage" : `${stages} stages, ${about.ensembles[ensemble]}`;
}

function choiceWords(choice, about) {
  return [readingWords(choice, about), ...(choice.targets_added ? ["ground truth added"] : []),
    `score > ${two(choice.score_threshold)}`, `NMS ${two(choice.nms_iou)}`].join(", ");
}

const percent = (value) => (Number.isFinite(value) ? value.toFixed(1) : "–");

// Change of a score in points.
function gain(value) {
  if (!Number.isFinite(value)) return "–";
  const text = Math.abs(value).toFixed(1);
  return text === "0.0" ? "0.0" : (value < 0 ? "−" : "+") + text;
}

// ---------------------------------------------------------------- the viewer

function render({ model, el }) {
  const about = model.get("_about"), count = about.stages, stageIndices = [...Array(count).keys()];
  const pictures = model.get("_pictures").map((raw) => decode(raw, count, about.classes.length));
  const get = (name) => model.get(name);
  const group = `wi-reading-${Math.random()}`; // two viewers of one page must not share radios
  const known = new Map(); // scores that were measured, by scoreKey
  let waiting = 0, told = get("picture"); // the picture that the live region has spoken of

  const choiceNow = () => Object.fromEntries(CHOICE.map((name) => [name, get(name)]));
  const keyOf = (choice) => JSON.stringify(CHOICE.map((name) => choice[name]));
  const isPlain = () => keyOf(choiceNow()) === keyOf(about.plain);
  const current = () => pictures[get("picture")];

  // ---- elements: the picture
  const canvas = make("canvas", { tabindex: 0, class: "cl-canvas", role: "application", "aria-roledescription": "picture" });
  const stageBox = make("div", { class: "cl-picture" }, canvas);
  const status = make("div", { class: "cl-status", "aria-hidden": "true" });
  const chooser = make("select", { "aria-label": "Picture", onchange: () => turn(Number(chooser.value) - get("picture")) });
  fillOptions(chooser, pictures.map((_, i) => [i, `${i + 1} of ${pictures.length}`]), 0);
  const arrow = (text, label, step) => make("button", { type: "button", "aria-label": label, onclick: () => turn(step) }, text);
  const checkbox = (name, ...content) => {
    const input = make("input", { type: "checkbox", onchange: () => put({ [name]: input.checked }) });
    return [input, make("label", {}, input, ...content)];
  };
  const range = (name, label, low, high, step) => {
    const input = make("input", {
      type: "range", min: low, max: high, step, "aria-label": label,
      oninput: () => put({ [name]: Number(input.value) }),
    });
    const value = make("output", {});
    return [input, value];
  };
  const [showPlain, showPlainLabel] = checkbox("show_plain", "plain detections behind", swatch(about.styles.plain));
  const layer = make("select", { "aria-label": "Show", onchange: () => put({ layer: layer.value }) });
  const [positive, positiveValue] = range("positive_iou", "A positive needs IoU, in training", 0.3, 0.95, 0.05);
  const legend = make("div", { class: "wi-legend" });

  // ---- elements: controls and numbers
  const radios = [];
  const radio = (values, label) => {
    const value = make("span", { class: "wi-ap" });
    const input = make("input", { type: "radio", name: group, class: "cl-hidden", "aria-label": label, onchange: () => put(values) });
    radios.push({ input, value, label, values });
    return make("label", { class: "wi-choice", title: label }, input, value);
  };
  const cascade = make("tr", {}, make("th", { scope: "row" }, "cascade"), ...stageIndices.map((k) =>
    make("td", {}, radio({ stages: k + 1, foreign: [] }, k ? `The first ${k + 1} stages` : "The first stage alone"))));
  const head = (text) => make("tr", {}, make("th", {}, ""), ...stageIndices.map((k) => make("th", { scope: "col" }, text(k))));
  const cells = stageIndices.map((h) => make("tr", {}, make("th", { scope: "row" }, `head ${h + 1}`),
    ...stageIndices.map((k) =>
      make("td", {}, radio({ foreign: [h, k] }, `Head ${h + 1} on the boxes that enter stage ${k + 1}`)))));
  const matrix = make("table", { class: "wi-matrix", role: "radiogroup", "aria-label": "Reading" },
    make("tbody", {}, head((k) => (k ? `${k + 1} stages` : "1 stage")), cascade,
      make("tr", { class: "wi-gap" },
        make("th", { colspan: count + 1, scope: "rowgroup" }, "One head alone, on the boxes that enter")),
      head((k) => `stage ${k + 1}`), ...cells));
  const ensemble = make("select", { "aria-label": "Ensemble", onchange: () => put({ ensemble: ensemble.value }) });
  fillOptions(ensemble, Object.entries(about.ensembles), get("ensemble"));
  const ensembleHint = make("p", { class: "cl-hint" });
  const [added, addedLabel] = checkbox("targets_added", "ground truth among the proposals");
  const [score, scoreValue] = range("score_threshold", "Score threshold", about.least, 0.95, 0.01);
  const [nms, nmsValue] = range("nms_iou", "NMS IoU", 0.1, 0.95, 0.05);
  const back = make("button", { type: "button", onclick: () => put(about.plain) }, "Back to the plain setting");
  const rows = ["AP", "AP50", "AP75", "detections"].map((name) => makeRow({ "data-name": name }, [name], ["", "", ""]));
  const summary = make("p", { class: "cl-headline" });
  const live = make("div", { class: "cl-hidden", "aria-live": "polite" });
  const objects = pictures.reduce((sum, one) => sum + one.targetLabels.length, 0);
  const slider = (text, input, value) => make("label", { class: "wi-line" }, make("span", {}, text), input, value);
  const help = keyboardHelp(
    [keycap("Tab"), " goes from control to control, arrow keys change the one that has the focus"],
    [keycap("←"), keycap("→"), " on the picture: the picture before and after, ", keycap("Home"), keycap("End"), " first and last"],
    [keycap("R"), " back to the plain setting, ", keycap("G"), " ground truth among the proposals, ",
      keycap("P"), " plain detections behind"]);

  // The order of the parts is that of a narrow window: what to change, what becomes of the boxes, what it scores.
  const root = make("section", { class: "cascade-lab what-if", "aria-label": "What-if viewer", onkeydown: keyListener(find) },
    make("div", { class: "cl-head" }, summary, back),
    make("div", { class: "wi-body" },
      make("div", { class: "wi-controls" },
        make("h3", {}, "Which heads judge the boxes?"),
        make("p", { class: "cl-hint" }, "Click an AP to read the cascade that way. " +
          "The plain setting, which is what the detector does by itself, has a dashed rim."), matrix,
        make("label", { class: "wi-line wi-ensemble" }, make("span", {}, "ensemble"), ensemble), ensembleHint,
        slider("score threshold", score, scoreValue), slider("NMS IoU", nms, nmsValue), addedLabel),
      make("div", { class: "wi-view" },
        make("div", { class: "wi-turn" }, "picture", arrow("‹", "Previous picture", -1), chooser, arrow("›", "Next picture", 1)),
        stageBox, status, legend,
        make("div", { class: "cl-tools" }, make("label", {}, "show", layer), showPlainLabel),
        make("div", { class: "wi-training" }, slider("a positive needs IoU", positive, positiveValue),
          make("p", { class: "cl-hint" }, "IoU thresholds act in training: there they decide which boxes a stage " +
            "learns to call an object. The model is trained, so this slider moves no box and no AP. " +
            "It only recolours who would be a positive."))),
      make("div", { class: "wi-numbers" },
        makeTable(["", "this setting", "plain", "difference"], rows, { class: "wi-scores" }),
        make("p", { class: "cl-hint" }, `Box AP in percent over all ${pictures.length} pictures, ${objects} objects, ` +
          "counted in the browser by the rules of COCO. On so few pictures a point more or less says little."))),
    help, live);
  el.replaceChildren(root);
  const { put, schedule, stop } = follow(model, TRAITS, stageBox, paint);

  const bitmaps = pictures.map(() => null);
  pictures.forEach(async (one, index) => {
    bitmaps[index] = await decodePicture(one.picture);
    if (index === get("picture")) schedule();
  });

  // ---- hands
  function turn(step) {
    put({ picture: clamp(get("picture") + step, 0, pictures.length - 1) });
  }

  function find({ key, target }) {
    const letter = key.toLowerCase();
    return letter === "r" ? () => put(about.plain)
      : letter === "g" ? () => put({ targets_added: !get("targets_added") })
      : letter === "p" ? () => put({ show_plain: !get("show_plain") })
      : target !== canvas ? null
      : key === "ArrowRight" ? () => turn(1)
      : key === "ArrowLeft" ? () => turn(-1)
      : key === "Home" ? () => turn(-pictures.length)
      : key === "End" ? () => turn(pictures.length) : null;
  }

  // ---- AP: one reading at a time, with room between them for the hand
  const scoresOf = (choice) => known.get(scoreKey(choice));

  function measureNext() {
    clearTimeout(waiting);
    const choice = choiceNow();
    const wanted = [choice, about.plain, ...radios.map(({ values }) => ({ ...choice, ...values }))];
    const next = wanted.find((one) => !scoresOf(one));
    if (scoresOf(choice) && scoresOf(about.plain)) paintScores();
    if (next) waiting = setTimeout(() => { known.set(scoreKey(next), measure(pictures, next, about)); measureNext(); });
  }

  function paintScores() {
    const choice = choiceNow(), now = scoresOf(choice), plain = scoresOf(about.plain);
    for (const row of rows) {
      const name = row.dataset.name, whole = name === "detections", difference = now[name] - plain[name];
      const texts = whole ? [now[name], plain[name], difference ? `${difference < 0 ? "−" : "+"}${Math.abs(difference)}` : "0"]
        : [percent(now[name]), percent(plain[name]), gain(difference)];
      [now[name], plain[name], difference].forEach((value, i) => {
        row.children[i + 1].textContent = texts[i];
        row.children[i + 1].dataset.value = value;
      });
    }
    for (const { input, value, label, values } of radios) {
      const scores = scoresOf({ ...choice, ...values });
      value.textContent = scores ? percent(scores.AP) : "…";
      input.setAttribute("aria-label", scores ? `${label}, AP ${percent(scores.AP)}` : label);
    }
    const key = keyOf(choice);
    if (root.dataset.measured === key) return;
    root.dataset.measured = key; // whose AP stands there now, for tests
    live.textContent = `AP ${percent(now.AP)}, ${gain(now.AP - plain.AP)} against the plain setting`;
  }

  // ---- painting
  function paint() {
    paintCanvas();
    paintControls();
    measureNext();
    root.dataset.painted = JSON.stringify(TRAITS.map(get)); // what the picture shows now, for tests
  }

  function paintCanvas() {
    const one = current(), bitmap = bitmaps[get("picture")], choice = choiceNow(), least = get("positive_iou");
    const { context, width, height, scale } = fitCanvas(canvas, stageBox, one.size);
    if (bitmap) context.drawImage(scaledPicture(one, bitmap, canvas), 0, 0, width, height);
    const corners = (boxes, at) => [0, 1, 2, 3].map((i) => boxes[at + i] * scale);
    const faint = (sure) => 0.15 + 0.85 * sure; // nobody can see through hundreds of unlikely boxes
    if (get("show_plain")) {
      for (const { at, score: sure } of detect(one, about.plain, about).reverse()) {
        strokeBoxes(context, [corners(one.boxes, at)], about.styles.plain, 1.5, faint(sure));
      }
    }
    strokeBoxes(context, [...one.targetLabels.keys()].map((g) => corners(one.targets, g * 4)), about.styles.target, 1.25);
    const detections = get("layer") === "detections", found = detect(one, choice, about);
    const shown = detections ? found.map(({ at, score: sure }) => ({ at, alpha: faint(sure) }))
      : enteringAt(one, cellOf(choice)[1], choice.targets_added).map((at) => ({ at, alpha: 1 }));
    const boxes = detections ? one.boxes : one.entering;
    for (const box of shown) box.iou = bestIou(one, boxes, box.at);
    for (const box of [...shown].reverse()) { // the best on top
      const yes = box.iou >= least, alpha = detections || yes ? box.alpha : 0.2;
      strokeBoxes(context, [corners(boxes, box.at)], yes ? about.styles.positive : about.styles.negative, 2, alpha);
    }
    const taken = [];
    if (detections) found.slice(0, MOST_LABELS).forEach((d, i) => {
      if (d.score < LEAST_LABELLED) return;
      const text = `${about.classes[d.label]} ${two(d.score)} · IoU ${two(shown[i].iou)}`;
      const spot = labelSpot(context, text, corners(boxes, d.at), [width, height], taken);
      if (spot) tag(context, text, ...spot, (shown[i].iou >= least ? about.styles.positive : about.styles.negative).color);
    });
    tell(shown.length, shown.filter(({ iou: value }) => value >= least).length);
  }

  function tell(total, positives) {
    const stage = cellOf(choiceNow())[1] + 1, several = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
    const boxes = get("layer") === "detections" ? several(total, "detection") : `${total} boxes enter stage ${stage}`;
    const texts = [boxes, `${positives} would be positive`, several(current().targetLabels.length, "object")];
    status.replaceChildren(make("strong", {}, texts[0]), make("span", {}, texts[1]), make("span", {}, texts[2]));
    const which = `Picture ${get("picture") + 1} of ${pictures.length}`;
    const words = `${texts[0]}, ${texts[1]} at IoU ${two(get("positive_iou"))}, ${texts[2]}`;
    canvas.setAttribute("aria-label", `${which}, ${choiceWords(choiceNow(), about)}: ${words}. ` +
      "Arrow keys left and right change the picture.");
    if (told !== get("picture")) live.textContent = `${which}: ${words}`;
    told = get("picture");
  }

  function paintControls() {
    const choice = choiceNow(), [, stage] = cellOf(choice), alone = choice.foreign.length || choice.stages === 1;
    summary.textContent = (isPlain() ? "Plain setting: " : "What if: ") + choiceWords(choice, about).replace(" > ", "\u00a0>\u00a0");
    chooser.value = get("picture");
    fillOptions(layer, [["detections", "detections"], ["entering", `boxes that enter stage ${stage + 1}`]], get("layer"));
    radios.forEach(({ input, values }) => {
      input.checked = keyOf({ ...choice, ...values }) === keyOf(choice);
      input.parentElement.classList.toggle("wi-plain", keyOf({ ...about.plain, ...values }) === keyOf(about.plain));
    });
    ensemble.value = choice.ensemble;
    ensemble.disabled = alone;
    ensembleHint.textContent = alone ? "One head alone: there is nothing to average." : about.ensemble_hints[choice.ensemble];
    const sliders = [
      [score, scoreValue, "score_threshold"], [nms, nmsValue, "nms_iou"], [positive, positiveValue, "positive_iou"],
    ];
    for (const [input, output, name] of sliders) {
      input.value = get(name);
      output.textContent = two(get(name));
      input.setAttribute("aria-valuetext", two(get(name)));
    }
    added.checked = get("targets_added");
    showPlain.checked = get("show_plain");
    back.setAttribute("aria-disabled", isPlain()); // disabled outright it would lose the focus on the click
    const u = two(get("positive_iou"));
    const key = (name, text) => make("span", {}, swatch(about.styles[name]), " ", text);
    legend.replaceChildren(
      key("positive", `IoU ≥ ${u} with any object: would be a positive`), key("negative", `IoU < ${u}`),
      key("target", "object"),
      make("span", {}, get("layer") === "detections" ? "paler: a lower score" : "paler: negatives"));
  }

  schedule();
  return () => {
    clearTimeout(waiting);
    stop();
  };
}

export default { render };
