// The page of `samkr-edge predict --serve`: asks for the newest picture, and draws the people into it.
"use strict";

const byId = (id) => document.getElementById(id);
const viewer = Array.from(crypto.getRandomValues(new Uint8Array(8)), (b) => b.toString(16).padStart(2, "0")).join("");
const CONTROLS = { threshold: null, boxes: true, view: "first", divider: 0.5, only: null };
const SIDES = ["first", "second"];
const PATIENCE = 20000; // milliseconds for an answer; the server answers within eight seconds
let facts = null;
let streams = [];
let running = false;

function element(name, parent, text, properties) {
  const made = Object.assign(document.createElement(name), properties);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

function say(text, state) {
  byId("said").textContent = text;
  byId("said").dataset.state = state;
}

// Of the records that `/pictures` answers with: number of the stream, lengths of JSON and JPEG, then both.
function records(buffer) {
  const view = new DataView(buffer);
  const found = [];
  for (let at = 0; at < buffer.byteLength; ) {
    const [stream, text, jpeg] = [view.getUint32(at), view.getUint32(at + 4), view.getUint32(at + 8)];
    const start = at + 12;
    found.push({
      stream,
      facts: JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, start, text))),
      jpeg: new Blob([new Uint8Array(buffer, start + text, jpeg)], { type: "image/jpeg" }),
    });
    at = start + text + jpeg;
  }
  return found;
}

class Stream {
  constructor(name, index) {
    this.name = name;
    this.index = index;
    this.number = 0;
    this.shown = 0;
    this.seen = null; // the facts of the picture that is shown
    this.picture = null;
    this.figure = element("figure", byId("streams"));
    this.pictures = element("div", this.figure, undefined, { className: "pictures" });
    this.canvases = SIDES.map((side) => this.canvas(side));
    const caption = element("figcaption", this.figure);
    element("span", caption, name, { className: "name" });
    this.now = element("span", caption, "waiting for the first picture", { className: "now" });
  }

  canvas(side) {
    const one = element("div", this.pictures, undefined, { className: "one" });
    const canvas = element("canvas", one);
    canvas.setAttribute("aria-label", `${this.name} with the poses of the ${side} model`);
    canvas.setAttribute("role", "img");
    const labels = SIDES.map((each) => element("b", one, "", { className: each, hidden: true }));
    canvas.addEventListener("pointerdown", (event) => {
      if (CONTROLS.view !== "wipe") return;
      canvas.setPointerCapture(event.pointerId);
      divide(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (CONTROLS.view === "wipe" && (event.buttons || event.pointerType === "touch")) divide(event);
    });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.05, ArrowRight: 0.05 }[event.key];
      if (CONTROLS.view !== "wipe" || !step) return;
      event.preventDefault();
      setDivider(CONTROLS.divider + step);
    });
    const divide = (event) => {
      const box = canvas.getBoundingClientRect();
      setDivider((event.clientX - box.left) / box.width);
    };
    return { side, one, canvas, labels };
  }

  get watched() {
    return CONTROLS.only === null || CONTROLS.only === this.index;
  }

  people(side) {
    const found = side === "first" ? this.seen.people : (this.seen.compared || { people: [] }).people;
    const least = CONTROLS.threshold ?? (facts.models[SIDES.indexOf(side)] || {}).threshold;
    return found.filter((person) => person[0] >= least);
  }

  async take(record) {
    this.number = record.facts.number;
    if (record.jpeg.size) {
      const picture = await createImageBitmap(record.jpeg);
      if (this.picture) this.picture.close();
      this.picture = picture;
      this.shown += 1;
    }
    this.seen = { people: [], ms: {}, fps: 0, age: 0, size: [16, 9], ...record.facts };
    giveColours(this.seen.people, (this.seen.compared || {}).people || []);
    this.draw();
  }

  // Everything, after a new picture or a control that has changed.
  draw() {
    this.figure.hidden = !this.watched;
    if (!this.watched || !this.seen) return;
    this.describe();
    if (!this.picture) return;
    const beside = CONTROLS.view === "beside";
    this.pictures.classList.toggle("beside", beside);
    for (const place of this.canvases) {
      const sides = beside || place.side === "second" ? [place.side] : CONTROLS.view === "wipe" ? SIDES : [CONTROLS.view];
      place.one.hidden = !beside && place.side === "second";
      if (!place.one.hidden) this.drawOn(place, sides);
    }
  }

  drawOn(place, sides) {
    const { canvas, labels } = place;
    const wipe = sides.length > 1;
    canvas.className = wipe ? "wipe" : "";
    canvas.tabIndex = wipe ? 0 : -1;
    SIDES.forEach((side, i) => {
      labels[i].hidden = facts.models.length < 2 || !sides.includes(side);
      if (!labels[i].hidden) labels[i].textContent = facts.models[i].file;
    });
    const [width, height] = this.seen.size;
    canvas.style.aspectRatio = `${width} / ${height}`;
    const wide = Math.max(1, Math.round(canvas.clientWidth * Math.min(window.devicePixelRatio || 1, 2)));
    const high = Math.max(1, Math.round((wide * height) / width));
    if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, { width: wide, height: high });
    const ink = canvas.getContext("2d");
    ink.drawImage(this.picture, 0, 0, wide, high);
    sides.forEach((side, i) => {
      const edge = Math.round(CONTROLS.divider * wide);
      ink.save();
      ink.beginPath();
      if (wipe) ink.rect(i ? edge : 0, 0, i ? wide - edge : edge, high);
      else ink.rect(0, 0, wide, high);
      ink.clip();
      drawPeople(ink, this.people(side), facts.models[SIDES.indexOf(side)].edges, wide / width, [wide, high]);
      ink.restore();
      if (wipe && i) {
        ink.fillStyle = "#fff";
        ink.fillRect(edge - 1, 0, 2, high);
      }
    });
  }

  describe() {
    const { fps, age, state } = this.seen;
    const count = this.people("first").length;
    const people = `${count} ${count === 1 ? "person" : "people"}`;
    const parts = [people];
    if (state === "live") parts.unshift(`${fps.toFixed(1)} frames/s`);
    if (state === "live") parts.push(`${Math.round(age)} ms old`);
    if (state === "ended") parts.push("ended");
    if (state === "failed") parts.push("lost");
    this.now.textContent = parts.join(" · ");
    Object.assign(this.figure.dataset, { shown: this.shown, people: count, state, frame: this.seen.frame });
  }
}

function setDivider(share) {
  CONTROLS.divider = Math.min(1, Math.max(0, share));
  redraw();
}

// Numbers of colours, as a fourth entry of each person: the tracking id's, else the rank's. Whom both models find has
// one colour: the nearest person of the other one, no further away on average than a quarter of the person's size.
function giveColours(first, second) {
  first.forEach((person, rank) => person.push(person[1] === null ? rank : person[1] - 1));
  const left = new Set(first);
  second.forEach((person, rank) => {
    let [near, least] = [null, size(person[2]) / 4];
    for (const other of left) {
      const away = distance(person[2], other[2]);
      if (away < least) [near, least] = [other, away];
    }
    left.delete(near);
    person.push(near ? near[3] : first.length + rank);
  });
}

function size(numbers) {
  const [x, y] = [0, 1].map((axis) => numbers.filter((_, at) => at % 3 === axis));
  return Math.max(Math.max(...x) - Math.min(...x), Math.max(...y) - Math.min(...y));
}

function distance(one, other) {
  if (one.length !== other.length) return Infinity; // models of other keypoints
  let sum = 0;
  for (let at = 0; at < one.length; at += 3) sum += Math.hypot(one[at] - other[at], one[at + 1] - other[at + 1]);
  return (3 * sum) / one.length;
}

// As `predict` draws them: samkr_edge/frames/draw.py. `scale` is from pixels of the frame to pixels of the canvas.
function drawPeople(ink, people, edges, scale, [wide, high]) {
  const longest = Math.max(wide, high);
  const size = Math.max(11, Math.min(longest / 75, 26));
  ink.lineCap = "round";
  ink.font = `${size}px system-ui, sans-serif`;
  // The best person is drawn last, on top.
  for (let rank = people.length - 1; rank >= 0; rank--) {
    const [score, id, numbers, number] = people[rank];
    const joints = [];
    for (let at = 0; at < numbers.length; at += 3) {
      // A pixel's centre is at a whole number in the frame, and at a half on the canvas.
      joints.push([(numbers[at] / 10 + 0.5) * scale, (numbers[at + 1] / 10 + 0.5) * scale, numbers[at + 2] / 1000]);
    }
    const colour = facts.palette[number % facts.palette.length];
    const fill = `rgb(${colour.join(" ")})`;
    const sure = joints.filter((joint) => joint[2] >= facts.sure);
    const framed = sure.length < 2 ? joints : sure;
    const [x0, y0, x1, y1] = [
      Math.min(...framed.map((j) => j[0])), Math.min(...framed.map((j) => j[1])),
      Math.max(...framed.map((j) => j[0])), Math.max(...framed.map((j) => j[1])),
    ];
    const width = Math.max(1, Math.min(Math.max(x1 - x0, y1 - y0) / 90, longest / 200));
    if (CONTROLS.boxes) drawCorners(ink, [x0, y0, x1, y1], fill, Math.max(1, width / 2));
    for (const [style, extra] of [["#18181c", 2], [fill, 0]]) {
      ink.beginPath();
      for (const [a, b] of edges) {
        if (joints[a][2] < facts.sure || joints[b][2] < facts.sure) continue;
        ink.moveTo(joints[a][0], joints[a][1]);
        ink.lineTo(joints[b][0], joints[b][1]);
      }
      ink.strokeStyle = style;
      ink.lineWidth = width + extra;
      ink.stroke();
    }
    for (const [x, y, confidence] of sure) {
      const middle = confidence >= facts.solid ? "#fff" : "#18181c";
      for (const [style, radius] of [["#18181c", width + 2], [fill, width + 1], [middle, (width + 1) / 2]]) {
        ink.beginPath();
        ink.arc(x, y, radius, 0, 7);
        ink.fillStyle = style;
        ink.fill();
      }
    }
    drawLabel(ink, `${id === null ? "" : `${id}  `}${score.toFixed(2)}`, x0, y0, colour, [wide, high], size);
  }
}

function drawCorners(ink, [x0, y0, x1, y1], style, width) {
  const arm = Math.max(3, Math.min(x1 - x0, y1 - y0) / 6);
  ink.beginPath();
  for (const [x, dx] of [[x0, arm], [x1, -arm]]) {
    for (const [y, dy] of [[y0, arm], [y1, -arm]]) {
      ink.moveTo(x + dx, y);
      ink.lineTo(x, y);
      ink.lineTo(x, y + dy);
    }
  }
  ink.strokeStyle = style;
  ink.lineWidth = width;
  ink.stroke();
}

function drawLabel(ink, text, left, bottom, colour, [wide, high], size) {
  const width = ink.measureText(text).width + 8;
  const height = size * 1.35;
  const x = Math.max(0, Math.min(left, wide - width));
  const y = Math.max(height, Math.min(bottom, high));
  ink.fillStyle = `rgb(${colour.join(" ")})`;
  ink.fillRect(x, y - height, width, height);
  ink.fillStyle = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] > 110 ? "#18181c" : "#fff";
  ink.fillText(text, x + 4, y - size * 0.35);
}

// The latency split of every stream that is watched, one column a model.
function drawFigures() {
  const place = byId("figures");
  place.replaceChildren();
  for (const stream of streams) {
    if (!stream.watched || !stream.picture) continue;
    const table = element("table", place);
    const two = facts.models.length > 1;
    const second = (stream.seen.compared || {}).ms || {};
    const head = element("tr", element("thead", table));
    element("th", head, streams.length > 1 ? stream.name : "Milliseconds a frame");
    element("th", head, two ? "first" : "", { className: two ? "first" : "" });
    if (two) element("th", head, "second", { className: "second" });
    const body = element("tbody", table);
    const row = (name, values, total) => {
      const line = element("tr", body, undefined, { className: total ? "total" : "" });
      element("th", line, name);
      for (const value of two ? values : values.slice(0, 1)) {
        element("td", line, value === undefined ? "" : typeof value === "string" ? value : value.toFixed(1));
      }
    };
    const first = stream.seen.ms;
    const named = ["capture", "preprocess", "network", "decode", "encode"];
    for (const name of [...named, ...Object.keys(first).filter((other) => !named.includes(other))]) {
      if (first[name]) row(name, [first[name], second[name]]);
    }
    const sum = (ms) => ["preprocess", "network", "decode"].reduce((total, name) => total + (ms[name] || 0), 0);
    if (Object.keys(second).length) row("pose, total", [sum(first), sum(second)], true);
    else row("pose, total", [sum(first)], true);
    row("people", [`${stream.people("first").length}`, `${stream.people("second").length}`]);
    const problem = (stream.seen.compared || {}).problem;
    if (problem) element("p", place, `Second model: ${problem}`, { className: "quiet" });
  }
}

// Until a viewer chooses one, each model has its own.
function leastScores() {
  const own = facts ? facts.models.map((model) => model.threshold) : [];
  const least = CONTROLS.threshold === null ? own : [CONTROLS.threshold];
  return [...new Set(least.map((score) => score.toFixed(2)))];
}

function redraw() {
  for (const stream of streams) stream.draw();
  byId("least").textContent = leastScores().join(" and ");
  for (const button of document.querySelectorAll("[data-view]")) {
    button.setAttribute("aria-pressed", String(button.dataset.view === CONTROLS.view));
  }
  byId("hint").textContent = CONTROLS.view === "wipe" ? "Drag the line in the picture, or use the arrow keys." : "";
  for (const button of byId("tabs").children) {
    button.setAttribute("aria-pressed", String(String(CONTROLS.only) === button.dataset.only));
  }
  if (facts) drawFigures();
}

function setUp() {
  byId("streams").replaceChildren();
  byId("tabs").replaceChildren();
  byId("models").replaceChildren();
  document.title = `${facts.streams.join(", ")} - samkr-edge live`;
  streams = facts.streams.map((name, index) => new Stream(name, index));
  CONTROLS.only = null;
  CONTROLS.threshold = null;
  CONTROLS.boxes = facts.boxes;
  CONTROLS.view = facts.models.length > 1 ? "beside" : "first";
  byId("threshold").value = facts.models[0].threshold;
  byId("boxes").checked = facts.boxes;
  byId("written").textContent = facts.writes
    ? `What is written has a score of at least ${facts.models[0].threshold}, whatever is shown here.`
    : "";
  byId("views").hidden = facts.models.length < 2;
  byId("tabs").hidden = streams.length < 2;
  const tab = (text, only) => {
    const button = element("button", byId("tabs"), text, { type: "button" });
    button.dataset.only = String(only);
    button.addEventListener("click", () => {
      CONTROLS.only = only;
      redraw();
    });
  };
  tab("All", null);
  streams.forEach((stream) => tab(stream.name, stream.index));
  const list = element("dl", byId("models"));
  facts.models.forEach((model, i) => {
    element("dt", list, model.file, { className: facts.models.length > 1 ? SIDES[i] : "" });
    element("dd", list, `${model.title}. ${model.runs}`);
  });
  element("p", byId("models"), `At most ${facts.rate} pictures/s here; the network runs at its own rate.`, {
    className: "quiet",
  });
  redraw();
}

async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(PATIENCE) });
  if (answer.status === 200 || answer.status === 204) return answer;
  const text = await answer.text();
  throw Object.assign(new Error(text.slice(0, 200)), { status: answer.status });
}

const seconds = (count) => new Promise((resolve) => setTimeout(resolve, 1000 * count));
const visible = () =>
  document.hidden
    ? new Promise((resolve) => document.addEventListener("visibilitychange", () => resolve(), { once: true }))
    : null;

async function watch() {
  running = true;
  byId("again").hidden = true;
  let failures = 0;
  while (running) {
    await visible(); // who does not look costs nothing
    try {
      if (!facts) {
        facts = await (await ask("facts")).json();
        setUp();
      }
      const after = streams.map((stream) => (stream.watched ? stream.number : "-")).join(",");
      const answer = await ask(`pictures?viewer=${viewer}&after=${after}`);
      failures = 0;
      if (answer.status === 204) {
        say("no new picture", "bad");
        continue;
      }
      for (const record of records(await answer.arrayBuffer())) await streams[record.stream].take(record);
      drawFigures();
      document.body.dataset.pictures = Number(document.body.dataset.pictures || 0) + 1;
      const over = streams.every((stream) => stream.seen && ["ended", "failed"].includes(stream.seen.state));
      say(over ? "ended" : "live", over ? "bad" : "live");
      running = !over;
    } catch (error) {
      failures += 1;
      say(error.status ? error.message : "no answer: has the command ended?", "bad");
      if (error.status && error.status !== 503) break;
      facts = error.status ? facts : null; // a command that is started again may have other streams
      if (failures >= 5 && !error.status) break;
      await seconds(error.status ? 5 : failures);
    }
  }
  running = false;
  byId("again").hidden = false;
}

byId("threshold").addEventListener("input", (event) => {
  CONTROLS.threshold = Number(event.target.value);
  redraw();
});
byId("boxes").addEventListener("change", (event) => {
  CONTROLS.boxes = event.target.checked;
  redraw();
});
byId("again").addEventListener("click", () => {
  facts = null;
  if (!running) watch();
});
for (const button of document.querySelectorAll("[data-view]")) {
  button.addEventListener("click", () => {
    CONTROLS.view = button.dataset.view;
    redraw();
  });
}
window.addEventListener("resize", redraw);
watch();
