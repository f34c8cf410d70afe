"use strict";
/* The page of `posecap explore`. arrow.js stands before it in the same script element.
 *
 * Texts of a dataset come from strangers: they reach the document through textContent, values and canvases alone, never
 * as markup. Clips are known by their row in the table of clips; "shown" are the rows that pass all filters, sorted.
 */

/* ── Reading ───────────────────────────────────────────────────────────────────────────────────────────────────── */

const served = document.body.dataset.source === "server";

async function gunzip(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

/* Keeps the promises of what was asked for last. */
class Recent {
  constructor(most, make) {
    Object.assign(this, { most, make, kept: new Map() });
  }

  get(key) {
    let found = this.kept.get(key);
    if (!found) {
      found = this.make(key);
      found.catch(() => this.kept.delete(key));
    }
    this.kept.delete(key); // and to the end again, as the last one that was asked for
    this.kept.set(key, found);
    if (this.kept.size > this.most) this.kept.delete(this.kept.keys().next().value);
    return found;
  }
}

/* A clip's movement: `times` (F) in seconds from its first frame; `x` and `y` in pixels of the video and `scores` from
 * 0 to 1, each (people, joints, F) in one array; `box` is [left, top, right, bottom] of what is seen, or null. */
function finished(move) {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (let i = 0; i < move.scores.length; i++) {
    if (!move.scores[i]) continue;
    left = Math.min(left, move.x[i]);
    right = Math.max(right, move.x[i]);
    top = Math.min(top, move.y[i]);
    bottom = Math.max(bottom, move.y[i]);
  }
  move.box = left <= right ? [left, top, right, bottom] : null;
  move.seconds = move.times.length ? move.times[move.times.length - 1] : 0;
  return move;
}

/* What a page in one file holds: tables in script elements that are no scripts, those of movements behind the program,
 * so that clips are shown before all of them have arrived. */
class InlineSource {
  constructor() {
    this.blocks = new Recent(48, (number) => this.read(`moves-${number}`));
  }

  async read(id) {
    for (;;) {
      const element = document.getElementById(id);
      if (element && (element.nextElementSibling || document.readyState !== "loading")) {
        return readArrow(await gunzip(fromBase64(element.textContent)));
      }
      if (document.readyState !== "loading") throw new Error(`the page was cut off: it has no ${id}`);
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
  }

  async document() {
    const text = fromBase64(document.getElementById("document").textContent);
    return JSON.parse(new TextDecoder().decode(await gunzip(text)));
  }

  async move(row) {
    const block = await this.blocks.get(Math.floor(row / about.clips_per_block));
    const at = row % about.clips_per_block;
    const [times, scores] = [block.columns.times.at(at), block.columns.scores.at(at)];
    const [frames, joints] = [times.length, clips.J[row]];
    const grid = Math.max(clips.width[row], clips.height[row], 1) / 4095;
    const positions = (steps) => {
      const places = new Float32Array(steps.length);
      for (let i = 0, sum = 0; i < steps.length; i++) {
        sum = i % frames ? sum + steps[i] : steps[i];
        places[i] = (sum << 16 >> 16) * grid; // sums wrap around at 16 bits, as the differences did
      }
      return places;
    };
    let time = 0;
    return finished({
      frames, joints,
      people: frames && joints ? scores.length / frames / joints : 0,
      times: Float32Array.from(times, (step) => (time += step) / 1000),
      x: positions(block.columns.x.at(at)),
      y: positions(block.columns.y.at(at)),
      scores: Float32Array.from(scores, (score) => score / about.score_steps),
    });
  }

  async picture(row) {
    const block = await this.blocks.get(Math.floor(row / about.clips_per_block));
    const jpeg = block.columns.picture.at(row % about.clips_per_block);
    return jpeg.length ? URL.createObjectURL(new Blob([jpeg], { type: "image/jpeg" })) : null;
  }
}

/* What a server on this machine gives: the dataset's own files, of which ranges are asked for. */
class ServedSource {
  constructor() {
    this.moves = new Recent(400, (row) => this.readMove(row));
  }

  async bytes(name, first, size) {
    const headers = size === undefined ? {} : { Range: `bytes=${first}-${first + size - 1}` };
    const answer = await fetch(name, { headers });
    if (!answer.ok) throw new Error(`${name}: ${answer.status} ${answer.statusText}`);
    return new Uint8Array(await answer.arrayBuffer());
  }

  async read(name) {
    return readArrow(await gunzip(await this.bytes(`tables/${name}`)));
  }

  async document() {
    return JSON.parse(new TextDecoder().decode(await gunzip(await this.bytes("tables/document"))));
  }

  file(row, kind) {
    const [split, number] = clips.part.at(row).split("/");
    return `files/data/${split}/${kind}-${number}.tar`;
  }

  move(row) {
    return this.moves.get(row);
  }

  async readMove(row) {
    const [first, ptsAt] = [clips.joints_offset[row], clips.pts_offset[row]];
    const bytes = await this.bytes(this.file(row, "pose"), first, ptsAt + clips.pts_size[row] - first);
    const values = readNpy(bytes.subarray(0, clips.joints_size[row]), Float32Array); // (M, T, J, 3)
    const pts = readNpy(bytes.subarray(ptsAt - first), Float64Array);
    const [people, frames, joints] = [clips.M[row], clips.T[row], clips.J[row]];
    const arrays = [0, 1, 2].map(() => new Float32Array(people * joints * frames));
    for (let m = 0, from = 0; m < people; m++) {
      for (let t = 0; t < frames; t++) {
        for (let j = 0; j < joints; j++) {
          const to = (m * joints + j) * frames + t;
          for (const array of arrays) array[to] = values[from++];
        }
      }
    }
    const [x, y, scores] = arrays;
    return finished({ people, frames, joints, x, y, scores, times: Float32Array.from(pts, (time) => time - pts[0]) });
  }

  async picture(row) {
    if (!clips.picture[row]) return null;
    return `files/preview/${clips.part.at(row).replace("/", "-")}/${clips.key.at(row)}.jpg`;
  }

  /* The stored video of a clip, or null. */
  async video(row) {
    if (!(clips.mp4_size[row] > 0)) return null;
    const bytes = await this.bytes(this.file(row, "video"), clips.mp4_offset[row], clips.mp4_size[row]);
    return URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
  }
}

/* The values of a .npy file of little-endian numbers in C order, as posecap writes them. */
function readNpy(bytes, Kind) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const begin = bytes[6] === 1 ? 10 + view.getUint16(8, true) : 12 + view.getUint32(8, true);
  return new Kind(bytes.slice(begin).buffer);
}

let source, about, clips, losses; // set by start()

/* ── Elements ──────────────────────────────────────────────────────────────────────────────────────────────────── */

/* An element with properties, of which those that are functions are listeners, and children: elements and texts. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const byId = (id) => document.getElementById(id);
const plain = new Intl.NumberFormat("en-US");
const count = (number, noun) => `${plain.format(number)} ${noun}${number === 1 ? "" : "s"}`;

function short(value) {
  if (Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1000) return plain.format(Math.round(value));
  return String(Number(value.toPrecision(size >= 100 ? 4 : 3)));
}

function clock(seconds) {
  const rest = (seconds % 60).toFixed(2).padStart(5, "0");
  return `${Math.floor(seconds / 60)}:${rest}`;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/* A canvas as large as it is shown, its context in CSS pixels, cleared. */
function sized(canvas) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return { pen, width, height };
}

/* ── Skeletons ─────────────────────────────────────────────────────────────────────────────────────────────────── */

const LEAST_SCORE = 0.2; // joints below are left out, as in posecap view

/* The frame shown at a moment, and how far it is on the way to the next one, 0 to 1. */
function frameAt(move, seconds) {
  let [low, high] = [0, move.frames - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (move.times[middle] <= seconds) low = middle;
    else high = middle - 1;
  }
  const next = Math.min(low + 1, move.frames - 1);
  const step = move.times[next] - move.times[low];
  return [low, step > 0 ? Math.min(1, (seconds - move.times[low]) / step) : 0];
}

/* Where to draw: pixels of the video times scale, plus x and y. `around` is a box of the video. */
function fit([left, top, right, bottom], width, height, margin) {
  const [w, h] = [Math.max(right - left, 1), Math.max(bottom - top, 1)];
  const scale = Math.min((width * (1 - 2 * margin)) / w, (height * (1 - 2 * margin)) / h);
  return { scale, x: width / 2 - ((left + right) / 2) * scale, y: height / 2 - ((top + bottom) / 2) * scale };
}

function drawMove(pen, move, row, seconds, view, thickness) {
  const layout = about.layouts[clips.layout.at(row)];
  const [frame, share] = frameAt(move, seconds);
  const next = Math.min(frame + 1, move.frames - 1);
  const places = new Float32Array(move.joints * 3);
  pen.lineCap = "round";
  for (let person = move.people - 1; person >= 0; person--) { // the first person lies on top
    const shades = about.palette[person % about.palette.length]; // of left, middle and right
    for (let joint = 0; joint < move.joints; joint++) {
      const at = (person * move.joints + joint) * move.frames;
      const part = move.scores[at + next] > 0 ? share : 0;
      places[3 * joint] = (move.x[at + frame] * (1 - part) + move.x[at + next] * part) * view.scale + view.x;
      places[3 * joint + 1] = (move.y[at + frame] * (1 - part) + move.y[at + next] * part) * view.scale + view.y;
      places[3 * joint + 2] = move.scores[at + frame];
    }
    const ink = (joint) => `rgb(${shades[layout ? layout.sides[joint] : 1].join(" ")})`;
    const opacity = (score) => 0.4 + 0.6 * Math.min(1, Math.max(0, (score - LEAST_SCORE) / 0.4));
    for (const halo of [true, false]) {
      pen.lineWidth = thickness * (halo ? 1.8 : 1);
      for (const [child, parent] of layout ? layout.bones : []) {
        const score = Math.min(places[3 * child + 2], places[3 * parent + 2]);
        if (score < LEAST_SCORE) continue;
        pen.globalAlpha = opacity(score) * (halo ? 0.5 : 1);
        pen.strokeStyle = halo ? "#000" : ink(child);
        pen.beginPath();
        pen.moveTo(places[3 * child], places[3 * child + 1]);
        pen.lineTo(places[3 * parent], places[3 * parent + 1]);
        pen.stroke();
      }
    }
    for (let joint = 0; joint < move.joints; joint++) {
      if (places[3 * joint + 2] < LEAST_SCORE) continue;
      pen.globalAlpha = opacity(places[3 * joint + 2]);
      pen.fillStyle = ink(joint);
      pen.beginPath();
      pen.arc(places[3 * joint], places[3 * joint + 1], thickness * 0.85, 0, 7);
      pen.fill();
    }
  }
  pen.globalAlpha = 1;
}

/* A canvas in which a clip moves. It is drawn while it can be seen; `still` shows the middle of the clip. */
class Player {
  constructor(canvas, row, still) {
    Object.assign(this, { canvas, row, still, move: null, began: performance.now() });
    players.set(canvas, this);
    sight.observe(canvas);
  }

  async load() {
    if (this.asked) return;
    this.asked = true;
    try {
      this.move = await source.move(this.row);
      this.draw(performance.now());
    } catch (error) {
      this.asked = false;
      console.warn(`clip ${clips.key.at(this.row)}: ${error.message}`);
    }
  }

  draw(now) {
    const { pen, width, height } = sized(this.canvas);
    if (!this.move?.box || !width) return;
    const whole = this.move.seconds + 0.35; // and a rest before it begins again
    const seconds = this.still() ? this.move.seconds / 2 : ((now - this.began) / 1000) % whole;
    const room = clips.picture[this.row] ? width * 0.72 : width; // beside the picture
    drawMove(pen, this.move, this.row, seconds, fit(this.move.box, room, height, 0.1), Math.max(1.6, width / 95));
  }
}

const players = new Map(); // by canvas
const seen = new Set(); // players on the screen
const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const player = players.get(target);
    if (!player || !isIntersecting) seen.delete(player);
    else {
      seen.add(player);
      player.load();
    }
  }
}, { rootMargin: "120px" });

function forgetPlayers() {
  sight.disconnect();
  players.clear();
  seen.clear();
  pictures.splice(0).forEach((url) => url.startsWith("blob:") && URL.revokeObjectURL(url));
}

const pictures = []; // addresses of pictures that are shown
let moving = !matchMedia("(prefers-reduced-motion: reduce)").matches;
let drawn = 0;
let allMove = false; // whether all cards on the screen have ever had their movements

function everyFrame(now) {
  if (now - drawn > 30) { // at most 33 times a second
    drawn = now;
    if (!allMove && seen.size && [...seen].every((player) => player.move)) {
      allMove = true;
      performance.mark("posecap-moving"); // of which, as of posecap-ready, benchmarks/explore.py takes the time
      byId("view").dataset.moving = "";
    }
    if (moving) for (const player of seen) player.draw(now);
    if (hovering) hovering.draw(now);
    opened?.tick(now);
  }
  requestAnimationFrame(everyFrame);
}

/* ── Filters ───────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Every filter has one bit of `fails`, set for the rows that do not pass it. A row is shown where no bit is set; what a
 * filter's own choices count are rows where no other bit is set. */
let fails;
const filters = []; // { name, title, bit, active(), test(), reset(), say() }
let shown = new Int32Array(0);
const order = { by: "", descending: false };
const search = { text: "", lower: null };
const picked = { rows: null }; // a Uint8Array of what was selected on the map, or null

function addFilter(filter) {
  filter.bit = 1 << filters.length;
  filters.push(filter);
  return filter;
}

/* A filter on what a clip belongs to: a label, a split. `codes` has a number for each row, `words` their names. */
function category(name, title, codes, words, none) {
  const chosen = new Set();
  return addFilter({
    name, title, codes, words, chosen,
    word: (code) => words[code] || none,
    active: () => chosen.size > 0,
    test: () => {
      const passes = words.map((_, code) => chosen.has(code));
      return (row) => passes[codes[row]];
    },
    reset: () => chosen.clear(),
    say: () => `${title}: ${[...chosen].map((code) => words[code] || none).join(", ")}`,
    write: () => [...chosen].map((code) => words[code]).join("\n"),
    read: (text) => text.split("\n").forEach((word) => words.includes(word) && chosen.add(words.indexOf(word))),
  });
}

/* A filter on a number; rows without one pass while it is not used. */
function measure(name, title, values, detail = "", worst = "") {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const whole = values.every((value) => Number.isInteger(value) || Number.isNaN(value));
  const limits = [low, high];
  return addFilter({
    name, title, values, detail, worst, low, high, limits, whole,
    known: low < high, // what is the same of all clips cannot be chosen by
    active: () => limits[0] > low || limits[1] < high,
    test: () => (row) => values[row] >= limits[0] && values[row] <= limits[1],
    reset: () => limits.splice(0, 2, low, high),
    say: () => `${title} ${short(limits[0])} to ${short(limits[1])}`,
    write: () => limits.join(" "),
    read: (text) => {
      const [from, to] = text.split(" ").map(Number);
      if (from <= to) limits.splice(0, 2, Math.max(low, from), Math.min(high, to));
    },
  });
}

function makeFilters() {
  const lengths = new Float32Array(clips.rows).map((_, row) => clips.end_seconds[row] - clips.start_seconds[row]);
  const numbered = (array) => {
    const words = [...new Set(array)].sort((a, b) => a - b);
    const code = new Map(words.map((word, at) => [word, at]));
    return [Int32Array.from(array, (word) => code.get(word)), words.map(String)];
  };
  category("label", "Label", clips.label.codes, clips.label.words, "no label");
  category("split", "Split", clips.split.codes, clips.split.words, "no split");
  category("people", "People", ...numbered(clips.M), "0");
  category("source", "Source", clips.source.codes, clips.source.words, "not stated");
  category("license", "License", clips.license.codes, clips.license.words, "not stated");
  measure("seconds", "Seconds", lengths, "length of the clip's span");
  measure("frames", "Frames", Float32Array.from(clips.T), "that are stored");
  for (const { name, about: detail, worst } of about.measures) {
    measure(name, name.replaceAll("_", " "), clips[name], detail, worst);
  }
  const nearest = { choice: "" };
  const words = { "": "all", best: "only the best of each group", groups: "only clips of a group" };
  addFilter({
    name: "near", title: "Near-duplicates", words, nearest,
    active: () => nearest.choice !== "",
    test: () => nearest.choice === "groups" ? (row) => clips.group[row] >= 0
      : (row) => clips.group[row] < 0 || clips.best[row] === 1,
    reset: () => (nearest.choice = ""),
    say: () => `Near-duplicates: ${words[nearest.choice]}`,
    write: () => nearest.choice,
    read: (text) => (nearest.choice = text in words ? text : ""),
  });
  addFilter({
    name: "q", title: "Search",
    active: () => search.text.trim() !== "",
    test: () => {
      search.lower ??= Array.from({ length: clips.rows }, (_, row) => [
        clips.label.at(row), clips.uri.at(row), clips.key.at(row), ...clips.captions.at(row),
      ].join("\n").toLowerCase());
      const words = search.text.toLowerCase().split(/\s+/).filter(Boolean);
      return (row) => words.every((word) => search.lower[row].includes(word));
    },
    reset: () => (byId("search").value = search.text = ""),
    say: () => `“${search.text}”`,
    write: () => search.text,
    read: (text) => (byId("search").value = search.text = text),
  });
  addFilter({
    name: "picked", title: "Map",
    active: () => picked.rows !== null,
    test: () => (row) => picked.rows[row] === 1,
    reset: () => (picked.rows = null),
    say: () => "selected on the map",
    write: () => "", // a selection is not part of an address
    read: () => {},
  });
  fails = new Uint32Array(clips.rows);
}

const filterOf = (name) => filters.find((filter) => filter.name === name);
const categories = () => filters.filter((filter) => filter.codes);
const measures = () => filters.filter((filter) => filter.values && filter.known);

/* Look at one filter again, and show what passes all. */
function changed(filter) {
  const passes = filter.active() ? filter.test() : () => true;
  for (let row = 0; row < fails.length; row++) {
    if (passes(row)) fails[row] &= ~filter.bit;
    else fails[row] |= filter.bit;
  }
  sortShown();
  refresh();
}

function sortShown() {
  const rows = [];
  for (let row = 0; row < fails.length; row++) if (!fails[row]) rows.push(row);
  const of = orders().find((one) => one.name === order.by)?.of?.();
  const sign = order.descending ? -1 : 1;
  if (of) {
    const keys = new Float64Array(fails.length);
    for (const row of rows) keys[row] = of(row);
    // Clips without a value come last, whichever way round, and equal ones as they are on disk.
    rows.sort((a, b) => Number.isNaN(keys[a]) - Number.isNaN(keys[b]) || sign * (keys[a] - keys[b]) || a - b);
  } else if (order.descending) rows.reverse();
  shown = Int32Array.from(rows);
}

/* Ways of sorting. `of()` gives a function that gives a number for a row, NaN where it has none. */
function orders() {
  return [
    { name: "", title: "as on disk" },
    ...categories().map(({ name, title, codes, words }) => ({
      name, title, of: () => {
        const ranks = new Float64Array(words.length);
        const sorted = [...words.keys()].sort((a, b) => collator.compare(words[a], words[b]));
        sorted.forEach((code, rank) => (ranks[code] = words[code] === "" ? NaN : rank));
        return (row) => ranks[codes[row]];
      },
    })),
    ...measures().map(({ name, title, values }) => ({ name, title, of: () => (row) => values[row] })),
  ];
}

const collator = new Intl.Collator("en", { numeric: true });

/* Rows of each code that pass all other filters. */
function counted(filter) {
  const counts = new Int32Array(filter.words.length);
  for (let row = 0; row < fails.length; row++) if (!(fails[row] & ~filter.bit)) counts[filter.codes[row]]++;
  return counts;
}

/* Histograms of a measure: of all rows, and of those that pass all filters but its own. */
function binned(filter, bins) {
  const [all, some] = [new Float64Array(bins), new Float64Array(bins)];
  const width = (filter.high - filter.low) / bins || 1;
  for (let row = 0; row < fails.length; row++) {
    const value = filter.values[row];
    if (Number.isNaN(value)) continue;
    const bin = Math.min(bins - 1, Math.floor((value - filter.low) / width));
    all[bin]++;
    if (!(fails[row] & ~filter.bit)) some[bin]++;
  }
  return [all, some];
}

const binsOf = (filter, most) => filter.whole ? Math.max(1, Math.min(most, filter.high - filter.low + 1)) : most;

/* ── The panel of filters ──────────────────────────────────────────────────────────────────────────────────────── */

const updates = []; // functions that write counts into the panel again

function drawPanel() {
  const panel = byId("filters");
  const folded = (filter, open, ...inside) => {
    const clear = make("button", {
      type: "button", className: "link", textContent: "clear", hidden: true,
      click: (event) => { event.preventDefault(); filter.reset(); changed(filter); },
    });
    updates.push(() => (clear.hidden = !filter.active()));
    return make("details", { open }, make("summary", {}, filter.title, clear), ...inside);
  };
  panel.replaceChildren(
    ...categories().filter(({ words }) => words.length).map((filter, at) => folded(filter, at < 3 || filter.words.length > 1, options(filter, 400))),
  );
  const near = filterOf("near");
  if (clips.group.some((group) => group >= 0)) {
    const choose = make("select", {
      "aria-label": "Near-duplicates", className: "find",
      change: () => { near.nearest.choice = choose.value; changed(near); },
    }, Object.entries(near.words).map(([value, text]) => make("option", { value, textContent: text })));
    updates.push(() => (choose.value = near.nearest.choice));
    panel.append(folded(near, true, choose));
  }
  const quality = make("details", { open: true }, make("summary", {}, "Quality and length"));
  for (const filter of measures()) quality.append(slider(filter));
  panel.append(quality);
}

/* The words of a category as checkboxes, the most frequent first; only `most` are drawn, a search finds the others. */
function options(filter, most) {
  const list = make("div", { className: "options" });
  const find = make("input", {
    type: "search", className: "find", placeholder: `Find in ${plain.format(filter.words.length)}`,
    "aria-label": `Find ${filter.title}`, hidden: filter.words.length < 10, input: () => fill(),
  });
  const boxes = new Map();
  const total = new Int32Array(filter.words.length);
  for (const code of filter.codes) total[code]++;
  const sorted = [...total.keys()].sort((a, b) => filter.name === "people" ? a - b : total[b] - total[a]);

  function fill() {
    boxes.clear();
    const wanted = find.value.toLowerCase();
    const codes = sorted.filter((code) => filter.word(code).toLowerCase().includes(wanted)).slice(0, most);
    list.replaceChildren(...codes.map((code) => {
      const box = make("input", {
        type: "checkbox",
        change: () => { box.checked ? filter.chosen.add(code) : filter.chosen.delete(code); changed(filter); },
      });
      const number = make("span", { className: "numbers" });
      const word = filter.word(code);
      const line = make("label", { className: "option", title: word }, box, make("span", { textContent: word }), number);
      boxes.set(code, { box, number, line });
      return line;
    }));
    write();
  }

  function write() {
    const counts = counted(filter);
    const largest = Math.max(1, ...total);
    for (const [code, { box, number, line }] of boxes) {
      box.checked = filter.chosen.has(code);
      number.textContent = plain.format(counts[code]);
      line.style.setProperty("--share", `${(100 * counts[code]) / largest}%`);
      line.classList.toggle("none", !counts[code]);
    }
  }
  fill();
  updates.push(write);
  return make("div", {}, find, list);
}

/* A small histogram over two sliders. */
function slider(filter) {
  const canvas = make("canvas", { "aria-hidden": "true" });
  const said = make("span", { className: "faint numbers" });
  const steps = filter.whole ? Math.min(1000, filter.high - filter.low) || 1 : 200;
  const value = (at) => (at >= steps ? filter.high : filter.low + (at / steps) * (filter.high - filter.low));
  const place = (limit) => Math.round(((limit - filter.low) / (filter.high - filter.low || 1)) * steps);
  const ends = ["least", "most"].map((word, end) => make("input", {
    type: "range", min: 0, max: steps, step: 1, "aria-label": `${word} ${filter.title}`,
    input: () => {
      let at = Number(ends[end].value);
      at = end ? Math.max(at, Number(ends[0].value)) : Math.min(at, Number(ends[1].value));
      ends[end].value = at;
      filter.limits[end] = at === (end ? steps : 0) ? (end ? filter.high : filter.low) : value(at);
      said.textContent = `${short(filter.limits[0])} – ${short(filter.limits[1])}`;
      later(filter);
    },
  }));
  updates.push(() => {
    ends.forEach((input, end) => {
      input.value = place(filter.limits[end]);
      input.setAttribute("aria-valuetext", short(filter.limits[end]));
    });
    said.textContent = `${short(filter.limits[0])} – ${short(filter.limits[1])}`;
    drawBars(canvas, filter, 40, false);
  });
  return make("div", { className: "measure", title: filter.detail },
    make("p", {}, make("span", { textContent: filter.title }), said), canvas, make("div", { className: "range" }, ends));
}

let waiting = 0;
/* Look at a filter again once its slider has rested for a moment. */
function later(filter) {
  clearTimeout(waiting);
  waiting = setTimeout(() => changed(filter), 60);
}

const AXIS = 4; // pixels at the left of a figure with axes

/* Bars of a measure, in grey of all clips, in colour of those shown; with `axes`, numbers below and at the left. */
function drawBars(canvas, filter, most, axes) {
  if (!canvas.isConnected || !canvas.clientWidth) return;
  const { pen, width, height } = sized(canvas);
  const [all, some] = binned(filter, binsOf(filter, most));
  const [left, bottom] = axes ? [AXIS, height - 18] : [0, height];
  const step = (width - left) / all.length;
  const top = Math.max(1, ...all);
  const size = (n) => (n ? Math.max(1.5, (n / top) * (bottom - (axes ? 14 : 2))) : 0);
  const gap = step > 5 ? 1 : 0;
  for (const [bars, ink] of [[all, colour("rest")], [some, colour("accent")]]) {
    pen.fillStyle = ink;
    bars.forEach((n, bin) => pen.fillRect(left + bin * step, bottom - size(n), Math.max(0.6, step - gap), size(n)));
  }
  if (filter.active()) {
    const at = (limit) => left + ((limit - filter.low) / (filter.high - filter.low || 1)) * (width - left);
    pen.fillStyle = colour("ink");
    for (const limit of filter.limits) pen.fillRect(Math.min(width - 1.5, at(limit)), 0, 1.5, bottom);
  }
  if (!axes) return;
  pen.fillStyle = colour("faint");
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "bottom";
  pen.textAlign = "left";
  pen.fillText(short(filter.low), left, height);
  pen.textAlign = "right";
  pen.fillText(short(filter.high), width, height);
  pen.textAlign = "center";
  pen.fillText(short((filter.low + filter.high) / 2), width / 2, height);
  pen.textAlign = "right";
  pen.textBaseline = "top";
  pen.fillText(`${plain.format(top)} in the highest bar`, width, 0);
}

/* ── Views ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

const views = {
  clips: { title: "Clips", draw: drawClips, filtered: true },
  map: { title: "Map", draw: drawMap, filtered: true, again: () => scatter?.draw() },
  numbers: { title: "Distributions", draw: drawNumbers, filtered: true, again: () => {} },
  yield: { title: "Yield", draw: drawYield },
  losses: { title: "Not kept", draw: drawLosses },
  groups: { title: "Near-duplicates", draw: drawGroups },
};
let view = "clips";
let page = 0;
const PAGE = 48; // cards: all columns that fit on a screen divide it, or nearly
const viewUpdates = []; // functions that write counts into the present view again

function show(name) {
  if (!views[name]) return;
  view = name;
  page = 0;
  document.body.classList.toggle("wide-view", !views[name].filtered);
  byId("body").classList.toggle("wide", !views[name].filtered);
  byId("toolbar").hidden = !views[name].filtered;
  for (const tab of byId("tabs").children) {
    const on = tab.dataset.view === name;
    tab.setAttribute("aria-selected", on);
    tab.tabIndex = on ? 0 : -1;
  }
  byId("view").setAttribute("aria-labelledby", `tab-${name}`);
  for (const id of ["play-button", "sort", "descending"]) byId(id).disabled = name !== "clips";
  redraw();
}

/* Draw the present view from the beginning. */
function redraw() {
  forgetPlayers();
  endHover();
  viewUpdates.length = 0;
  byId("view").replaceChildren();
  views[view].draw(byId("view"));
  refreshCounts();
}

/* Filters or the order have changed. */
function refresh() {
  page = 0;
  if (views[view].again) {
    viewUpdates.forEach((update) => update());
    views[view].again();
    refreshCounts();
  } else redraw();
}

function refreshCounts() {
  updates.forEach((update) => update());
  byId("count").replaceChildren(make("b", { textContent: plain.format(shown.length) }), ` of ${count(clips.rows, "clip")}`);
  const used = filters.filter((filter) => filter.active());
  byId("filters-button").textContent = used.length ? `Filters · ${used.length}` : "Filters";
  const chips = used.map((filter) => make("button", {
    type: "button", textContent: `${filter.say()} ✕`, title: `Take away: ${filter.say()}`,
    click: () => { filter.reset(); changed(filter); },
  }));
  if (used.length > 1) chips.push(make("button", { type: "button", className: "link", textContent: "clear all", click: clearAll }));
  byId("chips").replaceChildren(...chips);
  writeAddress();
}

function clearAll() {
  for (const filter of filters) if (filter.active()) filter.reset();
  fails.fill(0);
  sortShown();
  refresh();
}

/* The view, the filters, the order and the open clip stand in the address, behind #, so that a look can be passed on. */
function writeAddress() {
  const words = new URLSearchParams();
  if (view !== "clips") words.set("view", view);
  for (const filter of filters) if (filter.active() && filter.write()) words.set(filter.name, filter.write());
  if (order.by) words.set("sort", order.by);
  if (order.descending) words.set("descending", "");
  if (opened) words.set("clip", clips.key.at(opened.row));
  const text = words.toString();
  if (text !== location.hash.slice(1)) history.replaceState(null, "", `#${text}`);
}

function readAddress() {
  const words = new URLSearchParams(location.hash.slice(1));
  for (const filter of filters) {
    filter.reset();
    if (words.has(filter.name)) filter.read(words.get(filter.name));
    if (!filter.active()) continue;
    const passes = filter.test();
    for (let row = 0; row < fails.length; row++) if (!passes(row)) fails[row] |= filter.bit;
  }
  order.by = orders().some((one) => one.name === words.get("sort")) ? words.get("sort") : "";
  order.descending = words.has("descending");
  byId("sort").value = order.by;
  writeOrder();
  sortShown();
  show(words.get("view") in views ? words.get("view") : "clips");
  const key = words.get("clip");
  if (key) {
    for (let row = 0; row < clips.rows; row++) if (clips.key.at(row) === key) return open(row);
  }
}

function writeOrder() {
  const button = byId("descending");
  button.textContent = order.descending ? "↓" : "↑";
  button.setAttribute("aria-pressed", order.descending);
  button.setAttribute("aria-label", order.descending ? "largest first" : "smallest first");
}

/* Buttons to turn pages; `turn` is given the number of the page, from 0. */
function pager(pages, now, turn) {
  if (pages < 2) return [];
  const to = (text, target, label) => make("button", {
    type: "button", textContent: text, "aria-label": label, disabled: target < 0 || target >= pages || target === now,
    click: () => turn(target),
  });
  const field = make("input", {
    type: "number", min: 1, max: pages, value: now + 1, "aria-label": "Page",
    change: () => turn(Math.min(pages, Math.max(1, Math.round(field.value) || 1)) - 1),
  });
  return [make("nav", { className: "pager", "aria-label": "Pages" },
    to("⇤", 0, "First page"), to("← Back", now - 1, "Page before"), field, `of ${plain.format(pages)}`,
    to("Next →", now + 1, "Next page"), to("⇥", pages - 1, "Last page"))];
}

/* ── Clips ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

function drawClips(into) {
  if (!shown.length) {
    into.append(make("p", { className: "empty", textContent: nothing() }));
    return;
  }
  const rows = shown.subarray(page * PAGE, (page + 1) * PAGE);
  into.append(make("div", { className: "cards" }, Array.from(rows, card)));
  into.append(...pager(Math.ceil(shown.length / PAGE), page, turnTo));
}

function turnTo(target) {
  page = target;
  redraw();
  window.scrollTo(0, 0);
  byId("view").querySelector(".card")?.focus({ preventScroll: true });
}

function nothing() {
  if (clips.rows) return "No clip passes all filters.";
  if (about.build && !about.finished) return "No part is built yet: the clips of a part are shown once it is. Load the page again later.";
  return "There is no clip: what was not kept, and why, is under “Not kept”.";
}

function card(row) {
  const canvas = make("canvas", { "aria-hidden": "true" });
  const label = clips.label.at(row);
  const stage = make("div", { className: "stage" }, canvas);
  const badges = [clips.M[row] === 1 ? null : `${clips.M[row]} people`, clips.group[row] < 0 ? null : `≈ group ${clips.group[row]}`];
  stage.append(make("div", { className: "badges" }, badges.filter(Boolean).map((text) => make("span", { className: "badge", textContent: text }))));
  const sorted = filterOf(order.by)?.values;
  const seconds = clips.end_seconds[row] - clips.start_seconds[row];
  const said = [clips.split.at(row), `${short(seconds)} s`, count(clips.T[row], "frame")];
  if (sorted && !["seconds", "frames"].includes(order.by)) said.push(`${filterOf(order.by).title} ${short(sorted[row])}`);
  const button = make("button", {
    type: "button", className: "card", click: () => open(row),
    "aria-label": `${label || "no label"}, ${said.join(", ")}, ${count(clips.M[row], "person").replace("persons", "people")}`,
  }, stage, make("div", { className: "words" },
    make("b", { textContent: label || "no label", className: label ? "" : "none" }),
    make("span", { textContent: said.join(" · ") })));
  button.dataset.row = row;
  new Player(canvas, row, () => !moving);
  addPicture(stage, row);
  return button;
}

async function addPicture(stage, row) {
  if (!clips.picture[row]) return;
  const url = await source.picture(row).catch(() => null);
  if (!url) return;
  pictures.push(url);
  stage.append(make("img", { src: url, alt: "", loading: "lazy" }));
}

/* ── Map ───────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Seven hues of Okabe and Ito that are told apart by colour-blind eyes, and shapes that tell what has no hue left. */
const HUES = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#3f8fd0"];
const SHAPES = ["circle", "square", "triangle", "cross"];
const REST = "#8b919c";
const CIVIDIS = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"];
const mapChoice = { kind: "", by: "label", tool: "move" };
let scatter = null;

function drawMap(into) {
  scatter = null;
  const kinds = ["video", "text"].filter((kind) => about.maps[kind]);
  if (!kinds.length) {
    into.append(make("p", { className: "empty", textContent: clips.rows < 3 ? "A map needs three clips or more."
      : "This page has no map of the clips' vectors: give --map pca, tsne or umap to posecap explore." }));
    return;
  }
  if (!kinds.includes(mapChoice.kind)) mapChoice.kind = kinds[0];
  const choose = (label, now, entries, then) => make("label", {}, label, make("select", {
    "aria-label": label, change: (event) => { then(event.target.value); scatter.prepare(); },
  }, entries.map(([value, text]) => make("option", { value, textContent: text, selected: value === now }))));
  const colours = [...categories().filter(({ words }) => words.length > 1), ...measures()].map(({ name, title }) => [name, title]);
  if (!colours.some(([name]) => name === mapChoice.by)) mapChoice.by = colours[0]?.[0] ?? "label";
  const tools = ["move", "select"].map((tool) => make("button", {
    type: "button", textContent: { move: "Move", select: "Select" }[tool], "aria-pressed": mapChoice.tool === tool,
    title: { move: "Drag moves the map", select: "Drag draws around clips" }[tool],
    click: () => {
      mapChoice.tool = tool;
      tools.forEach((button, at) => button.setAttribute("aria-pressed", ["move", "select"][at] === tool));
      canvas.classList.toggle("select", tool === "select");
    },
  }));
  const share = make("span", { className: "faint small" });
  const canvas = make("canvas", { tabIndex: 0, role: "img", className: mapChoice.tool === "select" ? "select" : "" });
  const legend = make("div", { className: "legend" });
  into.append(
    make("div", { className: "tools" },
      choose("Vectors of", mapChoice.kind, kinds.map((kind) => [kind, { text: "first captions", video: "videos" }[kind]]), (value) => (mapChoice.kind = value)),
      choose("Colour", mapChoice.by, colours, (value) => (mapChoice.by = value)),
      tools, make("button", { type: "button", textContent: "Whole map", click: () => scatter.whole() }), share),
    make("div", { className: "map" }, canvas, legend));
  scatter = new Scatter(canvas, legend, share);
  scatter.prepare();
}

class Scatter {
  constructor(canvas, legend, share) {
    Object.assign(this, { canvas, legend, share, zoom: 1, x: 0, y: 0, path: null, touches: new Map() });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomAt(event.offsetX, event.offsetY, Math.exp(-event.deltaY / 400));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.motion(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.touches.delete(event.pointerId));
    canvas.addEventListener("pointerleave", endHover);
    canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /* Places between 0 and 1, colours and shapes of all clips. */
  prepare() {
    const [xs, ys] = [clips[`${mapChoice.kind}_x`], clips[`${mapChoice.kind}_y`]];
    const edges = [Infinity, Infinity, -Infinity, -Infinity];
    for (let row = 0; row < clips.rows; row++) {
      if (Number.isNaN(xs[row])) continue;
      edges.splice(0, 4, Math.min(edges[0], xs[row]), Math.min(edges[1], ys[row]), Math.max(edges[2], xs[row]), Math.max(edges[3], ys[row]));
    }
    const size = Math.max(edges[2] - edges[0], edges[3] - edges[1]) || 1;
    const [left, top] = [(edges[0] + edges[2] - size) / 2, (edges[1] + edges[3] - size) / 2];
    this.xs = Float32Array.from(xs, (x) => (x - left) / size);
    this.ys = Float32Array.from(ys, (y) => 1 - (y - top) / size); // up is more
    const filter = filterOf(mapChoice.by);
    this.paint = filter.codes ? this.byCategory(filter) : this.byMeasure(filter);
    const shares = about.maps[mapChoice.kind].shares;
    this.share.textContent = shares.length === 2
      ? `x and y show ${short(100 * shares[0])} % and ${short(100 * shares[1])} % of the variance` : "";
    this.canvas.setAttribute("aria-label", `Map of ${count(clips.rows, "clip")} by their ${mapChoice.kind} vectors, coloured by ${filter.title}`);
    this.draw();
  }

  byCategory(filter) {
    const total = new Int32Array(filter.words.length);
    for (const code of filter.codes) total[code]++;
    const ranked = [...total.keys()].sort((a, b) => total[b] - total[a]);
    const most = HUES.length * SHAPES.length;
    const style = new Map(ranked.slice(0, most).map((code, at) => [code, [HUES[at % HUES.length], SHAPES[Math.floor(at / HUES.length)]]]));
    const entries = ranked.slice(0, most).map((code) => {
      const [hue, shape] = style.get(code);
      const mark = make("canvas", { width: 12, height: 12 });
      const pen = mark.getContext("2d");
      pen.fillStyle = hue;
      mark12(pen, 6, 6, 4.5, shape);
      return make("span", {}, mark, make("em", { textContent: filter.word(code) }));
    });
    if (ranked.length > most) entries.push(make("span", { textContent: `grey: ${plain.format(ranked.length - most)} more` }));
    this.legend.replaceChildren(...entries);
    return (row) => style.get(filter.codes[row]) ?? [REST, "circle"];
  }

  byMeasure(filter) {
    const bar = make("i");
    bar.style.background = `linear-gradient(90deg, ${CIVIDIS.slice(2).join(", ")})`;
    this.legend.replaceChildren(make("span", {}, filter.title), make("span", {}, short(filter.low), bar, short(filter.high)));
    const ramp = CIVIDIS.slice(2); // the darkest two are not seen on the ground of the map
    return (row) => {
      const share = (filter.values[row] - filter.low) / (filter.high - filter.low || 1);
      return [Number.isNaN(share) ? REST : ramp[Math.round(share * (ramp.length - 1))], "circle"];
    };
  }

  place(row) {
    const { width, height } = this.size;
    const side = Math.min(width, height) * 0.92 * this.zoom;
    return [width / 2 + (this.xs[row] - 0.5 + this.x) * side, height / 2 + (this.ys[row] - 0.5 + this.y) * side];
  }

  draw() {
    if (!this.canvas.isConnected || !this.paint) return;
    const { pen, width, height } = sized(this.canvas);
    this.size = { width, height };
    const dense = clips.rows > 20000;
    const radius = Math.min(9, (dense ? 1.7 : clips.rows > 2000 ? 2.8 : 4.2) * Math.sqrt(Math.max(1, this.zoom)));
    pen.fillStyle = "rgb(139 145 156 / 22%)";
    for (let row = 0; row < clips.rows; row++) {
      if (!fails[row] || Number.isNaN(this.xs[row])) continue;
      const [x, y] = this.place(row);
      pen.fillRect(x - 1, y - 1, 2, 2);
    }
    pen.globalAlpha = dense ? 0.75 : 0.9;
    for (let row = 0; row < clips.rows; row++) {
      if (fails[row] || Number.isNaN(this.xs[row])) continue;
      const [x, y] = this.place(row);
      if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
      const [hue, shape] = this.paint(row);
      pen.fillStyle = hue;
      if (dense) pen.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
      else mark12(pen, x, y, radius, shape);
    }
    pen.globalAlpha = 1;
    if (this.path?.length > 1) {
      pen.strokeStyle = "#fff";
      pen.fillStyle = "rgb(255 255 255 / 10%)";
      pen.lineWidth = 1.5;
      pen.beginPath();
      this.path.forEach(([x, y], at) => at ? pen.lineTo(x, y) : pen.moveTo(x, y));
      pen.closePath();
      pen.fill();
      pen.stroke();
    }
    if (this.at !== undefined && !fails[this.at]) {
      const [x, y] = this.place(this.at);
      pen.strokeStyle = "#fff";
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(x, y, radius + 4, 0, 7);
      pen.stroke();
    }
  }

  /* The clip nearest to a place, if it is as near as `most` pixels. */
  nearest(x, y, most = 12) {
    let [best, distance] = [undefined, most * most];
    for (let row = 0; row < clips.rows; row++) {
      if (fails[row] || Number.isNaN(this.xs[row])) continue;
      const [px, py] = this.place(row);
      const far = (px - x) ** 2 + (py - y) ** 2;
      if (far < distance) [best, distance] = [row, far];
    }
    return best;
  }

  zoomAt(x, y, factor) {
    const zoom = Math.min(200, Math.max(0.6, this.zoom * factor));
    const { width, height } = this.size;
    const side = Math.min(width, height) * 0.92;
    this.x += (x - width / 2) * (1 / (side * zoom) - 1 / (side * this.zoom));
    this.y += (y - height / 2) * (1 / (side * zoom) - 1 / (side * this.zoom));
    this.zoom = zoom;
    this.draw();
  }

  whole() {
    Object.assign(this, { zoom: 1, x: 0, y: 0 });
    this.draw();
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.touches.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.moved = 0;
    if (this.touches.size === 1 && (mapChoice.tool === "select" || event.shiftKey)) this.path = [[event.offsetX, event.offsetY]];
    if (this.touches.size > 1) this.path = null;
  }

  motion(event) {
    const [x, y] = [event.offsetX, event.offsetY];
    const before = this.touches.get(event.pointerId);
    if (!before) {
      this.at = this.nearest(x, y);
      this.draw();
      if (this.at === undefined) endHover();
      else hover(this.at, event.clientX, event.clientY);
      return;
    }
    endHover();
    this.moved += Math.abs(x - before[0]) + Math.abs(y - before[1]);
    if (this.touches.size === 2) {
      const [other] = [...this.touches].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      const length = (place) => Math.hypot(place[0] - other[0], place[1] - other[1]) || 1;
      this.zoomAt((x + other[0]) / 2, (y + other[1]) / 2, length([x, y]) / length(before));
    } else if (this.path) {
      this.path.push([x, y]);
      this.draw();
    } else {
      const side = Math.min(this.size.width, this.size.height) * 0.92 * this.zoom;
      this.x += (x - before[0]) / side;
      this.y += (y - before[1]) / side;
      this.draw();
    }
    this.touches.set(event.pointerId, [x, y]);
  }

  up(event) {
    this.touches.delete(event.pointerId);
    const path = this.path;
    this.path = null;
    if (this.moved < 5) {
      const row = this.nearest(event.offsetX, event.offsetY, event.pointerType === "mouse" ? 12 : 24);
      if (row !== undefined) open(row);
    } else if (path && path.length > 2) this.select(path);
    this.draw();
  }

  select(path) {
    const inside = new Uint8Array(clips.rows);
    let any = 0;
    for (let row = 0; row < clips.rows; row++) {
      if (Number.isNaN(this.xs[row])) continue;
      const [x, y] = this.place(row);
      let odd = 0; // crossings of a ray to the right
      for (let i = 0, j = path.length - 1; i < path.length; j = i++) {
        const [[x1, y1], [x2, y2]] = [path[i], path[j]];
        if (y1 > y !== y2 > y && x < x1 + ((y - y1) / (y2 - y1)) * (x2 - x1)) odd ^= 1;
      }
      inside[row] = odd;
      any |= odd;
    }
    picked.rows = any ? inside : null;
    changed(filterOf("picked"));
  }

  /* Arrows go to the nearest clip in their direction, + and - zoom, Enter opens. */
  key(event) {
    const turn = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const { width, height } = this.size;
    const [x, y] = this.at === undefined ? [width / 2, height / 2] : this.place(this.at);
    if (turn) {
      let [best, least] = [undefined, Infinity];
      for (let row = 0; row < clips.rows; row++) {
        if (fails[row] || row === this.at || Number.isNaN(this.xs[row])) continue;
        const [px, py] = this.place(row);
        const [ahead, aside] = turn[0] ? [(px - x) * turn[0], Math.abs(py - y)] : [(py - y) * turn[1], Math.abs(px - x)];
        if (ahead > 1 && ahead + 2 * aside < least) [best, least] = [row, ahead + 2 * aside];
      }
      if (best !== undefined) {
        this.at = best;
        const box = this.canvas.getBoundingClientRect();
        const [px, py] = this.place(best);
        hover(best, box.left + px, box.top + py);
      }
    } else if (event.key === "+" || event.key === "-") this.zoomAt(x, y, event.key === "+" ? 1.4 : 1 / 1.4);
    else if (event.key === "Enter" && this.at !== undefined) open(this.at);
    else return;
    event.preventDefault();
    event.stopPropagation();
    this.draw();
  }
}

function mark12(pen, x, y, radius, shape) {
  pen.beginPath();
  if (shape === "circle") pen.arc(x, y, radius, 0, 7);
  else if (shape === "square") pen.rect(x - radius * 0.9, y - radius * 0.9, radius * 1.8, radius * 1.8);
  else if (shape === "triangle") {
    pen.moveTo(x, y - radius * 1.15);
    pen.lineTo(x + radius * 1.1, y + radius * 0.85);
    pen.lineTo(x - radius * 1.1, y + radius * 0.85);
  } else {
    const thin = radius * 0.38;
    pen.rect(x - radius * 1.1, y - thin, radius * 2.2, 2 * thin);
    pen.rect(x - thin, y - radius * 1.1, 2 * thin, radius * 2.2);
  }
  pen.fill();
}

let hovering = null;
/* A small moving picture of a clip beside the pointer. */
function hover(row, x, y) {
  const box = byId("hover");
  if (hovering?.row !== row) {
    endHover();
    const canvas = make("canvas");
    box.replaceChildren(canvas, make("p", { textContent: clips.label.at(row) || clips.captions.at(row)[0] || clips.key.at(row) }));
    box.hidden = false;
    hovering = new Player(canvas, row, () => !moving);
    hovering.load();
  }
  const [width, height] = [box.offsetWidth, box.offsetHeight];
  box.style.left = `${x + 18 + width > innerWidth ? x - width - 18 : x + 18}px`;
  box.style.top = `${Math.max(8, Math.min(innerHeight - height - 8, y - height / 2))}px`;
}

function endHover() {
  if (hovering) {
    sight.unobserve(hovering.canvas);
    players.delete(hovering.canvas);
    seen.delete(hovering);
  }
  hovering = null;
  byId("hover").hidden = true;
}

/* ── Distributions ─────────────────────────────────────────────────────────────────────────────────────────────── */

function drawNumbers(into) {
  if (!clips.rows) return void into.append(make("p", { className: "empty", textContent: nothing() }));
  const words = categories().filter(({ words }) => words.length > 1).map((filter) => make("div", { className: "panel figure" },
    make("h3", {}, filter.title, make("span", { textContent: plain.format(filter.words.length) })), withUpdates(() => options(filter, 400))));
  const figures = [];
  for (const filter of measures()) {
    const canvas = make("canvas", { role: "img", "aria-label": `Distribution of ${filter.title}` });
    const middle = make("span", { className: "numbers" });
    const draw = () => {
      drawBars(canvas, filter, 48, true);
      const values = Array.from(shown, (row) => filter.values[row]).filter((value) => !Number.isNaN(value)).sort((a, b) => a - b);
      middle.textContent = values.length ? `median ${short(values[values.length >> 1])}` : "";
    };
    viewUpdates.push(draw);
    choosing(canvas, filter);
    new ResizeObserver(draw).observe(canvas);
    const worst = filter.worst ? `; the ${filter.worst} is worst` : "";
    figures.push(make("div", { className: "panel figure" }, make("h3", {}, filter.title, middle),
      make("p", { textContent: filter.detail + worst }), canvas));
  }
  into.append(
    make("p", { className: "faint small", textContent: "Grey: all clips. Blue: those that pass the filters. Drag across a figure, or tick a word, to filter." }),
    make("div", { className: "figures" }, figures), make("div", { className: "figures words" }, words));
}

/* What `build` adds to the updates of the panel becomes an update of the view, which ends with it. */
function withUpdates(build) {
  const before = updates.length;
  const made = build();
  viewUpdates.push(...updates.splice(before));
  return made;
}

/* Dragging across a histogram sets the limits of its filter; a click takes them away. */
function choosing(canvas, filter) {
  let from = null;
  const value = (event) => {
    const share = (event.offsetX - AXIS) / (canvas.clientWidth - AXIS);
    return filter.low + Math.min(1, Math.max(0, share)) * (filter.high - filter.low);
  };
  canvas.addEventListener("pointerdown", (event) => {
    from = value(event);
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (from === null) return;
    const to = value(event);
    const limits = [Math.min(from, to), Math.max(from, to)];
    if (filter.whole) limits.splice(0, 2, Math.floor(limits[0]), Math.ceil(limits[1]));
    filter.limits.splice(0, 2, ...limits);
    drawBars(canvas, filter, 48, true);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (from !== null && Math.abs(value(event) - from) < (filter.high - filter.low) / 100) filter.reset();
    from = null;
    changed(filter);
  });
}

/* ── Yield ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

function drawYield(into) {
  const number = (value, words) => make("div", {}, make("b", { textContent: plain.format(value) }), make("span", { className: "faint small", textContent: words }));
  const { rows, clips: counts } = about.counts;
  const facts = [];
  if (about.build) {
    facts.push(number(about.build.built, `of ${count(about.build.planned.parts, "part")} built`));
    facts.push(number(rows.planned, `of ${count(about.build.planned.rows, "row")} done`));
  }
  facts.push(number(rows.kept, "rows kept"), number(rows.rejected, "rows rejected"), number(rows.failed + rows.quarantined, "rows failed"),
    number(counts.kept, "clips kept"), number(counts.rejected, "clips rejected"));
  const state = about.finished ? "The build is finished." : about.build
    ? "The build is not finished: counts are of the parts that are built." : "";
  const open = about.build?.open?.rows?.planned ? ` In parts under way ${count(about.build.open.rows.planned, "row")} more were done when this was read.` : "";
  into.append(make("div", { className: "stack" },
    make("div", { className: "panel" }, make("div", { className: "facts" }, facts),
      make("p", { className: "faint small", textContent: state + open })),
    ...about.alarms.map((alarm) => make("p", { className: "alarm", textContent: alarm.sentence })),
    ...about.damaged.map((text) => make("p", { className: "alarm", textContent: text })),
    make("div", { className: "panel scroll" }, yieldTable())));
}

function yieldTable() {
  const sum = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);
  const body = about.yield.map((line) => {
    const lost = { rejected: sum(line.rejected), failed: sum(line.failed) + sum(line.quarantined) };
    const of = Math.max(1, line.in);
    const bar = make("div", { className: "bar", role: "img",
      "aria-label": `${line.out} went on, ${lost.rejected} rejected, ${lost.failed} failed` },
      [["kept", line.out], ["rejected", lost.rejected], ["failed", lost.failed]].map(([kind, n]) => {
        const piece = make("i", { className: kind });
        piece.style.width = `${(100 * n) / of}%`;
        return piece;
      }));
    const why = Object.entries({ ...line.rejected, ...line.failed, ...line.quarantined }).sort((a, b) => b[1] - a[1]);
    const cell = (n) => make("td", { className: "number", textContent: n ? plain.format(n) : "·" });
    return make("tr", {},
      make("td", {}, make("b", { textContent: line.stage }), make("span", { className: "faint small", textContent: ` ${line.unit}` }), bar),
      cell(line.in), cell(line.out), cell(lost.rejected), cell(lost.failed),
      make("td", { className: "number", textContent: line.seconds === null ? "" : short(line.seconds) }),
      make("td", { className: "cut", textContent: why.map(([reason, n]) => `${reason} ${plain.format(n)}`).join(", ") }));
  });
  const head = (text, mark) => make("th", { className: "number", scope: "col" }, ...(mark ? [make("i", { className: `key ${mark}` })] : []), text);
  return make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col", textContent: "Stage" }),
    head("in"), head("out", "kept"), head("rejected", "rejected"), head("failed", "failed"), head("worker seconds"),
    make("th", { scope: "col", textContent: "why" }))), make("tbody", {}, body));
}

/* ── What was not kept ─────────────────────────────────────────────────────────────────────────────────────────── */

const reasons = new Set(); // numbers of those in about.losses that are listed; none: all
const LINES = 60; // a page

function drawLosses(into) {
  if (!about.losses.length) {
    into.append(make("p", { className: "empty", textContent: "Nothing was rejected, and nothing failed." }));
    return;
  }
  const name = (one) => `${one.stage}: ${one.reason}`;
  const buttons = about.losses.map((one, at) => make("button", {
    type: "button", "aria-pressed": reasons.has(at),
    click: () => { reasons.has(at) ? reasons.delete(at) : reasons.add(at); page = 0; redraw(); },
  }, make("i", { className: `key ${one.status === "rejected" ? "rejected" : "failed"}` }), `${name(one)} · ${plain.format(one.count)}`));
  const wanted = new Set([...reasons].map((at) => `${about.losses[at].status}/${name(about.losses[at])}`));
  const { columns } = losses;
  const rows = [];
  for (let row = 0; row < losses.rows; row++) {
    const is = `${columns.status.at(row)}/${columns.stage.at(row)}: ${columns.reason.at(row)}`;
    if (!wanted.size || wanted.has(is)) rows.push(row);
  }
  const span = (row) => Number.isNaN(columns.start_seconds[row]) ? "" : `${clock(columns.start_seconds[row])} – ${clock(columns.end_seconds[row])}`;
  const lines = rows.slice(page * LINES, (page + 1) * LINES).map((row) => make("tr", {},
    make("td", {}, make("i", { className: `key ${columns.status.at(row) === "rejected" ? "rejected" : "failed"}` }), columns.status.at(row)),
    make("td", {}, make("b", { textContent: columns.reason.at(row) }), make("div", { className: "faint small", textContent: columns.stage.at(row) })),
    make("td", { className: "cut", textContent: columns.label.at(row) || "–" }),
    make("td", { className: "cut" }, columns.uri.at(row), make("div", { className: "faint small numbers", textContent: `${columns.split.at(row)} ${span(row)}` })),
    make("td", { className: "cut", textContent: columns.detail.at(row) })));
  const total = about.losses.reduce((sum, one) => sum + one.count, 0);
  const listed = total > losses.rows ? `${count(losses.rows, "line")} of ${plain.format(total)}: of each reason the first` : "";
  into.append(make("div", { className: "stack" },
    make("div", { className: "reasons" }, buttons),
    ...(listed ? [make("p", { className: "faint small", textContent: listed })] : []),
    make("div", { className: "panel scroll" }, make("table", {},
      make("thead", {}, make("tr", {}, ["Status", "Reason", "Label", "Video", "Detail"].map((text) => make("th", { scope: "col", textContent: text })))),
      make("tbody", {}, lines)))),
    ...pager(Math.ceil(rows.length / LINES), page, (target) => { page = target; redraw(); window.scrollTo(0, 0); }));
}

/* ── Near-duplicates ───────────────────────────────────────────────────────────────────────────────────────────── */

function groupRows() {
  const groups = new Map();
  for (let row = 0; row < clips.rows; row++) {
    if (clips.group[row] < 0) continue;
    if (!groups.has(clips.group[row])) groups.set(clips.group[row], []);
    groups.get(clips.group[row]).push(row);
  }
  return [...groups].filter(([, rows]) => rows.length > 1).sort((a, b) => b[1].length - a[1].length || a[0] - b[0]);
}

const GROUPS = 12; // a page
const MEMBERS = 24; // of a group that are drawn

function drawGroups(into) {
  const groups = groupRows();
  if (!groups.length) {
    const text = about.duplicates ? "posecap duplicates found no near-duplicates among these clips."
      : "It was not looked for near-duplicates: run posecap duplicates, and then posecap explore again.";
    into.append(make("p", { className: "empty", textContent: text }));
    return;
  }
  const drawn = groups.slice(page * GROUPS, (page + 1) * GROUPS).map(([group, rows]) => {
    rows.sort((a, b) => clips.best[b] - clips.best[a] || a - b);
    const cards = rows.slice(0, MEMBERS).map((row) => {
      const one = card(row);
      if (clips.best[row]) one.querySelector(".badges").append(make("span", { className: "badge", textContent: "best" }));
      return one;
    });
    const splits = [...new Set(rows.map((row) => clips.split.at(row)))];
    const more = rows.length > MEMBERS ? `, of which ${MEMBERS} are drawn` : "";
    return make("div", { className: rows.length > 2 ? "panel stack many" : "panel stack" },
      make("h2", { textContent: `Group ${group}: ${count(rows.length, "clip")}${more}${splits.length > 1 ? ` in splits ${splits.join(", ")}` : ""}` }),
      make("div", { className: "cards" }, cards));
  });
  into.append(make("div", { className: "groups" }, drawn),
    ...pager(Math.ceil(groups.length / GROUPS), page, (target) => { page = target; redraw(); window.scrollTo(0, 0); }));
}

/* ── One clip ──────────────────────────────────────────────────────────────────────────────────────────────────── */

const QUANTITIES = {
  y: { title: "height, px", of: (move, at, f, side) => side - move.y[at + f] },
  x: { title: "x, px", of: (move, at, f) => move.x[at + f] },
  speed: {
    title: "speed, px/s", of: (move, at, f) => {
      if (!f || !move.scores[at + f - 1]) return NaN;
      return Math.hypot(move.x[at + f] - move.x[at + f - 1], move.y[at + f] - move.y[at + f - 1]) / (move.times[f] - move.times[f - 1]);
    },
  },
  score: { title: "score", of: (move, at, f) => move.scores[at + f] },
};
const FIRST_JOINTS = ["left_wrist", "right_wrist", "left_ankle", "right_ankle"];
const plotChoice = { quantity: "y", whole: true };
let opened = null;

class Opened {
  constructor(row) {
    Object.assign(this, { row, move: null, seconds: 0, playing: moving, person: 0, last: 0, joints: new Set(), video: null });
    this.layout = about.layouts[clips.layout.at(row)];
    const names = this.layout?.names ?? [];
    for (const name of FIRST_JOINTS) if (names.includes(name)) this.joints.add(names.indexOf(name));
    if (!this.joints.size) this.joints.add(0);
    this.build();
    this.load();
  }

  build() {
    const [row, at] = [this.row, shown.indexOf(this.row)];
    const step = (by) => make("button", {
      type: "button", textContent: by < 0 ? "←" : "→", "aria-label": by < 0 ? "Clip before (left arrow)" : "Next clip (right arrow)",
      disabled: at < 0 || at + by < 0 || at + by >= shown.length, click: () => this.turn(by),
    });
    this.canvas = make("canvas", { role: "img", "aria-label": "The clip's skeletons" });
    this.stage = make("div", { className: "stage" }, this.canvas);
    this.bar = make("input", {
      type: "range", min: 0, max: 1000, step: 1, value: 0, "aria-label": "Time",
      input: () => { this.playing = false; this.seek((this.bar.value / 1000) * (this.move?.seconds ?? 0)); },
    });
    this.time = make("span", { className: "numbers faint" });
    this.playButton = make("button", { type: "button", click: () => this.pause(), "aria-label": "Play or hold (Space)" });
    this.wholeButton = make("button", {
      type: "button", textContent: "Whole picture", "aria-pressed": plotChoice.whole, title: "The whole picture, or close to the people",
      click: () => {
        plotChoice.whole = !plotChoice.whole;
        this.wholeButton.setAttribute("aria-pressed", plotChoice.whole);
        this.draw();
      },
    });
    this.plot = make("canvas", { className: "plot", role: "img", "aria-label": "Joints over time" });
    this.personSelect = make("select", { "aria-label": "Person", change: () => { this.person = Number(this.personSelect.value); this.drawPlot(); } });
    const quantity = make("select", { "aria-label": "Quantity", change: () => { plotChoice.quantity = quantity.value; this.drawPlot(); } },
      Object.entries(QUANTITIES).map(([value, { title }]) => make("option", { value, textContent: title, selected: value === plotChoice.quantity })));
    this.note = make("p", { className: "faint small" });
    this.jointButtons = make("div", { className: "joints" });
    const seeking = (event) => {
      if (event.type === "pointermove" && !event.buttons) return;
      this.playing = false;
      this.seek(((event.offsetX - this.frame.left) / this.frame.width) * (this.move?.seconds ?? 0));
    };
    this.plot.addEventListener("pointerdown", seeking);
    this.plot.addEventListener("pointermove", seeking);
    byId("clip").replaceChildren(
      make("header", {}, make("h2", { id: "clip-title", tabIndex: -1, autofocus: true, textContent: clips.label.at(row) || "no label" }),
        make("span", { className: "faint small numbers", textContent: at < 0 ? "" : `${plain.format(at + 1)} of ${plain.format(shown.length)}` }),
        step(-1), step(1), make("button", { type: "button", textContent: "✕", "aria-label": "Close (Escape)", click: () => byId("clip").close() })),
      make("div", { className: "clip" },
        make("div", {}, this.stage,
          make("div", { className: "transport" }, this.playButton, this.bar, this.time, this.wholeButton),
          make("div", { className: "transport" }, make("h3", { textContent: "Joints over time" }), quantity, this.personSelect),
          this.plot, this.jointButtons, this.note),
        make("div", {}, ...this.words())));
    new ResizeObserver(() => { this.draw(); this.drawPlot(); }).observe(this.stage);
  }

  /* What is known of the clip. */
  words() {
    const row = this.row;
    const text = (name) => clips[name].at(row);
    const captions = clips.captions.at(row);
    const origins = clips.caption_origins.at(row);
    const key = text("key");
    const facts = [
      ["Key", make("code", { textContent: key })], ["Split", text("split")], ["Part", text("part")],
      ["Video", text("uri")], ["Span", `${clock(clips.start_seconds[row])} to ${clock(clips.end_seconds[row])}`],
      ["Picture", clips.width[row] ? `${clips.width[row]} × ${clips.height[row]} px` : "size not known"],
      ["Frames", `${clips.T[row]} at ${short(clips.fps[row])} per second`],
      ["People", String(clips.M[row])], ["Layout", `${text("layout")}, ${clips.J[row]} joints`],
      ["License", text("license") || "not stated"], ["Source", text("source") || "not stated"],
      ["Models", ["detector", "tracker", "pose", "video", "text"].map((stage) => [stage, text(`${stage}_model`)])
        .filter(([, model]) => model).map(([stage, model]) => `${stage}: ${model}`).join("; ") || "not stated"],
    ];
    const quality = filters.filter((filter) => filter.worst).map((filter) => {
      const value = filter.values[row];
      let [below, same, known] = [0, 0, 0];
      for (const other of filter.values) {
        if (Number.isNaN(other)) continue;
        known++;
        below += other < value;
        same += other === value;
      }
      const share = known ? (below + same / 2) / known : 0; // of the clips whose value is lower
      const worse = filter.worst === "lowest" ? 1 - share : share;
      const mark = make("i", { className: worse > 0.95 ? "worst" : "" });
      mark.style.setProperty("--at", `${100 * share}%`);
      return make("div", { className: "meter", title: `${filter.detail}; higher than in ${short(100 * share)} % of the clips` },
        make("span", { textContent: filter.title }), mark, make("span", { className: "numbers", textContent: short(value) }));
    });
    const others = clips.group[row] < 0 ? [] : Array.from({ length: clips.rows }, (_, other) => other)
      .filter((other) => other !== row && clips.group[other] === clips.group[row]);
    return [
      make("h3", { textContent: captions.length === 1 ? "Caption" : "Captions" }),
      captions.length ? make("ol", { className: "captions" }, captions.map((caption, at) =>
        make("li", {}, caption, make("span", { className: "faint small", textContent: `  ${origins[at] ?? ""}` })))) : make("p", { className: "faint", textContent: "none" }),
      make("h3", { textContent: "Quality, among all clips here" }), ...quality,
      make("dl", {}, facts.flatMap(([name, value]) => [make("dt", { textContent: name }), make("dd", {}, value)])),
      ...(others.length ? [make("h3", { textContent: `Near-duplicates, group ${clips.group[row]}` }),
        make("div", { className: "reasons" }, others.slice(0, 12).map((other) => make("button", {
          type: "button", textContent: `${clips.key.at(other).slice(0, 8)} ${clips.split.at(other)}${clips.best[other] ? " best" : ""}`, click: () => open(other),
        })))] : []),
      make("p", { className: "faint small" }, "Further: ", make("code", { textContent: `posecap view ${key.slice(0, 12)}` }), ", ",
        make("code", { textContent: `posecap inspect ${key.slice(0, 12)}` })),
    ];
  }

  async load() {
    try {
      this.move = await source.move(this.row);
    } catch (error) {
      this.note.textContent = `The joints cannot be read: ${error.message}`;
      return;
    }
    if (opened !== this) return;
    const { people, frames } = this.move;
    this.personSelect.replaceChildren(...Array.from({ length: people }, (_, at) => make("option", { value: at, textContent: `person ${at + 1}` })));
    this.personSelect.hidden = people < 2;
    const notes = [];
    if (frames < clips.T[this.row]) notes.push(`${frames} of ${clips.T[this.row]} frames, evenly chosen; posecap explore --serve has all.`);
    if (people < clips.M[this.row]) notes.push(`${people} of ${clips.M[this.row]} people.`);
    this.note.textContent = notes.join(" ");
    this.drawJoints();
    this.seek(0);
    if (source.video) this.addVideo();
  }

  async addVideo() {
    const url = await source.video(this.row).catch(() => null);
    if (!url || opened !== this) return;
    const video = make("video", { src: url, muted: true, playsInline: true, preload: "auto" });
    video.addEventListener("loadeddata", () => (this.video = video)); // one that cannot be played is left out
    this.stage.prepend(video);
  }

  end() {
    const video = this.stage.querySelector("video");
    if (video) URL.revokeObjectURL(video.src);
  }

  turn(by) {
    const at = shown.indexOf(this.row) + by;
    if (at >= by && at >= 0 && at < shown.length) open(shown[at]);
  }

  pause() {
    this.playing = !this.playing;
    this.draw();
  }

  frames(by) {
    if (!this.move) return;
    this.playing = false;
    const [frame] = frameAt(this.move, this.seconds + 1e-4);
    this.seek(this.move.times[Math.min(this.move.frames - 1, Math.max(0, frame + by))]);
  }

  seek(seconds) {
    this.seconds = Math.min(this.move?.seconds ?? 0, Math.max(0, seconds));
    if (this.video) {
      this.video.pause();
      this.video.currentTime = this.seconds;
    }
    this.draw();
    this.drawPlot();
  }

  tick(now) {
    const passed = (now - this.last) / 1000;
    this.last = now;
    if (this.video && !this.playing) this.video.pause();
    if (!this.playing || !this.move || passed > 1) return;
    if (this.video?.readyState >= 2) { // the video has the time, and the joints follow
      if (this.video.ended || this.video.currentTime > this.move.seconds + 0.2) this.video.currentTime = 0;
      if (this.video.paused) this.video.play().catch(() => {});
      this.seconds = Math.min(this.video.currentTime, this.move.seconds);
    } else this.seconds = this.seconds + passed > this.move.seconds ? 0 : this.seconds + passed;
    this.draw();
    this.drawPlot();
  }

  draw() {
    this.playButton.textContent = this.playing ? "❚❚" : "►";
    this.time.textContent = `${this.seconds.toFixed(2)} of ${(this.move?.seconds ?? 0).toFixed(2)} s`;
    this.bar.value = this.move?.seconds ? (1000 * this.seconds) / this.move.seconds : 0;
    if (!this.canvas.isConnected) return;
    const { pen, width, height } = sized(this.canvas);
    if (!this.move?.box) return;
    const [w, h] = [clips.width[this.row], clips.height[this.row]];
    const whole = (plotChoice.whole || this.video) && w && h;
    const view = fit(whole ? [0, 0, w, h] : this.move.box, width, height, whole ? 0 : 0.08);
    if (whole && !this.video) {
      pen.lineWidth = 1;
      pen.strokeStyle = "rgb(255 255 255 / 22%)";
      pen.strokeRect(view.x + 0.5, view.y + 0.5, w * view.scale - 1, h * view.scale - 1);
    }
    const size = Math.max(this.move.box[2] - this.move.box[0], this.move.box[3] - this.move.box[1]) * view.scale;
    drawMove(pen, this.move, this.row, this.seconds, view, Math.max(1.4, Math.min(4.5, size * 0.02)));
  }

  drawJoints() {
    const names = this.layout?.names ?? Array.from({ length: this.move.joints }, (_, joint) => `joint ${joint}`);
    this.jointButtons.replaceChildren(...names.map((name, joint) => {
      const line = make("i");
      const button = make("button", {
        type: "button", "aria-pressed": this.joints.has(joint),
        click: () => {
          this.joints.has(joint) ? this.joints.delete(joint) : this.joints.add(joint);
          this.drawJoints();
          this.drawPlot();
        },
      }, line, name.replaceAll("_", " "));
      const at = [...this.joints].indexOf(joint);
      line.hidden = at < 0;
      if (at >= 0) line.style.background = LINES_OF_JOINTS[at % LINES_OF_JOINTS.length];
      return button;
    }));
  }

  /* Chosen joints of a person over time, each in a hue, from the eighth on dashed. */
  drawPlot() {
    if (!this.plot.isConnected || !this.plot.clientWidth) return;
    const { pen, width, height } = sized(this.plot);
    this.frame = { left: 46, width: Math.max(1, width - 56), top: 8, height: height - 28 };
    const { left, top } = this.frame;
    const move = this.move;
    if (!move?.frames) return;
    const { of } = QUANTITIES[plotChoice.quantity];
    const lines = [...this.joints].map((joint) => {
      const at = (this.person * move.joints + joint) * move.frames;
      return Float32Array.from({ length: move.frames }, (_, f) => (move.scores[at + f] || plotChoice.quantity === "score" ? of(move, at, f, clips.height[this.row]) : NaN));
    });
    let [low, high] = [Infinity, -Infinity];
    for (const line of lines) for (const value of line) if (!Number.isNaN(value)) [low, high] = [Math.min(low, value), Math.max(high, value)];
    if (plotChoice.quantity === "score") [low, high] = [0, 1];
    if (!(low <= high)) [low, high] = [0, 1];
    if (high - low < 1e-6) [low, high] = [low - 1, high + 1];
    const x = (seconds) => left + (seconds / (move.seconds || 1)) * this.frame.width;
    const y = (value) => top + (1 - (value - low) / (high - low)) * this.frame.height;
    pen.font = "11px system-ui, sans-serif";
    pen.lineWidth = 1;
    for (const share of [0, 0.5, 1]) {
      const value = low + share * (high - low);
      pen.strokeStyle = colour("line");
      pen.beginPath();
      pen.moveTo(left, y(value));
      pen.lineTo(left + this.frame.width, y(value));
      pen.stroke();
      pen.fillStyle = colour("faint");
      pen.textAlign = "right";
      pen.textBaseline = "middle";
      pen.fillText(short(value), left - 6, y(value));
      pen.textBaseline = "top";
      pen.textAlign = ["left", "center", "right"][2 * share];
      pen.fillText(`${short(share * move.seconds)} s`, left + share * this.frame.width, top + this.frame.height + 6);
    }
    pen.lineJoin = "round";
    lines.forEach((line, at) => {
      pen.strokeStyle = LINES_OF_JOINTS[at % LINES_OF_JOINTS.length];
      pen.setLineDash(at >= LINES_OF_JOINTS.length ? [5, 3] : []);
      pen.lineWidth = 1.8;
      pen.beginPath();
      let down = false;
      line.forEach((value, f) => {
        if (Number.isNaN(value)) down = false;
        else if (down) pen.lineTo(x(move.times[f]), y(value));
        else {
          pen.moveTo(x(move.times[f]), y(value));
          down = true;
        }
      });
      pen.stroke();
    });
    pen.setLineDash([]);
    pen.fillStyle = colour("ink");
    pen.fillRect(x(this.seconds) - 0.75, top, 1.5, this.frame.height);
  }
}

/* Of Okabe and Ito, without the yellow, which is not seen on white. */
const LINES_OF_JOINTS = ["#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f"];

function open(row) {
  opened?.end();
  endHover();
  opened = new Opened(row);
  if (!byId("clip").open) byId("clip").showModal();
  byId("clip").scrollTop = 0;
  opened.draw();
  writeAddress();
}

/* ── Keys, and the beginning ───────────────────────────────────────────────────────────────────────────────────── */

const KEYS = [
  ["1 … 6", "the views"], ["/", "search"], ["f", "filters, on small screens"], ["n  p", "next page, page before"],
  ["arrows", "from card to card, or from clip to clip on the map"], ["Enter", "open the clip"],
  ["← →", "in a clip: the clip before, the next one"], ["Space", "move or hold still"], [",  .", "in a clip: a frame back, a frame on"],
  ["+  −", "on the map: nearer, farther"], ["t", "light or dark"], ["Esc", "close"], ["?", "this list"],
];

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const field = event.target.closest?.("input, select, textarea");
  const typing = field && field.type !== "checkbox" && field.type !== "range";
  if (byId("keys").open) return;
  if (opened && byId("clip").open) {
    const act = { ArrowLeft: () => opened.turn(-1), ArrowRight: () => opened.turn(1), " ": () => opened.pause(),
      ",": () => opened.frames(-1), ".": () => opened.frames(1) }[event.key];
    if (!act || field || (event.key === " " && event.target.closest?.("button"))) return;
    act();
    return event.preventDefault();
  }
  if (typing) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const cards = [...byId("view").querySelectorAll(".card")];
  const at = cards.indexOf(document.activeElement);
  const pages = Math.ceil(shown.length / PAGE);
  const turn = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columnsOf(cards), ArrowDown: columnsOf(cards) }[event.key];
  if (turn && at >= 0) cards[Math.min(cards.length - 1, Math.max(0, at + turn))].focus();
  else if (turn === 1 && cards.length && document.activeElement === document.body) cards[0].focus();
  else if (/^[1-6]$/.test(event.key)) show(Object.keys(views)[event.key - 1]);
  else if (event.key === "/") byId("search").focus();
  else if (event.key === "f") toggleFilters();
  else if (event.key === "n" && view === "clips" && page + 1 < pages) turnTo(page + 1);
  else if (event.key === "p" && view === "clips" && page > 0) turnTo(page - 1);
  else if (event.key === "t") toggleTheme();
  else if (event.key === "?") byId("keys").showModal();
  else if (event.key === "Escape") toggleFilters(false);
  else if (event.key === " " && view === "clips" && !event.target.closest?.("button, summary, input, a")) toggleMoving();
  else return;
  event.preventDefault();
}

function columnsOf(cards) {
  const top = cards[0]?.offsetTop;
  const other = cards.findIndex((one) => one.offsetTop !== top);
  return other < 0 ? cards.length : other;
}

function toggleMoving() {
  moving = !moving;
  byId("play-button").setAttribute("aria-pressed", moving);
  byId("play-button").textContent = moving ? "❚❚" : "►";
  for (const player of seen) player.draw(performance.now());
}

function toggleFilters(open = !byId("filters").classList.contains("open")) {
  byId("filters").classList.toggle("open", open);
  byId("filters-button").setAttribute("aria-expanded", open);
  if (open) updates.forEach((update) => update());
}

function toggleTheme() {
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  if (!clips) return;
  refreshCounts();
  viewUpdates.forEach((update) => update());
  opened?.drawPlot();
}

function addListeners() {
  document.addEventListener("keydown", pressed);
  byId("theme-button").addEventListener("click", toggleTheme);
  byId("keys-button").addEventListener("click", () => byId("keys").showModal());
  byId("filters-button").addEventListener("click", () => toggleFilters());
  byId("main").addEventListener("click", () => toggleFilters(false));
  byId("play-button").addEventListener("click", toggleMoving);
  byId("search").addEventListener("input", () => {
    search.text = byId("search").value;
    later(filterOf("q"));
  });
  byId("sort").addEventListener("change", () => {
    order.by = byId("sort").value;
    // The worst clips come first.
    order.descending = filterOf(order.by)?.worst === "highest";
    writeOrder();
    sortShown();
    refresh();
  });
  byId("descending").addEventListener("click", () => {
    order.descending = !order.descending;
    writeOrder();
    sortShown();
    refresh();
  });
  byId("clip").addEventListener("close", () => {
    opened?.end();
    const row = opened?.row;
    opened = null;
    writeAddress();
    document.querySelector(`.card[data-row="${row}"]`)?.focus();
  });
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }
  byId("keys").append(make("h2", { textContent: "Keys" }), make("dl", {}, KEYS.flatMap(([key, does]) => [
    make("dt", {}, make("kbd", { textContent: key })), make("dd", { textContent: does }),
  ])));
  byId("tabs").addEventListener("keydown", (event) => {
    const names = Object.keys(views);
    const to = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!to) return;
    show(names[(names.indexOf(view) + to + names.length) % names.length]);
    byId(`tab-${view}`).focus();
    event.stopPropagation();
  });
}

function drawTop() {
  document.title = about.title;
  const [name, words] = byId("name").children;
  name.textContent = about.title;
  const { shown: here, there } = about.clips;
  const chosen = [about.chosen.split && `split ${about.chosen.split}`, about.chosen.where && `where ${about.chosen.where}`].filter(Boolean);
  words.textContent = [
    here < there ? `${plain.format(here)} of ${count(there, "clip")}, evenly chosen` : count(there, "clip"), ...chosen,
    about.finished || !about.build ? null : `under way: ${about.build.built} of ${count(about.build.planned.parts, "part")}`,
    about.license,
  ].filter(Boolean).join(" · ");
  const numbers = { losses: about.losses.reduce((sum, one) => sum + one.count, 0), groups: groupRows().length };
  byId("tabs").append(...Object.entries(views).map(([id, { title }]) => {
    const tab = make("button", { type: "button", id: `tab-${id}`, role: "tab", "aria-controls": "view", click: () => show(id) }, title);
    tab.dataset.view = id;
    if (numbers[id]) tab.append(make("span", { textContent: plain.format(numbers[id]) }));
    return tab;
  }));
  byId("sort").append(...orders().map(({ name: value, title }) => make("option", { value, textContent: title })));
}

async function start() {
  setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  source = served ? new ServedSource() : new InlineSource();
  about = await source.document();
  const table = await source.read("clips");
  clips = { rows: table.rows, ...table.columns };
  losses = await source.read("losses");
  makeFilters();
  drawTop();
  drawPanel();
  addListeners();
  if (!moving) {
    moving = true;
    toggleMoving();
  }
  readAddress();
  byId("view").removeAttribute("aria-busy");
  performance.mark("posecap-ready");
  requestAnimationFrame(everyFrame);
}

start().catch((error) => {
  byId("view").replaceChildren(make("p", { className: "empty", textContent: `The page cannot be shown: ${error.message}` }));
  console.error(error);
});
