/* All pictures at once: how many answers are right under what the heads do now, and how many follow a moved gaze? */

"use strict";

class Strip {
  constructor(reader, onOpen) {
    this.reader = reader;
    const groups = {};
    this.tiles = reader.pictures.map((picture, number) => {
      const tile = el("button", { type: "button", onclick: () => onOpen(number) }, el("img", { src: picture.views[0].source, alt: "" }), el("span"));
      (groups[picture.domain] ||= []).push(tile);
      return tile;
    });
    for (const [domain, tiles] of Object.entries(groups)) {
      const group = el("div", { role: "group", "aria-label": domain }, el("h3", { id: `of-${domain}` }, domain), ...tiles);
      $("strip").append(group);
      rove(group);
    }
    new IntersectionObserver(([{ isIntersecting }]) => {
      this.visible = isIntersecting;
      if (this.program) this.sweep(this.program);
    }).observe($("strip"));
  }

  open(number) {
    this.tiles.forEach((tile, k) => { tile.ariaPressed = String(k === number); });
  }

  /** Ask the first example of every picture, as soon as the strip can be seen. */
  async sweep({ states, window }) {
    const program = this.program = { states: states.slice(), window: { ...window } }, key = JSON.stringify(program);
    if (key === this.swept || !this.visible) return;
    this.swept = key;
    const gazing = states.includes(GAZE), all = { right: 0, follow: 0, done: 0 }, counts = {};
    for (const [number, picture] of this.reader.pictures.entries()) {
      await pause();
      if (this.swept !== key) return; // something else is asked by now
      const { right, follows } = this.ask(number, picture, program, gazing);
      for (const count of [all, (counts[picture.domain] ||= { right: 0, follow: 0, done: 0 })]) {
        count.right += right;
        count.follow += follows;
        count.done += 1;
      }
      const here = counts[picture.domain];
      $(`of-${picture.domain}`).textContent = `${picture.domain}: ${here.right} of ${here.done} right` + (gazing ? `, ${here.follow} follow the gaze` : "");
      $("count-right").replaceChildren("Right answers: ", el("b", {}, `${all.right} of ${all.done}`), ". ", ...(gazing ? [
        "When the chosen heads look at another object, ", el("b", { className: "target" }, `${all.follow} of ${all.right}`), " answers follow.",
      ] : []));
    }
    $("count-right").dataset.done = key;
  }

  /** Is the answer right, and does it follow the gaze to the rival's object? */
  ask(number, picture, program, gazing) {
    const { question, rival } = picture.examples[0], { text } = picture.questions[question], goal = picture.questions[rival];
    const { right, answer } = this.reader.ask(picture, text, program), target = picture.objects[goal.object];
    const follows = right && gazing && this.reader.ask(picture, text, { ...program, target }).answer === goal.answer;
    const tile = this.tiles[number];
    tile.className = `${right ? "good" : "bad"} ${follows ? "follows" : ""}`;
    tile.querySelector("span").textContent = right ? "✓" : "✗";
    tile.ariaLabel = tile.title = `${text} ${answer}, ${right ? "right" : "wrong"}${follows ? "; follows the gaze" : ""}`;
    return { right, follows };
  }
}
