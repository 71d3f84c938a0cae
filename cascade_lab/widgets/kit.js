// What every viewer shares: numbers from bytes, elements that JupyterLab leaves alone, boxes and labels on a canvas.
// canvas.py puts this text before that of the viewer, so nothing is imported at run time and a page stays one file.

// ---------------------------------------------------------------- numbers

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const floats = (bytes) => new Float32Array(slice(bytes));
const integers = (bytes) => new Int32Array(slice(bytes));
const slice = (bytes) => bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
const two = (value) => (Number.isFinite(value) ? value.toFixed(2) : "–");
const cornersOf = (boxes, index) => [...boxes.subarray(index * 4, index * 4 + 4)];

function signed(value) {
  const text = Math.abs(value).toFixed(2);
  return text === "0.00" ? text : (value < 0 ? "−" : "+") + text;
}

function iou(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  const overlap = Math.max(width, 0) * Math.max(height, 0);
  const area = (c) => Math.max(c[2] - c[0], 0) * Math.max(c[3] - c[1], 0);
  const union = area(a) + area(b) - overlap;
  return union > 0 ? overlap / union : 0;
}

function mean(values) {
  const known = values.filter(Number.isFinite);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : NaN;
}

// ---------------------------------------------------------------- elements

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "line", "rect"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
  // JupyterLab takes arrow keys and letters from whatever has the focus, unless that very element says no.
  if (["input", "select", "button", "canvas", "summary"].includes(tag)) node.dataset.lmSuppressShortcuts = "true";
  node.append(...children);
  return node;
}

function swatch(style) {
  return make("svg", { width: 32, height: 12, "aria-hidden": "true", class: "cl-swatch" },
    make("rect", { width: 32, height: 12, rx: 3, fill: "#2b2b2b" }), // dark in both themes, as on the picture
    make("line", {
      x1: 3, x2: 29, y1: 6, y2: 6, stroke: style.color, "stroke-width": 2.5, "stroke-dasharray": style.dash.join(" ") || "none",
    }));
}

const keycap = (name) => make("kbd", {}, name);

// What the keys do, folded away; a line is a list of texts and keycaps.
function keyboardHelp(...lines) {
  return make("details", { class: "cl-help" }, make("summary", {}, "Keyboard"),
    make("ul", {}, ...lines.map((line) => make("li", {}, ...line))));
}

// A table from texts for its head and rows as makeRow() gives them; wide ones scroll sideways by themselves.
function makeTable(heads, rows, attributes = {}) {
  const head = make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)));
  return make("div", { class: "cl-scroll" },
    make("table", attributes, make("thead", {}, head), make("tbody", {}, ...rows)));
}

// ``head`` lists what stands in the head of the row.
function makeRow(attributes, head, cells) {
  return make("tr", attributes, make("th", { scope: "row" }, ...head), ...cells.map((cell) => make("td", {}, cell)));
}

function fillOptions(select, options, value) {
  select.replaceChildren(...options.map(([name, text]) => make("option", { value: name }, text)));
  select.value = value;
}

// Buttons to choose one of several pictures, each with a small copy of it; ``bitmaps`` fills as they are decoded.
function pictureButtons(views, choose, decoded) {
  const bitmaps = views.map(() => null);
  const buttons = views.map(({ name, picture, size: [rows, columns] }, index) => {
    const thumbnail = make("canvas", { height: 96, width: Math.round((96 * columns) / rows) });
    decodePicture(picture).then((bitmap) => {
      bitmaps[index] = bitmap;
      thumbnail.getContext("2d").drawImage(bitmap, 0, 0, thumbnail.width, thumbnail.height);
      decoded();
    });
    const attributes = { type: "button", class: "cl-thumbnail", onclick: () => choose(index) };
    return make("button", attributes, thumbnail, make("span", {}, name));
  });
  const shown = buttons.length > 1 ? buttons : [];
  const row = make("div", { class: "cl-pictures", role: "group", "aria-label": "Picture" }, ...shown);
  const mark = (chosen) => buttons.forEach((button, index) => button.setAttribute("aria-pressed", index === chosen));
  return { row, bitmaps, mark };
}

// ---------------------------------------------------------------- keys and playing

// A listener for keydown: ``find`` says what a key does, if anything. Such a key is kept from the notebook.
function keyListener(find) {
  return (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    const act = find(event);
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  };
}

// A button that plays: from ``place()`` to every whole number up to ``last()``, with a rest at each, and at the end
// from 0 again. It jumps where the reader wants little motion, or where ``moveMs`` is 0.
function player(words, { place, last, moveTo, moveMs = 1000, restMs = 600 }) {
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const button = make("button", { type: "button", class: "cl-play", onclick: toggle });
  let playing = false, frame = 0, timer = 0;

  function show(now) {
    playing = now;
    button.textContent = playing ? "❚❚" : "▶";
    button.setAttribute("aria-label", playing ? "Pause" : words);
  }
  function goOn(from) {
    const to = Math.floor(from) + 1, begin = performance.now(), glides = moveMs > 0 && !still.matches;
    const step = () => {
      const t = glides ? clamp((performance.now() - begin) / (moveMs * (to - from)), 0, 1) : 1;
      moveTo(from + (to - from) * t * t * (3 - 2 * t)); // it starts and ends gently
      if (t < 1) frame = requestAnimationFrame(step);
      else if (to < last()) timer = setTimeout(() => goOn(to), glides ? restMs : moveMs + restMs);
      else pause();
    };
    step();
  }
  function toggle() {
    if (playing) return pause();
    show(true);
    if (place() < last()) return goOn(place());
    moveTo(0);
    timer = setTimeout(() => goOn(0), restMs);
  }
  function pause() {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    show(false);
  }
  show(false);
  return { button, toggle, pause };
}

// ---------------------------------------------------------------- from the model to the screen

// Tie a paint function to the model: it runs at most once a frame, after anything that happened to the traits in
// ``names``, to the size of ``box`` or to the theme, of which a canvas does not hear by itself. ``put`` sets traits;
// the kernel hears of it when the hand rests.
function follow(model, names, box, paint) {
  let frame = 0, saving = 0, alive = true;
  const schedule = () => {
    if (!frame && alive) frame = requestAnimationFrame(() => { frame = 0; paint(); });
  };
  const put = (values) => {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    clearTimeout(saving);
    saving = setTimeout(() => model.save_changes(), 150);
    schedule();
  };
  const resize = new ResizeObserver(schedule), theme = new MutationObserver(schedule);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", schedule);
  theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
  names.forEach((name) => model.on(`change:${name}`, schedule));
  resize.observe(box);
  const stop = () => {
    alive = false;
    clearTimeout(saving);
    cancelAnimationFrame(frame);
    resize.disconnect();
    theme.disconnect();
    dark.removeEventListener("change", schedule);
    names.forEach((name) => model.off(`change:${name}`, schedule));
  };
  return { put, schedule, stop };
}

// ---------------------------------------------------------------- pictures and boxes on a canvas

// Make a canvas fill its box, sharp on dense screens; draw in CSS pixels: one picture pixel is ``scale`` of them.
function fitCanvas(canvas, box, [rows, columns], most = 560) {
  const room = box.clientWidth || 480, tall = Math.min(most, innerHeight * 0.75);
  const width = Math.max(Math.min(room, (tall * columns) / rows), 120);
  const height = (width * rows) / columns, dense = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * dense) || canvas.height !== Math.round(height * dense)) {
    Object.assign(canvas, { width: Math.round(width * dense), height: Math.round(height * dense) });
    Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  }
  const context = canvas.getContext("2d", { alpha: false });
  context.setTransform(dense, 0, 0, dense, 0, 0);
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "middle";
  return { context, width, height, dense, scale: width / columns };
}

// Decode the bytes of a JPEG or PNG.
function decodePicture(bytes) {
  const png = bytes.getUint8(0) === 0x89;
  return createImageBitmap(new Blob([slice(bytes)], { type: png ? "image/png" : "image/jpeg" }));
}

// Scaling a picture well takes longer than all the rest of a frame, so it is done once per canvas size.
function scaledPicture(holder, bitmap, { width, height }) {
  if (holder.scaled?.width !== width || holder.scaled.height !== height) {
    holder.scaled = Object.assign(document.createElement("canvas"), { width, height });
    const context = holder.scaled.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, width, height);
  }
  return holder.scaled;
}

// Boxes in one style: a dark rim first, so that the colour can be seen on any picture.
function strokeBoxes(context, boxes, { color, dash }, width, alpha = 1) {
  if (!boxes.length) return;
  context.globalAlpha = alpha;
  context.beginPath();
  for (const [x1, y1, x2, y2] of boxes) context.rect(x1, y1, x2 - x1, y2 - y1);
  context.setLineDash([]);
  context.strokeStyle = "rgba(0, 0, 0, 0.55)";
  context.lineWidth = width + 2;
  context.stroke();
  context.setLineDash(dash);
  context.strokeStyle = color;
  context.lineWidth = width;
  context.stroke();
  context.setLineDash([]);
  context.globalAlpha = 1;
}

function tag(context, text, x, y, color) {
  const width = context.measureText(text).width + 13;
  context.fillStyle = "rgba(0, 0, 0, 0.78)";
  context.fillRect(x, y, width, 18);
  context.fillStyle = color;
  context.fillRect(x, y, 4, 18);
  context.fillStyle = "#fff";
  context.fillText(text, x + 8, y + 9.5);
}

// Put a label above its box, else below, else inside, wherever it covers no other label.
function labelSpot(context, text, [x1, y1, , y2], size, taken) {
  const width = context.measureText(text).width + 13;
  const x = clamp(x1 - 1, 0, size[0] - width);
  const free = (y) => y >= 0 && y + 18 <= size[1] &&
    !taken.some((r) => x < r[0] + r[2] && r[0] < x + width && y < r[1] + 18 && r[1] < y + 18);
  const y = [y1 - 20, y2 + 2, y1 + 2, y2 - 20].find(free);
  if (y === undefined) return null;
  taken.push([x, y, width]);
  return [x, y];
}

