// The mask viewer in the browser: one picture, a grid of cells for each stage, their mean, a table of one cell.
// The rule of the paste is that of ops/masks.py: every pixel centre looks up its place in the grid.

const STEP = 0.05; // of the way, per arrow key
const PLACES = ["the grid itself", "stretched over the box", "one answer a pixel"];
const LAST = PLACES.length - 1;
const TRAITS = ["picture", "detection", "position", "threshold", "votes", "average", "row", "column", "show_target"];
const WHITE = { color: "#fff", dash: [] }, YELLOW = { color: "#F0E442", dash: [] }; // what is true, the chosen cell

// ---------------------------------------------------------------- numbers: no DOM below this line

function decode(raw) {
  const labels = integers(raw.labels);
  return {
    ...raw, labels, count: labels.length,
    boxes: floats(raw.boxes), // (D, 4)
    scores: floats(raw.scores), // (D,)
    logits: floats(raw.logits), // (V, D, S, S)
    targetIndex: integers(raw.target_index), // (D,)
    targetBits: new Uint8Array(slice(raw.target_masks)), // (M, H, W), eight pixels a byte
    kept: new Map(),
  };
}

const sigmoid = (value) => 1 / (1 + Math.exp(-value));
const cells = (view) => view.side * view.side;
const className = (view, detection) => view.classes[view.labels[detection]] ?? "object";

function logitsOf(view, stage, detection) {
  const start = (view.stages.indexOf(stage) * view.count + detection) * cells(view);
  return view.logits.subarray(start, start + cells(view));
}

// What an average and a pasted mask depend on, as names under which they are kept.
const averageKey = ({ detection, votes, average }) => `${detection} ${votes} ${average}`;
const pasteKey = (state) => `${averageKey(state)} ${state.threshold}`;

// Keep the last few results of a function of the view: painting asks for them in every frame.
function keep(view, key, work) {
  if (view.kept.has(key)) return view.kept.get(key);
  if (view.kept.size > 60) view.kept.clear();
  view.kept.set(key, work());
  return view.kept.get(key);
}

// The mean over the voting stages, after the sigmoid (official) or before it.
function averageOf(view, state) {
  const { detection, votes, average } = state;
  return keep(view, `mean ${averageKey(state)}`, () => {
    const voters = votes.map((stage) => logitsOf(view, stage, detection));
    return Float64Array.from({ length: cells(view) }, (_, i) => {
      const sum = voters.reduce((total, grid) => total + (average === "sigmoids" ? sigmoid(grid[i]) : grid[i]), 0);
      return average === "sigmoids" ? sum / voters.length : sigmoid(sum / voters.length);
    });
  });
}

// Where pixel ``at`` lies on the grid, in cells from the middle of the first; a box without extent: the middle.
function placeOn(side, at, low, high) {
  const place = ((at + 0.5 - low) / (high - low)) * 2 - 1;
  return (((Number.isFinite(place) ? place : 0) + 1) * side - 1) / 2;
}

function bilinear(grid, side, x, y) {
  const x0 = Math.floor(x), y0 = Math.floor(y), fx = x - x0, fy = y - y0;
  const at = (i, j) => (i < 0 || j < 0 || i >= side || j >= side ? 0 : grid[j * side + i]);
  const row = (y_) => at(x0, y_) * (1 - fx) + at(x0 + 1, y_) * fx;
  return row(y0) * (1 - fy) + row(y0 + 1) * fy;
}

// The pasted mask, kept as the part of the picture that it can reach: {left, top, columns, rows, inside}.
function pasteOf(view, state) {
  return keep(view, `paste ${pasteKey(state)}`, () => {
    const grid = averageOf(view, state), side = view.side, [height, width] = view.size;
    const [x1, y1, x2, y2] = cornersOf(view.boxes, state.detection);
    const left = clamp(Math.floor(x1) - 1, 0, width), columns = clamp(Math.ceil(x2) + 1, left, width) - left;
    const top = clamp(Math.floor(y1) - 1, 0, height), rows = clamp(Math.ceil(y2) + 1, top, height) - top;
    const places = Array.from({ length: columns }, (_, i) => placeOn(side, left + i, x1, x2));
    const inside = new Uint8Array(rows * columns);
    for (let y = 0; y < rows; y += 1) {
      const v = placeOn(side, top + y, y1, y2);
      for (let x = 0; x < columns; x += 1) {
        inside[y * columns + x] = bilinear(grid, side, places[x], v) >= state.threshold ? 1 : 0;
      }
    }
    return { left, top, columns, rows, inside };
  });
}

function targetOf(view, detection) {
  const target = view.targetIndex[detection];
  if (target < 0) return null;
  return keep(view, `target ${target}`, () => {
    const length = view.size[0] * view.size[1], first = target * length;
    const bit = (i) => (view.targetBits[i >> 3] >> (7 - (i & 7))) & 1;
    return Uint8Array.from({ length }, (_, i) => bit(first + i));
  });
}

// Pixels inside, and IoU with the true mask.
function measure(view, state) {
  return keep(view, `measure ${pasteKey(state)}`, () => {
    const { left, top, columns, rows, inside } = pasteOf(view, state), truth = targetOf(view, state.detection);
    let area = 0, shared = 0;
    for (let y = 0; y < rows; y += 1) {
      for (let x = 0; x < columns; x += 1) {
        if (!inside[y * columns + x]) continue;
        area += 1;
        if (truth?.[(top + y) * view.size[1] + left + x]) shared += 1;
      }
    }
    if (!truth) return { area, iou: NaN };
    const all = keep(view, `area ${view.targetIndex[state.detection]}`, () => truth.reduce((sum, one) => sum + one, 0));
    return { area, iou: shared / Math.max(1, area + all - shared) };
  });
}

const mixColors = (from, to, share) => [0, 1, 2].map((i) => Math.round(from[i] + (to[i] - from[i]) * share));
const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

function logitColor(view, value) {
  const share = clamp(Math.abs(value) / view.most_logit, 0, 1);
  return mixColors([255, 255, 255], rgb(value < 0 ? view.low_color : view.high_color), share);
}
const shareColor = (view, value) => mixColors([255, 255, 255], rgb(view.high_color), clamp(value, 0, 1));

// Lines round the cells of the average that reach the threshold.
function cellEdges(view, state) {
  const inside = averageOf(view, state).map((value) => (value >= state.threshold ? 1 : 0));
  return edgesOf(inside, view.side, view.side);
}

// ---------------------------------------------------------------- small pictures

function gridPicture(view, key, values, color) {
  const paint = (i) => [...color(view, values[i]), 255];
  return keep(view, `picture ${key}`, () => pixelPicture(view.side, view.side, paint));
}

function pixelPicture(width, height, color) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let i = 0; i < width * height; i += 1) image.data.set(color(i), i * 4);
  context.putImageData(image, 0, 0);
  return canvas;
}

// Lines between what is inside and what is not, as [x1, y1, x2, y2] in cells.
function edgesOf(inside, rows, columns) {
  const at = (x, y) => (x < 0 || y < 0 || x >= columns || y >= rows ? 0 : inside[y * columns + x]), lines = [];
  for (let y = 0; y <= rows; y += 1) {
    for (let x = 0; x <= columns; x += 1) {
      if (at(x, y) !== at(x, y - 1)) lines.push([x, y, x + 1, y]);
      if (at(x, y) !== at(x - 1, y)) lines.push([x, y, x, y + 1]);
    }
  }
  return lines;
}

function strokeEdges(context, lines, [x, y], [sx, sy], color, width, rim = "rgba(0, 0, 0, 0.6)") {
  context.beginPath();
  for (const [x1, y1, x2, y2] of lines) {
    context.moveTo(x + x1 * sx, y + y1 * sy);
    context.lineTo(x + x2 * sx, y + y2 * sy);
  }
  context.lineCap = "square";
  for (const [style, wide] of [[rim, width + 2], [color, width]]) {
    if (!style) continue;
    context.strokeStyle = style;
    context.lineWidth = wide;
    context.stroke();
  }
  context.lineCap = "butt";
}

// ---------------------------------------------------------------- the viewer

function render({ model, el }) {
  const views = model.get("_views").map(decode);
  const get = (name) => model.get(name);
  const view = () => views[get("picture")];
  const asked = ["detection", "votes", "average", "threshold"];
  const state = () => Object.fromEntries(asked.map((name) => [name, get(name)]));

  const moveTo = (value) => put({ position: Math.round(clamp(value, 0, LAST) * 1000) / 1000 });
  const goTo = (value) => { play.pause(); moveTo(value); }; // by hand
  const choose = (detection) => put({ detection: (detection + view().count) % view().count });
  const inside = (at) => clamp(at, 0, view().side - 1);
  const point = (row, column) => put({ row: inside(row), column: inside(column) });

  function vote(stage) {
    const now = get("votes"), next = view().stages.filter((one) => now.includes(one) !== (one === stage));
    put({ votes: next.length ? next : now }); // somebody has to vote; the box that was unticked is ticked again
  }

  // ---- elements, top to bottom
  const toPicture = (index) => { play.pause(); put({ picture: index, detection: 0 }); };
  const pictures = pictureButtons(views, toPicture, () => schedule());
  const canvas = make("canvas", { tabindex: 0, class: "cl-canvas", role: "application", "aria-roledescription": "picture" });
  const pictureBox = make("div", { class: "cl-picture" }, canvas);
  const status = make("div", { class: "cl-status", "aria-hidden": "true" });
  const track = { place: () => get("position"), last: () => LAST, moveTo };
  const play = player("Play from the grid to the picture", track);
  const slider = make("input", {
    type: "range", min: 0, max: LAST, step: STEP, class: "cl-slider", "aria-label": "From grid to pixels",
    oninput: () => goTo(Number(slider.value)),
  });
  const tick = (name, k) => make("button", { type: "button", onclick: () => goTo(k) }, name);
  const ticks = make("div", { class: "mv-ticks" }, ...PLACES.map(tick));
  const threshold = make("input", {
    type: "range", min: 0, max: 1, step: 0.01, class: "mv-threshold", "aria-label": "Threshold",
    oninput: () => put({ threshold: Number(threshold.value) }),
  });
  const thresholdValue = make("output", {});
  const target = make("input", { type: "checkbox", onchange: () => put({ show_target: target.checked }) });
  const average = make("select", { "aria-label": "What is averaged", onchange: () => put({ average: average.value }) });
  const chooser = make("select", { "aria-label": "Detection", onchange: () => choose(Number(chooser.value)) });
  const arrow = (text, label, step) =>
    make("button", { type: "button", "aria-label": label, onclick: () => choose(get("detection") + step) }, text);
  const tiles = make("div", { class: "mv-tiles" });
  const caption = make("p", { class: "cl-headline" });
  const table = make("div", { class: "mv-cell" });
  const live = make("div", { class: "cl-hidden", "aria-live": "polite" });
  const help = keyboardHelp(
    [keycap("Tab"), " goes from control to control"],
    [keycap("←"), keycap("→"), " on the slider: between grid and picture, ", keycap("Space"), " play"],
    [keycap("←"), keycap("→"), keycap("↑"), keycap("↓"), " on the picture or on a grid: another cell"],
    [keycap("N"), keycap("P"), " next or previous detection, ", keycap("T"), " true outline"],
    [keycap("1"), keycap("2"), keycap("3"), " give a stage its vote, or take it"]);
  const hint = "The yellow cell is the one in the table; point at a grid to read another. " +
    "Press ▶ to see the grid go into the picture.";
  const root = make("section", {
    class: "cascade-lab mask-viewer", "aria-label": "Mask viewer", onkeydown: keyListener(actionOf),
  }, make("div", { class: "cl-head" }, pictures.row,
      make("div", { class: "mv-choose" }, "detection",
        arrow("‹", "Previous detection", -1), chooser, arrow("›", "Next detection", 1))),
    make("div", { class: "cl-body" },
      make("div", {}, pictureBox, status,
        make("div", { class: "cl-transport" }, play.button, make("div", { class: "cl-track" }, slider, ticks)),
        make("div", { class: "cl-tools" },
          make("label", {}, "threshold ", threshold, thresholdValue),
          make("label", {}, "average of ", average),
          make("label", {}, target, "true outline", swatch(WHITE))), help),
      make("div", {}, tiles, legend(), caption, table, make("p", { class: "cl-hint" }, hint))), live);
  el.replaceChildren(root);
  fillOptions(average, [["sigmoids", "sigmoids (official)"], ["logits", "logits"]], get("average"));
  const { put, schedule, stop } = follow(model, TRAITS, pictureBox, paint);

  function legend() {
    const { most_logit: most, low_color: low, high_color: high } = views[0];
    const line = (name, from, colors, to) => [
      make("span", {}, name), make("span", { class: "cl-number" }, from),
      make("span", { class: "mv-bar", style: `background: linear-gradient(90deg, ${colors})` }), make("span", {}, to)];
    return make("div", { class: "mv-legend", "aria-hidden": "true" },
      ...line("logit", `−${most}`, [low, "#fff", high], `+${most}`), ...line("mean", "0", ["#fff", high], "1"));
  }

  // ---- one tile a stage and one for the mean; their canvases live as long as the stages do
  let tileKey = "", tileCanvases = [];
  function buildTiles() {
    const one = view();
    if (tileKey === String(one.stages)) return;
    tileKey = String(one.stages);
    tileCanvases = [...one.stages, "mean"].map(() => {
      const tile = make("canvas", {
        tabindex: 0, class: "mv-tile", role: "application", "aria-roledescription": "grid of cells",
      });
      const pointAt = (event) => {
        const area = tile.getBoundingClientRect(), cell = area.width / view().side;
        point(Math.floor((event.clientY - area.top) / cell), Math.floor((event.clientX - area.left) / cell));
      };
      tile.addEventListener("pointermove", pointAt);
      tile.addEventListener("pointerdown", pointAt);
      return tile;
    });
    tiles.replaceChildren(...tileCanvases.map((tile, index) => {
      const stage = one.stages[index];
      if (!stage) return make("div", { class: "mv-card" }, make("span", { class: "mv-name" }), tile);
      const box = make("input", { type: "checkbox", "data-stage": stage, onchange: () => vote(stage) });
      const name = make("label", { class: "mv-name" }, box, swatch(one.styles[index]), `stage ${stage} votes`);
      return make("div", { class: "mv-card" }, name, tile);
    }));
  }

  // ---- keyboard
  function actionOf({ key, target }) {
    const onGrid = target === canvas || tileCanvases.includes(target);
    const stage = key.length === 1 ? "0123456789".indexOf(key) : -1, letter = key.toLowerCase();
    return view().stages.includes(stage) ? () => vote(stage)
      : letter === "n" ? () => choose(get("detection") + 1)
      : letter === "p" ? () => choose(get("detection") - 1)
      : letter === "t" ? () => put({ show_target: !get("show_target") })
      : key === " " && (target === canvas || target === slider) ? play.toggle
      : !onGrid ? null
      : key === "ArrowRight" ? () => point(get("row"), get("column") + 1)
      : key === "ArrowLeft" ? () => point(get("row"), get("column") - 1)
      : key === "ArrowDown" ? () => point(get("row") + 1, get("column"))
      : key === "ArrowUp" ? () => point(get("row") - 1, get("column"))
      : key === "Home" ? () => goTo(0)
      : key === "End" ? () => goTo(LAST) : null;
  }

  // ---- painting
  function paint() {
    buildTiles();
    paintCanvas();
    paintTiles();
    paintControls();
    paintTable();
    root.dataset.painted = TRAITS.map(get).join(":"); // what is shown now, for tests
  }

  function paintCanvas() {
    const one = view(), now = state(), at = get("position"), bitmap = pictures.bitmaps[get("picture")];
    const { context, width, height, scale } = fitCanvas(canvas, pictureBox, one.size);
    if (bitmap) context.drawImage(scaledPicture(one, bitmap, canvas), 0, 0, width, height);
    const share = Math.min(at, 1), fade = Math.max(at - 1, 0);
    context.fillStyle = `rgba(0, 0, 0, ${0.5 * (1 - share)})`;
    context.fillRect(0, 0, width, height);

    const box = cornersOf(one.boxes, now.detection).map((value) => value * scale), big = 0.86 * Math.min(width, height);
    const start = [(width - big) / 2, (height - big) / 2, (width + big) / 2, (height + big) / 2];
    const [x1, y1, x2, y2] = start.map((value, i) => value + (box[i] - value) * share);
    const cell = [(x2 - x1) / one.side, (y2 - y1) / one.side];
    strokeBoxes(context, [box], WHITE, 1.5);
    if (fade < 1) {
      const mean = averageOf(one, now);
      context.imageSmoothingEnabled = false;
      context.globalAlpha = (1 - 0.25 * share) * (1 - fade);
      context.drawImage(gridPicture(one, `mean ${averageKey(now)}`, mean, shareColor), x1, y1, x2 - x1, y2 - y1);
      if (Math.min(...cell) > 5) paintLines(context, one.side, [x1, y1], cell);
      strokeEdges(context, cellEdges(one, now), [x1, y1], cell, "#000", 1.5, "");
      context.globalAlpha = 1;
    }
    const truth = get("show_target") && share === 1 ? targetOf(one, now.detection) : null;
    const edges = truth && keep(one, `edges ${one.targetIndex[now.detection]}`, () => edgesOf(truth, ...one.size));
    if (truth) strokeEdges(context, edges, [0, 0], [scale, scale], "#fff", 1.75);
    if (fade > 0) paintPixels(context, one, now, fade, scale); // over the true outline: white is left where they differ
    strokeCell(context, [x1, y1], cell);
  }

  function strokeCell(context, [x, y], [w, h]) {
    const row = get("row"), column = get("column");
    strokeBoxes(context, [[x + column * w, y + row * h, x + (column + 1) * w, y + (row + 1) * h]], YELLOW, 1.5);
  }

  function paintLines(context, side, [x, y], [w, h]) {
    context.strokeStyle = "rgba(0, 0, 0, 0.18)";
    context.lineWidth = 0.5;
    context.beginPath();
    for (let i = 0; i <= side; i += 1) {
      context.moveTo(x + i * w, y); context.lineTo(x + i * w, y + side * h);
      context.moveTo(x, y + i * h); context.lineTo(x + side * w, y + i * h);
    }
    context.stroke();
  }

  function paintPixels(context, one, now, alpha, scale) {
    const name = pasteKey(now), color = rgb(one.high_color);
    const { left, top, columns, rows, inside } = pasteOf(one, now);
    if (!rows || !columns) return;
    const rim = keep(one, `rim ${name}`, () => edgesOf(inside, rows, columns));
    const tint = (i) => [...color, inside[i] ? 120 : 0];
    const pixels = keep(one, `pixels ${name}`, () => pixelPicture(columns, rows, tint));
    context.imageSmoothingEnabled = false;
    context.globalAlpha = alpha;
    context.drawImage(pixels, left * scale, top * scale, columns * scale, rows * scale);
    strokeEdges(context, rim, [left * scale, top * scale], [scale, scale], "#56B4E9", 1.75);
    context.globalAlpha = 1;
  }

  function paintTiles() {
    const one = view(), now = state(), mean = averageOf(one, now);
    tileCanvases.forEach((tile, index) => {
      const stage = one.stages[index], room = { clientWidth: tile.parentElement.clientWidth };
      const { context, width } = fitCanvas(tile, room, [one.side, one.side], 240), cell = width / one.side;
      const values = stage ? logitsOf(one, stage, now.detection) : mean;
      const name = stage ? `logits ${stage} ${now.detection}` : `mean ${averageKey(now)}`;
      context.imageSmoothingEnabled = false;
      context.globalAlpha = 1;
      context.drawImage(gridPicture(one, name, values, stage ? logitColor : shareColor), 0, 0, width, width);
      if (!stage) strokeEdges(context, cellEdges(one, now), [0, 0], [cell, cell], "#000", 1.5, "");
      if (stage && !now.votes.includes(stage)) {
        context.fillStyle = "rgba(128, 128, 128, 0.72)";
        context.fillRect(0, 0, width, width);
        tag(context, "no vote", 4, 4, one.styles[index].color);
      }
      strokeCell(context, [0, 0], [cell, cell]);
      const row = get("row"), column = get("column"), value = two(values[row * one.side + column]);
      const what = stage ? `logit of stage ${stage}` : "mean";
      tile.setAttribute("aria-label", `Row ${row}, column ${column}: ${what} ${value}. Arrow keys choose a cell.`);
    });
  }

  function paintControls() {
    const one = view(), now = state(), at = get("position"), { area, iou: quality } = measure(one, now);
    const place = at % 1 ? `between "${PLACES[Math.floor(at)]}" and "${PLACES[Math.ceil(at)]}"` : PLACES[at];
    const found = Number.isFinite(quality) ? `mask IoU ${two(quality)}` : "mask IoU unknown";
    const words = [place, `${area} pixels inside`, found];
    status.replaceChildren(...words.map((text, i) => make(i ? "span" : "strong", {}, text)));
    const name = `${className(one, now.detection)} ${two(one.scores[now.detection])}`;
    canvas.setAttribute("aria-label", `${one.name}, ${name}: ${words.join(", ")}. Arrow keys choose a cell.`);
    slider.value = at;
    slider.setAttribute("aria-valuetext", words[0]);
    slider.style.setProperty("--filled", `${50 * at}%`);
    root.style.setProperty("--stage", one.high_color);
    [...ticks.children].forEach((tick, k) => tick.setAttribute("aria-current", k === at ? "step" : "false"));
    threshold.value = now.threshold;
    thresholdValue.textContent = two(now.threshold);
    average.value = now.average;
    target.checked = get("show_target");
    target.disabled = one.targetIndex[now.detection] < 0;
    tiles.querySelectorAll("input").forEach((box) => { box.checked = now.votes.includes(Number(box.dataset.stage)); });
    tiles.lastElementChild.querySelector(".mv-name").textContent = `mean of ${now.average}`;
    pictures.mark(get("picture"));
    const option = (score, i) => [i, `${i + 1} · ${className(one, i)} · ${two(score)}`];
    fillOptions(chooser, [...one.scores].map(option), now.detection);
    const spoken = `${name}, ${words[1]}, ${words[2]}`;
    if (live.textContent !== spoken) live.textContent = spoken;
  }

  function paintTable() {
    const one = view(), now = state(), at = get("row") * one.side + get("column"), mean = averageOf(one, now)[at];
    const side = mean >= now.threshold ? "inside" : "outside";
    caption.textContent = `Cell in row ${get("row")}, column ${get("column")}: ${side}.`;
    const rows = one.stages.map((stage, index) => {
      const value = logitsOf(one, stage, now.detection)[at], votes = now.votes.includes(stage) ? "yes" : "no";
      const name = [swatch(one.styles[index]), ` stage ${stage}`];
      return makeRow({}, name, [signed(value), sigmoid(value).toFixed(3), votes]);
    });
    const verdict = `${mean >= now.threshold ? "≥" : "<"} ${two(now.threshold)}`;
    const last = makeRow({}, [`mean of ${now.average}`], ["", mean.toFixed(3), verdict]);
    table.replaceChildren(makeTable(["", "logit", "sigmoid", "votes"], [...rows, last]));
  }

  schedule();
  return () => {
    play.pause();
    stop();
  };
}

export default { render };
