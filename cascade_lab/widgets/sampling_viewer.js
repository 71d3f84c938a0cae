// The sampling viewer in the browser: nine points of one output pixel, the offsets of a whole group, and the
// effective receptive field. All arrays come once; choosing another pixel asks the kernel for nothing.

const MARGIN = 1 / 6; // of the longer side, round the picture, so that points beyond its border can be seen
const DISC = 22; // CSS pixels: radius of a disc that has all the modulation
const BUNDLE = 40; // darts a path
const SMALL = 190; // CSS pixels of the two small pictures
const TRAITS = ["x", "y", "level", "block", "group", "point", "show", "trained", "show_boxes"];
const VIEWS = [["points", "points of a pixel"], ["offsets", "offsets of the group"], ["receptive", "receptive field"]];

// ---------------------------------------------------------------- numbers: no DOM below this line

function decode(raw) {
  return {
    ...raw,
    boxes: floats(raw.boxes), // (B, 4)
    layers: raw.layers.map((layer) => ({
      ...layer,
      moved: new Int16Array(slice(layer.moved)), // (H, W, G, K, 2)
      modulation: new Uint16Array(slice(layer.modulation)), // (H, W, G, K)
      grid: grid(layer.kernel),
    })),
    fields: raw.fields.map((field) => ({ ...field, heat: new Uint8Array(slice(field.heat)) })), // (h, w)
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
  return `Level ${layer.level + 1} (stride ${layer.stride}), block ${layer.block + 1}, group ${group + 1} of ` +
    `${layer.groups}, output pixel in row ${row}, column ${column}.`;
}

function verdict(layer, group, pixel) {
  const [now, before] = reach(layer, pixel, group), lost = pointsAt(layer, pixel, group).filter((p) => p.outside).length;
  return `The farthest of the ${layer.grid.length} points is ${now.toFixed(1)} picture pixels away; at zero offsets it would ` +
    `be ${before.toFixed(1)}. ${lost ? `${lost} of them ${lost === 1 ? "reads" : "read"} zero outside the map.` : "All of them lie on the map."}`;
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

function drawPoints(context, points, chosen, colors) {
  context.beginPath();
  for (const { start: [x, y] } of points) context.rect(x - 3, y - 3, 6, 6);
  strokeTwice(context, colors.grid, 1.25);
  context.beginPath();
  for (const { start, at } of points) {
    context.moveTo(...start);
    context.lineTo(...at);
  }
  strokeTwice(context, colors.grid, 1);
  const order = points.map((_, k) => k).sort((a, b) => (a === chosen) - (b === chosen) || points[b].modulation - points[a].modulation);
  for (const k of order) { // large discs first, so that none is hidden; the chosen one on top
    const { at: [x, y], modulation, outside } = points[k];
    context.beginPath();
    context.arc(x, y, discRadius(modulation), 0, 7);
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
  context.textAlign = "center";
  context.font = "bold 11px system-ui, sans-serif";
  for (const k of order) {
    const { at: [x, y], modulation, outside } = points[k], radius = discRadius(modulation), inside = radius > 6 && !outside;
    const spot = [inside ? x : x + radius + 6, y + 0.5]; // a number that does not fit stands beside its disc
    context.strokeStyle = "rgba(0, 0, 0, 0.7)";
    context.lineWidth = 3;
    if (!inside) context.strokeText(k + 1, ...spot);
    context.fillStyle = inside ? "#000" : "#fff";
    context.fillText(k + 1, ...spot);
  }
  context.textAlign = "start";
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

// A field as a small picture, from dark red for little to yellow for much; made once.
function heatSprite(field, { low, high }) {
  if (field.sprite) return field.sprite;
  const [height, width] = field.size;
  field.sprite = Object.assign(document.createElement("canvas"), { width, height });
  const context = field.sprite.getContext("2d"), image = context.createImageData(width, height);
  const channels = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  const [from, to] = [channels(low), channels(high)];
  field.heat.forEach((value, i) => {
    const share = value / 255;
    image.data.set([...from.map((c, n) => c + (to[n] - c) * share), 255 * Math.min(1, 1.3 * share)], 4 * i);
  });
  context.putImageData(image, 0, 0);
  return field.sprite;
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
  const data = decode(model.get("_data")), [rows, columns] = data.size;
  const margin = Math.round(MARGIN * Math.max(rows, columns));
  const levels = [...new Set(data.layers.map((layer) => layer.level))];
  const get = (name) => model.get(name);
  const blocks = (level = get("level")) => data.layers.filter((layer) => layer.level === level);
  const layer = () => blocks()[clamp(get("block"), 0, blocks().length - 1)];
  const group = () => clamp(get("group"), 0, layer().groups - 1);
  const pixel = () => ["y", "x"].map((name, axis) => clamp(Math.floor(get(name) / layer().stride + 0.5), 0, layer().size[axis] - 1));
  const shown = () => (get("show") === "receptive" && !data.fields.length ? "points" : get("show"));
  let bitmap = null, scale = 1, spoken = "";

  // ---- what the controls do
  const goTo = (x, y) => put({ x: clamp(Math.round(x), 0, columns - 1), y: clamp(Math.round(y), 0, rows - 1) });
  function step(down, right) {
    const [row, column] = pixel(), { size, stride } = layer();
    goTo(clamp(column + right, 0, size[1] - 1) * stride, clamp(row + down, 0, size[0] - 1) * stride);
  }
  function setLevel(level) {
    const block = clamp(get("block"), 0, blocks(level).length - 1);
    put({ level, block, group: clamp(get("group"), 0, blocks(level)[block].groups - 1) });
  }
  const turn = (value, by, count) => (value + by + count) % count;
  const turnLevel = (by) => setLevel(levels[turn(levels.indexOf(get("level")), by, levels.length)]);
  const follow_ = (point) => put({ point: point === get("point") ? -1 : point });

  // ---- elements, top to bottom
  const views = make("div", { class: "cl-pictures", role: "group", "aria-label": "View" }, ...VIEWS.map(([name, text]) =>
    make("button", { type: "button", class: "sv-view", "data-show": name, disabled: name === "receptive" && !data.fields.length,
      onclick: () => put({ show: name }) }, text)));
  const canvas = make("canvas", { tabindex: 0, class: "cl-canvas", role: "application", "aria-roledescription": "picture" });
  const stageBox = make("div", { class: "cl-picture" }, canvas);
  const legend = make("div", { class: "sv-legend" });
  const levelSelect = make("select", { "aria-label": "Level", onchange: () => setLevel(Number(levelSelect.value)) });
  const blockSelect = make("select", { "aria-label": "Block", onchange: () => put({ block: Number(blockSelect.value) }) });
  const groupSlider = make("input", { type: "range", min: 0, step: 1, class: "sv-group", "aria-label": "Group",
    oninput: () => put({ group: Number(groupSlider.value) }) });
  const groupValue = make("output", {});
  const pointSelect = make("select", { "aria-label": "Point to follow", onchange: () => put({ point: Number(pointSelect.value) }) });
  const checkbox = (name, text) => {
    const input = make("input", { type: "checkbox", onchange: () => put({ [name]: input.checked }) });
    return [input, make("label", {}, input, text)];
  };
  const [trained, trainedLabel] = checkbox("trained", "after training");
  const [boxes, boxesLabel] = checkbox("show_boxes", "boxes");
  const title = make("p", { class: "cl-headline" });
  const table = make("tbody", {});
  const words = make("p", { class: "sv-verdict" });
  const radii = make("p", { class: "sv-radii" });
  const hint = make("p", { class: "cl-hint" });
  const small = [false, true].map((when) => make("canvas", { width: 2 * SMALL, height: 2 * SMALL, class: "sv-small", tabindex: false, "aria-hidden": "true",
    onclick: () => put({ show: "receptive", trained: when }) }));
  const pair = make("div", { class: "sv-pair" }, ...small.map((one, when) => make("figure", {}, one, make("figcaption", {}, when ? "after training" : "before training"))));
  const live = make("div", { class: "cl-hidden", "aria-live": "polite" });
  const key = (name) => make("kbd", {}, name);
  const help = make("details", { class: "cl-help" }, make("summary", {}, "Keyboard"), make("ul", {},
    make("li", {}, key("Tab"), " goes from control to control; on the picture ", key("←"), key("→"), key("↑"), key("↓"), " choose a pixel, ",
      key("Page ↑"), key("Page ↓"), " the level"),
    make("li", {}, key("V"), " next view, ", key("L"), " next level, ", key("B"), " next block, ", key("G"), " next group; with ", key("Shift"), " the one before"),
    make("li", {}, key("1"), " … ", key("9"), " follow a point, ", key("0"), " or ", key("Esc"), " none"),
    make("li", {}, key("T"), " before or after training, ", key("O"), " boxes")));
  const head = make("tr", {}, ...["", "grid", "moved by", "reads at", "modulation"].map((text) => make("th", { scope: "col" }, text)));
  const root = make("section", { class: "cascade-lab sampling-viewer", "aria-label": "Sampling viewer", onkeydown: onKey },
    make("div", { class: "cl-head" }, views, make("span", { class: "cl-source" }, data.name)),
    make("div", { class: "cl-body" },
      make("div", {}, stageBox, legend,
        make("div", { class: "cl-tools" }, make("label", {}, "level ", levelSelect), make("label", {}, "block ", blockSelect),
          make("label", {}, "group ", groupSlider, groupValue), make("label", {}, "point ", pointSelect), trainedLabel, boxesLabel), help),
      make("div", {}, title, make("div", { class: "cl-scroll" }, make("table", { class: "sv-table" }, make("thead", {}, head), table)),
        make("p", { class: "cl-hint" }, "(x, y); grid and moved by: in pixels of the map, reads at: in pixels of the picture"), words, radii, pair, hint)), live);
  el.replaceChildren(root);
  const { put, schedule, stop } = follow(model, TRAITS, stageBox, paint);
  fillOptions(levelSelect, levels.map((level) => [level, `${level + 1} · stride ${blocks(level)[0].stride} · ${blocks(level)[0].size.join(" × ")}`]), get("level"));
  decodePicture(data.picture).then((image) => { bitmap = image; schedule(); });

  // ---- mouse
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); pick(event); });
  canvas.addEventListener("pointermove", (event) => { if (event.buttons & 1) pick(event); });
  function pick(event) {
    const area = canvas.getBoundingClientRect();
    goTo((event.clientX - area.left) / scale - margin - 0.5, (event.clientY - area.top) / scale - margin - 0.5);
  }

  // ---- keyboard
  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key, by = event.shiftKey ? -1 : 1;
    const digit = name.length === 1 ? "0123456789".indexOf(name) : -1, onPicture = event.target === canvas;
    const anywhere = {
      v: () => put({ show: turnView(by) }), l: () => turnLevel(by),
      b: () => put({ block: turn(get("block"), by, blocks().length) }),
      g: () => put({ group: turn(group(), by, layer().groups) }),
      t: () => put({ trained: !get("trained") }), o: () => put({ show_boxes: !get("show_boxes") }),
      Escape: get("point") >= 0 ? () => put({ point: -1 }) : null,
    };
    const here = {
      ArrowLeft: () => step(0, -1), ArrowRight: () => step(0, 1), ArrowUp: () => step(-1, 0), ArrowDown: () => step(1, 0),
      PageUp: () => turnLevel(1), PageDown: () => turnLevel(-1),
    };
    const act = digit >= 0 && digit <= layer().grid.length ? () => put({ point: digit - 1 }) : anywhere[name] ?? (onPicture ? here[name] : null);
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  function turnView(by) {
    const names = VIEWS.map(([name]) => name).filter((name) => name !== "receptive" || data.fields.length);
    return names[turn(names.indexOf(shown()), by, names.length)];
  }

  // ---- painting
  function paint() {
    paintCanvas();
    paintControls();
    paintPanel();
    root.dataset.painted = [shown(), get("level"), get("block"), group(), pixel(), get("point"), get("trained"), get("show_boxes")].join(":");
  }

  function paintCanvas() {
    const one = layer(), fit = fitCanvas(canvas, stageBox, [rows + 2 * margin, columns + 2 * margin]), { context, width, height, dense } = fit;
    scale = fit.scale;
    const place = ([x, y]) => [(x + margin) * scale, (y + margin) * scale];
    const area = [margin * scale, margin * scale, columns * scale, rows * scale];
    context.drawImage(ground(fit, area), 0, 0, canvas.width / dense, canvas.height / dense);
    const field = shown() === "receptive" ? nearestField(data.fields, one, pixel(), get("trained")) : null;
    if (field) paintField(context, field, place, area);
    if (shown() === "offsets") {
      const darts = [];
      for (let row = 0; row < one.size[0]; row += 1) {
        for (let column = 0; column < one.size[1]; column += 1) {
          darts.push(dartAt(one, [row, column], group(), get("point")).map(place));
        }
      }
      drawDarts(context, darts, data.colors.arrow);
    }
    if (shown() === "points") {
      const points = pointsAt(one, pixel(), group()).map((p) => ({ ...p, start: place(p.start), at: place(p.at) }));
      drawPoints(context, points, get("point"), data.colors);
    }
    if (shown() !== "receptive") drawCross(context, place(centre(one, pixel())), 7, data.colors.chosen);
  }

  // Picture and boxes, drawn once for every size and switch: a step from pixel to pixel leaves them alone.
  function ground({ dense }, area) {
    const key = [canvas.width, canvas.height, dense, Boolean(bitmap), get("show_boxes"), shown()].join();
    if (ground.key === key) return ground.canvas;
    ground.key = key;
    ground.canvas ??= document.createElement("canvas");
    Object.assign(ground.canvas, { width: canvas.width, height: canvas.height }); // clears it
    const context = ground.canvas.getContext("2d", { alpha: false });
    context.fillStyle = "#3a3a3a";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.scale(dense, dense);
    context.imageSmoothingQuality = "high";
    if (bitmap) context.drawImage(bitmap, ...area);
    if (shown() !== "points") darken(context, area, shown() === "offsets" ? 0.4 : 0.55);
    const corners = Array.from({ length: data.boxes.length / 4 }, (_, i) => [...data.boxes.subarray(4 * i, 4 * i + 4)].map((v) => (v + margin) * scale));
    if (get("show_boxes")) strokeBoxes(context, corners, { color: "#fff", dash: [] }, 1.25, 0.8);
    return ground.canvas;
  }

  function drawHeat(context, field, [x, y, width, height], zoom) {
    const [h, w] = field.size, cell = data.cell * zoom;
    context.save();
    context.beginPath();
    context.rect(x, y, width, height); // the last cells may stand out
    context.clip();
    context.drawImage(heatSprite(field, data.colors), x, y, w * cell, h * cell);
    context.restore();
  }

  function paintField(context, field, place, area) {
    drawHeat(context, field, area, scale);
    const at = place([field.column * field.stride + 0.5, field.row * field.stride + 0.5]);
    const other = nearestField(data.fields, layer(), pixel(), !field.trained);
    if (other) drawCircle(context, at, other.radius * scale, data.colors.other, [6, 4]);
    drawCircle(context, at, field.radius * scale, data.colors.now, []);
    drawCross(context, at, 7, data.colors.chosen);
  }

  // The two fields side by side; drawn again only when another pixel has another field.
  function paintSmall(canvas, field) {
    const about = `${data.fields.indexOf(field)}:${Boolean(bitmap)}`;
    if (canvas.dataset.about === about || !bitmap) return;
    canvas.dataset.about = about;
    const context = canvas.getContext("2d", { alpha: false }), zoom = (2 * SMALL) / Math.max(rows, columns);
    Object.assign(canvas, { width: Math.round(columns * zoom), height: Math.round(rows * zoom) });
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    darken(context, [0, 0, canvas.width, canvas.height], 0.55);
    drawHeat(context, field, [0, 0, canvas.width, canvas.height], zoom);
    const at = [field.column, field.row].map((value) => (value * field.stride + 0.5) * zoom);
    drawCircle(context, at, field.radius * zoom, data.colors.now, []);
    drawCross(context, at, 6, data.colors.chosen);
  }

  function paintControls() {
    const one = layer();
    [...views.children].forEach((button) => button.setAttribute("aria-pressed", button.dataset.show === shown()));
    levelSelect.value = get("level");
    fillOnce(blockSelect, `${get("level")}`, blocks().map((block, number) => [number, `${block.block + 1}`]), get("block"));
    groupSlider.max = one.groups - 1;
    groupSlider.value = group();
    groupSlider.setAttribute("aria-valuetext", `group ${group() + 1} of ${one.groups}`);
    groupValue.textContent = `${group() + 1} of ${one.groups}`;
    fillOnce(pointSelect, `${one.kernel}`, [[-1, "none"], ...one.grid.map((_, k) => [k, `${k + 1}`])], get("point"));
    trained.checked = get("trained");
    trained.disabled = !data.fields.length;
    boxes.checked = get("show_boxes");
    boxes.disabled = !data.boxes.length;
    paintLegend();
  }

  // Options are made again only when they change: a list that is open would close.
  function fillOnce(select, about, options, value) {
    if (select.dataset.about !== about) fillOptions(select, options, value);
    select.dataset.about = about;
    select.value = value;
  }

  function paintLegend() {
    const about = `${shown()}:${get("trained")}:${get("point") >= 0 ? get("point") : ""}`;
    if (legend.dataset.about === about) return;
    legend.dataset.about = about;
    const { colors } = data, item = (mark, text) => make("span", {}, mark, text);
    const mark = (symbol, color) => make("span", { class: "sv-mark", style: `color: ${color}`, "aria-hidden": "true" }, symbol);
    const line = (color, dash) => swatch({ color, dash });
    const point = get("point"), when = get("trained") ? ["after", "before"] : ["before", "after"];
    legend.replaceChildren(...{
      points: [item(mark("✚", colors.chosen), "output pixel"), item(mark("□", colors.grid), "zero offset"),
        item(mark("●", colors.disc), "reads here, area = modulation"), item(mark("◌", "#fff"), "reads zero")],
      offsets: [item(mark("◤", colors.arrow), point < 0 ? "from each output pixel (wide end) to the mean of its points, weighted by modulation" : `how far point ${point + 1} moved, from each output pixel (wide end)`)],
      receptive: [item(make("span", { class: "sv-ramp", style: `--low: ${colors.low}; --high: ${colors.high}` }), "gradient, square root"),
        item(line(colors.now, []), `90 % ${when[0]} training (shown)`), item(line(colors.other, [6, 4]), `90 % ${when[1]} training`)],
    }[shown()]);
  }

  function paintPanel() {
    const one = layer(), points = pointsAt(one, pixel(), group());
    while (table.children.length > points.length) table.lastChild.remove();
    while (table.children.length < points.length) table.append(makeRow(table.children.length));
    points.forEach((point, k) => fillRow(table.children[k], one, point, k));
    title.textContent = headline(one, group(), pixel());
    words.textContent = verdict(one, group(), pixel());
    const [before, after] = [false, true].map((when) => nearestField(data.fields, one, pixel(), when));
    const quoted = [before, after].filter(Boolean);
    pair.hidden = !quoted.length;
    quoted.forEach((field) => paintSmall(small[Number(field.trained)], field));
    radii.textContent = before && after
      ? `90 % of the gradient lies within ${before.radius.toFixed(1)} picture pixels before training, and within ${after.radius.toFixed(1)} after.` : "";
    const [row, column] = pixel(), exact = quoted.every((field) => field.row === row && field.column === column);
    hint.textContent = quoted.length && !exact ? `Measured for the nearest stored pixel, row ${quoted[0].row}, column ${quoted[0].column}.` : "";
    canvas.setAttribute("aria-label", `${title.textContent} ${words.textContent} ${radii.textContent} Arrow keys choose another pixel.`);
    const news = `${title.textContent} ${words.textContent}`;
    if (news !== spoken) live.textContent = spoken = news;
  }

  function makeRow(k) {
    return make("tr", { onclick: () => follow_(k) }, make("th", { scope: "row" }, make("span", { class: "sv-number" }, `${k + 1}`)),
      ...Array.from({ length: 3 }, () => make("td")), make("td", { class: "sv-share" }, make("span", { class: "sv-bar" }), make("span", {})));
  }

  function fillRow(row, one, point, k) {
    const [gx, gy] = one.grid[k], cells = [`${gx}, ${gy}`, point.moved.map(signed).join(", "), point.at.map((value) => value.toFixed(1)).join(", ")];
    cells.forEach((text, i) => { row.children[i + 1].textContent = text; });
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
