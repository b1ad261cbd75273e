"""A multimodal LLM: encode samples with their evidence, score its answers, let it write.

    vlm = load("mini-s")                    # in `load.py`
    batch = vlm.encode(task("scenes").samples("test", seed=0, count=8))
    answers = vlm.answer(batch)             # one forward pass, the right answer teacher-forced
    answers.correct, answers.logprob

What a batch of encoded samples knows about its tokens is in `batch.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase

from corelib.attention.interface import attention_modules
from corelib.core.entries import check_whole
from corelib.core.errors import BadInput, NotFinite, UnsupportedArchitecture
from corelib.core.model_folder import Study
from corelib.core.pictures import Pictured
from corelib.core.results import as_file_name
from corelib.core.values import ModelFacts
from corelib.families.base import Family
from corelib.families.chat import Chat
from corelib.models.answers import AnswerScores, score_answers
from corelib.models.batch import Batch
from corelib.models.devices import execution_device
from corelib.models.from_inputs import batch_from_inputs
from corelib.models.overflow import overflow_error
from corelib.tasks.base import TEMPLATE
from corelib.tasks.sample import Sample


@runtime_checkable
class Writing(Protocol):
    """A model that can write."""

    def generate(self, **options: object) -> Tensor: ...


@dataclass(frozen=True)
class VLM:
    """A multimodal LLM, its family adapter, and the checksum of its weights.

    >>> from corelib import load
    >>> vlm = load("mini-s")
    >>> vlm.num_layers, vlm.num_heads, vlm.num_kv_heads
    (6, 8, 4)
    """

    name: str
    model: PreTrainedModel
    family: Family
    sha256: str = ""
    study: Study = field(default_factory=Study)  # what the book does with it, as its card says

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.family.tokenizer

    @cached_property
    def num_layers(self) -> int:
        return len(attention_modules(self.model))

    @property
    def num_heads(self) -> int:
        heads: int = self.model.config.get_text_config().num_attention_heads
        return heads

    @property
    def num_kv_heads(self) -> int:
        heads: int = self.model.config.get_text_config().num_key_value_heads
        return heads

    @property
    def file_name(self) -> str:
        """Its name, as a file or folder can have it: without the owner on the hub."""
        return as_file_name(self.name.rsplit("/", 1)[-1])

    @property
    def batch_size(self) -> int:
        """How many samples to read at once, if nothing else is said: few of a published checkpoint."""
        return 2 if isinstance(self.family, Chat) else 32

    @property
    def facts(self) -> ModelFacts:
        """What a result says about its model: `sha256` is of the weights, or the commit of a hub's checkpoint."""
        dtype = str(self.model.dtype).removeprefix("torch.")
        return ModelFacts(
            self.name,
            self.sha256,
            self.num_layers,
            self.num_heads,
            self.num_kv_heads,
            dtype=None if dtype == "float32" else dtype,
        )

    def encode(self, samples: Sample | Iterable[Sample], *, answers: bool = True) -> Batch:
        """Samples as one left-padded batch [sample, token] on the model's device, with masks; pictures are in the
        model's dtype. `answers=False` leaves the answers out, for generation.

        Raises: BadInput if there is no sample, or if the model cannot read a question.
        """
        samples = (samples,) if isinstance(samples, Sample) or not isinstance(samples, Iterable) else tuple(samples)
        if not samples:
            raise BadInput("nothing to encode: give at least one sample")
        if strange := [one for one in samples if not isinstance(one, Sample)]:
            raise BadInput(f"{strange[0]!r:.60} is no sample: give samples of a task, or Sample.of(images, question)")
        written = self.family.build_inputs(samples, answers)
        device = execution_device(self.model.get_input_embeddings())
        inputs = {key: value.to(device) for key, value in written.inputs.items()}
        inputs |= {key: value.to(self.model.dtype) for key, value in inputs.items() if key.startswith("pixel_values")}
        words = (part.to(device) for part in (written.lengths, written.context, written.spans, written.told))
        return Batch(samples, inputs, written.views, *words)

    from_inputs = batch_from_inputs  # inputs that a stock processor made, of any conversation (`from_inputs.py`)

    @torch.no_grad()
    def answer(self, batch: Batch) -> AnswerScores:
        """One forward pass: is the right answer the most likely one, token by token, and how likely is it?

        `correct` and `logprob` are [sample], on the model's device. Only the rows that predict the answer become
        logits: a whole prompt's would not fit beside a large vocabulary.

        Raises: BadInput if a sample was encoded without its answer; NotFinite if the logits overflowed, with the layer
        in which that began.
        """
        longest = int(batch.lengths[:, 2].max())
        if int(batch.lengths[:, 2].min()) < 1:
            raise BadInput("a sample has no answer to score: encode samples with their answers")
        logits = self.model(**batch.inputs, use_cache=False, logits_to_keep=longest + 1).logits[:, :-1].float()
        rows, targets = batch.rows("answer")[:, -longest - 1 : -1], batch.tokens[:, -longest:]
        guesses = logits.argmax(-1)
        try:
            found = score_answers(logits, targets, rows)
        except NotFinite:
            raise overflow_error(self.model, batch.inputs) from None
        predicted = tuple(self.decode(guess[row]) for guess, row in zip(guesses, rows, strict=True))
        next_tokens = torch.full_like(batch.tokens, -1)
        next_tokens[:, -longest - 1 : -1] = guesses.masked_fill(~rows, -1)
        return AnswerScores(found.correct, found.logprob, predicted, next_tokens)

    def null_question(self, batch: Batch) -> Batch:
        """The same batch under a null question: as many tokens in the same template, but each word that says what to
        look for is a question mark (our definition).

        Raises: BadInput if no question of the batch holds a question mark.
        """
        words = {int(token): str(self.tokenizer.decode([token])).strip() for token in batch.tokens.unique()}
        neutral = next((token for token, word in words.items() if word == "?"), None)
        if neutral is None:
            raise BadInput("these questions have no question mark to stand for a word: there is no null question")
        sought = torch.tensor([token for token, word in words.items() if word and word not in TEMPLATE])
        replaced = torch.isin(batch.tokens, sought.to(batch.tokens.device)) & batch.rows("question")
        inputs = {**batch.inputs, "input_ids": batch.tokens.masked_fill(replaced, neutral)}
        return replace(batch, inputs=inputs)

    def decode(self, ids: Int[Tensor, " token"]) -> str:
        """Token ids as words; digits that follow each other are joined."""
        words = str(self.tokenizer.decode(ids, skip_special_tokens=True))
        return re.sub(r"(?<=\d) (?=\d)", "", words)

    @torch.no_grad()
    def ask(self, images: Pictured | Sequence[Pictured], question: str, *, video: bool = False, tokens: int = 8) -> str:
        """Put a question about pictures (pages, or the frames of a clip; files or open) and decode the answer
        greedily, at most so many `tokens`.

        Raises: BadInput if `tokens` is below 1, there is no picture, or the model cannot read the question.

        >>> from corelib import load, task
        >>> sample = task("scenes").sample("test", seed=0, index=0)
        >>> load("mini-s").ask(sample.images, sample.question) == sample.answer
        True
        """
        check_whole("tokens", tokens, 1)
        asked = Sample.of(images, question, video=video)
        if not asked.images:
            raise BadInput("there is no picture to ask about: give at least one")
        return self.generate(self.encode([asked], answers=False), tokens)[0]

    @torch.no_grad()
    def generate(self, batch: Batch, tokens: int = 8) -> list[str]:
        """What the model writes to each sample, greedily, at most so many tokens. Encode without the answers.

        Raises: UnsupportedArchitecture if the model's class cannot generate; NotFinite if the logits overflowed, with
        the layer in which that began.
        """
        if not isinstance(self.model, Writing):
            raise UnsupportedArchitecture(f"{type(self.model).__name__} cannot write: its class has no generate()")

        def check(ids: Tensor, logits: Tensor) -> Tensor:  # suppressed words are −∞, and may be
            if logits.isnan().any() or logits.isposinf().any():
                raise overflow_error(self.model, batch.inputs)
            return logits

        options = {"max_new_tokens": tokens, "do_sample": False, "logits_processor": LogitsProcessorList([check])}
        out = self.model.generate(**batch.inputs, **options)
        return [self.decode(row) for row in out[:, batch.tokens.shape[1] :]]
