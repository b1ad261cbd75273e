/* What is drawn more than once: a picture that is looked at, and a map of heads. */

"use strict";

const $ = (name) => document.getElementById(name);
const pause = () => new Promise((done) => setTimeout(done));
const heads = (count) => (count === 1 ? "1 head" : `${count} heads`);

/** An element with properties, `data-` and `aria-` attributes among them, and children. */
function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (name in made && !name.includes("-")) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** One tab stop for a group of buttons; arrow keys move within it, up and down by `columns`. */
function rove(group, columns = 1) {
  const buttons = () => [...group.querySelectorAll("button:not([disabled])")];
  const stop = (one) => buttons().forEach((button) => { button.tabIndex = button === one ? 0 : -1; });
  stop(buttons().find((button) => button.ariaPressed === "true" || button.ariaChecked === "true") || buttons()[0]);
  group.onfocusin = (event) => stop(event.target);
  group.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const all = buttons(), to = all[all.indexOf(document.activeElement) + step];
    if (to) to.focus();
  };
}

/** A picture, page by page or frame by frame. What heads do not look at is veiled; objects can be clicked. */
class PictureView {
  constructor(place, onObject) {
    Object.assign(this, { place, onObject });
  }

  show(picture) {
    this.picture = picture;
    const named = { documents: "page", video: "frame" }[picture.domain];
    this.veils = [];
    const views = picture.views.map((view, number) => {
      const tokens = Array.from({ length: view.rows * view.columns }, () => el("i"));
      this.veils.push(...tokens);
      const veil = el("div", { className: "veil", style: `--columns:${view.columns};--rows:${view.rows}` }, ...tokens);
      const image = el("img", { src: view.source, alt: "", draggable: false });
      const shown = el("div", { className: "view", style: `aspect-ratio:${view.width}/${view.height}` }, image, veil);
      return el("figure", {}, ...(named ? [el("figcaption", {}, `${named} ${number + 1}`)] : []), shown);
    });
    this.objects = picture.objects.map((object, number) => {
      const { width, height } = picture.views[object.view], [x0, y0, x1, y1] = object.box;
      const percent = (value, whole) => `${(100 * value) / whole}%`;
      const style = `left:${percent(x0, width)};top:${percent(y0, height)};width:${percent(x1 - x0, width)};height:${percent(y1 - y0, height)}`;
      const button = el("button", { type: "button", className: "object", style, onclick: () => this.onObject(number) });
      views[object.view].querySelector(".view").append(button);
      return button;
    });
    this.place.replaceChildren(el("div", { className: `views ${picture.domain}` }, ...views));
  }

  /** `look`: attention to each visual token, or null; `evidence`, `target`, `invite`: numbers of objects, or null. */
  update({ look, evidence = null, target = null, invite = null, kind }) {
    const most = look ? Math.max(...look, 1e-9) : 1;
    this.veils.forEach((veil, token) => { veil.style.opacity = look ? 0.7 * (1 - Math.sqrt(look[token] / most)) : 0; });
    this.objects.forEach((button, number) => {
      const object = this.picture.objects[number], role = { [evidence]: "evidence", [target]: "target", [invite]: "invite" };
      button.className = `object ${role[number] || ""}`;
      button.disabled = object.kind !== kind;
      button.ariaPressed = String(number === target);
      button.ariaLabel = `${object.name}: ${object.value}` + (number === evidence ? ", the evidence" : ", make the heads look here");
      button.title = number === evidence ? `${object.name}: the evidence` : `${object.name}: ${object.value}. Click: look here`;
    });
    rove(this.place);
  }
}

/** A table of heads, the deepest layer on top: colours are shares of attention, frames and signs are what heads do. */
class HeadMap {
  constructor(place, layers, heads, { onHead, onLook = () => {}, name }) {
    this.buttons = [];
    const rows = [];
    for (let layer = layers - 1; layer >= 0; layer--) {
      rows.push(el("span", { className: "tick", "aria-hidden": "true" }, `${layer}`));
      for (let head = 0; head < heads; head++) {
        const number = layer * heads + head, look = () => onLook(number);
        const button = el("button", { type: "button", onclick: (event) => onHead(number, event), onfocus: look, onpointerenter: look });
        this.buttons[number] = button;
        rows.push(button);
      }
    }
    const ticks = Array.from({ length: heads }, (_, head) => el("span", { className: "tick", "aria-hidden": "true" }, `${head}`));
    const grid = el("div", { className: "map", role: "group", "aria-label": name, style: `--heads:${heads}` }, ...rows, el("span"), ...ticks);
    place.replaceChildren(el("span", { className: "axis up", "aria-hidden": "true" }, "layer"), grid, el("span", { className: "axis", "aria-hidden": "true" }, "head"));
    rove(grid, heads);
  }

  /** `values`: a share of attention for each head, or null; `marks`: a class for each head; `says`: a label for each. */
  update(values, marks, says) {
    this.buttons.forEach((button, number) => {
      const value = values ? values[number] : null;
      button.style.setProperty("--heat", value === null ? 0 : Math.min(1, value));
      button.className = `${marks[number]} ${value > 0.5 ? "deep" : ""}`;
      button.textContent = value !== null && value >= 0.05 ? value.toFixed(2).replace(/^0/, "") : "";
      button.ariaLabel = says[number];
      button.title = says[number];
      button.ariaPressed = String(marks[number] !== "");
    });
  }
}
