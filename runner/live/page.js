// Shows the state of a sweep again and again. Whatever the files say is text: nothing here parses markup.
"use strict";

const COLOURS = 8;
const WAIT = { running: 1000, waiting: 1000, ended: 5000 };
const TRIES = 3;
const MOST_RUNNING = 8;
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]+/gu;
const at = (id) => document.getElementById(id);
let version = "", state = null, failures = 0;
const drawn = {};

function element(name, content = "", kind = "") {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (content) put(made, content);
  return made;
}

// Text in which a name of another direction turns round nothing but itself, and code stands between backquotes.
function put(node, text) {
  node.replaceChildren();
  text.split(/`([^`]*)`/).forEach((piece, place) => {
    const target = place % 2 ? node.appendChild(document.createElement("code")) : node;
    if (place % 2 && piece.startsWith("python ")) target.className = "command";
    let from = 0;
    for (const found of piece.matchAll(RIGHT_TO_LEFT)) {
      target.append(piece.slice(from, found.index));
      target.appendChild(document.createElement("bdi")).textContent = found[0];
      from = found.index + found[0].length;
    }
    target.append(piece.slice(from));
  });
}

function changed(name, value) {
  const text = JSON.stringify(value);
  if (drawn[name] === text) return false;
  drawn[name] = text;
  return true;
}

function table({ head, rows, words }) {
  const made = element("table"), kinds = head.map((name) => (words.includes(name) ? "words" : ""));
  const line = (tag, cells) => {
    const row = element("tr");
    cells.forEach((cell, place) => row.append(element(tag, cell, kinds[place])));
    return row;
  };
  const top = element("thead"), body = element("tbody");
  top.append(line("th", head));
  body.append(...rows.map((cells) => line("td", cells)));
  made.append(top, body);
  return made;
}

function part(one) {
  switch (one.kind) {
    case "heading": return element("h2", one.text);
    case "paragraph": return element("p", one.text);
    case "command": return element("pre", one.text);
    case "bullets": {
      const list = element("ul");
      list.append(...one.items.map((item) => element("li", item)));
      return list;
    }
    case "table": {
      const box = element("div", "", "wide");
      box.append(table(one));
      return box;
    }
  }
}

function refill(box, content) {
  const left = box.scrollLeft;
  box.replaceChildren(content);
  box.scrollLeft = left;
}

function svg(name, attributes, content = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = content;
  return made;
}

function ticks(low, high, most) {
  if (!(high > low)) return [low];
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(value);
  return found;
}

const plain = (value) => String(Number(value.toPrecision(4)));

function draw(panel, width) {
  const height = 210, left = 46, right = 8, top = 8, bottom = 34;
  const points = panel.curves.flatMap((curve) => curve.points).filter((point) => point[1] !== null);
  const values = points.map((point) => point[1]), epochs = points.map((point) => point[0]);
  let low = Math.min(...values), high = Math.max(...values);
  const log = panel.title.includes("loss") && low > 0 && high > 20 * low;
  const scale = (value) => (log ? Math.log10(value) : value);
  let first = Math.min(0, ...epochs), last = Math.max(...epochs, first + 1);
  [low, high] = [scale(low), scale(high)];
  if (!(high > low)) [low, high] = [low - 1, high + 1];
  const pad = 0.04 * (high - low);
  [low, high] = [low - pad, high + pad];
  const x = (epoch) => left + (width - left - right) * (epoch - first) / (last - first);
  const y = (value) => top + (height - top - bottom) * (high - value) / (high - low);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": panel.title });
  const marks = log
    ? ticks(Math.ceil(low), Math.floor(high), 4).map((mark) => [mark, plain(10 ** mark)])
    : ticks(low, high, 4).map((mark) => [mark, plain(mark)]);
  for (const [mark, label] of marks) {
    picture.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(mark), y2: y(mark) }));
    picture.append(svg("text", { x: left - 6, y: y(mark) + 4, "text-anchor": "end" }, label));
  }
  for (const mark of ticks(first, last, 5)) {
    picture.append(svg("text", { x: x(mark), y: height - bottom + 16, "text-anchor": "middle" }, plain(mark)));
  }
  picture.append(svg("text", { x: width - right, y: height - 4, "text-anchor": "end" }, "epoch"));
  for (const curve of panel.curves) {
    const colour = `c${Math.min(curve.recipe, COLOURS)}`;
    let path = "", gap = true, alone = 0;
    for (const [epoch, value] of curve.points) {
      if (value === null) { gap = true; continue; }
      path += `${gap ? "M" : "L"}${x(epoch).toFixed(1)} ${y(scale(value)).toFixed(1)}`;
      gap = false;
      alone += 1;
    }
    if (alone === 1) path += "h.1";
    const kind = `curve ${colour}${curve.live ? " live" : ""}`;
    picture.append(svg("path", { class: kind, d: path, "stroke-linecap": "round" }));
  }
  return picture;
}

function drawPanels() {
  at("panels").hidden = !state.panels.length;
  at("panels").replaceChildren(...state.panels.map((panel) => {
    const box = element("div");
    box.append(element("h2", panel.title));
    return box;
  }));
  state.panels.forEach((panel, place) => {
    const box = at("panels").children[place];
    box.append(draw(panel, Math.max(240, box.clientWidth)));
  });
}

function drawLegend() {
  const begun = new Set(state.panels.flatMap((panel) => panel.curves.map((curve) => curve.recipe)));
  const shown = state.recipes.length > 1 ? [...begun].sort((one, other) => one - other) : [];
  const named = shown.filter((place) => place < COLOURS), others = shown.length - named.length;
  const items = named.map((place) => {
    const item = element("li");
    item.append(element("i", "", `c${place}`));
    const name = element("bdi");
    name.textContent = state.recipes[place];
    item.append(name);
    return item;
  });
  if (others) {
    const item = element("li", `${others} more`);
    item.prepend(element("i", "", `c${COLOURS}`));
    items.push(item);
  }
  if (state.undrawn) items.push(element("li", `${state.undrawn} more cells are not drawn`));
  at("legend").replaceChildren(...items);
}

// The cells under way, with a bar as far as their epochs tell.
function drawNow() {
  const { head, rows } = state.cells || { head: [], rows: [] }, told = head.length - 4;
  const running = rows.filter((row) => row[told] === "running").slice(0, MOST_RUNNING);
  at("now").replaceChildren(...running.map((row) => {
    const what = row.slice(0, told).map((value, place) => (told > 1 ? `${head[place]} ${value}` : value)).join(", ");
    const [, epoch, value, left] = row.slice(told), item = element("li"), bar = element("progress");
    const [done, all] = epoch.split(" of ").map(Number);
    if (all) {
      bar.max = all;
      bar.value = done;
    }
    item.append(bar, element("span", [what, epoch && `epoch ${epoch}`, value, left].filter(Boolean).join(" · ")));
    return item;
  }));
}

function show() {
  const title = state.title || "Nothing yet";
  if (changed("title", title)) {
    put(at("title"), title);
    document.title = `${title} (live)`;
  }
  if (changed("verdict", state.verdict)) {
    const [first, ...rest] = state.verdict.split(/(?<=[.!?]) (?=[A-Z])/);
    at("verdict").replaceChildren(element("strong", first), " ", element("span", rest.join(" ")));
  }
  if (changed("parts", state.parts)) {
    const places = [...at("parts").querySelectorAll(".wide")].map((box) => box.scrollLeft);
    at("parts").replaceChildren(...state.parts.map(part));
    [...at("parts").querySelectorAll(".wide")].forEach((box, place) => { box.scrollLeft = places[place] || 0; });
  }
  if (changed("panels", [state.panels, state.recipes, state.undrawn])) {
    drawPanels();
    drawLegend();
  }
  if (changed("cells", state.cells)) {
    drawNow();
    at("cells").hidden = !state.cells || !state.cells.rows.length;
    if (!at("cells").hidden) {
      refill(at("cells").querySelector(".wide"), table(state.cells));
      at("cells").querySelector("p").textContent =
        state.cells.hidden ? `${state.cells.hidden} more are in table.csv.` : "";
    }
  }
  at("report").hidden = !state.report;
  at("counts").textContent = state.counts;
  tick();
}

function tick() {
  const phase = at("phase");
  phase.textContent = failures >= TRIES ? "not served any more" : state ? state.phase : "waiting";
  phase.className = failures >= TRIES ? "lost" : phase.textContent;
  if (!state || !state.changed) return;
  const moment = new Date(1000 * state.changed), ago = Math.max(0, Math.round((Date.now() - moment) / 1000));
  const words = ago < 90 ? `${ago} s ago` : moment.toLocaleString();
  at("changed").textContent = `· last update ${words}`;
}

async function look() {
  try {
    const answer = await fetch(`state?since=${version}`, { cache: "no-store" });
    if (answer.status === 200) {
      ({ version, state } = await answer.json());
      show();
    } else if (answer.status !== 204) {
      throw new Error(answer.status);
    }
    failures = 0;
  } catch {
    failures += 1;
  }
  tick();
  if (failures < TRIES) setTimeout(look, document.hidden ? 5000 : WAIT[state ? state.phase : "waiting"]);
}

addEventListener("resize", () => { if (state) drawPanels(); });
setInterval(tick, 1000);
look();
