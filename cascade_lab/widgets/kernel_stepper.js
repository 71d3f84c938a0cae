// The kernel stepper in the browser: the maps on a canvas, the kernel's source, and what the marked line computes.
// Everything is a replay: the numbers of all threads came once, and the text of a step is a template for them.

const OUTSIDE = 2; // cells shown round the input: a point may lie there, and reads zeros
const GAP = 1.1, TITLE = 0.8, EDGE = 0.3; // between maps, above each, and at the edges, in cells
const STACKED = 560; // in a narrower box the maps stand one below the other
const MOST_ARRIVALS = 8; // listed of all that meet in one cell
const CORNERS = ["upper left", "upper right", "lower left", "lower right"];
const TRAITS = ["backward", "thread", "step"];
const SOFTMAX = 8; // the step in which all nine weights m become known
// Columns of the table of points: head, number, decimals, and the step of its point in which a number becomes known.
const COLUMNS = {
  forward: [["x", "x", 2, 0], ["y", "y", 2, 0], ["weight m", "m", 4], ["sum after it", "sum", 4, 7]],
  backward: [
    ["x", "x", 2, 0], ["y", "y", 2, 0], ["m", "m", 3],
    ["dL/dx", "grad_x", 2, 3], ["dL/dy", "grad_y", 2, 3], ["dL/dm", "grad_m", 2, 4], ["dL/dlogit", "grad_logit", 2],
  ],
};

// ---------------------------------------------------------------- numbers: no DOM below this line

function decode(raw) {
  const maps = {};
  for (const name of ["input", "output", "grad_output", "grad_input"]) maps[name] = floats(raw[name]); // (H, W, C)
  const numbers = {};
  for (const [name, bytes] of Object.entries(raw.numbers)) numbers[name] = floats(bytes); // (T,) or (T, 9)
  return { ...raw, maps, numbers, eachPoint: new Set(raw.each_point), width: raw.channels / raw.groups };
}

function number(trace, name, thread, point) {
  return trace.numbers[name][trace.eachPoint.has(name) ? thread * 9 + point : thread];
}

// Up to so many decimals, without idle zeros.
function short(value, decimals) {
  const text = value.toFixed(decimals);
  const cut = text.includes(".") ? text.replace(/0+$/, "").replace(/\.$/, "") : text;
  return cut === "-0" ? "0" : cut;
}

function fill(trace, template, thread, point) {
  const value = (_, name, decimals) => short(number(trace, name, thread, point), Number(decimals ?? 0));
  return template.replace(/\{(\w+)(?::(\d))?\}/g, value);
}

const place = (trace, thread) => ["row", "column", "group"].map((name) => number(trace, name, thread));

function threadAt(trace, row, column, group) {
  const [rows, columns] = trace.size;
  return (clamp(row, 0, rows - 1) * columns + clamp(column, 0, columns - 1)) * trace.groups + group;
}

// An element of (H, W, C) as [row, column].
function pixelOf(trace, element) {
  const pixel = Math.floor(element / trace.channels);
  return [Math.floor(pixel / trace.size[1]), pixel % trace.size[1]];
}

// The pixel of one corner of a point: the input's and its gradient's elements are the same.
const cornerPixel = (trace, thread, point, corner) => pixelOf(trace, number(trace, `e${corner}`, thread, point));

// All additions to one element of the gradient of the input that are not zero.
function arrivals(trace, element) {
  const found = [];
  for (let thread = 0; thread < trace.threads.length; thread += 1) {
    for (let point = 0; point < 9; point += 1) {
      for (let corner = 0; corner < 4; corner += 1) {
        const value = number(trace, `c${corner}`, thread, point);
        const here = number(trace, `a${corner}`, thread, point) === element;
        if (value && here) found.push({ thread, point, corner, value });
      }
    }
  }
  return found;
}

// Where the maps stand, in cells: the input with its surroundings first, those that threads belong to last.
function layOut(trace, backward, stacked) {
  const [rows, columns] = trace.size;
  const first = { name: "input", title: "input, channel 0 of group", x: OUTSIDE, y: OUTSIDE + TITLE };
  const others = backward
    ? [{ name: "grad_input", title: "dL/d input" }, { name: "grad_output", title: "dL/d output", chooses: true }]
    : [{ name: "output", title: "output", chooses: true }];
  const wide = columns + 2 * OUTSIDE, high = rows + 2 * OUTSIDE + TITLE;
  others.forEach((map, i) => {
    map.x = (!stacked ? wide : backward ? EDGE : OUTSIDE) + i * (columns + GAP); // one alone stands under the input
    map.y = stacked ? high + TITLE : OUTSIDE + TITLE;
  });
  const across = others.length * (columns + GAP) - GAP + 2 * EDGE;
  return stacked
    ? { maps: [first, ...others], columns: Math.max(wide, across), rows: high + TITLE + rows + EDGE }
    : { maps: [first, ...others], columns: wide + across - EDGE, rows: high };
}

// ---------------------------------------------------------------- the canvas

function drawMap(context, trace, map, group, cell, ink) {
  const [rows, columns] = trace.size, values = trace.maps[map.name];
  context.textAlign = "start";
  context.fillStyle = ink.soft;
  context.font = `600 ${Math.min(12, cell * 0.42)}px system-ui, sans-serif`;
  const isInput = map.name === "input", above = isInput ? 1 : 0; // the zeros stand between the input and its title
  const title = isInput ? `${map.title} ${group}` : map.title;
  context.fillText(title, (map.x - above) * cell, (map.y - above - TITLE / 2) * cell);
  context.lineWidth = 1;
  context.strokeStyle = ink.line;
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const x = (map.x + column) * cell, y = (map.y + row) * cell;
      context.strokeRect(x, y, cell, cell);
      const value = values[(row * columns + column) * trace.channels + group * trace.width];
      context.fillStyle = map.faint?.(row, column) ? ink.soft : ink.ink;
      writeCell(context, map.say?.(row, column) ?? short(value, 2), x, y, cell, isInput);
    }
  }
}

// In the middle of a cell, or in its upper left corner where points will lie on it.
function writeCell(context, text, x, y, cell, inCorner) {
  const size = Math.min(13, cell * 0.34);
  context.textAlign = inCorner ? "start" : "center";
  context.font = `${size}px system-ui, sans-serif`;
  const room = (cell - 5) / context.measureText(text).width;
  if (room < 1) context.font = `${size * room}px system-ui, sans-serif`;
  context.fillText(text, x + (inCorner ? 3 : cell / 2), y + (inCorner ? size * 0.65 + 1 : cell / 2 + 0.5));
}

// Round the input there is nothing, which reads as zero.
function drawOutside(context, trace, map, cell, ink) {
  const [rows, columns] = trace.size;
  context.fillStyle = ink.soft;
  context.strokeStyle = ink.line;
  context.setLineDash([2, 3]);
  for (let row = -1; row <= rows; row += 1) {
    for (let column = -1; column <= columns; column += 1) {
      if (row >= 0 && row < rows && column >= 0 && column < columns) continue;
      context.strokeRect((map.x + column) * cell, (map.y + row) * cell, cell, cell);
      writeCell(context, "0", (map.x + column) * cell, (map.y + row) * cell, cell, true);
    }
  }
  context.setLineDash([]);
}

function fillCell(context, map, [row, column], cell, color, alpha) {
  context.globalAlpha = alpha;
  context.fillStyle = color;
  context.fillRect((map.x + column) * cell, (map.y + row) * cell, cell, cell);
  context.globalAlpha = 1;
}

function outlineCell(context, map, [row, column], cell, color, width, dash = []) {
  context.strokeStyle = color;
  context.lineWidth = width;
  context.setLineDash(dash);
  context.strokeRect((map.x + column) * cell + width / 2, (map.y + row) * cell + width / 2, cell - width, cell - width);
  context.setLineDash([]);
}

// Pixel centres are whole numbers; a point far outside stays at the edge of what is drawn.
function pointSpot(trace, map, thread, point, cell) {
  const [rows, columns] = trace.size;
  const x = clamp(number(trace, "x", thread, point), 0.2 - OUTSIDE - 0.5, columns + OUTSIDE - 0.7);
  const y = clamp(number(trace, "y", thread, point), 0.2 - OUTSIDE - 0.5, rows + OUTSIDE - 0.7);
  return [(map.x + x + 0.5) * cell, (map.y + y + 0.5) * cell];
}

function drawPoints(context, trace, map, thread, now, cell, ink) {
  const [row, column] = place(trace, thread), scale = number(trace, "scale", thread);
  for (let point = 0; point < 9; point += 1) {
    const gridX = column + (Math.floor(point / 3) - 1) * scale, gridY = row + ((point % 3) - 1) * scale;
    const from = [(map.x + gridX + 0.5) * cell, (map.y + gridY + 0.5) * cell];
    const [x, y] = pointSpot(trace, map, thread, point, cell), own = point === now;
    if (own) {
      context.strokeStyle = trace.colors.point;
      context.lineWidth = 2;
      context.beginPath();
      context.moveTo(...from);
      context.lineTo(x, y);
      context.stroke();
      context.strokeRect(from[0] - 4, from[1] - 4, 8, 8);
    }
    context.beginPath();
    context.arc(x, y, own ? 6 : 3, 0, 7);
    context.fillStyle = own ? trace.colors.point : ink.soft;
    context.fill();
    context.lineWidth = own ? 2 : 1;
    context.strokeStyle = ink.paper;
    context.stroke();
  }
}

// ---------------------------------------------------------------- the viewer

function render({ model, el }) {
  const trace = decode(model.get("_trace"));
  const get = (name) => model.get(name);
  const steps = () => trace.passes[get("backward") ? 1 : 0];
  const step = () => clamp(get("step"), 0, steps().length - 1);
  let layout = null, cell = 1, tableKey = "", meetingKey = "";

  const goTo = (value) => put({ step: clamp(value, 0, steps().length - 1) });
  const setPass = (backward) => put({ backward, step: 0 });
  const choose = (row, column, group) => put({ thread: threadAt(trace, row, column, group) });
  const chooseGroup = (group) => choose(...place(trace, get("thread")).slice(0, 2), group);

  // To the first step of the next point, or of this one, or the one before.
  function goToPoint(direction) {
    const all = steps(), starts = all.map((one, i) => i).filter((i) => i === 0 || all[i].point !== all[i - 1].point);
    const at = step();
    goTo(direction > 0 ? starts.find((i) => i > at) ?? all.length - 1 : starts.findLast((i) => i < at) ?? 0);
  }

  // ---- elements, top to bottom
  const button = (text, label, onclick) => make("button", { type: "button", "aria-label": label, onclick }, text);
  const forward = make("button", { type: "button", onclick: () => setPass(false) }, "forward");
  const backward = make("button", { type: "button", onclick: () => setPass(true) }, "backward");
  const group = make("select", { "aria-label": "Group of channels", onchange: () => chooseGroup(Number(group.value)) });
  fillOptions(group, Array.from({ length: trace.groups }, (_, i) => [i, `group ${i}`]), 0);
  const who = make("span", { class: "ks-where" });
  const canvas = make("canvas", { tabindex: 0, class: "cl-canvas", role: "application", "aria-roledescription": "maps" });
  const box = make("div", { class: "cl-picture" }, canvas);
  const slider = make("input", {
    type: "range", min: 0, step: 1, class: "cl-slider", "aria-label": "Step", oninput: () => goTo(Number(slider.value)),
  });
  const rows = trace.source.map((text, i) => make("div", { class: "ks-line", "data-number": i + 1 }, text || " "));
  const source = make("div", { class: "ks-source", tabindex: 0, role: "region", "aria-label": "Source of the kernel" },
    make("div", { class: "ks-lines" }, ...rows));
  source.dataset.lmSuppressShortcuts = "true"; // it scrolls by arrow keys
  const where = make("p", { class: "ks-where" });
  const title = make("h3", {});
  const arithmetic = make("div", { class: "ks-arithmetic" });
  const table = make("div", { class: "ks-points" });
  const meeting = make("div", { class: "ks-meeting" });
  const mark = (sign, color, text) => make("span", {},
    make("span", { class: "ks-mark", style: `color: ${trace.colors[color]}`, "aria-hidden": "true" }, sign), ` ${text}`);
  const legend = make("p", { class: "cl-hint ks-legend" },
    mark("●", "point", "the point of this step"), mark("□", "point", "its place in the regular grid"),
    mark("■", "corner", "its four pixels"), mark("■", "now", "the one read or added to"),
    mark("▢", "thread", "this thread's output; dashed: the same place in the input"),
    make("span", {}, "numbers are rounded"));
  const help = keyboardHelp(
    [keycap("N"), keycap("P"), " next or previous step; ", keycap("→"), keycap("←"), " the same on the slider"],
    [keycap("Page ↓"), keycap("Page ↑"), " on slider and maps: next or previous point"],
    [keycap("Home"), keycap("End"), " there: first or last step"],
    [keycap("←"), keycap("→"), keycap("↑"), keycap("↓"), " on the maps: another output; or click one"],
    [keycap("G"), " other group, ", keycap("B"), " forward or backward"]);
  const passes = make("span", { class: "ks-passes", role: "group", "aria-label": "Kernel" }, forward, backward);
  const said = make("div", { class: "ks-said", "aria-live": "polite" }, where, title, arithmetic);
  const transport = make("div", { class: "ks-transport" },
    button("« point", "Previous point", () => goToPoint(-1)),
    button("‹ step", "Previous step", () => goTo(step() - 1)), slider,
    button("step ›", "Next step", () => goTo(step() + 1)),
    button("point »", "Next point", () => goToPoint(1)));
  const root = make("section", {
    class: "cascade-lab kernel-stepper", "aria-label": "Kernel stepper", onkeydown: keyListener(actionOf),
  }, make("div", { class: "ks-head" }, passes, group, who),
    make("div", { class: "cl-body" },
      make("div", { class: "ks-left" }, box, legend, transport, source, help),
      make("div", { class: "ks-panel" }, said, table, meeting)));
  el.replaceChildren(root);
  const { put, schedule, stop } = follow(model, TRAITS, box, paint);

  canvas.addEventListener("click", (event) => {
    const spot = outputUnder(event);
    if (spot) choose(...spot, place(trace, get("thread"))[2]);
  });
  canvas.addEventListener("pointermove", (event) => {
    canvas.style.cursor = outputUnder(event) ? "pointer" : "default";
  });

  function outputUnder(event) {
    const area = canvas.getBoundingClientRect(), map = layout?.maps.find((one) => one.chooses);
    const row = Math.floor((event.clientY - area.top) / cell - map.y);
    const column = Math.floor((event.clientX - area.left) / cell - map.x);
    return row >= 0 && row < trace.size[0] && column >= 0 && column < trace.size[1] ? [row, column] : null;
  }

  // ---- keyboard
  function actionOf({ key, target }) {
    const [row, column, own] = place(trace, get("thread")), name = key.toLowerCase();
    const onMaps = target === canvas, moves = onMaps || target === slider;
    return name === "n" ? () => goTo(step() + 1)
      : name === "p" ? () => goTo(step() - 1)
      : name === "g" ? () => chooseGroup((own + 1) % trace.groups)
      : name === "b" ? () => setPass(!get("backward"))
      : !moves ? null
      : name === "pagedown" ? () => goToPoint(1)
      : name === "pageup" ? () => goToPoint(-1)
      : name === "home" ? () => goTo(0)
      : name === "end" ? () => goTo(steps().length - 1)
      : !onMaps ? null
      : name === "arrowleft" ? () => choose(row, column - 1, own)
      : name === "arrowright" ? () => choose(row, column + 1, own)
      : name === "arrowup" ? () => choose(row - 1, column, own)
      : name === "arrowdown" ? () => choose(row + 1, column, own) : null;
  }

  // ---- painting
  function paint() {
    paintCanvas();
    paintControls();
    paintSource();
    paintText();
    paintTable();
    paintMeeting();
    root.dataset.painted = `${get("backward") ? "backward" : "forward"}:${get("thread")}:${step()}`; // for tests
  }

  function paintCanvas() {
    const thread = get("thread"), moment = steps()[step()], back = get("backward"), style = getComputedStyle(root);
    const read = (name) => [name, style.getPropertyValue(`--${name}`).trim()];
    const ink = Object.fromEntries(["paper", "ink", "soft", "line"].map(read));
    const stacked = box.clientWidth < STACKED;
    layout = layOut(trace, back, stacked);
    const { context, width, height, scale } = fitCanvas(canvas, box, [layout.rows, layout.columns], stacked ? 640 : 342);
    cell = scale;
    context.fillStyle = ink.paper;
    context.fillRect(0, 0, width + 1, height + 1);
    const [row, column, own] = place(trace, thread), [input, ...others] = layout.maps, mine = others.at(-1);
    const element = addedTo(moment), meets = new Set(element < 0 ? [] : arrivals(trace, element).map((one) => one.thread));
    if (!back) {
      const known = moment.sum || (moment.point >= 0 ? "sum_before" : "");
      const sum = known ? number(trace, known, thread, moment.point) : 0;
      mine.say = (r, c) => (r === row && c === column ? short(sum, 2) : undefined);
      mine.faint = (r, c) => r !== row || c !== column;
    }
    drawOutside(context, trace, input, cell, ink);
    for (const map of [input, ...(back ? [others[0]] : [])]) {
      const shown = moment.corner < 0 || (map !== input && element < 0) ? [] : [0, 1, 2, 3];
      for (const corner of shown) {
        const pixel = cornerPixel(trace, thread, moment.point, corner), now = corner === moment.corner;
        fillCell(context, map, pixel, cell, now ? trace.colors.now : trace.colors.corner, now ? 0.55 : 0.28);
      }
    }
    for (const other of meets) fillCell(context, mine, place(trace, other), cell, trace.colors.corner, 0.32);
    fillCell(context, mine, [row, column], cell, trace.colors.now, 0.4);
    for (const map of layout.maps) drawMap(context, trace, map, own, cell, ink);
    outlineCell(context, mine, [row, column], cell, trace.colors.thread, 3);
    outlineCell(context, input, [row, column], cell, trace.colors.thread, 2, [4, 3]);
    if (moment.corner >= 0 && moment.corner < 4) {
      const pixel = cornerPixel(trace, thread, moment.point, moment.corner);
      outlineCell(context, back ? others[0] : input, pixel, cell, trace.colors.point, 3);
    }
    if (moment.point >= 0 || step() > 0) drawPoints(context, trace, input, thread, moment.point, cell, ink);
    if (moment.corner === 4 && !back) drawWeights(context, moment, input, thread, ink);
  }

  // What each of the four pixels counts, in its lower right corner.
  function drawWeights(context, moment, map, thread, ink) {
    context.textAlign = "right";
    context.font = `${Math.min(9, cell * 0.25)}px system-ui, sans-serif`;
    context.fillStyle = ink.ink;
    for (let corner = 0; corner < 4; corner += 1) {
      const [row, column] = cornerPixel(trace, thread, moment.point, corner);
      const text = `×${short(number(trace, `w${corner}`, thread, moment.point), 3)}`.replace("0.", ".");
      context.fillText(text, (map.x + column + 1) * cell - 2, (map.y + row + 1) * cell - 6);
    }
  }

  function paintControls() {
    const all = steps(), at = step(), thread = get("thread"), [row, column, own] = place(trace, thread);
    forward.setAttribute("aria-pressed", !get("backward"));
    backward.setAttribute("aria-pressed", Boolean(get("backward")));
    group.value = own;
    const [own_, block] = [trace.threads, trace.blocks].map((all_) => `(${all_[thread].join(", ")})`);
    who.textContent = `thread ${own_} of block ${block}: output row ${row}, column ${column}`;
    slider.max = all.length - 1;
    slider.value = at;
    slider.style.setProperty("--filled", `${(100 * at) / (all.length - 1)}%`);
    root.style.setProperty("--stage", trace.colors.thread);
    const words = `step ${at + 1} of ${all.length}${all[at].point >= 0 ? `, point ${all[at].point}` : ""}`;
    where.textContent = `${words} · line ${all[at].line}`;
    slider.setAttribute("aria-valuetext", `${words}: ${all[at].title}`);
    const output = `${get("backward") ? "Backward" : "Forward"}, output row ${row}, column ${column}, group ${own}`;
    canvas.setAttribute("aria-label", `${output}, ${words}: ${all[at].title}. Arrow keys choose another output.`);
  }

  function paintSource() {
    const { line, span } = steps()[step()];
    rows.forEach((node, i) => {
      const marked = i + 1 >= line && i + 1 < line + span;
      if (marked) node.setAttribute("aria-current", "step");
      else if (node.hasAttribute("aria-current")) node.removeAttribute("aria-current");
    });
    source.scrollTop = rows[line - 1].offsetTop - source.clientHeight / 2;
  }

  function paintText() {
    const { title: text, text: lines, point } = steps()[step()];
    title.textContent = text;
    arithmetic.replaceChildren(...lines.map((line) => make("p", {}, fill(trace, line, get("thread"), point))));
  }

  // The nine points: what is known of them at this step.
  function paintTable() {
    const back = get("backward"), at = step(), moment = steps()[at], thread = get("thread");
    const done = moment.point >= 0 ? moment.point : at > SOFTMAX ? 9 : -1; // points before this one are done
    const next = `${back}:${thread}:${at}`;
    if (next === tableKey) return;
    tableKey = next;
    const columns = COLUMNS[back ? "backward" : "forward"];
    const into = at - steps().findIndex((one) => one.point === moment.point);
    const known = (name, point, from) =>
      name === "m" ? at >= SOFTMAX
      : name === "grad_logit" ? done === 9
      : point < done || (point === done && into >= from);
    const body = Array.from({ length: 9 }, (_, point) => {
      const now = point === moment.point, name = now ? "ks-now" : point > done ? "ks-later" : "";
      return makeRow({ class: name }, [`${now ? "▶ " : ""}${point}`], columns.map(([, one, decimals, from]) =>
        (known(one, point, from) ? short(number(trace, one, thread, point), decimals) : "·")));
    });
    const heads = ["point", ...columns.map(([text]) => text)];
    table.replaceChildren(makeTable(heads, body, { class: back ? "" : "ks-even" }));
  }

  // The element of the gradient that this step adds to; -1 where it adds to none.
  function addedTo(moment) {
    const adds = get("backward") && moment.corner >= 0 && moment.corner < 4;
    return adds ? number(trace, `a${moment.corner}`, get("thread"), moment.point) : -1;
  }

  // Who else adds to the cell that this step adds to.
  function paintMeeting() {
    const moment = steps()[step()], thread = get("thread"), element = addedTo(moment);
    const next = `${get("backward")}:${element}:${thread}:${moment.point}`;
    if (next === meetingKey) return;
    meetingKey = next;
    if (element < 0) {
      const why = get("backward") ? "At an addition, this place lists the threads that meet in the same cell."
        : "Only this thread writes to its output, so nobody has to wait for anybody.";
      return meeting.replaceChildren(make("p", { class: "cl-hint" }, why));
    }
    const all = arrivals(trace, element);
    const isOwn = (one) => one.thread === thread && one.point === moment.point && one.corner === moment.corner;
    const listed = [...all.filter(isOwn), ...all.filter((one) => !isOwn(one))].slice(0, MOST_ARRIVALS);
    const [row, column] = pixelOf(trace, element), threads = new Set(all.map((one) => one.thread)).size;
    const line = (one) => {
      const [r, c] = place(trace, one.thread), name = `${isOwn(one) ? "▶ " : ""}row ${r}, column ${c}`;
      const cells = [one.point, CORNERS[one.corner], short(one.value, 4)];
      return makeRow({ class: isOwn(one) ? "ks-now" : "" }, [name], cells);
    };
    const sum = short(trace.maps.grad_input[element], 4);
    const more = all.length > listed.length ? `And ${all.length - listed.length} more. ` : "";
    const order = "Their order is not fixed on a GPU, so the last digits may differ from run to run. " +
      "The outputs of these threads are tinted in dL/d output.";
    meeting.replaceChildren(
      make("p", { class: "cl-headline" },
        `${all.length} additions by ${threads} threads meet in row ${row}, column ${column}; their sum is ${sum}.`),
      makeTable(["output of the thread", "point", "adds to its", "value"], listed.map(line)),
      make("p", { class: "cl-hint" }, `${more}Additions of 0 are not listed. ${order}`));
  }

  schedule();
  return stop;
}

export default { render };
