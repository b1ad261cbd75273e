// The map of all heads, and the list of them.

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
  if (at("ranking").open) listHeads();
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
