/* A game: three of the heads are enough to change most answers. Find them with ten clicks. */

"use strict";

const CLICKS = 10, TEAM = 3, TRIPLES = 10;

/** Numbers in [0, 1) that are the same on every visit (mulberry32). */
function seeded(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

class Game {
  constructor(place, reader) {
    Object.assign(this, { place, reader, scenes: reader.pictures.filter((one) => one.domain === "scenes") });
    this.ranking = reader.rankings.scenes;
    const begin = el("button", { type: "button", onclick: () => this.begin() }, "Play");
    place.replaceChildren(
      el("h2", {}, "A game: find the three heads"),
      el("p", { className: "note" }, `Three of the ${this.ranking.order.length} heads are enough to change most answers. You have ${CLICKS} clicks to find them, in the ten scenes.`),
      begin,
    );
  }

  begin() {
    const { layers, heads } = this.reader.decoder;
    Object.assign(this, { team: [], left: CLICKS, best: 0, bestTeam: [], looking: this.ranking.order.length - 1, scene: 0 });
    const [board, picture, caption, score, said] = ["board", "scene", "note", "score", "verdict"].map((className) => el("div", { className }));
    said.setAttribute("role", "status");
    Object.assign(this, { caption, score, said });
    this.view = new PictureView(picture, () => {});
    this.map = new HeadMap(board, layers, heads, {
      name: "The 48 heads of the game", onHead: (head, event) => this.click(head, event), onLook: (head) => this.look(head),
    });
    const next = el("button", { type: "button", className: "quiet", onclick: () => this.openScene(this.scene + 1) }, "Another scene");
    this.place.replaceChildren(
      el("h2", {}, "A game: find the three heads"),
      el("p", { className: "note" }, "Rest on a head, with the pointer or the arrow keys: the picture shows where it looks. This is free (on a touch screen: tap once). Click a head to take it, or to put it back: this costs a click. Your score is the share of answers that change when your heads look at another object."),
      el("div", { className: "table" }, el("div", {}, board), el("div", {}, picture, caption, next), el("div", {}, score, said)),
    );
    this.bars = { you: 0, ram: null, random: null };
    this.openScene(0);
    this.draw(`${this.left} clicks left. Find heads that look at the orange box.`);
    this.measureRivals();
  }

  openScene(number) {
    this.scene = number % this.scenes.length;
    const shown = this.scenes[this.scene], asked = shown.questions[shown.examples[0].question];
    this.view.show(shown);
    this.answer = this.reader.ask(shown, asked.text);
    this.asked = asked;
    this.look(this.looking);
  }

  look(head) {
    this.looking = head;
    this.view.update({ look: this.answer.look(this.answer.lastRow, head), evidence: this.asked.object, kind: null });
    this.caption.textContent = `Asked “${this.asked.text}”, the head in ${this.reader.name(head)} looks here.`;
  }

  /** Of the questions that are answered rightly, the share whose answer follows when `team` looks at the rival. */
  async follows(team) {
    const states = new Uint8Array(this.ranking.order.length);
    team.forEach((head) => { states[head] = GAZE; });
    let right = 0, moved = 0;
    for (const picture of this.scenes) {
      for (const { question, rival } of picture.examples) {
        const { text } = picture.questions[question], goal = picture.questions[rival];
        if (!this.reader.ask(picture, text).right) continue;
        right += 1;
        moved += this.reader.ask(picture, text, { states, target: picture.objects[goal.object] }).answer === goal.answer;
      }
      await pause();
    }
    return moved / right;
  }

  /** What the player is compared with: the top three by RAM, and the mean of random triples of other heads. */
  async measureRivals() {
    if (this.rivals) {
      this.bars = { ...this.bars, ...this.rivals };
      return this.draw();
    }
    const random = seeded(7), top = this.ranking.order.slice(0, TEAM), others = this.ranking.order.slice(TEAM);
    const ram = await this.follows(top);
    this.bars.ram = ram;
    this.draw();
    let sum = 0;
    for (let k = 0; k < TRIPLES; k++) {
      const free = others.slice(), triple = Array.from({ length: TEAM }, () => free.splice(Math.floor(random() * free.length), 1)[0]);
      sum += await this.follows(triple);
    }
    this.rivals = { ram, random: sum / TRIPLES };
    this.bars.random = sum / TRIPLES;
    this.draw();
  }

  async click(head, event) {
    this.look(head);
    if (event.pointerType === "touch" && this.tapped !== head) { // a finger cannot rest on a head: the second tap takes it
      this.tapped = head;
      return;
    }
    this.tapped = null;
    if (this.left === 0 || this.busy) return;
    const taken = this.team.includes(head);
    if (!taken && this.team.length === TEAM) return this.draw("You have three heads. Put one back first: click it.");
    this.team = taken ? this.team.filter((one) => one !== head) : [...this.team, head];
    this.left -= 1;
    this.busy = true;
    this.draw("Asking …");
    this.bars.you = this.team.length ? await this.follows(this.team) : 0;
    if (this.bars.you > this.best) Object.assign(this, { best: this.bars.you, bestTeam: this.team });
    this.busy = false;
    this.draw(this.left ? `${this.left} clicks left.` : this.verdict());
    if (this.left === 0) this.said.append(el("button", { type: "button", onclick: () => this.begin() }, "Play again"));
  }

  verdict() {
    const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
    const beaten = this.bars.ram === null ? "" : this.best > this.bars.ram ? " You beat the ranking." : " The ranking was better.";
    return `The game is over. Your best heads change ${percent(this.best)} of the answers.${beaten} The map now shows RAM; green frames are the top three. `;
  }

  draw(said) {
    const over = this.left === 0 && !this.busy, flat = this.ranking.ram.flat(), top = this.ranking.order.slice(0, TEAM);
    const shown = over ? this.bestTeam : this.team;
    const marks = flat.map((_, head) => [shown.includes(head) ? "gaze" : "", over && top.includes(head) ? "top" : ""].join(" ").trim());
    const says = flat.map((ram, head) => `${this.reader.name(head)}${shown.includes(head) ? ", yours" : ""}${over ? `, RAM ${ram.toFixed(2)}` : ""}`);
    this.map.update(over ? flat : null, marks, says);
    const bar = (name, share, role) => el("div", { className: `bar ${role}` }, el("span", {}, name), el("i", { style: `--share:${share ?? 0}` }), el("small", {}, share === null ? "…" : `${Math.round(100 * share)} %`));
    this.score.replaceChildren(
      bar("your heads now", this.bars.you, "evidence"), bar("your best", this.best, "evidence"),
      bar("top three by RAM", this.bars.ram, "target"), bar(`random heads (mean of ${TRIPLES})`, this.bars.random, ""),
    );
    if (said) this.said.textContent = said;
  }
}
