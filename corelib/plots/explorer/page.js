// The head explorer: what all parts share, and what is chosen. page.py joins the parts to one script.
//     map.js: the map of all heads    head.js: the numbers of one    attention.js: what it looks at
// All data lie in the page as JSON; nothing is fetched. What comes from files becomes text, never markup.
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

document.addEventListener("DOMContentLoaded", begin); // when the parts below are known
