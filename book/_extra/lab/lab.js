/* The lab bench: what a visitor can do with a picture, a question and the heads. What is then to be seen is in report.js
   and strip.js. */

"use strict";

const MODES = [
  { name: "show", label: "Show its look", state: null, set: "whose gaze to move", says: "Click a head: the picture shows where this head looks." },
  { name: "gaze", label: "Move its gaze", state: GAZE, set: "whose gaze to move", says: "Click heads: these will look at the object that you click." },
  { name: "off", label: "Switch it off", state: OFF, set: "to switch off", says: "Click heads: what they put out becomes zero." },
  { name: "narrow", label: "Narrow its view", state: NARROW, set: "to narrow", says: "Click heads: they see only the beginning and the words just before." },
];
const SINKS = 4;
const USUAL = { scenes: 3, documents: 10, video: 10 }; // heads whose gaze is moved at first, the top ones by RAM
const ONE = { scenes: "scene", documents: "document", video: "clip" };

class Lab {
  constructor(reader) {
    this.reader = reader;
    const { layers, heads: across } = reader.decoder;
    this.across = across;
    this.states = new Uint8Array(layers * across);
    this.window = { width: 8, sinks: SINKS };
    this.mode = MODES[0];
    this.view = new PictureView($("picture"), (object) => this.lookAt(object));
    this.map = new HeadMap($("map"), layers, across, { name: "The 48 heads", onHead: (head) => this.clickHead(head) });
    this.strip = new Strip(reader, (picture) => this.open(picture));
    this.report = new Report(this);
    this.controls();
    this.open(0);
  }

  // --- what the reader of the page does -----------------------------------------------------------------------------

  open(number) {
    const before = this.picture && this.picture.domain;
    this.picture = this.reader.pictures[number];
    this.view.show(this.picture);
    if (this.picture.domain !== before) {
      $("count").value = $("number").textContent = USUAL[this.picture.domain];
      this.choose(GAZE, this.top(USUAL[this.picture.domain]), false);
    }
    this.strip.open(number);
    const examples = this.picture.examples.map(({ question }) => this.picture.questions[question]);
    $("examples").replaceChildren(...examples.map(({ text, answer }) => el(
      "button", { type: "button", onclick: () => this.ask(text), "data-text": text }, text, el("b", { title: "the right answer" }, ` → ${answer}`),
    )));
    this.ask(examples[0].text);
  }

  /** The next picture of a domain. */
  openNext(domain) {
    const mine = [...this.reader.pictures.keys()].filter((number) => this.reader.pictures[number].domain === domain);
    this.open(mine[(mine.indexOf(this.reader.pictures.indexOf(this.picture)) + 1) % mine.length]);
  }

  ask(text) {
    const { words, unknown } = this.reader.split(text);
    $("wrong").textContent = "";
    if (unknown.length) {
      $("wrong").textContent = `The model does not know “${unknown[0]}”. It knows ${this.reader.words.length} words: take them from below.`;
    } else if (!words.length || words.length > LONGEST_QUESTION) {
      $("wrong").textContent = `Write a question of 1 to ${LONGEST_QUESTION} words.`;
    } else {
      this.text = $("question").value = words.join(" ");
      this.offerWords();
      this.target = null;
      this.word = this.pinned = null;
      this.refresh();
    }
  }

  /** The chosen heads look at an object; or where they will, if it is the evidence, or was chosen before. */
  lookAt(number) {
    const freely = number === this.target || this.picture.objects[number] === this.plain.evidence;
    this.target = freely ? null : number;
    this.word = null;
    this.refresh();
    this.view.objects[number].focus();
  }

  clickHead(head) {
    if (this.mode.state === null) this.pinned = this.pinned === head ? null : head;
    else this.states[head] = this.states[head] === this.mode.state ? FREE : this.mode.state;
    this.refresh();
  }

  /** These heads, and no others, get a state. */
  choose(state, chosen, now = true) {
    this.states.forEach((old, head) => { if (old === state) this.states[head] = FREE; });
    chosen.forEach((head) => { this.states[head] = state; });
    this.pinned = null;
    if (now) this.refresh();
  }

  top(count) {
    return this.reader.rankings[this.picture.domain].order.slice(0, count);
  }

  /** As many other heads in each layer as the top ones have there; null if there are not so many. */
  randomLikeTop(count) {
    const top = new Set(this.top(count)), found = [];
    for (let first = 0; first < this.states.length; first += this.across) {
      const layer = Array.from({ length: this.across }, (_, k) => first + k), free = layer.filter((head) => !top.has(head));
      const wanted = layer.length - free.length;
      if (free.length < wanted) return null;
      for (let k = 0; k < wanted; k++) found.push(...free.splice(Math.floor(Math.random() * free.length), 1));
    }
    return found;
  }

  // --- what follows from it -----------------------------------------------------------------------------------------

  refresh() {
    const program = { states: this.states, window: this.window };
    const ask = (more) => {
      const began = performance.now(), found = this.reader.ask(this.picture, this.text, { ...program, ...more });
      this.milliseconds = performance.now() - began;
      return found;
    };
    this.plain = ask();
    this.answer = this.target === null ? this.plain : ask({ target: this.picture.objects[this.target] });
    this.report.draw();
    this.strip.sweep(program);
  }

  with(state) {
    return Array.from(this.states.keys()).filter((head) => this.states[head] === state);
  }

  // --- controls -----------------------------------------------------------------------------------------------------

  controls() {
    $("modes").replaceChildren(...MODES.map((mode) => el("button", {
      type: "button", role: "radio", ariaChecked: String(mode === this.mode), onclick: () => this.setMode(mode), "data-mode": mode.name,
    }, mode.label)));
    rove($("modes"));
    const set = (label, chosen) => el("button", { type: "button", onclick: () => {
      const found = chosen(Number($("count").value));
      if (found) this.choose(this.state(), found);
      else $("key").textContent = "There are not so many other heads in the same layers: take fewer.";
    } }, label);
    const rest = () => Array.from(this.states.keys()).filter((head) => this.states[head] !== this.state());
    $("sets").replaceChildren(
      set("Top by RAM", (count) => this.top(count)), set("Random, same layers", (count) => this.randomLikeTop(count)),
      set("All the others", rest), set("None", () => []),
    );
    $("count").oninput = () => {
      $("number").textContent = $("count").value;
      this.choose(this.state(), this.top(Number($("count").value)));
    };
    $("width").oninput = () => {
      this.window.width = Number($("width").value);
      $("wide").textContent = $("width").value;
      this.refresh();
    };
    $("others").replaceChildren(...Object.entries(ONE).map(([domain, name]) => el("button", { type: "button", onclick: () => this.openNext(domain) }, `Next ${name}`)));
    rove($("others"));
    $("ask").onsubmit = (event) => {
      event.preventDefault();
      this.ask($("question").value);
    };
    $("question").oninput = () => this.offerWords();
  }

  /** The state that chosen heads get. */
  state() {
    return this.mode.state ?? GAZE;
  }

  setMode(mode) {
    this.mode = mode;
    for (const button of $("modes").children) button.ariaChecked = String(button.dataset.mode === mode.name);
    $("window").hidden = mode.state !== NARROW;
    $("whom").textContent = `heads ${mode.set}:`;
    this.report.heads();
  }

  /** Words that lead to a question of this picture; if there is none, all words. */
  offerWords() {
    const field = $("question"), typed = field.value, { words } = this.reader.split(typed);
    const partial = /\S$/.test(typed) && !this.reader.words.includes(words.at(-1)) ? words.pop() : "";
    const write = (value) => {
      field.value = value;
      this.offerWords();
      ($("next").querySelector("button") || field).focus();
    };
    const chip = (label, onclick) => el("button", { type: "button", onclick }, label);
    if (words.at(-1) === "?") return $("next").replaceChildren(chip("Start anew", () => write("")));
    const fitting = this.picture.questions.map(({ text }) => text.split(" ")).filter((one) => words.every((word, k) => one[k] === word));
    const known = [...new Set(fitting.map((one) => one[words.length]).filter(Boolean))];
    const offered = (known.length ? known : this.reader.words).filter((word) => word.startsWith(partial));
    $("next").replaceChildren(...offered.map((word) => chip(word, () => {
      write(`${[...words, word].join(" ")} `);
      if (word === "?") this.ask(field.value);
    })));
    if (offered.length) rove($("next"));
  }
}

function followTheme() {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)");
  let kept = null; // the book's own choice, of the same site
  try { kept = localStorage.getItem("theme") || localStorage.getItem("mode"); } catch { /* a page from a folder may have no storage */ }
  const set = (theme) => {
    root.dataset.theme = theme;
    $("theme").textContent = theme === "dark" ? "Light" : "Dark";
    $("theme").ariaLabel = `Use the ${theme === "dark" ? "light" : "dark"} theme`;
  };
  const now = () => set(["light", "dark"].includes(kept) ? kept : dark.matches ? "dark" : "light");
  dark.addEventListener("change", now);
  $("theme").onclick = () => {
    kept = root.dataset.theme === "dark" ? "light" : "dark";
    now();
  };
  now();
}

followTheme();
globalThis.lab = new Lab(new Reader(LAB_WEIGHTS, LAB_PICTURES));
globalThis.game = new Game($("game"), lab.reader);
