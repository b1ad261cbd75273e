"""A multimodal LLM with its evidence: load it, encode samples, ask it questions.

    vlm = load("mini-s")
    encoded = vlm.encode(task("scenes").samples("test", seed=0, count=8))
    answers = vlm.answer(encoded)             # one forward pass, the right answer teacher-forced
    answers.correct, answers.logprob

`Encoded` knows, for every sequence, which tokens are visual, which cover the evidence, and which rows predict the
answer. Everything that is measured later starts from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor, nn

from corelib import embedded
from corelib.attention import attention_modules
from corelib.bridge import store as bridge_store
from corelib.errors import BadInput, UnsupportedArchitecture, check_known
from corelib.families.base import Family, Picture
from corelib.families.qwen3_vl import Qwen3VL
from corelib.families.smolvlm import SmolVLM
from corelib.mini import store as mini_store
from corelib.regions import tokens_of_box
from corelib.tasks.sample import Box, Sample

ROWS = ("answer", "last", "question")
LANGUAGE = "smollm2"
KINDS = {"qwen3_vl": (mini_store, Qwen3VL), "smolvlm": (bridge_store, SmolVLM)}  # by config.json's model_type


@dataclass(frozen=True)
class Encoded:
    """A batch of samples, ready for the model. Every mask is over the padded sequence.

    `inputs` go to the model; the rest says what its tokens are.
    """

    samples: tuple[Sample, ...]
    inputs: dict[str, Tensor]
    pictures: list[list[Picture]]
    visual: Bool[Tensor, "batch token"]
    lengths: Int[Tensor, "batch 2"]  # how many tokens at the end of each row are (question, answer)
    context: Bool[Tensor, "batch token"]  # text before the question
    spans: Bool[Tensor, "batch token"]  # of that, what holds the answer

    @property
    def tokens(self) -> Int[Tensor, "batch token"]:
        return self.inputs["input_ids"]

    @property
    def real(self) -> Bool[Tensor, "batch token"]:
        """Which tokens are not padding."""
        return self.inputs["attention_mask"].bool()

    @cached_property
    def evidence(self) -> Bool[Tensor, "batch token"]:
        """The tokens to be read: visual ones that cover the region, or in a text the ones of the span."""
        return self.cover([sample.evidence for sample in self.samples]) | self.spans

    @cached_property
    def source(self) -> Bool[Tensor, "batch token"]:
        """The tokens among which the evidence is: the visual ones; without a picture, the text before the question."""
        return torch.where(self.visual.any(1, keepdim=True), self.visual, self.context)

    @cached_property
    def anchors(self) -> Bool[Tensor, "batch token"]:
        return self.cover([sample.anchors for sample in self.samples])

    @cached_property
    def distractors(self) -> Bool[Tensor, "batch region token"]:
        """One mask a distractor region; rows of False where a sample has fewer. Evidence tokens are left out."""
        most = max((len(sample.distractors) for sample in self.samples), default=0)
        regions = [
            self.cover([sample.distractors[k : k + 1] for sample in self.samples]) & ~self.evidence for k in range(most)
        ]
        return torch.stack(regions, 1) if regions else self.visual.new_zeros(len(self.samples), 0, self.visual.shape[1])

    def cover(self, boxes: Sequence[Sequence[Box]]) -> Bool[Tensor, "batch token"]:
        """The tokens that `boxes[i]` touch on the pictures of sample `i`."""
        mask = torch.zeros_like(self.visual)
        for row, (mine, pictures) in enumerate(zip(boxes, self.pictures, strict=True)):
            for box in mine:
                if not 0 <= box.image < len(pictures):
                    raise BadInput(f"{box} is on picture {box.image}, but the sample has {len(pictures)}")
                picture = pictures[box.image]
                flat = Box(box.x0, box.y0, box.x1, box.y1)
                mask[row, picture.positions[tokens_of_box(picture.grid, flat)]] = True
        return mask

    def rows(self, name: str) -> Bool[Tensor, "batch token"]:
        """Query rows by name: `answer` (they predict the answer's tokens), `last` (of the prompt), `question`."""
        check_known("query rows", name, ROWS)
        length = self.tokens.shape[1]
        place = torch.arange(length, device=self.tokens.device)
        question, answer = self.lengths.T[..., None]
        last = length - 1 - answer  # the last token of the prompt: it predicts the answer's first token
        if name == "question":
            return (place > last - question) & (place <= last)
        if name == "last":
            return place == last
        return (place >= last) & ((place < length - 1) | (answer == 0))

    @property
    def after_image(self) -> Bool[Tensor, "batch token"]:
        """Rows after the last token of the source: the question and the answer."""
        place = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        return place > torch.where(self.source, place, -1).amax(1, keepdim=True)


@dataclass(frozen=True)
class Answers:
    """How a batch was answered, the right answer teacher-forced."""

    correct: Bool[Tensor, " batch"]  # every answer token is the most likely one: greedy decoding would be right
    logprob: Float[Tensor, " batch"]  # mean log-probability of the answer's tokens, in nats
    given: tuple[str, ...]  # the most likely token at each answer row, joined


@dataclass(frozen=True)
class VLM:
    """A multimodal LLM, its family adapter, and the checksum of its weights."""

    name: str
    model: nn.Module
    family: Family
    sha256: str = ""

    @property
    def tokenizer(self):
        return self.family.processor.tokenizer

    @cached_property
    def layers(self) -> int:
        return len(attention_modules(self.model))

    @property
    def heads(self) -> int:
        return self.model.config.text_config.num_attention_heads

    @property
    def kv_heads(self) -> int:
        return self.model.config.text_config.num_key_value_heads

    @property
    def facts(self) -> dict:
        """What a results file says about its model."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "layers": self.layers,
            "heads": self.heads,
            "kv_heads": self.kv_heads,
        }

    def encode(self, samples: Iterable[Sample], *, answers: bool = True) -> Encoded:
        """Samples → tensors with masks. `answers=False` leaves the answers out, for generation."""
        samples = tuple(samples)
        if not samples:
            raise BadInput("nothing to encode: give at least one sample")
        written = self.family.write(samples, answers)
        device = next(self.model.parameters()).device
        inputs = {key: value.to(device) for key, value in written.inputs.items()}
        words = (part.to(device) for part in (written.lengths, written.context, written.spans))
        pictures = self.family.pictures(inputs, list(samples))
        return Encoded(samples, inputs, pictures, self.family.visual(inputs), *words)

    @torch.no_grad()
    def answer(self, encoded: Encoded) -> Answers:
        """One forward pass: is the right answer the most likely one, token by token, and how likely is it?"""
        logits = self.model(**encoded.inputs, use_cache=False).logits[:, :-1].float()
        rows, targets = encoded.rows("answer")[:, :-1], encoded.tokens[:, 1:]
        guesses = logits.argmax(-1)
        correct = ~((guesses != targets) & rows).any(1)
        each = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
        logprob = (each * rows).sum(1) / rows.sum(1)
        given = tuple(self.text(guess[row]) for guess, row in zip(guesses, rows, strict=True))
        return Answers(correct, logprob, given)

    def text(self, ids: Int[Tensor, " token"]) -> str:
        """Token ids as words; digits that follow each other are joined."""
        words = self.tokenizer.decode(ids, skip_special_tokens=True)
        return re.sub(r"(?<=\d) (?=\d)", "", words)

    @torch.no_grad()
    def ask(self, images: Sequence[Image.Image], question: str, *, video: bool = False, tokens: int = 8) -> str:
        """Put a question about pictures (pages, or the frames of a clip) and decode the answer greedily."""
        if tokens < 1:
            raise BadInput(f"tokens must be 1 or more, got {tokens}")
        encoded = self.encode([Sample.of(images, question, video=video)], answers=False)
        out = self.model.generate(**encoded.inputs, max_new_tokens=tokens, do_sample=False)
        return self.text(out[0, encoded.tokens.shape[1] :])


def load(name_or_path: str | Path = "mini-s", *, checkpoint: str | None = None) -> VLM:
    """Load an embedded model by name, or a model that `corelib train` wrote by its folder.

    `smollm2` is the language model under the bridge, before it learned to see.

    `checkpoint` loads an earlier stage of its training, if one is kept: `before`, `at` or `after` the phase transition.

    >>> load("mini-xs")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    corelib.errors.UnknownName: unknown model 'mini-xs': did you mean 'mini-s'? (allowed: mini-s, or ...
    """
    if name_or_path == LANGUAGE and checkpoint is None:
        model, processor, digest = bridge_store.load_language()
        return VLM(LANGUAGE, model, SmolVLM(model.config, processor), digest)
    folder = embedded.locate(name_or_path)
    kind = embedded.kind(folder)
    if kind not in KINDS:
        raise UnsupportedArchitecture(f"{folder} holds a {kind!r} model; supported: {', '.join(KINDS)}")
    store, family = KINDS[kind]
    model, processor, digest = store.load(folder, checkpoint)
    name = folder.name if checkpoint is None else f"{folder.name} ({checkpoint})"
    return VLM(name, model, family(model.config, processor), digest)
