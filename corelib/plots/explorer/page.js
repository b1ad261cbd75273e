// The head explorer. All data lie in the page as JSON; nothing is fetched. What comes from files becomes text, never markup.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const { layers, heads, kv_heads: groups } = data.model;
const state = { domain: 0, measure: 0, head: 0, example: 0, word: null };
const at = (id) => document.getElementById(id);
const domain = () => data.domains[state.domain];
const measure = () => domain().measures[state.measure];
const nameOf = (head) => `L${Math.floor(head / heads)}H${head % heads}`;
const rankOf = (one, head) => one.order.indexOf(head) + 1; // 0: the head does not count
const percent = (share) => `${(100 * share).toFixed(share >= 0.0005 && share < 0.1 ? 1 : 0)} %`;

/** A number of a measure: with three digits after the point, or fewer and more, by the highest of them all. */
function number(one, value) {
  one.digits ??= Math.min(12, Math.max(0, 3 - Math.ceil(Math.log10(Math.max(...one.value.map(Math.abs)) || 1))));
  return value.toFixed(one.digits).replace(/^-(?=0\.?0*$)/, "").replace("-", "−");
}

/** An element with properties, and children or text. */
function make(tag, properties = {}, ...children) {
  const found = Object.assign(document.createElement(tag), properties);
  found.append(...children);
  return found;
}

/** Radio buttons that look like buttons, in a fieldset. `pick` gets the number of the one that is chosen. */
function choices(fieldset, name, texts, chosen, pick, mark = () => "") {
  const legend = fieldset.querySelector("legend");
  fieldset.replaceChildren(legend);
  texts.forEach((text, k) => {
    const input = make("input", { type: "radio", name, value: k, checked: k === chosen });
    input.addEventListener("change", () => pick(k));
    fieldset.append(make("label", { className: `choice ${mark(k)}` }, input, make("span", { textContent: text })));
  });
}

// --- the map ---

const cells = []; // by head

function buildMap() {
  const map = at("map");
  map.style.setProperty("--heads", heads);
  map.style.setProperty("--tall", `${Math.max(14, Math.min(36, 560 / layers))}px`);
  for (let layer = layers - 1; layer >= 0; layer--) {
    const row = make("div", { role: "row" }, make("div", { role: "rowheader", textContent: `L${layer}` }));
    for (let index = 0; index < heads; index++) {
      const head = layer * heads + index;
      cells[head] = make("div", { role: "gridcell", tabIndex: -1 });
      cells[head].addEventListener("click", () => choose(head));
      row.append(cells[head]);
    }
    map.append(row);
  }
  const every = heads > 32 ? 8 : heads > 12 ? 2 : 1;
  const names = [...Array(heads).keys()].map((k) => make("div", { role: "columnheader", textContent: k % every ? "" : `H${k}` }));
  map.append(make("div", { role: "row" }, make("div", { role: "columnheader", ariaLabel: "layer" }), ...names));
  map.addEventListener("keydown", walk);
}

/** Arrow keys, Home and End move through the map; with Ctrl, Home and End go to its corners. */
function walk(event) {
  const layer = Math.floor(state.head / heads), index = state.head % heads;
  const goal = {
    ArrowUp: [layer + 1, index], ArrowDown: [layer - 1, index], ArrowLeft: [layer, index - 1], ArrowRight: [layer, index + 1],
    PageUp: [layers - 1, index], PageDown: [0, index],
    Home: [event.ctrlKey ? layers - 1 : layer, 0], End: [event.ctrlKey ? 0 : layer, heads - 1],
  }[event.key];
  if (!goal) return;
  event.preventDefault();
  if (goal[0] >= 0 && goal[0] < layers && goal[1] >= 0 && goal[1] < heads) choose(goal[0] * heads + goal[1]);
}

/** A share of the scale, in [−1, 1], as two colours of the style and how far it is from one to the other. */
function shade(share) {
  const stops = share < 0 ? ["--none", "--less", "--least"] : ["--none", "--half", "--most"];
  const place = 2 * Math.abs(share), first = Math.min(Math.floor(place), 1);
  return { "--near": `var(${stops[first]})`, "--far": `var(${stops[first + 1]})`, "--part": place - first };
}

/** Colour the map by the measure: from 0 up, or balanced around 0. */
function paintMap() {
  const one = measure(), least = Math.min(0, ...one.value), most = Math.max(...one.value, 0);
  const reach = Math.max(-least, most) || 1, top = new Set(one.order.slice(0, one.top));
  one.value.forEach((value, head) => {
    const cell = cells[head], rank = rankOf(one, head), told = domain().told[nameOf(head)];
    for (const [name, text] of Object.entries(shade(value / reach))) cell.style.setProperty(name, text);
    cell.className = [top.has(head) && "top", told && "told", !rank && "away"].filter(Boolean).join(" ");
    cell.title = `${nameOf(head)}: ${number(one, value)}`;
    cell.ariaLabel = `${nameOf(head)}, ${number(one, value)}, ${rank ? `rank ${rank}` : "not ranked"}${told ? ", told in the book" : ""}`;
  });
  at("map").ariaLabel = `${one.name} of all heads, ${layers} layers by ${heads} heads, the deepest layer on top`;
  at("map-title").textContent = `${one.name}: all heads`;
  at("map-about").textContent = one.about;
  const low = least < 0 ? -reach : 0;
  at("low").textContent = number(one, low);
  at("high").textContent = number(one, reach);
  at("ramp").className = least < 0 ? "both" : "";
  at("ramp").replaceChildren();
  const chance = one.chance !== null && one.chance <= reach;
  if (chance) {
    at("ramp").append(make("i"));
    at("ramp").firstChild.style.left = `${(100 * (one.chance - low)) / (reach - low)}%`;
  }
  const keys = [make("span", { className: "key top" }), `the top 5 % (${one.top})`];
  if (chance) keys.push(make("span", { className: "key chance" }), `chance (${number(one, one.chance)})`);
  if (Object.keys(domain().told).length) keys.push(make("span", { className: "key told" }), "told in the book");
  at("map-help").replaceChildren("Click a head, or use the arrow keys. ", ...keys);
  at("ranking").open && listHeads();
}

function listHeads() {
  const one = measure(), list = make("tbody");
  one.order.forEach((head, k) => {
    const button = make("button", { type: "button", textContent: nameOf(head) });
    button.addEventListener("click", () => choose(head));
    list.append(make("tr", {}, make("td", { textContent: k + 1 }), make("td", {}, button), make("td", { textContent: withInterval(one, head) })));
  });
  const titles = ["rank", "head", `${one.name} [${percent(one.level)}]`].map((text) => make("th", { scope: "col", textContent: text }));
  at("ranking").replaceChildren(at("ranking").firstElementChild, make("table", {}, make("thead", {}, make("tr", {}, ...titles)), list));
}

// --- one head ---

function withInterval(one, head) {
  const ends = one.low[head] < one.high[head] ? ` [${number(one, one.low[head])}, ${number(one, one.high[head])}]` : "";
  return `${number(one, one.value[head])}${ends}${one.unit && ` ${one.unit}`}`;
}

function choose(head, focus = true) {
  cells[state.head].tabIndex = -1;
  cells[state.head].ariaSelected = "false";
  state.head = head;
  cells[head].tabIndex = 0;
  cells[head].ariaSelected = "true";
  if (focus) cells[head].focus({ preventScroll: false });
  history.replaceState(null, "", `#${encodeURIComponent(domain().name)}/${nameOf(head)}`);
  showHead();
}

function showHead() {
  const one = measure(), head = state.head, rank = rankOf(one, head);
  at("head-title").textContent = nameOf(head);
  at("higher").disabled = rank < 2;
  at("lower").disabled = !rank || rank === one.order.length;
  const best = rank && rank <= one.top;
  const text = rank ? `rank ${rank} of ${one.order.length} by ${one.name}` : "not ranked: its layer does not see the whole prompt";
  at("standing").replaceChildren(text, best ? make("span", { className: "badge", textContent: " · in the top 5 %" }) : "");
  const facts = { [one.name]: withInterval(one, head) };
  if (one.chance) facts.chance = `${number(one, one.chance)}; this head ${times(one.value[head] / one.chance)}`;
  const lost = domain().measures.filter((other) => other.unit);
  for (const other of lost) facts[other.name] = withInterval(other, head);
  facts["keys shared with"] = partners(head);
  at("facts").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [make("dt", { textContent: name }), make("dd", { textContent: value })]));
  at("lost").textContent = lost.map((other) => `${other.name}: ${other.about}`).join("; ").replace(/^./, (sign) => sign.toUpperCase());
  showTold();
  showSpread();
  showOthers();
  showExample();
}

const times = (ratio) => `${ratio >= 10 ? ratio.toFixed(0) : ratio >= 0.1 ? ratio.toFixed(1) : ratio.toFixed(2)}\u00a0×`;

/** The other heads of the same key/value group: names, or of a large group the first and the last. */
function partners(head) {
  const size = heads / groups, first = head - (head % size);
  if (size > 8) return `the heads from ${nameOf(first)} to ${nameOf(first + size - 1)}`;
  return [...Array(size).keys()].map((k) => first + k).filter((one) => one !== head).map(nameOf).join(", ") || "no other head";
}

function showTold() {
  const told = domain().told[nameOf(state.head)];
  const lines = told ? [make("strong", { textContent: told.title }), ...told.lines.map((line) => make("p", { textContent: line }))] : [];
  at("told").replaceChildren(...(told ? [make("div", {}, ...lines)] : []));
}

/** How the samples spread: bars, with the mean and chance. */
function showSpread() {
  const one = measure();
  at("spread").replaceChildren();
  if (!one.spread) return;
  const { low, high, samples, counts } = one.spread, mine = counts[state.head], most = Math.max(...mine);
  const draw = (tag, properties, text = "") => {
    const found = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(properties)) found.setAttribute(name, value);
    found.textContent = text;
    return found;
  };
  const wide = 400, tall = 90, x = (value) => (wide * (value - low)) / (high - low);
  const label = `${one.name} of ${nameOf(state.head)} in ${samples} samples: mean ${number(one, one.value[state.head])}`;
  const drawn = draw("svg", { viewBox: `-4 0 ${wide + 8} ${tall + 18}`, role: "img", "aria-label": label });
  mine.forEach((count, k) => {
    const height = (count / most) * (tall - 12);
    drawn.append(draw("rect", { x: (k * wide) / mine.length + 1, y: tall - height, width: wide / mine.length - 2, height }));
  });
  drawn.append(draw("line", { class: "axis", x1: 0, x2: wide, y1: tall, y2: tall }));
  for (const [name, value] of [["mean", one.value[state.head]], ["chance", one.chance]])
    if (value !== null && value >= low && value <= high) drawn.append(draw("line", { class: name, x1: x(value), x2: x(value), y1: 4, y2: tall }));
  drawn.append(draw("text", { x: 0, y: tall + 14 }, number(one, low)), draw("text", { x: wide, y: tall + 14, "text-anchor": "end" }, number(one, high)));
  const caption = `Bars: how many of ${samples} samples, at most ${most} in one. Line: the mean${one.chance === null ? "" : "; dashed: chance"}.`;
  at("spread").append(make("h3", { textContent: `${one.name} over samples` }), drawn, make("p", { className: "soft", textContent: caption }));
}

function showOthers() {
  const rows = domain().measures.map((one, k) => {
    const rank = rankOf(one, state.head);
    const texts = [one.name, withInterval(one, state.head), rank ? `${rank} of ${one.order.length}` : "–"];
    return make("tr", { className: k === state.measure ? "now" : "" }, ...texts.map((text) => make("td", { textContent: text })));
  });
  const titles = ["measure", `value [${percent(measure().level)}]`, "rank"].map((text) => make("th", { scope: "col", textContent: text }));
  at("others").hidden = rows.length < 2;
  at("others").replaceChildren(at("others").firstElementChild, make("table", {}, make("thead", {}, make("tr", {}, ...titles)), make("tbody", {}, ...rows)));
}

// --- attention over pictures ---

/** The bytes of an example: of each head and word the evidence, all pictures, and every square. Unpacked once. */
function unpacked(example) {
  example.bytes ??= (async () => {
    const packed = Uint8Array.from(atob(example.attention), (sign) => sign.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  })();
  return example.bytes;
}

function buildExample() {
  const found = domain().examples;
  at("example").replaceChildren();
  if (!found.length) return;
  state.example = Math.min(state.example, found.length - 1);
  const example = found[state.example];
  const first = example.answering.indexOf(true);
  if (state.word === null || state.word >= example.words.length) state.word = Math.max(first, 0);
  const which = make("fieldset", {}, make("legend", { textContent: "Question" }));
  const words = make("fieldset", {}, make("legend", { textContent: `What the head looks at from this word (underlined words predict the answer${example.words.includes("⏎") ? "; ⏎: a new line" : ""})` }));
  choices(which, "example", found.map((one) => one.question), state.example, chooseExample);
  choices(words, "word", example.words, state.word, (k) => { state.word = k; showExample(); }, (k) => (example.answering[k] ? "answering" : ""));
  const answer = `Right answer: ${example.answer}. The model says: ${example.said}.`;
  const pictures = make("div", { className: "pictures" }, ...example.pictures.map((one) => onePicture(one, example)));
  at("example").append(make("h3", { textContent: "Attention on pictures" }), which, make("p", { textContent: answer }), words, make("p", { id: "looks" }), pictures, make("p", { id: "darkest", className: "soft" }));
}

function chooseExample(k) {
  Object.assign(state, { example: k, word: null });
  buildExample();
  at("example").querySelector("[name=example]:checked").focus(); // the buttons are new ones
  showExample();
}

function onePicture(picture, example) {
  const frame = make("div", { className: "frame" }, make("img", { src: picture.src, alt: `${picture.name}: ${example.question}` }));
  frame.append(make("canvas", { width: picture.columns * 8, height: picture.rows * 8 }));
  for (const [x0, y0, x1, y1] of picture.boxes) {
    const box = make("i");
    Object.assign(box.style, { left: `${100 * x0}%`, top: `${100 * y0}%`, width: `${100 * (x1 - x0)}%`, height: `${100 * (y1 - y0)}%` });
    frame.append(box);
  }
  const figure = make("figure", {}, frame, make("figcaption"));
  figure.style.setProperty("--wide", { 1: "20rem", 2: "15rem" }[example.pictures.length] ?? "8.5rem");
  return figure;
}

/** Paint what the chosen head looks at from the chosen word. */
async function showExample() {
  const example = domain().examples[state.example];
  if (!example) return;
  const bytes = await unpacked(example);
  if (example !== domain().examples[state.example]) return; // another was chosen meanwhile
  const squares = example.pictures.map((one) => [Math.ceil(one.rows / one.step), Math.ceil(one.columns / one.step)]);
  const width = 2 + squares.reduce((sum, [down, across]) => sum + down * across, 0), words = example.words.length;
  const ofWord = (word) => bytes.subarray((state.head * words + word) * width, (state.head * words + word + 1) * width);
  let strongest = 0;
  for (let word = 0; word < words; word++) strongest = Math.max(strongest, ...ofWord(word).subarray(2));
  const mine = ofWord(state.word);
  let place = 2;
  at("example").querySelectorAll("figure").forEach((figure, k) => {
    const [down, across] = squares[k], { step, name } = example.pictures[k];
    const canvas = figure.querySelector("canvas").getContext("2d");
    canvas.clearRect(0, 0, canvas.canvas.width, canvas.canvas.height);
    let sum = 0;
    for (let y = 0; y < down; y++)
      for (let x = 0; x < across; x++) {
        const root = mine[place++] / 255;
        sum += root * root;
        canvas.fillStyle = `rgb(43 120 184 / ${strongest ? (0.8 * root * 255) / strongest : 0})`;
        canvas.fillRect(x * step * 8, y * step * 8, step * 8, step * 8);
      }
    figure.querySelector("figcaption").textContent = `${name}: ${percent(sum)}`;
  });
  const word = example.words[state.word];
  at("looks").textContent = `From “${word}”, ${nameOf(state.head)} pays ${percent(mine[1] / 255)} of its attention to the ${example.pictures.length > 1 ? "pictures" : "picture"}, ${percent(mine[0] / 255)} to the evidence (framed).`;
  at("darkest").textContent = `Darkest blue: ${percent((strongest / 255) ** 2)} of the attention on one square, the most of this head in this example.`;
}

// --- what is chosen ---

function chooseDomain(k) {
  const before = measure().name;
  Object.assign(state, { domain: k, example: 0, word: null });
  const names = domain().measures.map((one) => one.name);
  state.measure = Math.max(0, names.indexOf(before));
  at("measures").replaceChildren(...names.map((text, n) => make("option", { value: n, textContent: text, selected: n === state.measure })));
  buildExample();
  paintMap();
}

/** Step along the ranking. */
function step(by) {
  const rank = rankOf(measure(), state.head);
  if (rank) choose(measure().order[rank - 1 + by], false);
}

function begin() {
  const [place, wanted] = location.hash.slice(1).split("/");
  const names = data.domains.map((one) => one.name);
  if (data.back) at("back").append(make("a", { href: data.back.href, textContent: data.back.text }));
  buildMap();
  chooseDomain(Math.max(0, names.findIndex((name) => encodeURIComponent(name) === place)));
  choices(at("domains"), "domain", names, state.domain, (k) => { chooseDomain(k); choose(state.head, false); });
  at("measures").addEventListener("change", (event) => { state.measure = +event.target.value; paintMap(); showHead(); });
  at("ranking").addEventListener("toggle", () => at("ranking").open && listHeads());
  at("higher").addEventListener("click", () => step(-1));
  at("lower").addEventListener("click", () => step(1));
  const linked = cells.findIndex((_, head) => nameOf(head) === wanted);
  choose(linked < 0 ? measure().order[0] : linked, false);
}

begin();
