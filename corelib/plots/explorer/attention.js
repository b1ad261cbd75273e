// What the chosen head looks at in pictures, from each word.

/** The bytes of an example: of each head and word the evidence, all pictures, and every square. Unpacked once. */
function unpacked(example) {
  example.bytes ??= (async () => {
    const packed = Uint8Array.from(atob(example.attention), (sign) => sign.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  })();
  return example.bytes;
}

function buildExample() {
  const found = domain().examples;
  at("example").replaceChildren();
  if (!found.length) return;
  state.example = Math.min(state.example, found.length - 1);
  const example = found[state.example];
  const first = example.answering.indexOf(true);
  if (state.word === null || state.word >= example.words.length) state.word = Math.max(first, 0);
  const which = make("fieldset", {}, make("legend", { textContent: "Question" }));
  const words = make("fieldset", {}, make("legend", { textContent: `What the head looks at from this word (underlined words predict the answer${example.words.includes("⏎") ? "; ⏎: a new line" : ""})` }));
  choices(which, "example", found.map((one) => one.question), state.example, chooseExample);
  choices(words, "word", example.words, state.word, (k) => { state.word = k; showExample(); }, (k) => (example.answering[k] ? "answering" : ""));
  const answer = `Right answer: ${example.answer}. The model says: ${example.said}.`;
  const pictures = make("div", { className: "pictures" }, ...example.pictures.map((one) => onePicture(one, example)));
  at("example").append(make("h3", { textContent: "Attention on pictures" }), which, make("p", { textContent: answer }), words, make("p", { id: "looks" }), pictures, make("p", { id: "darkest", className: "soft" }));
}

function chooseExample(k) {
  Object.assign(state, { example: k, word: null });
  buildExample();
  at("example").querySelector("[name=example]:checked").focus(); // the buttons are new ones
  showExample();
}

function onePicture(picture, example) {
  const frame = make("div", { className: "frame" }, make("img", { src: picture.src, alt: `${picture.name}: ${example.question}` }));
  frame.append(make("canvas", { width: picture.columns * 8, height: picture.rows * 8 }));
  for (const [x0, y0, x1, y1] of picture.boxes) {
    const box = make("i");
    Object.assign(box.style, { left: `${100 * x0}%`, top: `${100 * y0}%`, width: `${100 * (x1 - x0)}%`, height: `${100 * (y1 - y0)}%` });
    frame.append(box);
  }
  const figure = make("figure", {}, frame, make("figcaption"));
  figure.style.setProperty("--wide", { 1: "20rem", 2: "15rem" }[example.pictures.length] ?? "8.5rem");
  return figure;
}

/** Paint what the chosen head looks at from the chosen word. */
async function showExample() {
  const example = domain().examples[state.example];
  if (!example) return;
  const bytes = await unpacked(example);
  if (example !== domain().examples[state.example]) return; // another was chosen meanwhile
  const squares = example.pictures.map((one) => [Math.ceil(one.rows / one.step), Math.ceil(one.columns / one.step)]);
  const width = 2 + squares.reduce((sum, [down, across]) => sum + down * across, 0), words = example.words.length;
  const ofWord = (word) => bytes.subarray((state.head * words + word) * width, (state.head * words + word + 1) * width);
  let strongest = 0;
  for (let word = 0; word < words; word++) strongest = Math.max(strongest, ...ofWord(word).subarray(2));
  const mine = ofWord(state.word);
  let place = 2;
  at("example").querySelectorAll("figure").forEach((figure, k) => {
    const [down, across] = squares[k], { step, name } = example.pictures[k];
    const canvas = figure.querySelector("canvas").getContext("2d");
    canvas.clearRect(0, 0, canvas.canvas.width, canvas.canvas.height);
    let sum = 0;
    for (let y = 0; y < down; y++)
      for (let x = 0; x < across; x++) {
        const root = mine[place++] / 255;
        sum += root * root;
        canvas.fillStyle = `rgb(43 120 184 / ${strongest ? (0.8 * root * 255) / strongest : 0})`;
        canvas.fillRect(x * step * 8, y * step * 8, step * 8, step * 8);
      }
    figure.querySelector("figcaption").textContent = `${name}: ${percent(sum)}`;
  });
  const word = example.words[state.word];
  at("looks").textContent = `From “${word}”, ${nameOf(state.head)} pays ${percent(mine[1] / 255)} of its attention to the ${example.pictures.length > 1 ? "pictures" : "picture"}, ${percent(mine[0] / 255)} to the evidence (framed).`;
  at("darkest").textContent = `Darkest blue: ${percent((strongest / 255) ** 2)} of the attention on one square, the most of this head in this example.`;
}
