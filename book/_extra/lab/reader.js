/* From a picture and a question to an answer, and to what every head looked at on the way.

     const reader = new Reader(LAB_WEIGHTS, LAB_PICTURES);
     const found = reader.ask(picture, "digit on red square ?", { states, target });
     found.answer, found.ram(head), found.look(row, head)

   A picture is read once, up to its last visual token, and again only when heads are off or narrow. Gazes are moved at
   all rows behind it. */

"use strict";

const END = "<|im_end|>", LONGEST_ANSWER = 5, LONGEST_QUESTION = 24, ROOM = 32; // in a cache, behind a picture
const KEPT = 70; // passes over pictures that are kept

class Reader {
  constructor(weights, data) {
    this.decoder = new Decoder(weights);
    this.ids = new Map(weights.vocabulary.map((word, id) => [word, id]));
    this.vocabulary = weights.vocabulary;
    this.words = weights.vocabulary.filter((word) => !word.startsWith("<|"));
    this.rankings = data.rankings;
    this.seen = readHalves(data.numbers); // [embeddings and DeepStack features, token, hidden]
    this.pictures = data.pictures.map((picture) => this.laidOut(picture, data.tokens));
    this.prefixes = new Map();
  }

  /** A picture with the pieces up to its last visual token, where the visual tokens stand in them, and the words that
      close it. */
  laidOut(picture, all) {
    const size = this.decoder.hidden, pieces = [], visual = [];
    let token = picture.first, place = 0, view = 0;
    for (const word of picture.opening) {
      if (!word.endsWith("_pad|>")) {
        pieces.push({ ids: [this.ids.get(word)] });
        place += 1;
        continue;
      }
      const { rows, columns } = picture.views[view++], count = rows * columns;
      const part = (kind) => this.seen.subarray((kind * all + token) * size, (kind * all + token + count) * size);
      pieces.push({ rows, columns, embeddings: part(0), deepstack: part(1) });
      for (let i = 0; i < count; i++) visual.push(place + i);
      token += count;
      place += count;
    }
    const closing = picture.opening.slice(picture.opening.findLastIndex((word) => word.endsWith("_pad|>")) + 1);
    return { ...picture, pieces: pieces.slice(0, pieces.length - closing.length), closing, visual, length: place - closing.length };
  }

  /** What a head is called, given its number. */
  name(head) {
    return `layer ${Math.floor(head / this.decoder.heads)}, head ${head % this.decoder.heads}`;
  }

  /** A question as words that the model knows, and those that it does not know. Digits stand alone. */
  split(text) {
    const words = text.toLowerCase().match(/\d|[a-z]+|[^\s\da-z]/g) || [];
    return { words, unknown: words.filter((word) => !this.words.includes(word)) };
  }

  /** The cache behind the picture; it is the caller's until the next call. */
  prefix(picture, program) {
    const changed = program.states ? Array.from(program.states, (state) => (state === GAZE ? FREE : state)) : [];
    const narrow = changed.includes(NARROW) ? Object.values(program.window) : [];
    const key = [this.pictures.indexOf(picture), changed.some(Boolean) ? changed.join("") : "", ...narrow].join(" ");
    if (!this.prefixes.has(key)) {
      const cache = this.decoder.newCache(picture.length + ROOM);
      const input = this.decoder.read(picture.pieces, 0);
      this.decoder.forward(input, cache, { ...program, target: null }, false);
      this.prefixes.set(key, { cache, next: input.next });
      if (this.prefixes.size > KEPT) this.prefixes.delete(this.prefixes.keys().next().value);
    }
    const kept = this.prefixes.get(key);
    kept.cache.length = picture.length;
    return kept;
  }

  /** The evidence of a question, and the target of gazes, in parts, as positions. Where the grid tells the digits of
      both apart, each digit goes to its own. If it is not known what the question asks for, gazes leave all other
      places. */
  parts(picture, evidence, target) {
    const places = (tokens) => tokens.map((token) => picture.visual[token]);
    if (!target) return {};
    if (!evidence) {
      const rest = picture.visual.filter((_, token) => !target.tokens.includes(token));
      return { evidence: [rest], target: [places(target.tokens)] };
    }
    const apart = evidence.parts && target.parts, of = (one) => (apart ? one.parts : [one.tokens]).map(places);
    return { evidence: of(evidence), target: of(target) };
  }

  /** Logits and attention of the words behind a picture. `program.target` is the object to look at, if any. */
  read(picture, words, program = {}, evidence = null) {
    const { cache, next } = this.prefix(picture, program);
    const whole = { ...program, evidence: null, target: null, ...this.parts(picture, evidence, program.target) };
    const step = (more) => {
      const place = next + cache.length - picture.length, length = cache.length;
      const input = this.decoder.read([{ ids: more.map((word) => this.ids.get(word)) }], place);
      return { ...this.decoder.forward(input, cache, whole), first: length, length: more.length };
    };
    return { step, ...step([...picture.closing, ...words]) };
  }

  /** The greedy answer to a question, with the probabilities behind it. */
  ask(picture, text, program = {}) {
    const { words } = this.split(text), asked = picture.questions.find((one) => one.text === words.join(" "));
    const evidence = asked ? picture.objects[asked.object] : null, passes = [], choices = [];
    const { step, ...first } = this.read(picture, words, program, evidence);
    passes.push(first);
    for (;;) {
      const best = this.likely(passes.at(-1).logits);
      choices.push(best);
      if (best[0].word === END || choices.length === LONGEST_ANSWER) break;
      passes.push(step([best[0].word]));
    }
    if (choices.length > 1 && choices.at(-1)[0].word === END) choices.pop();
    return new Answer(this.decoder, picture, words, { asked, evidence, passes, choices, target: program.target });
  }

  /** The five likeliest words of the last row, with their probabilities. */
  likely(logits) {
    const scores = Float64Array.from(logits.subarray(logits.length - this.vocabulary.length));
    softmax(scores, scores.length);
    const order = Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a]).slice(0, 5);
    return order.map((id) => ({ word: this.vocabulary[id], probability: scores[id] }));
  }
}

/** What came of a question. */
class Answer {
  constructor(decoder, picture, words, found) {
    Object.assign(this, { heads: decoder.heads, picture, question: words, ...found });
    this.words = this.choices.map(([best]) => best.word);
    this.answer = this.words.join(/^\d+$/.test(this.words.join("")) ? "" : " ");
    this.right = this.asked ? this.answer === this.asked.answer : null;
    this.firstRow = picture.closing.length; // of the question
    this.lastRow = this.firstRow + words.length - 1; // it predicts the first word of the answer
  }

  /** The attention of a head, by its number, at a row of question and answer, to all visual tokens of the picture. */
  look(row, head) {
    let pass = 0, within = row;
    while (within >= this.passes[pass].length) within -= this.passes[pass++].length;
    const { attention, first, length } = this.passes[pass], keys = first + length;
    const start = (head * length + within) * keys;
    return Float32Array.from(this.picture.visual, (place) => attention[start + place]);
  }

  /** The share of its attention that a head pays to some visual tokens, on average over the rows that predict the answer.
      For those of the evidence it is the head's RAM. */
  mass(head, tokens) {
    let sum = 0;
    for (let row = 0; row < this.choices.length; row++) {
      const look = this.look(this.lastRow + row, head);
      for (const token of tokens) sum += look[token];
    }
    return sum / this.choices.length;
  }
}

if (typeof module !== "undefined") module.exports = { Reader };
