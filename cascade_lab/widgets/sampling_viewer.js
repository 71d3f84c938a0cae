// The sampling viewer in the browser: nine points of one output pixel, the offsets of a whole group, and the
// effective receptive field. All arrays come once; choosing another pixel asks the kernel for nothing.

const MARGIN = 1 / 6; // of the longer side, round the picture, so that points beyond its border can be seen
const DISC = 22; // CSS pixels: radius of a disc that has all the modulation
const CROWDED = 60; // CSS pixels: points that keep nearer to their pixel than this are shown enlarged too
const LOUPE = 200; // CSS pixels: side of that enlargement, at most
const BUNDLE = 40; // darts a path
const SMALL = 380; // device pixels of the two small pictures, shown at half that size
const TRAITS = ["picture", "x", "y", "level", "block", "group", "point", "show", "trained", "show_boxes"];
const SHOWS = [["points", "points of a pixel"], ["offsets", "offsets of the group"], ["receptive", "receptive field"]];

// ---------------------------------------------------------------- numbers: no DOM below this line

function decode(raw) {
  const boxes = floats(raw.boxes); // (B, 4)
  return {
    ...raw,
    boxes: Array.from({ length: boxes.length / 4 }, (_, i) => cornersOf(boxes, i)),
    layers: raw.layers.map((layer) => ({
      ...layer,
      moved: new Int16Array(slice(layer.moved)), // (H, W, G, K, 2)
      modulation: new Uint16Array(slice(layer.modulation)), // (H, W, G, K)
      grid: grid(layer.kernel),
    })),
    levels: [...new Set(raw.layers.map((layer) => layer.level))],
    margin: Math.round(MARGIN * Math.max(...raw.size)),
    tiles: null, // the fields as one picture, decoded once this view is shown
  };
}

// The regular grid in the order of the points: down a column first.
function grid(kernel) {
  const half = (kernel - 1) / 2;
  return Array.from({ length: kernel * kernel }, (_, k) => [Math.floor(k / kernel) - half, (k % kernel) - half]);
}

const centre = (layer, [row, column]) => [column * layer.stride + 0.5, row * layer.stride + 0.5];

// Everything about one point: where it starts, how far it moved (map pixels), where it reads (picture pixels).
function pointAt(layer, [row, column], group, k) {
  const [height, width] = layer.size, count = layer.grid.length;
  const index = ((row * width + column) * layer.groups + group) * count + k;
  const moved = [layer.moved[2 * index] * layer.step, layer.moved[2 * index + 1] * layer.step];
  const start = layer.grid[k].map((g, axis) => g * layer.scale + [column, row][axis]);
  const at = start.map((value, axis) => value + moved[axis]);
  const onPicture = (place) => place.map((value) => value * layer.stride + 0.5);
  return {
    moved, start: onPicture(start), at: onPicture(at), modulation: layer.modulation[index] / 65535,
    outside: at[0] <= -1 || at[0] >= width || at[1] <= -1 || at[1] >= height,
  };
}

const pointsAt = (layer, pixel, group) => layer.grid.map((_, k) => pointAt(layer, pixel, group, k));

// Where a dart of the field begins and ends: one point's move, or from the pixel to the mean of its points.
function dartAt(layer, pixel, group, point) {
  const { moved, modulation, grid: regular, scale, step, stride, groups, size } = layer, [x, y] = centre(layer, pixel);
  const first = ((pixel[0] * size[1] + pixel[1]) * groups + group) * regular.length;
  let dx = 0, dy = 0, total = 0;
  if (point >= 0) {
    const at = 2 * (first + point);
    return [[x, y], [x + moved[at] * step * stride, y + moved[at + 1] * step * stride]];
  }
  for (let k = 0; k < regular.length; k += 1) {
    const weight = modulation[first + k], at = 2 * (first + k);
    dx += weight * (regular[k][0] * scale + moved[at] * step);
    dy += weight * (regular[k][1] * scale + moved[at + 1] * step);
    total += weight;
  }
  return [[x, y], [x + (dx / total) * stride, y + (dy / total) * stride]];
}

function reach(layer, pixel, group) {
  const [x, y] = centre(layer, pixel), half = (layer.kernel - 1) / 2;
  const now = Math.max(...pointsAt(layer, pixel, group).map(({ at }) => Math.hypot(at[0] - x, at[1] - y)));
  return [now, half * Math.SQRT2 * layer.scale * layer.stride];
}

function headline(layer, group, [row, column]) {
  return `Level ${layer.level} (stride ${layer.stride}), block ${layer.block}, group ${group + 1} of ` +
    `${layer.groups}, output pixel in row ${row}, column ${column}.`;
}

function verdict(layer, group, pixel) {
  const [now, before] = reach(layer, pixel, group);
  const lost = pointsAt(layer, pixel, group).filter((point) => point.outside).length;
  const read = `${lost} of them ${lost === 1 ? "reads" : "read"} zero outside the map.`;
  return `The farthest of the ${layer.grid.length} points is ${now.toFixed(1)} picture pixels away; ` +
    `at zero offsets it would be ${before.toFixed(1)}. ${lost ? read : "All of them lie on the map."}`;
}

// The stored field nearest to a pixel; fields are stored for a few pixels a level.
function nearestField(fields, layer, [row, column], trained) {
  const away = (field) => Math.hypot(field.row - row, field.column - column);
  return fields.filter((field) => field.level === layer.level && field.trained === trained)
    .sort((a, b) => away(a) - away(b))[0] ?? null;
}

// ---------------------------------------------------------------- the canvas: lengths in CSS pixels

const discRadius = (modulation) => Math.max(DISC * Math.sqrt(modulation), 2);

function strokeTwice(context, color, width) {
  context.strokeStyle = "rgba(0, 0, 0, 0.6)";
  context.lineWidth = width + 2;
  context.stroke();
  context.strokeStyle = color;
  context.lineWidth = width;
  context.stroke();
}

function drawCross(context, [x, y], size, color) {
  context.beginPath();
  context.moveTo(x - size, y);
  context.lineTo(x + size, y);
  context.moveTo(x, y - size);
  context.lineTo(x, y + size);
  strokeTwice(context, color, 2);
}

function drawPoints(context, points, chosen, colors, numbered) {
  context.beginPath();
  for (const { start: [x, y] } of points) context.rect(x - 3, y - 3, 6, 6);
  strokeTwice(context, colors.grid, 1.25);
  context.beginPath();
  for (const { start, at } of points) {
    context.moveTo(...start);
    context.lineTo(...at);
  }
  strokeTwice(context, colors.grid, 1);
  // large discs first, so that none is hidden; the chosen one on top
  const order = points.map((_, k) => k)
    .sort((a, b) => (a === chosen) - (b === chosen) || points[b].modulation - points[a].modulation);
  const discs = order.map((k) => ({ ...points[k], k, radius: discRadius(points[k].modulation) }));
  for (const { k, at: [x, y], radius, outside } of discs) {
    context.beginPath();
    context.arc(x, y, radius, 0, 7);
    context.fillStyle = k === chosen ? colors.chosen : colors.disc;
    context.globalAlpha = outside ? 0.25 : 1;
    context.fill();
    context.globalAlpha = 1;
    context.setLineDash(outside ? [2, 2] : []);
    context.strokeStyle = outside ? "#fff" : "#000";
    context.lineWidth = k === chosen ? 2.5 : 1;
    context.stroke();
    context.setLineDash([]);
  }
  if (!numbered) return;
  context.textAlign = "center";
  context.font = "bold 11px system-ui, sans-serif";
  for (const { k, spot: [x, y], inside } of numberSpots(discs)) {
    context.strokeStyle = "rgba(0, 0, 0, 0.7)";
    context.lineWidth = 3;
    if (!inside) context.strokeText(k + 1, x, y + 0.5);
    context.fillStyle = inside ? "#000" : "#fff";
    context.fillText(k + 1, x, y + 0.5);
  }
  context.textAlign = "start";
}

// Where the number of each disc stands: in it, if it fits and no later disc covers it; else beside it, on the side
// that is freest of other discs and numbers.
function numberSpots(discs) {
  const placed = [];
  const away = ([x, y], { at, radius }) => Math.hypot(at[0] - x, at[1] - y) - radius;
  const room = (spot, others) => Math.min(...others.map((other) => away(spot, other)));
  discs.forEach((disc, number) => {
    const { k, at, radius, outside } = disc, later = discs.slice(number + 1);
    const inside = radius > 6 && !outside && room(at, later) > 4;
    const around = Array.from({ length: 8 }, (_, side) => (side * Math.PI) / 4)
      .map((angle) => [at[0] + (radius + 6) * Math.cos(angle), at[1] + (radius + 6) * Math.sin(angle)]);
    const others = [...discs.filter((other) => other !== disc), ...placed.map(({ spot }) => ({ at: spot, radius: 5 }))];
    const free = around.map((spot) => Math.min(room(spot, others), 6)); // from six pixels on, any side is as good
    placed.push({ k, inside, spot: inside ? at : around[free.indexOf(Math.max(...free))] });
  });
  return placed;
}

// Darts, wide where they begin and pointed where they lead. They are filled, not stroked, a few at a time: a
// browser strokes a thousand lines with a rim in 40 ms, and fills as many triangles in 3.
function drawDarts(context, darts, color) {
  context.fillStyle = color;
  for (let first = 0; first < darts.length; first += BUNDLE) {
    context.beginPath();
    for (const [[x1, y1], [x2, y2]] of darts.slice(first, first + BUNDLE)) {
      const length = Math.hypot(x2 - x1, y2 - y1) || 1, sx = (y1 - y2) / length, sy = (x2 - x1) / length;
      context.moveTo(x1 + 2.3 * sx, y1 + 2.3 * sy);
      context.lineTo(x1 - 2.3 * sx, y1 - 2.3 * sy);
      context.lineTo(x2 - 0.6 * sx, y2 - 0.6 * sy);
      context.lineTo(x2 + 0.6 * sx, y2 + 0.6 * sy);
      context.closePath();
    }
    context.fill();
  }
}

function darken(context, area, share) {
  context.fillStyle = `rgba(0, 0, 0, ${share})`;
  context.fillRect(...area);
}

function drawCircle(context, [x, y], radius, color, dash) {
  context.beginPath();
  context.arc(x, y, radius, 0, 7);
  context.setLineDash(dash);
  strokeTwice(context, color, 2);
  context.setLineDash([]);
}

// ---------------------------------------------------------------- the viewer

function render({ model, el }) {
  const all = model.get("_views").map(decode), colors = model.get("_colors");
  const get = (name) => model.get(name);
  const view = () => all[clamp(get("picture"), 0, all.length - 1)];
  const level = () => (view().levels.includes(get("level")) ? get("level") : view().levels[0]);
  const blocks = (at = level()) => view().layers.filter((layer) => layer.level === at);
  const block = () => clamp(get("block"), 0, blocks().length - 1);
  const layer = () => blocks()[block()];
  const group = () => clamp(get("group"), 0, layer().groups - 1);
  const pixel = () => {
    const { stride, size } = layer();
    return ["y", "x"].map((name, axis) => clamp(Math.floor(get(name) / stride + 0.5), 0, size[axis] - 1));
  };
  const shown = () => (get("show") === "receptive" && !view().fields.length ? "points" : get("show"));
  let scale = 1, spoken = "";

  // ---- what the controls do
  function goTo(x, y) {
    const [rows, columns] = view().size;
    put({ x: clamp(Math.round(x), 0, columns - 1), y: clamp(Math.round(y), 0, rows - 1) });
  }
  function step(down, right) {
    const [row, column] = pixel(), { size, stride } = layer();
    goTo(clamp(column + right, 0, size[1] - 1) * stride, clamp(row + down, 0, size[0] - 1) * stride);
  }
  function setLevel(to) {
    const next = clamp(get("block"), 0, blocks(to).length - 1);
    put({ level: to, block: next, group: clamp(get("group"), 0, blocks(to)[next].groups - 1) });
  }
  function setPicture(picture) {
    put({ picture });
    setLevel(level());
    goTo(get("x"), get("y"));
  }
  const turn = (value, by, count) => (value + by + count) % count;
  const turnLevel = (by) => setLevel(view().levels[turn(view().levels.indexOf(level()), by, view().levels.length)]);
  const followPoint = (point) => put({ point: point === get("point") ? -1 : point });
  function turnShow(by) {
    const names = SHOWS.map(([name]) => name).filter((name) => name !== "receptive" || view().fields.length);
    put({ show: names[turn(names.indexOf(shown()), by, names.length)] });
  }

  // ---- elements, top to bottom
  const pictures = pictureButtons(all, setPicture, () => schedule());
  const shows = make("div", { class: "sv-shows", role: "group", "aria-label": "View" }, ...SHOWS.map(([name, text]) =>
    make("button", { type: "button", "data-show": name, onclick: () => put({ show: name }) }, text)));
  const canvas = make("canvas", {
    tabindex: 0, class: "cl-canvas", role: "application", "aria-roledescription": "picture",
  });
  const pictureBox = make("div", { class: "cl-picture" }, canvas);
  const legend = make("div", { class: "sv-legend" });
  const levelSelect = make("select", { "aria-label": "Level", onchange: () => setLevel(Number(levelSelect.value)) });
  const blockSelect = make("select", {
    "aria-label": "Block", onchange: () => put({ block: Number(blockSelect.value) }),
  });
  const groupSlider = make("input", {
    type: "range", min: 0, step: 1, class: "sv-group", "aria-label": "Group",
    oninput: () => put({ group: Number(groupSlider.value) }),
  });
  const groupValue = make("output", {});
  const pointSelect = make("select", {
    "aria-label": "Point to follow", onchange: () => put({ point: Number(pointSelect.value) }),
  });
  const pointLabel = make("label", {}, "point ", pointSelect);
  const checkbox = (name, text) => {
    const input = make("input", { type: "checkbox", onchange: () => put({ [name]: input.checked }) });
    return [input, make("label", {}, input, text)];
  };
  const [trained, trainedLabel] = checkbox("trained", "after training");
  const [boxes, boxesLabel] = checkbox("show_boxes", "boxes");
  const title = make("p", { class: "cl-headline" });
  const table = makeTable(["", "grid", "moved by", "reads at", "modulation"], [], { class: "sv-table" });
  const body = table.querySelector("tbody");
  const words = make("p", { class: "sv-verdict" });
  const radii = make("p", { class: "sv-radii" });
  const hint = make("p", { class: "cl-hint" });
  const small = [false, true].map((when) => make("canvas", {
    class: "sv-small", tabindex: false, "aria-hidden": "true", onclick: () => put({ show: "receptive", trained: when }),
  }));
  const pair = make("div", { class: "sv-pair" }, ...small.map((one, when) =>
    make("figure", {}, one, make("figcaption", {}, when ? "after training" : "before training"))));
  const live = make("div", { class: "cl-hidden", "aria-live": "polite" });
  const help = keyboardHelp(
    [keycap("Tab"), " goes from control to control; on the picture ",
      keycap("←"), keycap("→"), keycap("↑"), keycap("↓"), " choose a pixel, ", keycap("Page ↑"), keycap("Page ↓"), " the level"],
    [keycap("V"), " next view, ", keycap("L"), " next level, ", keycap("B"), " next block, ", keycap("G"), " next group; ",
      "with ", keycap("Shift"), " the one before"],
    [keycap("1"), " … ", keycap("9"), " follow a point, ", keycap("0"), " or ", keycap("Esc"), " none; ",
      keycap("O"), " boxes; in the view of the receptive field ", keycap("T"), " before or after training"]);
  const style = `--disc: ${colors.disc}; --chosen: ${colors.chosen}; --low: ${colors.low}; --high: ${colors.high}`;
  const source = make("span", { class: "cl-source" }, all.length > 1 ? "" : all[0].name);
  const tools = make("div", { class: "cl-tools" },
    make("label", {}, "level ", levelSelect), make("label", {}, "block ", blockSelect),
    make("label", {}, "group ", groupSlider, groupValue), pointLabel, trainedLabel, boxesLabel);
  const units = "(x, y); grid and moved by: in pixels of the map, reads at: in pixels of the picture";
  const attributes = { class: "cascade-lab sampling-viewer", style, "aria-label": "Sampling viewer" };
  const root = make("section", { ...attributes, onkeydown: keyListener(find) },
    make("div", { class: "cl-head" }, pictures.row, source),
    make("div", { class: "cl-body" },
      make("div", {}, shows, pictureBox, legend, tools, help),
      make("div", {}, title, table, make("p", { class: "cl-hint" }, units), words, radii, pair, hint)), live);
  el.replaceChildren(root);
  const { put, schedule, stop } = follow(model, TRAITS, pictureBox, paint);

  // ---- mouse
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); pick(event); });
  canvas.addEventListener("pointermove", (event) => { if (event.buttons & 1) pick(event); });
  function pick(event) {
    const area = canvas.getBoundingClientRect(), { margin } = view();
    goTo((event.clientX - area.left) / scale - margin - 0.5, (event.clientY - area.top) / scale - margin - 0.5);
  }

  // ---- keyboard: what a key does, if anything
  function find(event) {
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key, by = event.shiftKey ? -1 : 1;
    const digit = name.length === 1 ? "0123456789".indexOf(name) : -1;
    if (digit >= 0 && digit <= layer().grid.length) return () => put({ point: digit - 1 });
    const anywhere = {
      v: () => turnShow(by), l: () => turnLevel(by),
      b: () => put({ block: turn(block(), by, blocks().length) }),
      g: () => put({ group: turn(group(), by, layer().groups) }),
      o: () => put({ show_boxes: !get("show_boxes") }),
      t: shown() === "receptive" ? () => put({ trained: !get("trained") }) : null,
      Escape: get("point") >= 0 ? () => put({ point: -1 }) : null,
    };
    const onPicture = {
      ArrowLeft: () => step(0, -1), ArrowRight: () => step(0, 1),
      ArrowUp: () => step(-1, 0), ArrowDown: () => step(1, 0),
      PageUp: () => turnLevel(1), PageDown: () => turnLevel(-1),
    };
    return anywhere[name] ?? (event.target === canvas ? onPicture[name] : null);
  }

  // ---- painting
  function paint() {
    decodeTiles(view());
    paintCanvas();
    paintControls();
    paintPanel();
    const switches = ["point", "trained", "show_boxes", "picture"].map(get);
    root.dataset.painted = [shown(), level(), block(), group(), pixel(), ...switches].join(":"); // for tests
  }

  function decodeTiles(one) {
    if (one.tiles || !one.fields.length) return;
    one.tiles = "on the way";
    decodePicture(one.heat).then((bitmap) => { one.tiles = bitmap; schedule(); });
  }

  const bitmap = () => pictures.bitmaps[all.indexOf(view())];

  function paintCanvas() {
    const one = layer(), { size: [rows, columns], margin, fields } = view();
    const fit = fitCanvas(canvas, pictureBox, [rows + 2 * margin, columns + 2 * margin]), { context, dense } = fit;
    scale = fit.scale;
    const place = ([x, y]) => [(x + margin) * scale, (y + margin) * scale];
    const area = [margin * scale, margin * scale, columns * scale, rows * scale];
    context.drawImage(ground(dense, area), 0, 0, canvas.width / dense, canvas.height / dense);
    const field = shown() === "receptive" ? nearestField(fields, one, pixel(), get("trained")) : null;
    if (field) paintField(context, field, place, area);
    if (shown() === "offsets") {
      const darts = [];
      for (let row = 0; row < one.size[0]; row += 1) {
        for (let column = 0; column < one.size[1]; column += 1) {
          darts.push(dartAt(one, [row, column], group(), get("point")).map(place));
        }
      }
      drawDarts(context, darts, colors.arrow);
    }
    if (shown() === "points") {
      const points = pointsAt(one, pixel(), group()), [x, y] = centre(one, pixel());
      const far = ([a, b]) => Math.max(Math.abs(a - x), Math.abs(b - y));
      const half = Math.max(...points.map(({ start, at }) => Math.max(far(start), far(at))));
      const crowded = half * scale < CROWDED;
      paintPoints(context, points, place, !crowded);
      if (crowded) paintLoupe(context, points, [x, y], half, place, fit);
    } else if (shown() === "offsets") drawCross(context, place(centre(one, pixel())), 7, colors.chosen);
  }

  function paintPoints(context, points, place, numbered) {
    const onScreen = points.map((p) => ({ ...p, start: place(p.start), at: place(p.at) }));
    drawPoints(context, onScreen, get("point"), colors, numbered);
    drawCross(context, place(centre(layer(), pixel())), 7, colors.chosen);
  }

  // What surrounds the pixel, ``half`` picture pixels to every side, enlarged in the corner that is farthest from it.
  function paintLoupe(context, points, [x, y], half, place, { width, height }) {
    const side = Math.min(LOUPE, 0.45 * width), zoom = (side / 2 - DISC) / half, reach = side / 2 / zoom;
    const [across, down] = place([x, y]);
    const left = across < width / 2 ? width - side - 4 : 4, top = down < height / 2 ? height - side - 4 : 4;
    const enlarged = ([a, b]) => [left + side / 2 + (a - x) * zoom, top + side / 2 + (b - y) * zoom];
    const [rows, columns] = view().size;
    context.save();
    context.beginPath();
    context.rect(left, top, side, side);
    context.clip();
    context.fillStyle = "#3a3a3a";
    context.fillRect(left, top, side, side);
    context.imageSmoothingEnabled = false; // the pixels of the picture can be told apart
    if (bitmap()) context.drawImage(bitmap(), ...enlarged([0, 0]), columns * zoom, rows * zoom);
    paintPoints(context, points, enlarged, true);
    context.restore();
    const from = [...place([x - reach, y - reach]), ...place([x + reach, y + reach])];
    strokeBoxes(context, [[left, top, left + side, top + side], from], { color: colors.chosen, dash: [5, 3] }, 1.5);
    tag(context, `enlarged ${(zoom / scale).toFixed(1)} times`, left + 4, top + side - 22, colors.chosen);
  }

  // Picture and boxes, drawn once for every size and switch: a step from pixel to pixel leaves them alone.
  function ground(dense, area) {
    const { width, height } = canvas;
    const key = [get("picture"), width, height, dense, Boolean(bitmap()), get("show_boxes"), shown()].join();
    if (ground.key === key) return ground.canvas;
    ground.key = key;
    ground.canvas ??= document.createElement("canvas");
    Object.assign(ground.canvas, { width, height }); // clears it
    const context = ground.canvas.getContext("2d", { alpha: false });
    context.fillStyle = "#3a3a3a";
    context.fillRect(0, 0, width, height);
    context.scale(dense, dense);
    context.imageSmoothingQuality = "high";
    if (bitmap()) context.drawImage(bitmap(), ...area);
    if (shown() !== "points") darken(context, area, shown() === "offsets" ? 0.4 : 0.55);
    const corners = view().boxes.map((box) => box.map((value) => (value + view().margin) * scale));
    if (get("show_boxes")) strokeBoxes(context, corners, { color: "#fff", dash: [] }, 1.25, 0.8);
    return ground.canvas;
  }

  // The tile of a field, over the picture that fills the rectangle; the last cells may stand out of it.
  function drawHeat(context, field, [x, y, width, height]) {
    const { tiles, fields, cell, size: [rows, columns] } = view();
    if (!(tiles instanceof ImageBitmap)) return;
    const side = Math.ceil(Math.sqrt(fields.length)), number = fields.indexOf(field), zoom = (width / columns) * cell;
    const [h, w] = [Math.ceil(rows / cell), Math.ceil(columns / cell)];
    context.save();
    context.beginPath();
    context.rect(x, y, width, height);
    context.clip();
    context.drawImage(tiles, (number % side) * w, Math.floor(number / side) * h, w, h, x, y, w * zoom, h * zoom);
    context.restore();
  }

  function paintField(context, field, place, area) {
    drawHeat(context, field, area);
    const at = place(centre(field, [field.row, field.column]));
    const other = nearestField(view().fields, layer(), pixel(), !field.trained);
    if (other) drawCircle(context, at, other.radius * scale, colors.other, [6, 4]);
    drawCircle(context, at, field.radius * scale, colors.now, []);
    drawCross(context, at, 7, colors.chosen);
  }

  // The two fields side by side; drawn again only when another pixel has another field.
  function paintSmall(canvas, field) {
    const ready = bitmap() && view().tiles instanceof ImageBitmap;
    const about = `${get("picture")}:${view().fields.indexOf(field)}`;
    if (canvas.dataset.about === about || !ready) return;
    canvas.dataset.about = about;
    const [rows, columns] = view().size, zoom = SMALL / Math.max(rows, columns);
    Object.assign(canvas, { width: Math.round(columns * zoom), height: Math.round(rows * zoom) });
    const context = canvas.getContext("2d", { alpha: false }), area = [0, 0, canvas.width, canvas.height];
    context.drawImage(bitmap(), ...area);
    darken(context, area, 0.55);
    drawHeat(context, field, area);
    const at = centre(field, [field.row, field.column]).map((value) => value * zoom);
    drawCircle(context, at, field.radius * zoom, colors.now, []);
    drawCross(context, at, 6, colors.chosen);
  }

  function paintControls() {
    const one = layer(), { levels, fields, boxes: corners } = view();
    pictures.mark(get("picture"));
    [...shows.children].forEach((button) => {
      button.setAttribute("aria-pressed", button.dataset.show === shown());
      button.disabled = button.dataset.show === "receptive" && !fields.length;
    });
    fillOnce(levelSelect, levels.map((at) => {
      const [{ stride, size }] = blocks(at);
      return [at, `${at} (stride ${stride}), ${size.join(" × ")}`];
    }), level());
    fillOnce(blockSelect, blocks().map((block, number) => [number, `${block.block}`]), block());
    groupSlider.max = one.groups - 1;
    groupSlider.value = group();
    groupSlider.setAttribute("aria-valuetext", `group ${group() + 1} of ${one.groups}`);
    groupValue.textContent = `${group() + 1} of ${one.groups}`;
    fillOnce(pointSelect, [[-1, "none"], ...one.grid.map((_, k) => [k, `${k + 1}`])], get("point"));
    pointLabel.hidden = shown() === "receptive";
    trained.checked = get("trained");
    trainedLabel.hidden = shown() !== "receptive";
    boxes.checked = get("show_boxes");
    boxes.disabled = !corners.length;
    paintLegend();
  }

  // Options are made again only when they change: a list that is open would close.
  function fillOnce(select, options, value) {
    const about = String(options);
    if (select.dataset.about !== about) fillOptions(select, options, value);
    select.dataset.about = about;
    select.value = value;
  }

  function paintLegend() {
    const point = get("point"), when = get("trained") ? ["after", "before"] : ["before", "after"];
    const about = `${shown()}:${point}:${when}`;
    if (legend.dataset.about === about) return;
    legend.dataset.about = about;
    const item = (mark, text) => make("span", {}, mark, text);
    const mark = (symbol, color) =>
      make("span", { class: "sv-mark", style: `color: ${color}`, "aria-hidden": "true" }, symbol);
    const end = point < 0 ? "to the mean of its points, weighted by modulation" : `as far as its point ${point + 1} has moved`;
    legend.replaceChildren(...{
      points: [item(mark("✚", colors.chosen), "output pixel"), item(mark("□", colors.grid), "zero offset"),
        item(mark("●", colors.disc), "reads here, area = modulation"),
        item(mark("◌", "#fff"), "outside the map, reads zero")],
      offsets: [item(mark("✚", colors.chosen), "output pixel"),
        item(mark("◤", colors.arrow), `from each output pixel (wide end) ${end}`)],
      receptive: [item(make("span", { class: "sv-ramp" }), "gradient, square root"),
        item(swatch({ color: colors.now, dash: [] }), `90 % ${when[0]} training (shown)`),
        item(swatch({ color: colors.other, dash: [6, 4] }), `90 % ${when[1]} training`)],
    }[shown()]);
  }

  function paintPanel() {
    const one = layer(), points = pointsAt(one, pixel(), group());
    while (body.children.length > points.length) body.lastChild.remove();
    while (body.children.length < points.length) body.append(pointRow(body.children.length));
    points.forEach((point, k) => fillRow(body.children[k], one, point, k));
    title.textContent = headline(one, group(), pixel());
    words.textContent = verdict(one, group(), pixel());
    const found = [false, true].map((when) => nearestField(view().fields, one, pixel(), when));
    const [before, after] = found, quoted = found.filter(Boolean);
    pair.hidden = !quoted.length;
    found.forEach((field, when) => {
      small[when].parentElement.hidden = !field;
      if (field) paintSmall(small[when], field);
    });
    radii.textContent = before && after ? `90 % of the gradient lies within ${before.radius.toFixed(1)} picture pixels ` +
      `before training, and within ${after.radius.toFixed(1)} after.` : "";
    const [row, column] = pixel(), exact = quoted.every((field) => field.row === row && field.column === column);
    hint.textContent = exact ? "" : "Receptive fields are stored for some pixels only; these are of the nearest one, " +
      `row ${quoted[0].row}, column ${quoted[0].column}.`;
    const seen = shown() === "receptive" ? `Receptive field ${get("trained") ? "after" : "before"} training. ` : "";
    const news = `${title.textContent} ${words.textContent}`;
    canvas.setAttribute("aria-label", `${view().name}: ${seen}${news} ${radii.textContent} Arrow keys choose another pixel.`);
    if (news !== spoken) live.textContent = spoken = news;
  }

  function pointRow(k) {
    const number = make("span", { class: "sv-number" }, `${k + 1}`);
    const row = makeRow({ onclick: () => followPoint(k) }, [number], ["", "", ""]);
    row.append(make("td", { class: "sv-share" }, make("span", { class: "sv-bar" }), make("span", {})));
    return row;
  }

  function fillRow(row, one, point, k) {
    const pairs = [one.grid[k], point.moved.map(signed), point.at.map((value) => value.toFixed(1))];
    pairs.forEach((pair, i) => { row.children[i + 1].textContent = pair.join(", "); });
    const [bar, number] = row.lastChild.children;
    bar.style.setProperty("--share", point.modulation);
    number.textContent = two(point.modulation);
    row.classList.toggle("sv-chosen", k === get("point"));
    row.classList.toggle("sv-outside", point.outside);
    row.title = point.outside ? "outside the map: reads zero" : "";
  }

  schedule();
  return stop;
}

export default { render };
