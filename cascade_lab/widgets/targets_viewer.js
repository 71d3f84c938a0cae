// The targets viewer in the browser: five tabs over one picture, each with its sliders, its drawing and its panel.
// A tab is an object of pure functions of the view and of the state; render() at the end ties them to the page.

const NUMBERS = ["level", "source", "cell", "sample", "box", "bin", "step"]; // those that others depend on come first
const TRAITS = ["picture", "tab", ...NUMBERS, "zoom", "show_negatives"];
const MARGIN = 2; // cells of the feature map shown around a box
const NEAR_MISSES = 3; // waiting boxes of NMS whose IoU is listed too
const MOST_LABELS = 5; // fallen boxes labelled on the picture; the panel lists all

// ---------------------------------------------------------------- numbers: no DOM below this line

function decode(raw) {
  const { anchors, reading } = raw;
  let first = 0;
  const starts = anchors.grids.map(([rows, columns]) => {
    const at = first;
    first += rows * columns * anchors.shapes;
    return at;
  });
  return {
    ...raw,
    targets: corners(raw.targets),
    anchors: {
      ...anchors, starts, boxes: corners(anchors.boxes), iou: floats(anchors.iou),
      target: integers(anchors.target_index),
    },
    samples: raw.samples.map((one) => ({
      ...one, boxes: corners(one.boxes), iou: floats(one.iou), isTarget: integers(one.is_target),
      entering: floats(one.entering_iou),
    })),
    reading: {
      ...reading, boxes: corners(reading.boxes), levels: integers(reading.levels), rows: floats(reading.rows),
      columns: floats(reading.columns), pooled: floats(reading.pooled),
      maps: reading.maps.map(({ size, values }) => ({ size, values: floats(values) })),
    },
    suppression: raw.suppression.map((one) => {
      const by = integers(one.by), kept = [...by.keys()].filter((box) => by[box] < 0);
      return { ...one, boxes: corners(one.boxes), scores: floats(one.scores), by, kept };
    }),
  };
}

function corners(bytes) {
  const values = floats(bytes);
  return Array.from({ length: values.length / 4 }, (_, i) => cornersOf(values, i));
}

const one = (value) => value.toFixed(1);
const three = (value) => value.toFixed(3);
const sides = ([x1, y1, x2, y2]) => [x2 - x1, y2 - y1];
const size = (box) => sides(box)[0] * sides(box)[1];

function percent(ious, least) {
  const enough = ious.filter((value) => value >= Math.fround(least)).length; // the IoUs are float32
  return Math.round((100 * enough) / (ious.length || 1));
}

// The smallest box at a place, or, if ``chosen`` is among those there, the next larger one; else ``chosen``.
function boxUnder(boxes, chosen, x, y) {
  const holds = ([x1, y1, x2, y2]) => x >= x1 && x <= x2 && y >= y1 && y <= y2;
  const under = [...boxes.keys()].filter((box) => holds(boxes[box]));
  under.sort((a, b) => size(boxes[a]) - size(boxes[b]));
  return under.length ? under[(under.indexOf(chosen) + 1) % under.length] : chosen;
}

// Row and column of a number that counts along rows of this length.
const rowColumn = (number, columns) => [Math.floor(number / columns), number % columns];

// The largest value of every whole-numbered trait; some depend on others.
function last(view, state, name) {
  const [rows, columns] = view.anchors.grids[state.level];
  const counts = {
    level: view.anchors.grids.length, cell: rows * columns, source: view.samples.length,
    sample: view.samples[state.source].boxes.length, box: view.reading.boxes.length, bin: view.reading.bins ** 2,
    step: view.suppression[state.level].kept.length,
  };
  return Math.max(counts[name] - 1, 0);
}

const cellAnchors = ({ starts, shapes }, level, cell) =>
  Array.from({ length: shapes }, (_, i) => starts[level] + cell * shapes + i);

function anchorKind({ target, iou: ious, positive_iou }, anchor) {
  if (target[anchor] < 0) return target[anchor] === -1 ? "negative" : "unused";
  return ious[anchor] < Math.fround(positive_iou) ? "rescued" : "positive";
}

function verdict(view, anchor) {
  const kind = anchorKind(view.anchors, anchor), name = view.target_names[view.anchors.target[anchor]];
  return {
    negative: "negative", unused: "neither", positive: `positive for ${name}`, rescued: `positive for ${name}, rescued`,
  }[kind];
}

function levelOf(view, box, zoom) {
  const { reading } = view, [w, h] = sides(reading.boxes[box]).map((side) => side * zoom), side = Math.sqrt(w * h);
  const height = Math.log2(side / reading.canonical_size + 1e-6);
  return { w, h, side, height, level: clamp(Math.floor(height), 0, reading.strides.length - 1) };
}

// Where one bin of a box takes its samples, in cells of the map; 0 is the middle of the first cell.
function binSamples({ reading }, box, bin) {
  const at = (values, most, place) => {
    const first = (box * reading.bins + place) * most;
    return [...values.subarray(first, first + most)].filter(Number.isFinite);
  };
  const [down, across] = reading.most_samples;
  const [row, column] = rowColumn(bin, reading.bins);
  return { rows: at(reading.rows, down, row), columns: at(reading.columns, across, column) };
}

function bilinear({ size: [rows, columns], values }, y, x) {
  y = clamp(y, 0, rows - 1);
  x = clamp(x, 0, columns - 1);
  const y0 = Math.floor(y), x0 = Math.floor(x), y1 = Math.min(y0 + 1, rows - 1), x1 = Math.min(x0 + 1, columns - 1);
  const value = (r, c) => values[r * columns + c], mix = (r) => value(r, x0) * (1 - (x - x0)) + value(r, x1) * (x - x0);
  return mix(y0) * (1 - (y - y0)) + mix(y1) * (y - y0);
}

// The part of a feature map that is shown: the box and a margin, in whole cells.
function mapWindow(view, box) {
  const { reading } = view, level = reading.levels[box], [rows, columns] = reading.maps[level].size;
  const [x1, y1, x2, y2] = reading.boxes[box].map((value) => value / reading.strides[level]);
  const left = clamp(Math.floor(x1) - MARGIN, 0, columns - 1), top = clamp(Math.floor(y1) - MARGIN, 0, rows - 1);
  return {
    left, top, columns: Math.min(Math.ceil(x2) + MARGIN, columns) - left, rows: Math.min(Math.ceil(y2) + MARGIN, rows) - top,
    corners: [x1, y1, x2, y2], level,
  };
}

function stepOf(view, level, step) {
  const nms = view.suppression[level], best = nms.kept[step], before = nms.kept.slice(0, step);
  const decided = (box) => before.includes(box) || before.includes(nms.by[box]);
  const others = [...nms.by.keys()].filter((box) => box !== best && !decided(box));
  const fallen = others.filter((box) => nms.by[box] === best), waiting = others.filter((box) => nms.by[box] !== best);
  return { nms, best, before, others, fallen, waiting };
}

// ---------------------------------------------------------------- small pieces of the panel and of the drawing

// What the arrow keys do to a trait that counts along rows of the length ``down``.
const arrows = (name, value, down = 1) => ({
  ArrowLeft: { [name]: value - 1 }, ArrowRight: { [name]: value + 1 },
  ArrowUp: { [name]: value - down }, ArrowDown: { [name]: value + down },
});

const paragraph = (text, name = "") => make("p", name ? { class: name } : {}, text);

// A row is a list of texts; the head of row ``now`` and the rest of it are marked.
function table(heads, rows, now = -1) {
  return makeTable(heads, rows.map(([head, ...cells], index) =>
    makeRow({ class: index === now && "tv-now" }, [head].flat(), cells)));
}

const legend = (view, names) => make("div", { class: "tv-legend", "aria-label": "Legend" },
  ...names.map(([look, text]) => make("span", {}, swatch(view.looks[look]), text)));

function dots(context, points, radius, fill) {
  context.beginPath();
  for (const [x, y] of points) {
    context.moveTo(x + radius, y);
    context.arc(x, y, radius, 0, 7);
  }
  context.fillStyle = fill;
  context.fill();
}

function gridLines(context, step, width, height) {
  context.beginPath();
  for (let x = step; x < width; x += step) { context.moveTo(x, 0); context.lineTo(x, height); }
  for (let y = step; y < height; y += step) { context.moveTo(0, y); context.lineTo(width, y); }
  context.strokeStyle = "rgba(255, 255, 255, 0.45)";
  context.lineWidth = 1;
  context.stroke();
}

// What stays while a slider moves is drawn once per name and canvas size: a hundred dashed boxes take a while.
function drawStill(view, name, context, width, height, draw) {
  const { width: w, height: h } = context.canvas;
  if (view.still?.name !== name || view.still.width !== w || view.still.height !== h) {
    const layer = make("canvas", { width: w, height: h }), onto = layer.getContext("2d");
    onto.setTransform(context.getTransform());
    draw(onto);
    view.still = { name, width: w, height: h, layer };
  }
  context.drawImage(view.still.layer, 0, 0, width, height);
}

// ---------------------------------------------------------------- the tabs
// sliders: [trait, label, words]; choices: [trait, label, options]; draw gets boxes in pixels of the screen;
// keys: what the arrows do to the traits; pick: what a click at (x, y), in pixels of the picture, does.

const ANCHORS = {
  title: "Anchors",
  choices: (view) => [["level", "Level", view.anchors.names]],
  sliders: (view, { level, cell }) => {
    const [row, column] = rowColumn(cell, view.anchors.grids[level][1]);
    return [["cell", "Cell", `row ${row}, column ${column}`]];
  },
  keys: (view, { level, cell }) => arrows("cell", cell, view.anchors.grids[level][1]),
  pick: (view, { level }, x, y) => {
    const [rows, columns] = view.anchors.grids[level], stride = view.anchors.strides[level];
    const [row, column] = [clamp(Math.round(y / stride), 0, rows - 1), clamp(Math.round(x / stride), 0, columns - 1)];
    return { cell: row * columns + column };
  },
  draw: ({ context, view, state: { level, cell }, scale, onScreen }) => {
    const stride = view.anchors.strides[level], [rows, columns] = view.anchors.grids[level];
    const at = (index) => rowColumn(index, columns).reverse().map((place) => place * stride * scale);
    dots(context, Array.from({ length: rows * columns }, (_, index) => at(index)), 1.5, "rgba(255, 255, 255, 0.75)");
    const { boxes, iou: ious, starts, shapes, target } = view.anchors, mine = cellAnchors(view.anchors, level, cell);
    const place = (anchor) => onScreen(boxes[anchor]), look = (anchor) => view.looks[anchorKind(view.anchors, anchor)];
    for (let anchor = starts[level]; anchor < starts[level] + rows * columns * shapes; anchor += 1) {
      if (target[anchor] < 0 || mine.includes(anchor)) continue;
      strokeBoxes(context, [place(anchor)], look(anchor), 1.5, 0.45);
    }
    for (const anchor of mine) strokeBoxes(context, [place(anchor)], look(anchor), 2.5);
    dots(context, [at(cell)], 5, "#000");
    dots(context, [at(cell)], 3.5, view.looks.now.color);
    return mine.map((anchor) => [`IoU ${two(ious[anchor])}`, place(anchor), look(anchor)]);
  },
  words: (view, { level, cell }) => {
    const [row, column] = rowColumn(cell, view.anchors.grids[level][1]), stride = view.anchors.strides[level];
    return `Cell in row ${row}, column ${column} of level ${view.anchors.names[level]}. ` +
      `Its anchors are centred on x ${column * stride}, y ${row * stride}.`;
  },
  lines: (view, { level, cell }) => cellAnchors(view.anchors, level, cell).map((anchor) => {
    const [w, h] = sides(view.anchors.boxes[anchor]);
    const text = `${one(w)} × ${one(h)}: best IoU ${two(view.anchors.iou[anchor])}, ${verdict(view, anchor)}`;
    return [anchorKind(view.anchors, anchor), text];
  }),
  panel: (view, state) => {
    const { positive_iou, negative_iou, grids, shapes, target, names } = view.anchors;
    const counts = grids.map(([rows, columns], level) => {
      const from = view.anchors.starts[level], part = target.subarray(from, from + rows * columns * shapes);
      const count = (test) => part.filter(test).length;
      return [part.length, count((t) => t >= 0), count((t) => t === -1), count((t) => t === -2)];
    });
    return [
      ...ANCHORS.lines(view, state).map(([kind, text]) => make("p", { class: "tv-line" }, swatch(view.looks[kind]), text)),
      paragraph(`Positive from IoU ${positive_iou} up, negative below ${negative_iou}, between them neither: no loss ` +
        "looks at it. The best anchor of an object that none fits is rescued.", "cl-hint"),
      table(["level", "anchors", "positive", "negative", "neither"],
        counts.map((row, level) => [names[level], ...row.map(String)]), state.level),
      legend(view, [["object", "object"], ["positive", "positive"], ["rescued", "rescued"], ["negative", "negative"],
        ["unused", "neither"]]),
      paragraph("The faint boxes are the other positive anchors of this level.", "cl-hint"),
    ];
  },
};

const SAMPLES = {
  title: "Samples",
  choices: (view) => [["source", "Loss of", view.samples.map(({ name }) => name)]],
  sliders: (view, { source, sample }) => [["sample", "Box", `${sample + 1} of ${view.samples[source].boxes.length}`]],
  keys: (view, { sample }) => arrows("sample", sample),
  pick: (view, { source, sample }, x, y) => ({ sample: boxUnder(view.samples[source].boxes, sample, x, y) }),
  switches: [["show_negatives", "Negatives"]],
  draw: ({ context, view, state: { source, sample, show_negatives }, width, height, onScreen }) => {
    const { boxes, positives, iou: ious } = view.samples[source], kind = sample < positives ? "positive" : "negative";
    drawStill(view, `loss ${source} ${show_negatives}`, context, width, height, (onto) => {
      if (show_negatives) strokeBoxes(onto, boxes.slice(positives).map(onScreen), view.looks.negative, 1.25, 0.35);
      strokeBoxes(onto, boxes.slice(0, positives).map(onScreen), view.looks.positive, 2.25);
    });
    if (!boxes.length) return [];
    strokeBoxes(context, [onScreen(boxes[sample])], { ...view.looks[kind], color: view.looks.now.color }, 3.5);
    return [[`${kind}, IoU ${two(ious[sample])}`, onScreen(boxes[sample]), view.looks.now]];
  },
  words: (view, { source, sample }) => {
    const { boxes, isTarget, positives, positive_iou, iou: ious } = view.samples[source];
    const words = `Box ${sample + 1} of ${boxes.length}`, value = two(ious[sample]);
    if (!boxes.length) return "No box.";
    if (isTarget[sample]) return `${words}: positive, an object's own box that was put among the proposals.`;
    if (sample >= positives) return `${words}: negative, its best IoU is ${value}.`;
    const rescued = ious[sample] < Math.fround(positive_iou) ? ", rescued" : "";
    return `${words}: positive${rescued}, IoU ${value} with its object.`;
  },
  panel: (view, { source }) => {
    const losses = view.samples, now = losses[source], taken = ({ positives, boxes }) => [positives, boxes.length - positives];
    const between = now.positive_iou === now.negative_iou ? "negative below it"
      : `negative below ${now.negative_iou}, neither between them`;
    return [
      paragraph(`In the loss of ${now.name}, a box is positive from IoU ${now.positive_iou} up, ${between}. ` +
        `The sampler takes ${now.rule}.`),
      make("h3", {}, "Boxes to choose from, and sampled"),
      table(["", "positive", "negative", "neither", "sampled +", "sampled −"],
        losses.map((one) => [one.name, ...[...one.available, ...taken(one)].map(String)]), source),
      make("h3", {}, "How good are the boxes to choose from?"),
      table(["share with", "IoU ≥ .5", "≥ .6", "≥ .7"],
        losses.map((one) => [one.name, ...[0.5, 0.6, 0.7].map((least) => `${percent(one.entering, least)} %`)]), source),
      paragraph("Shares are of proposals alone; the counts above include the objects' own boxes, which are put among " +
        "the proposals of every stage.", "cl-hint"),
      legend(view, [["object", "object"], ["positive", "positive"], ["negative", "negative, drawn faint"],
        ["now", "chosen"]]),
    ];
  },
};

const boxSlider = (view, { box }) => ["box", "Box", view.reading.names[box] ?? "none"];

const LEVELS = {
  title: "Pyramid level",
  choices: () => [],
  sliders: (view, state) => [boxSlider(view, state), ["zoom", "Enlarge the picture", `× ${two(state.zoom)}`]],
  keys: (view, { box, zoom }) => ({
    ...arrows("box", box), ArrowUp: { zoom: zoom * 2 ** ZOOMS.step }, ArrowDown: { zoom: zoom / 2 ** ZOOMS.step },
  }),
  pick: (view, { box }, x, y) => ({ box: boxUnder(view.reading.boxes, box, x, y) }),
  draw: ({ context, view, state: { box, zoom }, scale, width, height, onScreen }) => {
    if (!view.reading.boxes.length) return [];
    const { level } = levelOf(view, box, zoom), look = view.looks[`level ${level % 5}`];
    gridLines(context, (view.reading.strides[level] / zoom) * scale, width, height);
    strokeBoxes(context, [onScreen(view.reading.boxes[box])], look, 3);
    return [[`level ${view.anchors.names[level]}`, onScreen(view.reading.boxes[box]), look]];
  },
  formula: (view, { box, zoom }) => {
    const { reading } = view, { w, h, side, height, level } = levelOf(view, box, zoom);
    const edge = reading.canonical_size, cell = reading.strides[level];
    return [
      `Side of ${reading.names[box]}: √(${one(w)} × ${one(h)}) = ${one(side)} pixels`,
      `log2(${one(side)} / ${edge}) = ${two(height)}, rounded down ${Math.floor(height)}, ` +
        `kept within 0 … ${reading.strides.length - 1}`,
      `Level of ${reading.names[box]}: ${view.anchors.names[level]}, where a cell is ${cell} pixels wide.`,
    ];
  },
  words: (view, state) => (view.reading.boxes.length ? LEVELS.formula(view, state)[2] : "No box."),
  panel: (view, state) => {
    if (!view.reading.boxes.length) return [];
    const { reading, anchors } = view, { level, w, h } = levelOf(view, state.box, state.zoom);
    const edge = reading.canonical_size, top = reading.strides.length - 1, cell = reading.strides[level];
    const levels = reading.boxes.map((_, box) => levelOf(view, box, state.zoom).level);
    const range = (k) => {
      if (k === 0) return `under ${2 * edge}`;
      return k === top ? `${edge * 2 ** k} or more` : `${edge * 2 ** k} to ${edge * 2 ** (k + 1)}`;
    };
    const name = (k) => [swatch(view.looks[`level ${k % 5}`]), ` ${anchors.names[k]}`];
    return [
      // the headline says the third line
      ...LEVELS.formula(view, state).slice(0, 2).map((text) => paragraph(text, "tv-formula")),
      paragraph(`On its level the box covers ${one(w / cell)} × ${one(h / cell)} cells.`),
      table(["level", "side of the box in pixels", "boxes here"],
        reading.strides.map((_, k) => [name(k), range(k), String(levels.filter((one) => one === k).length)]), level),
      paragraph("The thin lines are the cells of that level. Enlarge the picture: the box grows in pixels, and the " +
        "level changes so that it always covers a similar number of cells.", "cl-hint"),
    ];
  },
};

const BINS = {
  title: "RoIAlign bins",
  choices: () => [],
  sliders: (view, state) => {
    const [row, column] = rowColumn(state.bin, view.reading.bins);
    return [boxSlider(view, state), ["bin", "Bin", `row ${row}, column ${column}`]];
  },
  keys: (view, { bin }) => arrows("bin", bin, view.reading.bins),
  region: (view, { box }) => { const { rows, columns } = mapWindow(view, box); return [rows, columns]; },
  pick: (view, { box }, x, y) => {
    if (!view.reading.boxes.length) return {};
    const { left, top, corners: [x1, y1, x2, y2] } = mapWindow(view, box), { bins } = view.reading;
    const column = Math.floor(((x + left - x1) / (x2 - x1)) * bins);
    const row = Math.floor(((y + top - y1) / (y2 - y1)) * bins);
    return column >= 0 && column < bins && row >= 0 && row < bins ? { bin: row * bins + column } : {};
  },
  draw: ({ context, view, state: { box, bin }, scale }) => {
    if (!view.reading.boxes.length) return [];
    const { left, top, rows, columns, corners: [x1, y1, x2, y2], level } = mapWindow(view, box);
    const { bins, maps } = view.reading;
    const map = maps[level], low = Math.min(...map.values), high = Math.max(...map.values);
    for (let r = 0; r < rows; r += 1) {
      for (let c = 0; c < columns; c += 1) {
        const shade = 24 + (206 * (map.values[(r + top) * map.size[1] + c + left] - low)) / (high - low || 1);
        context.fillStyle = `rgb(${shade}, ${shade}, ${shade})`;
        context.fillRect(c * scale, r * scale, scale - 1, scale - 1);
      }
    }
    const x = (value) => (value - left) * scale, y = (value) => (value - top) * scale;
    const w = (x2 - x1) / bins, h = (y2 - y1) / bins;
    const cellAt = (number) => {
      const [row, column] = rowColumn(number, bins);
      return [x(x1 + column * w), y(y1 + row * h), x(x1 + (column + 1) * w), y(y1 + (row + 1) * h)];
    };
    const every = Array.from({ length: bins * bins }, (_, number) => number);
    strokeBoxes(context, every.map(cellAt), { color: view.looks.now.color, dash: [] }, 1);
    const points = (number) => {
      const at = binSamples(view, box, number);
      return at.rows.flatMap((r) => at.columns.map((c) => [x(c + 0.5), y(r + 0.5)]));
    };
    dots(context, every.flatMap(points), 2.5, "#000");
    dots(context, every.flatMap(points), 1.6, view.looks.rescued.color);
    strokeBoxes(context, [cellAt(bin)], view.looks.bin, 2.5);
    const chosen = binSamples(view, box, bin);
    for (const r of chosen.rows) { // from each sample to the middles of the four cells that it mixes
      for (const c of chosen.columns) {
        context.beginPath();
        for (const [dy, dx] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
          context.moveTo(x(c + 0.5), y(r + 0.5));
          context.lineTo(x(Math.floor(c) + dx + 0.5), y(Math.floor(r) + dy + 0.5));
        }
        context.strokeStyle = view.looks.bin.color;
        context.lineWidth = 1;
        context.stroke();
      }
    }
    dots(context, points(bin), 5, "#000");
    dots(context, points(bin), 3.5, view.looks.bin.color);
    return [];
  },
  words: (view, { box, bin }) => {
    if (!view.reading.boxes.length) return "No box.";
    const { reading, anchors } = view, { rows, columns } = binSamples(view, box, bin), { bins } = reading;
    const [row, column] = rowColumn(bin, bins);
    return `Bin in row ${row}, column ${column} of ${reading.names[box]}, on level ${anchors.names[reading.levels[box]]}: ` +
      `${rows.length} × ${columns.length} samples, mean ${three(reading.pooled[box * bins * bins + bin])}.`;
  },
  panel: (view, { box, bin }) => {
    if (!view.reading.boxes.length) return [];
    const { reading } = view, { rows, columns } = binSamples(view, box, bin), map = reading.maps[reading.levels[box]];
    const found = rows.flatMap((r) => columns.map((c) => [r, c, bilinear(map, r, c)]));
    return [
      table(["sample", "row", "column", "value"],
        found.map(([r, c, value], i) => [String(i + 1), two(r), two(c), three(value)])),
      paragraph(`Mean of the ${found.length}: ${three(mean(found.map(([, , value]) => value)))}. ` +
        `The head reads ${reading.bins} × ${reading.bins} such means.`, "cl-headline"),
      paragraph("The grey squares are cells of the feature map, the mean over its channels: dark is low, light is high. " +
        "The dots are samples; each mixes the middles of the four nearest cells, to which the lines of the chosen bin " +
        "lead. No corner is rounded.", "cl-hint"),
      legend(view, [["now", "bins of the box"], ["bin", "chosen bin and its samples"]]),
    ];
  },
};

const NMS = {
  title: "NMS",
  choices: ({ anchors, suppression }) =>
    [["level", "Level", anchors.names.map((name, k) => `${name}: ${suppression[k].boxes.length} boxes`)]],
  sliders: (view, { level, step }) => [["step", "Step", `${step + 1} of ${view.suppression[level].kept.length}`]],
  keys: (view, { step }) => arrows("step", step),
  draw: ({ context, view, state: { level, step }, onScreen }) => {
    if (!view.suppression[level].kept.length) return [];
    const { nms, best, before, fallen, waiting } = stepOf(view, level, step);
    const place = (list) => list.map((box) => onScreen(nms.boxes[box]));
    const label = (box) => [`IoU ${two(iou(nms.boxes[best], nms.boxes[box]))}`, ...place([box]), view.looks.fallen];
    strokeBoxes(context, place(waiting), view.looks.waiting, 1, 0.55);
    strokeBoxes(context, place(before), view.looks.kept, 1.75, 0.8);
    strokeBoxes(context, place(fallen), view.looks.fallen, 2);
    strokeBoxes(context, place([best]), view.looks.now, 3);
    return [[`box ${best + 1} stays`, ...place([best]), view.looks.now], ...fallen.slice(0, MOST_LABELS).map(label)];
  },
  words: (view, { level, step }) => {
    if (!view.suppression[level].kept.length) return `There are no boxes on level ${view.anchors.names[level]}.`;
    const { nms, best, others, fallen } = stepOf(view, level, step);
    return `Step ${step + 1} of ${nms.kept.length}: box ${best + 1}, score ${three(nms.scores[best])}, stays. ` +
      `${fallen.length} of ${others.length} waiting boxes overlap it by more than ${nms.threshold} and fall.`;
  },
  panel: (view, { level, step }) => {
    if (!view.suppression[level].kept.length) return [];
    const { nms, best, fallen, waiting } = stepOf(view, level, step), overlap = (box) => iou(nms.boxes[best], nms.boxes[box]);
    const row = (box, end) => [`box ${box + 1}`, three(nms.scores[box]), two(overlap(box)), end];
    const near = [...waiting].sort((a, b) => overlap(b) - overlap(a)).slice(0, NEAR_MISSES);
    return [
      table(["", "score", "IoU", "what becomes of it"], [
        [`box ${best + 1}`, three(nms.scores[best]), "", "stays"],
        ...fallen.map((box) => row(box, "falls")), ...near.map((box) => row(box, "waits"))], 0),
      paragraph(`Of the waiting boxes the ${near.length} that overlap box ${best + 1} most are listed. ` +
        `The level's ${nms.boxes.length} best boxes take part.`, "cl-hint"),
      legend(view, [["now", "stays in this step"], ["fallen", "falls to it"], ["kept", "stayed before"],
        ["waiting", "waits"], ["object", "object"]]),
    ];
  },
};

const TABS = { anchors: ANCHORS, samples: SAMPLES, levels: LEVELS, bins: BINS, nms: NMS };
const ZOOMS = { min: -2, max: 4, step: 0.25 }; // powers of two

// ---------------------------------------------------------------- the viewer

function render({ model, el }) {
  const views = model.get("_views").map(decode), group = `tabs-${Math.random().toString(36).slice(2)}`;
  let built = "", scale = 1;

  // What is shown: every number within its range, whatever was set from elsewhere a moment ago.
  const read = () => withinRange(Object.fromEntries(TRAITS.map((name) => [name, model.get(name)])));
  const change = (values) => put(withinRange({ ...read(), ...values }));
  function withinRange(state) {
    state.picture = clamp(state.picture, 0, views.length - 1);
    state.zoom = clamp(state.zoom, 2 ** ZOOMS.min, 2 ** ZOOMS.max);
    for (const name of NUMBERS) state[name] = clamp(state[name], 0, last(views[state.picture], state, name));
    return state;
  }

  // The number of a box means nothing in another picture; the level, the loss and the bin do.
  function changePicture(picture) {
    const { best_cells: cells } = views[picture].anchors, level = Math.min(read().level, cells.length - 1);
    change({ picture, level, cell: cells[level], sample: 0, box: 0, step: 0 });
  }

  // Another level: the cell at the same place of the picture.
  function changeLevel(value) {
    const { picture, level, cell } = read(), { strides, grids } = views[picture].anchors, [rows, columns] = grids[value];
    const [row, column] = rowColumn(cell, grids[level][1]).map((place) => Math.round((place * strides[level]) / strides[value]));
    change({ level: value, cell: clamp(row, 0, rows - 1) * columns + clamp(column, 0, columns - 1), step: 0 });
  }

  // ---- elements, top to bottom
  const pictures = pictureButtons(views, changePicture, () => schedule());
  const radios = Object.entries(TABS).map(([name, { title }]) => {
    const input = make("input", { type: "radio", name: group, value: name, onchange: () => put({ tab: name }) });
    return [input, make("label", { class: "tv-tab" }, input, title)];
  });
  const tabs = make("div", { class: "tv-tabs", role: "radiogroup", "aria-label": "What to look at" },
    ...radios.map(([, label]) => label));
  const canvas = make("canvas", {
    tabindex: 0, class: "cl-canvas", role: "application", "aria-roledescription": "picture",
  });
  const pictureBox = make("div", { class: "cl-picture" }, canvas);
  const controls = make("div", { class: "tv-controls" });
  const headline = make("p", { class: "cl-headline" });
  const panel = make("div", { class: "tv-panel" });
  const live = make("div", { class: "cl-hidden", "aria-live": "polite" });
  const help = keyboardHelp(
    [keycap("Tab"), " goes from control to control; ", keycap("←"), keycap("→"), " on the tabs choose what to look at"],
    [keycap("←"), keycap("→"), keycap("↑"), keycap("↓"),
      " on the picture: the next cell, box, bin or step; on a slider its value"],
    [keycap("Home"), keycap("End"), " on a slider: first and last"]);
  const source = make("span", { class: "cl-source" }, views.length > 1 ? "" : views[0].name);
  const attributes = { class: "cascade-lab targets-viewer", "aria-label": "Targets viewer", onkeydown: keyListener(find) };
  const root = make("section", attributes,
    make("div", { class: "cl-head" }, pictures.row, source),
    make("div", { class: "cl-body" },
      make("div", {}, tabs, pictureBox, controls, help),
      make("div", {}, headline, panel)), live);
  el.replaceChildren(root);
  const { put, schedule, stop } = follow(model, TRAITS, pictureBox, paint);

  // ---- controls: made anew with every tab and picture, so that a slider keeps the focus while it moves
  function buildControls(view, tab, state) {
    if (built === `${state.picture} ${state.tab}`) return;
    built = `${state.picture} ${state.tab}`;
    const row = (label, ...inputs) => make("label", { class: "tv-control" }, make("span", {}, label), ...inputs);
    controls.replaceChildren(...tab.choices(view).map(([name, label, options]) => {
      const pick = (value) => (name === "level" ? changeLevel(value) : change({ [name]: value }));
      const select = make("select", {
        "data-trait": name, "aria-label": label, onchange: () => pick(Number(select.value)),
      });
      fillOptions(select, options.map((text, value) => [value, text]), state[name]);
      return row(label, select);
    }), ...tab.sliders(view, state).map(([name, label]) => {
      const limits = name === "zoom" ? ZOOMS : { min: 0, step: 1 };
      const slider = make("input", {
        type: "range", class: "cl-slider", "data-trait": name, "aria-label": label, ...limits,
        oninput: () => change({ [name]: name === "zoom" ? 2 ** Number(slider.value) : Number(slider.value) }),
      });
      return row(label, slider, make("output", {}));
    }), ...(tab.switches ?? []).map(([name, label]) => {
      const box = make("input", { type: "checkbox", "data-trait": name, onchange: () => change({ [name]: box.checked }) });
      return row(label, box);
    }));
  }

  function paintControls(view, tab, state) {
    buildControls(view, tab, state);
    pictures.mark(state.picture);
    for (const select of controls.querySelectorAll("select")) select.value = state[select.dataset.trait];
    for (const box of controls.querySelectorAll("[type=checkbox]")) box.checked = state[box.dataset.trait];
    const sliders = tab.sliders(view, state);
    [...controls.querySelectorAll("[type=range]")].forEach((slider, i) => {
      const [name, , words] = sliders[i];
      if (name !== "zoom") slider.max = last(view, state, name);
      slider.value = name === "zoom" ? Math.log2(state.zoom) : state[name];
      slider.setAttribute("aria-valuetext", words);
      slider.style.setProperty("--filled", `${(100 * (slider.value - slider.min)) / (slider.max - slider.min || 1)}%`);
      slider.nextElementSibling.textContent = words;
    });
    radios.forEach(([input]) => { input.checked = input.value === state.tab; });
  }

  // ---- painting
  function paint() {
    const state = read(), view = views[state.picture], tab = TABS[state.tab], words = tab.words(view, state);
    paintCanvas(view, tab, state);
    paintControls(view, tab, state);
    headline.textContent = words;
    panel.replaceChildren(...tab.panel(view, state));
    canvas.setAttribute("aria-label", `${view.name}, ${tab.title}: ${words} Arrow keys move.`);
    if (live.textContent !== words) live.textContent = words;
    root.dataset.painted = TRAITS.map((name) => state[name]).join(":"); // what the picture shows now, for tests
  }

  function paintCanvas(view, tab, state) {
    const region = view.reading.boxes.length ? tab.region?.(view, state) : undefined;
    const bitmap = pictures.bitmaps[state.picture];
    const fit = fitCanvas(canvas, pictureBox, region ?? view.size), { context, width, height } = fit;
    scale = fit.scale;
    context.fillStyle = "#101010";
    context.fillRect(0, 0, width, height);
    const onScreen = (box) => box.map((value) => value * scale);
    if (!region) {
      if (bitmap) context.drawImage(scaledPicture(view, bitmap, canvas), 0, 0, width, height);
      strokeBoxes(context, view.targets.map(onScreen), view.looks.object, 1.5);
    }
    const taken = [];
    for (const [text, box, look] of tab.draw({ context, view, state, scale, width, height, onScreen })) {
      const spot = labelSpot(context, text, box, [width, height], taken);
      if (spot) tag(context, text, ...spot, look.color);
    }
  }

  // ---- hand and keyboard
  canvas.addEventListener("click", (event) => {
    const place = canvas.getBoundingClientRect(), state = read();
    const at = [(event.clientX - place.left) / scale, (event.clientY - place.top) / scale];
    change(TABS[state.tab].pick?.(views[state.picture], state, ...at) ?? {});
  });

  function find(event) {
    const state = read(), values = TABS[state.tab].keys(views[state.picture], state)[event.key];
    return event.target === canvas && values ? () => change(values) : null;
  }

  schedule();
  return stop;
}

export default { render };
