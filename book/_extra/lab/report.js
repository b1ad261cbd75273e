/* What the page shows and says of an answer: the picture, the answer, the heads, and one line on top. */

"use strict";

const MARKS = ["", "gaze", "off", "narrow"]; // of heads, by state
const STATED = ["", ", its gaze is yours", ", off", ", narrow"];
const LITTLE = 0.4; // of a head's attention: who pays less to the evidence does not "look at" it

class Report {
  constructor(lab) {
    this.lab = lab;
  }

  draw() {
    this.picture();
    this.answer();
    this.heads();
    this.say();
  }

  /** The word of the question at which the chosen heads, left to themselves, look most at the evidence; and how much. */
  sharpest() {
    const { evidence, firstRow, question } = this.lab.plain, gazers = this.lab.with(GAZE), last = question.length - 1;
    if (!evidence || !gazers.length) return { word: last, share: 0 };
    const share = (word) => gazers.reduce((sum, head) => {
      const look = this.lab.plain.look(firstRow + word, head);
      return sum + evidence.tokens.reduce((mass, token) => mass + look[token], 0);
    }, 0) / gazers.length;
    const shares = question.map((_, word) => share(word)), most = Math.max(...shares);
    return { word: shares.lastIndexOf(most), share: most };
  }

  picture() {
    const { answer, picture, plain, pinned, target, view } = this.lab, words = [...answer.question, ...answer.words];
    const at = this.lab.word ?? this.sharpest().word, gazers = this.lab.with(GAZE), shown = pinned === null ? gazers : [pinned];
    const looks = shown.map((head) => answer.look(answer.firstRow + at, head));
    const mean = looks.length ? looks[0].map((_, token) => looks.reduce((sum, look) => sum + look[token], 0) / looks.length) : null;
    const evidence = plain.evidence ? picture.objects.indexOf(plain.evidence) : null, kind = this.kind();
    view.update({ look: mean, evidence, target, invite: this.invitation(evidence, kind), kind });
    const who = pinned !== null ? `the head in ${this.lab.reader.name(pinned)}` : shown.length === 1 ? "the chosen head" : `the ${shown.length} chosen heads`;
    $("caption").replaceChildren(
      el("b", { className: "evidence" }, "Orange"), evidence === null ? ": not known for this question. " : ": what the question asks for. ",
      ...(target === null ? [] : [el("b", { className: "target" }, "Green"), ": where you told the heads to look. "]),
      shown.length ? `Bright: where ${who} ${shown.length === 1 ? "looks" : "look"} at the word “${words[at]}”.` : "Choose heads to see where they look.",
    );
    $("rows").replaceChildren(...words.slice(0, -1).map((word, k) => el("button", {
      type: "button", ariaPressed: String(k === at), className: k < answer.question.length ? "" : "said", onclick: () => {
        this.lab.word = k;
        this.picture();
        $("rows").children[k].focus();
      },
    }, word)));
    rove($("rows"));
  }

  /** The kind of object that could be asked about in the same way. */
  kind() {
    const { plain, picture, target } = this.lab;
    return (plain.evidence || picture.objects[target ?? 0]).kind;
  }

  /** The object that a visitor is invited to click, if none is chosen: the rival of an example question, or any other. */
  invitation(evidence, kind) {
    const { picture, target } = this.lab;
    if (target !== null || evidence === null) return null;
    const pair = picture.examples.find(({ question }) => picture.questions[question].object === evidence);
    if (pair) return picture.questions[pair.rival].object;
    return picture.objects.findIndex((one, k) => k !== evidence && one.kind === kind && one.value !== picture.objects[evidence].value);
  }

  answer() {
    const { answer, plain, picture, milliseconds, text } = this.lab, moved = answer.answer !== plain.answer;
    const right = answer.asked ? answer.asked.answer : "", target = this.lab.target === null ? "" : picture.objects[this.lab.target].value;
    const verdict = !right ? "This question has no known answer here." : answer.right ? "✓ right" : `✗ the right answer is ${right}`;
    $("answer").replaceChildren(
      el("span", { className: "small" }, "The model answers"),
      el("strong", {}, ...(moved ? [el("s", {}, plain.answer), " → ", el("em", {}, answer.answer)] : [answer.answer])),
      el("span", { className: !right ? "" : answer.right ? "good" : "bad" }, verdict),
      el("span", { className: "small" }, `${Math.max(1, Math.round(milliseconds))} ms`),
    );
    $("bars").replaceChildren(...answer.choices.map((choice, place) => el("ol", { "aria-label": `Likeliest words, place ${place + 1}` },
      ...choice.map(({ word, probability }) => {
        const className = word === right[place] ? "evidence" : word === target[place] ? "target" : "";
        return el("li", { className }, el("span", {}, word === END ? "end" : word), el("i", { style: `--share:${probability}` }), el("small", {}, probability.toFixed(2)));
      }))));
    for (const chip of $("examples").children) chip.ariaPressed = String(chip.dataset.text === text);
  }

  heads() {
    const { answer, picture, states, pinned, map, mode, reader } = this.lab;
    const tokens = answer.evidence ? answer.evidence.tokens : [...picture.visual.keys()];
    const target = this.lab.target === null ? null : picture.objects[this.lab.target].tokens, values = [], says = [], marks = [];
    for (const [head, state] of states.entries()) {
      const there = state === GAZE && target !== null;
      values.push(state === OFF ? 0 : answer.mass(head, there ? target : tokens));
      marks.push(`${MARKS[state]}${there ? " moved" : ""}${pinned === head ? " pinned" : ""}`.trim());
      says.push(`${reader.name(head)}: ${values[head].toFixed(2)} on the ${there ? "target" : answer.evidence ? "evidence" : "picture"}${STATED[state]}`);
    }
    map.update(values, marks, says);
    $("key").textContent = `${mode.says} The number is the share of its attention that a head pays to ` +
      (answer.evidence ? "the evidence (RAM)" : "the picture") + (target ? ", in green cells to the target." : ".");
  }

  /** One line that says what is to be seen, and what can be done. */
  say() {
    const { answer, plain, target } = this.lab, bold = (text, className = "") => el("b", { className }, text);
    const asked = ["Asked ", bold(`“${this.lab.text}”`), ", the model answers "], found = bold(answer.answer, answer.right ? "evidence" : "");
    $("say").replaceChildren(...this.changed(), ...(
      target !== null ? this.redirected(bold, answer.answer, plain.answer)
        : answer.evidence ? [...asked, found, ". ", ...this.looking(bold)]
          : [...asked, found, ". What it asks for is not known. Click an object: the chosen heads will look there."]
    ));
  }

  /** What heads are not as they were. */
  changed() {
    const counts = [[OFF, "off"], [NARROW, "narrow"]].map(([state, name]) => [this.lab.with(state).length, name]);
    return counts.filter(([count]) => count).map(([count, name]) => `${heads(count)} ${count === 1 ? "is" : "are"} ${name}. `);
  }

  looking(bold) {
    const gazers = this.lab.with(GAZE).length, { question } = this.lab.answer, { word, share } = this.sharpest();
    if (!gazers) return ["It can be read in the ", bold("orange box", "evidence"), "."];
    const does = share < LITTLE ? `spend ${Math.round(100 * share)}\u00a0% of their attention on` : gazers === 1 ? "looks at" : "look at";
    const where = word === question.length - 1 ? ". " : `, at the word “${question[word]}”. `;
    return [`${heads(gazers)} of ${this.lab.states.length} ${does} the `, bold("orange box", "evidence"), where,
      bold("Now click another object"), ": these heads will look there."];
  }

  redirected(bold, answer, before) {
    const gazers = this.lab.with(GAZE).length, object = this.lab.picture.objects[this.lab.target];
    const who = gazers ? `${heads(gazers)} now ${gazers === 1 ? "looks" : "look"} at the ` : "No head was chosen to look at the ";
    const change = answer === before ? ["stays ", bold(answer, "evidence")]
      : ["changes from ", bold(before, "evidence"), " to ", bold(answer, answer === object.value ? "target" : "")];
    const freely = el("button", { type: "button", className: "quiet", onclick: () => this.lab.lookAt(this.lab.target) }, "Let them look freely");
    return [who, bold(object.name, "target"), ". The answer ", ...change, ". ", freely];
  }
}
