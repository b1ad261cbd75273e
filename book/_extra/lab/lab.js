/* The lab bench: a picture, a question, the heads, and what comes of it. */

"use strict";

const MODES = [
  { name: "show", label: "Show its look", state: null, set: "whose gaze to move", says: "Click a head: the picture shows where this head looks." },
  { name: "gaze", label: "Move its gaze", state: GAZE, set: "whose gaze to move", says: "Click heads: these will look at the object that you click." },
  { name: "off", label: "Switch it off", state: OFF, set: "to switch off", says: "Click heads: what they put out becomes zero." },
  { name: "narrow", label: "Narrow its view", state: NARROW, set: "to narrow", says: "Click heads: they see only the beginning and the words just before." },
];
const MARKS = ["", "gaze", "off", "narrow"]; // by state
const STATED = ["", ", its gaze is yours", ", off", ", narrow"];
const SINKS = 4;
const USUAL = { scenes: 3, documents: 10, video: 10 }; // heads whose gaze is moved at first, the top ones by RAM
const ONE = { scenes: "scene", documents: "document", video: "clip" };

const $ = (name) => document.getElementById(name);
const pause = () => new Promise((done) => setTimeout(done));
const heads = (count) => (count === 1 ? "1 head" : `${count} heads`);

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
    this.strip();
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
    this.tiles.forEach((tile, k) => { tile.ariaPressed = String(k === number); });
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
    this.drawPicture();
    this.drawAnswer();
    this.drawHeads();
    this.say();
    this.sweep();
  }

  with(state) {
    return Array.from(this.states.keys()).filter((head) => this.states[head] === state);
  }

  drawPicture() {
    const { answer, picture } = this, words = [...answer.question, ...answer.words];
    const at = this.word ?? this.sharpest().word, row = answer.firstRow + at;
    const gazers = this.with(GAZE), shown = this.pinned === null ? gazers : [this.pinned];
    const looks = shown.map((head) => answer.look(row, head));
    const mean = looks.length ? looks[0].map((_, token) => looks.reduce((sum, look) => sum + look[token], 0) / looks.length) : null;
    const evidence = answer.evidence ? picture.objects.indexOf(answer.evidence) : null;
    this.view.update({ look: mean, evidence, target: this.target, invite: this.invitation(evidence), kind: this.kind() });
    const who = this.pinned !== null ? `the head in ${this.reader.name(this.pinned)}` : shown.length === 1 ? "the chosen head" : `the ${shown.length} chosen heads`;
    $("caption").replaceChildren(
      el("b", { className: "evidence" }, "Orange"), evidence === null ? ": not known for this question. " : ": what the question asks for. ",
      ...(this.target === null ? [] : [el("b", { className: "target" }, "Green"), ": where you told the heads to look. "]),
      shown.length ? `Bright: where ${who} ${shown.length === 1 ? "looks" : "look"} at the word “${words[at]}”.` : "Choose heads to see where they look.",
    );
    $("rows").replaceChildren(...words.slice(0, -1).map((word, k) => el(
      "button", { type: "button", ariaPressed: String(k === at), className: k < answer.question.length ? "" : "said", onclick: () => {
        this.word = k;
        this.drawPicture();
        $("rows").children[k].focus();
      } }, word,
    )));
    rove($("rows"));
  }

  /** The word of the question at which the chosen heads, left to themselves, look most at the evidence; and how much. */
  sharpest() {
    const { evidence, firstRow, question } = this.plain, gazers = this.with(GAZE), found = { word: question.length - 1, share: 0 };
    if (!evidence || !gazers.length) return found;
    for (let word = question.length - 1; word >= 0; word--) {
      const looks = gazers.map((head) => this.plain.look(firstRow + word, head));
      const share = looks.reduce((sum, look) => sum + evidence.tokens.reduce((mass, token) => mass + look[token], 0), 0) / gazers.length;
      if (share > found.share) Object.assign(found, { word, share });
    }
    return found;
  }

  /** The kind of object that could be asked about in the same way. */
  kind() {
    const { evidence } = this.answer, { objects } = this.picture;
    return evidence ? evidence.kind : this.target !== null ? objects[this.target].kind : objects[0].kind;
  }

  /** The object that a visitor is invited to click, if none is chosen. */
  invitation(evidence) {
    if (this.target !== null || evidence === null) return null;
    const pair = this.picture.examples.find(({ question }) => this.picture.questions[question].object === evidence);
    const other = this.picture.objects.findIndex((one, k) => k !== evidence && one.kind === this.kind() && one.value !== this.plain.evidence.value);
    return pair ? this.picture.questions[pair.rival].object : other;
  }

  drawAnswer() {
    const { answer, plain } = this, moved = answer !== plain && answer.answer !== plain.answer;
    const right = answer.asked ? answer.asked.answer : null;
    const verdict = right === null ? "This question has no known answer here." : answer.right ? "✓ right" : `✗ the right answer is ${right}`;
    $("answer").replaceChildren(
      el("span", { className: "small" }, "The model answers"),
      el("strong", {}, ...(moved ? [el("s", {}, plain.answer), " → ", el("em", {}, answer.answer)] : [answer.answer])),
      el("span", { className: answer.right === false ? "bad" : answer.right ? "good" : "" }, verdict),
      el("span", { className: "small" }, `${Math.max(1, Math.round(this.milliseconds))} ms`),
    );
    const target = this.target === null ? null : this.picture.objects[this.target].value;
    $("bars").replaceChildren(...answer.choices.map((choice, place) => el("ol", { "aria-label": `Likeliest words, place ${place + 1}` }, ...choice.map(({ word, probability }) => {
      const role = word === (right ?? "")[place] ? "evidence" : target && word === target[place] ? "target" : "";
      const shown = word.replace(/<\|im_end\|>/, "end");
      return el("li", { className: role }, el("span", {}, shown), el("i", { style: `--share:${probability}` }), el("small", {}, probability.toFixed(2)));
    }))));
    for (const chip of $("examples").children) chip.ariaPressed = String(chip.dataset.text === this.text);
  }

  drawHeads() {
    const { answer } = this, tokens = answer.evidence ? answer.evidence.tokens : answer.picture.visual.map((_, token) => token);
    const target = this.target === null ? [] : this.picture.objects[this.target].tokens;
    const values = [], says = [], marks = [];
    for (const [head, state] of this.states.entries()) {
      const there = state === GAZE && target.length > 0;
      values.push(state === OFF ? 0 : answer.mass(head, there ? target : tokens));
      marks.push(`${MARKS[state]}${there ? " moved" : ""}${this.pinned === head ? " pinned" : ""}`.trim());
      says.push(`${this.reader.name(head)}: ${values[head].toFixed(2)} on the ${there ? "target" : answer.evidence ? "evidence" : "picture"}${STATED[state]}`);
    }
    this.map.update(values, marks, says);
    $("key").textContent = `${this.mode.says} The number is the share of its attention that a head pays to ` +
      (answer.evidence ? "the evidence (RAM)" : "the picture") + (target.length ? ", in green cells to the target." : ".");
  }

  /** One line that says what is to be seen, and what can be done. */
  say() {
    const { answer, plain } = this, gazers = this.with(GAZE).length, look = gazers === 1 ? "looks" : "look";
    const bold = (text, role = "") => el("b", { className: role }, text);
    const asked = ["Asked ", bold(`“${this.text}”`), ", the model answers "];
    const line = [[OFF, "off"], [NARROW, "narrow"]].map(([state, name]) => [this.with(state).length, name])
      .filter(([count]) => count).map(([count, name]) => `${heads(count)} ${count === 1 ? "is" : "are"} ${name}. `);
    if (this.target !== null) {
      const object = this.picture.objects[this.target], same = answer.answer === plain.answer;
      line.push(gazers ? `${heads(gazers)} now ${look} at the ` : "No head was chosen to look at the ", bold(object.name, "target"), ". The answer ");
      line.push(...(same ? ["stays "] : ["changes from ", bold(plain.answer, "evidence"), " to "]));
      line.push(bold(answer.answer, same ? "evidence" : answer.answer === object.value ? "target" : ""), ". ");
      line.push(el("button", { type: "button", className: "quiet", onclick: () => this.lookAt(this.target) }, "Let them look freely"));
    } else if (answer.evidence) {
      line.push(...asked, bold(answer.answer, answer.right ? "evidence" : ""), ". ");
      if (gazers) {
        const { word, share } = this.sharpest(), there = word === answer.question.length - 1 ? "" : `, at the word “${answer.question[word]}”`;
        line.push(`${heads(gazers)} of ${this.states.length} ${share < 0.4 ? `spend ${Math.round(100 * share)}\u00a0% of their attention on` : `${look} at`} the `,
          bold("orange box", "evidence"), there, ". ", bold("Now click another object"), ": these heads will look there.");
      }
      else line.push("It can be read in the ", bold("orange box", "evidence"), ".");
    } else line.push(...asked, bold(answer.answer), ". What it asks for is not known. Click an object: the chosen heads will look there.");
    $("say").replaceChildren(...line);
  }

  // --- all pictures -------------------------------------------------------------------------------------------------

  strip() {
    const groups = {};
    this.tiles = this.reader.pictures.map((picture, number) => {
      const tile = el("button", { type: "button", onclick: () => this.open(number) }, el("img", { src: picture.views[0].source, alt: "" }), el("span"));
      (groups[picture.domain] ||= []).push(tile);
      return tile;
    });
    $("strip").replaceChildren(...Object.entries(groups).map(([domain, tiles]) => el("div", { role: "group", "aria-label": domain }, el("h3", { id: `of-${domain}` }, domain), ...tiles)));
    [...$("strip").children].forEach((group) => rove(group));
    new IntersectionObserver(([{ isIntersecting }]) => {
      this.stripSeen = isIntersecting;
      this.sweep();
    }).observe($("strip"));
  }

  /** Ask the first example of every picture: is the answer right, and does it follow the gaze to another object? */
  async sweep() {
    const program = { states: this.states.slice(), window: { ...this.window } }, key = JSON.stringify(program);
    if (key === this.swept || !this.stripSeen) return;
    this.swept = key;
    const gazers = this.with(GAZE).length, counts = {}, all = { right: 0, follow: 0, done: 0 };
    for (const [number, picture] of this.reader.pictures.entries()) {
      await pause();
      if (this.swept !== key) return; // something else is asked by now
      const { question, rival } = picture.examples[0], { text } = picture.questions[question], goal = picture.questions[rival];
      const { right, answer } = this.reader.ask(picture, text, program);
      const moved = gazers ? this.reader.ask(picture, text, { ...program, target: picture.objects[goal.object] }).answer : "";
      const follows = right && moved === goal.answer;
      this.mark(number, right, follows, `${text} ${answer}, ${right ? "right" : "wrong"}${follows ? "; follows the gaze" : ""}`);
      for (const count of [all, (counts[picture.domain] ||= { right: 0, follow: 0, done: 0 })]) {
        count.right += right;
        count.follow += follows;
        count.done += 1;
      }
      const { right: good, follow, done } = counts[picture.domain];
      $(`of-${picture.domain}`).textContent = `${picture.domain}: ${good} of ${done} right` + (gazers ? `, ${follow} follow the gaze` : "");
      $("count-right").replaceChildren("Right answers: ", el("b", {}, `${all.right} of ${all.done}`), ". ", ...(gazers ? [
        `When the chosen heads look at another object, `, el("b", { className: "target" }, `${all.follow} of ${all.right}`), " answers follow.",
      ] : []));
    }
    $("count-right").dataset.done = key;
  }

  mark(number, right, follows, says) {
    const tile = this.tiles[number];
    tile.className = `${right ? "good" : "bad"} ${follows ? "follows" : ""}`;
    tile.querySelector("span").textContent = right ? "✓" : "✗";
    tile.ariaLabel = says;
    tile.title = says;
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
    this.drawHeads();
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
