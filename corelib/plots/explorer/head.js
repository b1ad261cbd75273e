// The numbers of one head.

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
