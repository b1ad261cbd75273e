/* The language model of `mini-s`, a Qwen3-VL decoder, in plain JavaScript: no library, no server.

     const decoder = new Decoder(LAB_WEIGHTS);
     const cache = decoder.newCache();
     decoder.forward(decoder.read(pieces, 0), cache);                 // a picture and what stands before it
     const { logits, attention } = decoder.forward(question, cache, program);

   It computes what transformers' `Qwen3VLForConditionalGeneration` computes, in every layer

     x += W_o · attention(rope(norm(W_q x)), rope(norm(W_k x)), W_v x)      with x normed first (RMSNorm)
     x += W_down · (silu(W_gate x) ⊙ W_up x)                                with x normed first

   tests/test_lab.py compares the logits with those of PyTorch. Matrices are flat Float32Arrays, row after row. */

"use strict";

/** What a head does: it looks where it will; it looks where it is told; it is off; it sees only sinks and a window. */
const FREE = 0, GAZE = 1, OFF = 2, NARROW = 3;

/** Numbers that were written as float16, little-endian, in base64. */
function readHalves(text) {
  const bytes = atob(text), numbers = new Float32Array(bytes.length / 2);
  for (let i = 0; i < numbers.length; i++) {
    const low = bytes.charCodeAt(2 * i), high = bytes.charCodeAt(2 * i + 1);
    const exponent = (high >> 2) & 31, fraction = ((high & 3) << 8) | low;
    const size = exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24;
    numbers[i] = high & 128 ? -size : size;
  }
  return numbers;
}

/** x Wᵀ for x [rows, ins] and W [outs, ins]. Two rows and four outputs at once, because that is fast; at the edges the
    last one is computed twice. */
function linear(x, weight, ins) {
  const rows = x.length / ins, outs = weight.length / ins, y = new Float32Array(rows * outs);
  for (let out = 0; out < outs; out += 4) {
    const o1 = Math.min(out + 1, outs - 1), o2 = Math.min(out + 2, outs - 1), o3 = Math.min(out + 3, outs - 1);
    const w0 = out * ins, w1 = o1 * ins, w2 = o2 * ins, w3 = o3 * ins;
    for (let row = 0; row < rows; row += 2) {
      const other = Math.min(row + 1, rows - 1), p = row * ins, q = other * ins;
      let a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0;
      for (let i = 0; i < ins; i++) {
        const a = x[p + i], b = x[q + i], m0 = weight[w0 + i], m1 = weight[w1 + i], m2 = weight[w2 + i], m3 = weight[w3 + i];
        a0 += a * m0; a1 += a * m1; a2 += a * m2; a3 += a * m3;
        b0 += b * m0; b1 += b * m1; b2 += b * m2; b3 += b * m3;
      }
      const to = row * outs, next = other * outs;
      y[to + out] = a0; y[to + o1] = a1; y[to + o2] = a2; y[to + o3] = a3;
      y[next + out] = b0; y[next + o1] = b1; y[next + o2] = b2; y[next + o3] = b3;
    }
  }
  return y;
}

/** RMSNorm of every stretch of `weight.length` numbers. */
function rmsNorm(x, weight, eps) {
  const size = weight.length, y = new Float32Array(x.length);
  for (let start = 0; start < x.length; start += size) {
    let squares = 0;
    for (let i = 0; i < size; i++) squares += x[start + i] ** 2;
    const scale = 1 / Math.sqrt(squares / size + eps);
    for (let i = 0; i < size; i++) y[start + i] = x[start + i] * scale * weight[i];
  }
  return y;
}

function add(x, change) {
  for (let i = 0; i < x.length; i++) x[i] += change[i];
}

/** Scores become weights that add up to 1, in place. */
function softmax(scores, length) {
  let most = -Infinity, sum = 0;
  for (let k = 0; k < length; k++) most = Math.max(most, scores[k]);
  for (let k = 0; k < length; k++) sum += scores[k] = Math.exp(scores[k] - most);
  for (let k = 0; k < length; k++) scores[k] /= sum;
}

/** Mass-preserving redirection: what is paid to a part of the evidence is spent, evenly, on that part of the target.
    `corelib/attention/redirect.py` defines it. */
function moveGaze(weights, evidence, target) {
  const masses = evidence.map((part) => part.reduce((sum, key) => sum + weights[key], 0));
  for (const part of evidence) for (const key of part) weights[key] = 0;
  target.forEach((part, j) => part.forEach((key) => { weights[key] += masses[j] / part.length; }));
}

class Decoder {
  constructor(weights) {
    Object.assign(this, weights);
    const numbers = readHalves(weights.numbers), names = Object.keys(weights.starts);
    const tensor = (name) => {
      const next = names[names.indexOf(name) + 1];
      return numbers.subarray(weights.starts[name], next === undefined ? numbers.length : weights.starts[next]);
    };
    this.embeddings = tensor("embed_tokens.weight"); // and, transposed, the last layer of all
    this.norm = tensor("norm.weight");
    this.blocks = Array.from({ length: weights.layers }, (_, layer) => {
      const of = (name) => tensor(`layers.${layer}.${name}.weight`);
      return {
        norm: of("input_layernorm"), query: of("self_attn.q_proj"), key: of("self_attn.k_proj"),
        value: of("self_attn.v_proj"), out: of("self_attn.o_proj"),
        queryNorm: of("self_attn.q_norm"), keyNorm: of("self_attn.k_norm"),
        mlpNorm: of("post_attention_layernorm"), gate: of("mlp.gate_proj"), up: of("mlp.up_proj"), down: of("mlp.down_proj"),
      };
    });
    const pairs = weights.headDim / 2, [, height, width] = weights.sections;
    this.frequencies = Float64Array.from({ length: pairs }, (_, i) => weights.theta ** (-i / pairs));
    // Interleaved multimodal rotary positions: frequencies turn with time, height, width, time, height, width, …
    this.axes = Array.from({ length: pairs }, (_, i) => (i % 3 && i < 3 * [0, height, width][i % 3] ? i % 3 : 0));
  }

  newCache(capacity = 256) {
    const size = capacity * this.kvHeads * this.headDim, empty = () => this.blocks.map(() => new Float32Array(size));
    return { length: 0, capacity, keys: empty(), values: empty() };
  }

  /** What is to be read: pieces of text, `{ ids }`, and of pictures, `{ rows, columns, embeddings, deepstack }`. Text
      counts positions one by one; a picture has one time, and a height and a width for each of its tokens. */
  read(pieces, start) {
    const length = pieces.reduce((sum, piece) => sum + (piece.ids ? piece.ids.length : piece.rows * piece.columns), 0);
    const size = this.hidden, positions = [];
    const input = { length, positions, hidden: new Float32Array(length * size), deepstack: new Float32Array(length * size) };
    for (const piece of pieces) {
      const first = positions.length * size;
      if (piece.ids) {
        piece.ids.forEach((id, i) => {
          input.hidden.set(this.embeddings.subarray(id * size, (id + 1) * size), first + i * size);
          positions.push([start + i, start + i, start + i]);
        });
        start += piece.ids.length;
      } else {
        input.hidden.set(piece.embeddings, first);
        input.deepstack.set(piece.deepstack, first);
        for (let token = 0; token < piece.rows * piece.columns; token++) {
          positions.push([start, start + Math.floor(token / piece.columns), start + (token % piece.columns)]);
        }
        start += Math.max(piece.rows, piece.columns);
      }
    }
    return { ...input, next: start };
  }

  /** One pass over new rows, behind those of the cache, which grows. `program` says what heads do:
      `{ states, window: { width, sinks }, evidence, target }`, a state for each head, and positions in parts, between
      which gazes are moved. Gives logits [row, word] and attention [layer, head, row, key]; if they are not `wanted`,
      the last layer is left after its keys and values. */
  forward(input, cache, program = {}, wanted = true) {
    const { length, positions } = input, x = input.hidden.slice(), first = cache.length;
    if (first + length > cache.capacity) throw new RangeError(`more than ${cache.capacity} tokens`);
    const turns = this.turns(positions), size = this.heads * length * (first + length);
    const attention = wanted ? new Float32Array(this.layers * size) : null;
    for (let layer = 0; layer < this.layers; layer++) {
      const block = this.blocks[layer], normed = rmsNorm(x, block.norm, this.eps);
      const project = (weight, norm) => {
        const heads = linear(normed, weight, this.hidden);
        return norm ? this.rotate(rmsNorm(heads, norm, this.eps), turns) : heads;
      };
      const at = first * this.kvHeads * this.headDim;
      cache.keys[layer].set(project(block.key, block.keyNorm), at);
      cache.values[layer].set(project(block.value), at);
      if (!wanted && layer === this.layers - 1) break;
      const query = project(block.query, block.queryNorm);
      const kept = attention && attention.subarray(layer * size, (layer + 1) * size);
      add(x, linear(this.attend(layer, query, length, cache, program, kept), block.out, this.heads * this.headDim));
      add(x, this.feedForwardOf(block, x));
      if (layer === 0) add(x, input.deepstack);
    }
    cache.length += length;
    return { logits: wanted ? linear(rmsNorm(x, this.norm, this.eps), this.embeddings, this.hidden) : null, attention };
  }

  /** The outputs of all heads of a layer, side by side. Query heads share keys and values in groups. */
  attend(layer, query, length, cache, program, kept) {
    const { heads, kvHeads, headDim: dim } = this, first = cache.length, keys = cache.keys[layer];
    const values = cache.values[layer], scaling = 1 / Math.sqrt(dim), out = new Float32Array(length * heads * dim);
    const weights = new Float64Array(first + length);
    for (let head = 0; head < heads; head++) {
      const state = program.states ? program.states[layer * heads + head] : FREE;
      const shared = Math.floor(head / (heads / kvHeads)) * dim, stride = kvHeads * dim;
      for (let row = 0; row < length; row++) {
        const place = first + row, q = (row * heads + head) * dim;
        for (let key = 0; key <= place; key++) {
          let score = 0;
          for (let i = 0, k = key * stride + shared; i < dim; i++, k++) score += query[q + i] * keys[k];
          const seen = state !== NARROW || key < program.window.sinks || key > place - program.window.width;
          weights[key] = seen ? score * scaling : -Infinity;
        }
        softmax(weights, place + 1);
        if (state === GAZE && program.target) moveGaze(weights, program.evidence, program.target);
        if (kept) kept.set(weights.subarray(0, place + 1), (head * length + row) * (first + length));
        if (state === OFF) continue; // its output is zero
        for (let key = 0; key <= place; key++) {
          const weight = weights[key], v = key * stride + shared;
          if (weight) for (let i = 0; i < dim; i++) out[q + i] += weight * values[v + i];
        }
      }
    }
    return out;
  }

  feedForwardOf(block, x) {
    const normed = rmsNorm(x, block.mlpNorm, this.eps);
    const gate = linear(normed, block.gate, this.hidden), up = linear(normed, block.up, this.hidden);
    for (let i = 0; i < gate.length; i++) gate[i] *= up[i] / (1 + Math.exp(-gate[i]));
    return linear(gate, block.down, this.feedForward);
  }

  /** Cosines and sines of every row, one for each pair of numbers of a head. */
  turns(positions) {
    const angles = positions.flatMap((place) => Array.from(this.frequencies, (turn, i) => place[this.axes[i]] * turn));
    return { cos: angles.map(Math.cos), sin: angles.map(Math.sin), rows: positions.length };
  }

  /** Rotary positions: the numbers i and i + dim/2 of a head are turned together. */
  rotate(x, { cos, sin, rows }) {
    const dim = this.headDim, pairs = dim / 2, width = x.length / rows;
    for (let row = 0; row < rows; row++) {
      for (let start = row * width; start < (row + 1) * width; start += dim) {
        for (let i = 0; i < pairs; i++) {
          const c = cos[row * pairs + i], s = sin[row * pairs + i], a = x[start + i], b = x[start + pairs + i];
          x[start + i] = a * c - b * s;
          x[start + pairs + i] = b * c + a * s;
        }
      }
    }
    return x;
  }
}

if (typeof module !== "undefined") module.exports = { Decoder, readHalves, FREE, GAZE, OFF, NARROW };
