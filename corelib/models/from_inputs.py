"""Inputs that you hold already: `input_ids`, pixels and grids as a stock processor made them, from any conversation.

    text = processor.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False)
    inputs = processor(text=[text + "The total is 97."], images=pictures, return_tensors="pt")
    batch = vlm.from_inputs(inputs, [pictures], evidence=[[Box(80, 40, 130, 60)]], answer=["97"])
    read_heads(vlm, batch).scores["answer/mean/raw"]

System prompts, several turns, pictures between words, a template of your own: all of it stays as it is. What is added
is knowledge: which token shows which part of which picture, where the question stands, and where the answer. What
stands behind the answer is cut off; no earlier token sees it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from corelib.core.errors import BadInput
from corelib.core.geometry import Box
from corelib.families.base import View, left_pad
from corelib.families.chat import Chat
from corelib.models.batch import Batch
from corelib.models.devices import execution_device
from corelib.tasks.sample import Sample

if TYPE_CHECKING:
    from corelib.models.vlm import VLM

Span = tuple[int, int]  # tokens [first, past) of a sequence, padding not counted
CLOSE = 0.05  # pixels of two processors may differ by so much on average, in units of normalised pixels
REFUSED = ("inputs_embeds", "position_ids", "past_key_values", "cache_position")


@dataclass(frozen=True)
class _Sequence:
    """One sequence without padding, cut behind its answer."""

    ids: list[int]
    lengths: tuple[int, int, int]  # (question, closing, answer)
    views: list[View]
    texts: tuple[str, str]  # question, answer


def batch_from_inputs(
    vlm: VLM,
    inputs: Mapping[str, Tensor],
    images: Sequence[Sequence[Image.Image]],
    *,
    evidence: Sequence[Sequence[Box]] | None = None,
    distractors: Sequence[Sequence[Box]] | None = None,
    question: Sequence[str | Span | None] | None = None,
    answer: Sequence[str | Span | None] | None = None,
    video: bool = False,
) -> Batch:
    """Inputs that a stock processor made, of any conversation, as a batch; of a model, `vlm.from_inputs(…)`.

    Every list has one entry a sequence. A place in the text is given by its words (the last place behind the
    pictures where they stand) or by its tokens [first, past), padding not counted.

    Args:
        inputs: `input_ids`, `attention_mask`, pixels and grids; padding may be on either side.
        images: The pictures of each sequence, in the order of its text; they are compared with the pixels.
        evidence: Boxes to be read, in pixels of the pictures.
        distractors: Boxes of the same kind that would give a wrong answer.
        question: Left out, all between the pictures and the answer.
        answer: Left out, there is none: the last token predicts it.
        video: The pictures of each sequence are the frames of one clip.

    Raises: BadInput if the images are not those of the inputs, a text does not stand there, inputs hold what cannot
        be taken (embeddings, positions), or the model is a bundled one.
    """
    family = vlm.family
    if not isinstance(family, Chat):
        raise BadInput(f"{vlm.name} is a bundled model, whose prompts are its own: use encode")
    ids, real = _sequences(inputs)
    given: dict[str, Sequence[object] | None] = {
        "images": images, "evidence": evidence, "distractors": distractors, "question": question, "answer": answer
    }  # fmt: skip
    for name, entries in given.items():
        if entries is not None and (isinstance(entries, str) or len(entries) != len(ids)):
            raise BadInput(f"{name} is of {len(entries)} sequences, input_ids of {len(ids)}: give one entry a sequence")
    _same_pixels(family, inputs, images, video)
    nothing: Sequence[Any] = [None] * len(ids)
    asked = zip(ids, real, images, question or nothing, answer or nothing, strict=True)
    read = [
        _read(family, row[there], pictures, video, (where, said), f"sequence {number}")
        for number, (row, there, pictures, where, said) in enumerate(asked)
    ]
    told = [[[False] * (len(one.ids) - one.lengths[2]) + [True] * one.lengths[2]] for one in read]
    fill = family.tokenizer.pad_token_id
    padded, mask, marked = left_pad(
        [one.ids for one in read], told, family.tokenizer.eos_token_id if fill is None else fill
    )
    for one in read:
        for view in one.views:
            view.positions.add_(padded.shape[1] - len(one.ids))
    kept: dict[str, Tensor] = {"input_ids": padded, "attention_mask": mask}
    for name, value in inputs.items():
        if name not in kept and isinstance(value, Tensor):
            alike = value.shape == inputs["input_ids"].shape
            kept[name] = _moved(value, real, [len(one.ids) for one in read], padded.shape[1]) if alike else value
    kept |= {name: value for name, value in family.more(kept).items() if name not in kept}
    device, dtype = execution_device(vlm.model.get_input_embeddings()), vlm.model.dtype
    kept = {name: value.to(device, dtype if name.startswith("pixel_values") else None) for name, value in kept.items()}
    samples = tuple(
        Sample("inputs", "test", 0, number, "inputs", *one.texts, images=tuple(pictures), video=video,
               evidence=tuple(evidence[number]) if evidence else (),
               distractors=tuple(distractors[number]) if distractors else ())
        for number, (one, pictures) in enumerate(zip(read, images, strict=True))
    )  # fmt: skip
    lengths = torch.tensor([one.lengths for one in read], device=device)
    none = torch.zeros_like(marked[0], device=device)
    return Batch(samples, kept, [one.views for one in read], lengths, none, none, marked[0].to(device))


def _read(
    family: Chat,
    ids: Int[Tensor, " token"],
    images: Sequence[Image.Image],
    video: bool,
    places: tuple[str | Span | None, str | Span | None],
    name: str,
) -> _Sequence:
    """One sequence: what its tokens show, and where question and answer stand.

    Raises: BadInput if they do not stand there, or the question does not end before the answer.
    """
    views = _views(family, ids, images, video, name)
    begin = 1 + max((int(view.positions.max()) for view in views), default=-1)
    said = _span(family.tokenizer, ids, places[1], begin, f"{name}: answer")
    stop, end = said or (len(ids), len(ids))
    asked = _span(family.tokenizer, ids[:stop], places[0], begin, f"{name}: question") or (begin, stop)
    if not asked[0] < asked[1] <= stop:
        raise BadInput(f"{name}: question is tokens {asked}, and the answer begins at {stop}: give one before it")
    question, answer = (str(family.tokenizer.decode(ids[first:past])).strip() for first, past in (asked, (stop, end)))
    lengths = (asked[1] - asked[0], stop - asked[1], end - stop)
    return _Sequence(ids[:end].tolist(), lengths, views, (question, answer))


def _sequences(inputs: Mapping[str, Tensor]) -> tuple[Int[Tensor, "sequence token"], Tensor]:
    """The token ids, and which of them are no padding."""
    ids = inputs.get("input_ids")
    if not isinstance(ids, Tensor) or ids.ndim != 2 or not ids.numel():
        raise BadInput("inputs need input_ids [sequence, token], as the processor gives them with return_tensors='pt'")
    wrong = [name for name in REFUSED if name in inputs]
    if wrong:
        raise BadInput(f"inputs hold {', '.join(wrong)}, which cannot be taken: give what the processor made")
    mask = inputs.get("attention_mask", torch.ones_like(ids))
    if mask.shape != ids.shape:
        raise BadInput(f"attention_mask is {list(mask.shape)}, input_ids {list(ids.shape)}: they must be alike")
    return ids.cpu(), mask.bool().cpu()


def _same_pixels(
    family: Chat, inputs: Mapping[str, Tensor], images: Sequence[Sequence[Image.Image]], video: bool
) -> None:
    """Refuse pictures that are not those whose pixels are in the inputs.

    Raises: BadInput, which names what differs.
    """
    mine = family.join([family.preprocess(row, video).pixels if len(row) else {} for row in images])
    pace = family.timing(0.0)  # of a clip: its frames do not tell it
    for name, value in mine.items():
        if name in pace:
            continue
        if name not in inputs:
            raise BadInput(f"inputs have no {name}, and these images would give it: give the images that are in them")
        other = torch.as_tensor(inputs[name]).cpu()
        if other.shape != value.shape:
            raise BadInput(f"{name} is {list(other.shape)}, and these images give {list(value.shape)}: give the images "
                           "of the inputs, in their order, and wrap the model with their processor")  # fmt: skip
        apart = (other.float() - value.float()).abs().mean().item()
        if apart > (CLOSE if value.is_floating_point() else 0):
            raise BadInput(f"{name} differs by {apart:.2f} on average from what these images give: they are not the "
                           "images of the inputs, or stand in another order")  # fmt: skip
    if not mine and any(name.startswith("pixel_values") for name in inputs):
        raise BadInput("inputs hold pixels, and images has none: give the pictures of each sequence")


def _views(
    family: Chat, ids: Int[Tensor, " token"], images: Sequence[Image.Image], video: bool, name: str
) -> list[View]:
    """What of the pictures each token shows.

    Raises: BadInput if there are more or fewer visual tokens than the pictures have.
    """
    shown = family.preprocess(images, video).shown if images else []
    wanted = sum(one.text.count(token) for one in shown for token in family.visual_tokens())
    there = int(torch.isin(ids, torch.tensor(family.visual_ids)).sum())
    if wanted != there:
        raise BadInput(f"{name} has {there} visual tokens, and its {len(images)} images give {wanted}")
    return family.place(ids, shown)


def _span(
    tokenizer: PreTrainedTokenizerBase, ids: Int[Tensor, " token"], given: str | Span | None, begin: int, what: str
) -> Span | None:
    """The tokens that are meant, given by their numbers or by their text: the last place where it stands.

    Raises: BadInput if there are no such tokens.
    """
    if given is None:
        return None
    if not isinstance(given, str):
        first, past = given
        if not 0 <= first < past <= len(ids):
            raise BadInput(f"{what} is tokens {given}, and it has {len(ids)}: give [first, past)")
        return first, past
    lasts = [str(tokenizer.decode(ids[begin:stop])) for stop in range(begin, len(ids) + 1)]
    found = lasts[-1].rfind(given) if given else -1
    if found < 0:
        raise BadInput(f"{what} {given!r} does not stand behind its pictures; there stands {lasts[-1]!r:.200}")
    ends = list(accumulate(map(len, lasts[1:]), max))  # characters up to and with each token
    past = next(place for place, end in enumerate(ends) if end >= found + len(given)) + 1
    first = next(place for place, end in enumerate(ends) if end > found)
    return begin + first, begin + past


def _moved(values: Tensor, real: Tensor, ends: Sequence[int], length: int) -> Tensor:
    """What stands at the tokens of each sequence, where these stand now; 0 at padding."""
    out = values.new_zeros(len(values), length)
    for row, (mine, there, end) in enumerate(zip(values.cpu(), real, ends, strict=True)):
        out[row, length - end :] = mine[there][:end].to(out)
    return out
