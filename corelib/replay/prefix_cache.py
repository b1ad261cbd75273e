"""Answer many questions about one picture, or one long row of pictures, under program after program.

A sequence of thousands of tokens is nearly all pictures. They are looked at by the vision tower once, read by the
decoder once under each program, and all questions stand behind them in one batch:

    answer = replay_from_prefix(vlm, vlm.encode(work.questions_for("test", 0, 0, count=16)))
    plain = answer()
    with sparsify(vlm.model, dense, window):
        scores = answer()

Unlike in `from_question.py` a program may change rows of the pictures too. The numbers are those of `vlm.answer`, but
for rounding.

Programs that do the same in the first layers can share them:

    with sparsify(vlm.model, HeadSet(), window):
        none = answer(keep=True)               # what every layer says is kept
    with sparsify(vlm.model, dense, window):
        scores = answer(first_layer=17)        # no dense head lies below layer 17
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from corelib.core.errors import BadInput, NotFinite, UnsupportedArchitecture
from corelib.models.answers import AnswerScores, score_answers
from corelib.models.batch import Batch
from corelib.models.overflow import overflow_error
from corelib.models.vlm import VLM
from corelib.replay.skipped import Said, kept_layers, skipped_layers


class PrefixReplay(Protocol):
    """A function that answers a batch under the programs that are active when it is called.

    `keep` what every layer says, until another call keeps. `first_layer`: below it, the active programs do what those
    did that were active when that was kept; what they said is not computed again.
    """

    def __call__(self, first_layer: int = 0, *, keep: bool = False) -> AnswerScores: ...


def replay_from_prefix(vlm: VLM, batch: Batch) -> PrefixReplay:
    """A function that answers a batch, all of it about one picture, under the programs that are active when it is
    called.

    The tokens before the question, [1, prefix], run once a call and fill the key/value cache; the questions and
    answers, [sample, tail], run behind them. The tails' positions are those that a whole pass gives them
    (`whole_positions`), and are handed to the model: nothing that an earlier pass left in it is read, and nothing is
    left.

    Args:
        vlm: The model.
        batch: Samples of one cluster (`Sample.cluster`), encoded with their answers.

    Returns:
        A `PrefixReplay`. Its `AnswerScores` are [sample], on the CPU, the log-probabilities in float32.

    Raises:
        BadInput: The samples are about several pictures (their content is compared), do not begin with the same
            tokens, or have no answers. When called: nothing is kept yet, or there is no such layer.
        NotFinite: When called, if the logits of an answer are not finite.
        UnsupportedArchitecture: When called to keep or to go on: the decoder cannot be taken apart.

    Source: prefix sharing as in RadixAttention, Zheng et al. (2024), arXiv:2312.07104.

    >>> from corelib import load, task
    >>> vlm = load("mini-s")
    >>> replay_from_prefix(vlm, vlm.encode(task("scenes").questions_for("test", 0, 0, 3)))().correct.shape
    torch.Size([3])
    """
    if len({sample.cluster for sample in batch.samples}) > 1:
        raise BadInput("samples about several pictures: answer those of each picture on their own")
    if int(batch.lengths[:, 2].min()) < 1:
        raise BadInput("a sample has no answer to score: encode samples with their answers")
    length, sizes = batch.tokens.shape[1], batch.lengths.sum(1).tolist()
    begins = [length - size for size in sizes]  # of the questions
    first = vlm.encode(batch.samples[:1])
    past = first.tokens.shape[1] - sizes[0]
    whole = {
        name: value[:, :past] if value.shape == first.tokens.shape else value for name, value in first.inputs.items()
    }
    common = whole["input_ids"]
    given = [row[real] for row, real in zip(batch.tokens, batch.real, strict=True)]
    if any(not torch.equal(row[:-size], common[0]) for row, size in zip(given, sizes, strict=True)):
        raise BadInput("these samples do not begin alike: one picture has one prefix")
    places = whole_positions(vlm.model, batch.inputs)  # [axis, sample, position]
    ahead = places[:, :1, begins[0] - past : begins[0]]

    def behind(values: Tensor) -> Tensor:
        """What stands at the questions and answers, from the left."""
        return pad_sequence([row[begin:] for row, begin in zip(values, begins, strict=True)], batch_first=True)

    tails, rows = behind(batch.tokens), behind(batch.rows("answer"))
    after = behind(places.permute(1, 2, 0)).permute(2, 0, 1)
    real = torch.cat([torch.ones(len(tails), past, dtype=torch.long), behind(batch.real).long().cpu()], 1)
    real = real.to(tails.device)
    memory: dict[str, object] = {}
    said: dict[str, list[Said]] = {}  # by each layer, of the prefix and of the tails

    def passing(part: str, first_layer: int, keep: bool) -> AbstractContextManager[object]:
        if keep:
            said[part] = []
            return kept_layers(vlm.model, said[part])
        return skipped_layers(vlm.model, said[part][:first_layer]) if first_layer else nullcontext()

    @torch.no_grad()
    def answer(first_layer: int = 0, *, keep: bool = False) -> AnswerScores:
        if first_layer and (keep or not said or not 0 < first_layer < vlm.num_layers):
            raise BadInput(
                f"first_layer={first_layer}, keep={keep}: call with keep=True first, then with a layer of "
                f"1 to {vlm.num_layers - 1}"
            )
        cache = DynamicCache()
        with cached_image_features(vlm.model, memory), passing("prefix", first_layer, keep):
            vlm.model(**whole, position_ids=_given(ahead), past_key_values=cache, use_cache=True, logits_to_keep=1)
        for layer in range(first_layer):  # nobody asks for these keys, but for how many there are
            cache.update(*torch.zeros(2, 1, 1, past, 1, device=common.device), layer)
        cache.batch_repeat_interleave(len(tails))
        with passing("tails", first_layer, keep):
            logits = vlm.model(
                input_ids=tails, attention_mask=real, position_ids=_given(after), past_key_values=cache, use_cache=True
            ).logits
        try:
            found = score_answers(logits[:, :-1].float(), tails[:, 1:], rows[:, :-1])
        except NotFinite:
            raise overflow_error(vlm.model, batch.inputs) from None
        return AnswerScores(found.correct.cpu(), found.logprob.cpu())

    return answer


def whole_positions(model: nn.Module, inputs: dict[str, Tensor]) -> Int[Tensor, "axis batch position"]:
    """The positions that a pass over whole sequences gives its tokens: 0, 1, 2, … from the first token that is no
    padding.

    In a model with a position function of its own (Qwen's `get_rope_index`, three axes: time, row, column) they are
    what this function says of the pictures and clips. They are never inferred from a part of a sequence: what follows
    a clip does not stand one after the largest position in it.

    Args:
        model: A model of transformers.
        inputs: What it is given, with `input_ids` and `attention_mask` [batch, position].

    Returns:
        Positions, int64, on the device of `input_ids`, with one axis or three; what padding gets is not defined.

    Source: multimodal rotary embedding, Wang et al. (2024), "Qwen2-VL", arXiv:2409.12191.

    >>> whole_positions(nn.Identity(), {"attention_mask": torch.tensor([[0, 1, 1, 1]])})
    tensor([[[0, 0, 1, 2]]])
    """
    own: Any = next((part for part in model.modules() if hasattr(part, "get_rope_index")), None)
    if own is not None and inputs.keys() & {"image_grid_thw", "video_grid_thw"}:
        asked = inspect.signature(own.get_rope_index).parameters
        positions: Tensor = own.get_rope_index(**{name: value for name, value in inputs.items() if name in asked})[0]
        return positions
    return (inputs["attention_mask"].long().cumsum(1) - 1).clamp(min=0)[None]


def _given(places: Int[Tensor, "axis batch position"]) -> Tensor:
    """Positions as a model asks for them: with their axes first, or without if there is one."""
    return places[0] if len(places) == 1 else places


@contextmanager
def cached_image_features(model: nn.Module, memory: dict[str, object]) -> Iterator[None]:
    """The vision tower looks at the pictures of a pass if `memory` is empty, and remembers what it saw in it.

    Args:
        model: A multimodal model of transformers, also one that peft has wrapped.
        memory: Of one set of pictures: use a new one for others. It holds what `get_image_features` returned.

    Raises:
        UnsupportedArchitecture: The model has no `get_image_features`.
    """
    found = [part for part in model.modules() if hasattr(type(part), "get_image_features")]
    if not found:
        raise UnsupportedArchitecture(f"{type(model).__name__} has no get_image_features: is it a multimodal model?")
    inner: Any = found[-1]  # those around it only pass the call on
    look = inner.get_image_features

    def remembering(*given: Any, **options: Any) -> object:
        if "seen" not in memory:
            memory["seen"] = look(*given, **options)
        return memory["seen"]

    inner.get_image_features = remembering
    try:
        yield
    finally:
        del inner.get_image_features  # the method of the class is there again
