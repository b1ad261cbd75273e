"""Inputs that a stock processor made: the same as encoded ones where both apply, and free where only these do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_families import FAMILIES, adapt, noise, stock, vlms  # noqa: F401

from corelib import Box, HeadSet, Sample, load, wrap
from corelib.attention.intervene import ablate
from corelib.attention.redirect import redirect
from corelib.core.errors import BadInput
from corelib.experiments.reading import read_heads
from corelib.experiments.score_heads import score_batches
from corelib.families.chat import BRIEFLY

BOX = Box(0, 0, 40, 40)


def conversation(family, pictures: int, answer: str, system: str = "", before: str = "") -> str:
    """A prompt with its answer, and the end of a turn behind it."""
    turns = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    content = [{"type": "image"}] * pictures
    if before:
        turns += [
            {"role": "user", "content": [*content, {"type": "text", "text": before}]},
            {"role": "assistant", "content": [{"type": "text", "text": "A page."}]},
        ]
        content = []
    turns.append({"role": "user", "content": [*content, {"type": "text", "text": f"What is it?\n{BRIEFLY}"}]})
    text = family.tokenizer.apply_chat_template(
        turns, chat_template=family.template, tokenize=False, add_generation_prompt=True
    )
    return text + family.lead + answer


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", FAMILIES)
def test_they_are_the_encoded_ones_where_both_apply(name, side, vlms):  # noqa: F811
    vlm = vlms(name)
    samples = [
        replace(
            Sample.of([noise(*size)], "What is it?"), answer=answer, evidence=(BOX,), distractors=(Box(45, 45, 60, 60),)
        )
        for size, answer in (((90, 110), "7"), ((64, 64), "97"))
    ]
    theirs = vlm.encode(samples)
    texts = [conversation(vlm.family, 1, sample.answer) for sample in samples]
    pictures = [list(sample.images) for sample in samples]
    processor = stock(name, vlm.family)
    processor.tokenizer.padding_side = side
    inputs = processor(text=texts, images=pictures, padding=True, return_tensors="pt")
    processor.tokenizer.padding_side = "right"
    mine = vlm.from_inputs(
        inputs,
        pictures,
        evidence=[[BOX], [BOX]],
        distractors=[list(sample.distractors) for sample in samples],
        question=["What is it?"] * 2,
        answer=[vlm.family.lead + sample.answer for sample in samples],
    )
    assert mine.inputs.keys() == theirs.inputs.keys()
    for key, value in theirs.inputs.items():
        assert torch.equal(mine.inputs[key], value), key
    for mask in ("visual", "evidence", "distractors", "told", "lengths"):
        assert torch.equal(getattr(mine, mask), getattr(theirs, mask)), mask
    for rows in ("answer", "last", "question"):
        assert torch.equal(mine.rows(rows), theirs.rows(rows)), rows
    assert torch.equal(vlm.answer(mine).logprob, vlm.answer(theirs).logprob)


@pytest.fixture(scope="module")
def chat(vlms):  # noqa: F811
    """An adapted model in memory, and two turns under a system prompt, with their pictures."""
    adapted, processor = adapt(vlms("qwen3-vl"))
    vlm = wrap(adapted.eval(), processor)
    pictures = [noise(64, 96, seed=1), noise(96, 64, seed=2)]
    text = conversation(vlm.family, 2, "It is 97.<|im_end|>\n", system="You read forms.", before="What are these?")
    return vlm, processor(text=[text], images=[pictures], return_tensors="pt"), pictures


def test_two_turns_under_a_system_prompt_are_scored_ablated_and_redirected(chat):
    vlm, inputs, pictures = chat
    batch = vlm.from_inputs(inputs, [pictures], evidence=[[Box(0, 0, 32, 32, 1)]], answer=["97"])
    words = [vlm.tokenizer.decode(batch.tokens[0][mask[0]]) for mask in (batch.told, batch.rows("last"))]
    assert words == ["97", " "] and batch.samples[0].answer == "97"
    assert vlm.tokenizer.decode(batch.tokens[0]).endswith("It is 97")  # what stands behind is cut off
    found = read_heads(vlm, batch)
    assert found.scores["answer/mean/raw"].shape == (1, vlm.num_layers, vlm.num_heads)
    scores = score_batches(vlm, [batch])
    assert torch.allclose(torch.tensor(scores.values).float(), found.scores["answer/mean/raw"][0], atol=1e-6)
    intact = vlm.answer(batch).logprob
    with ablate(vlm.model, scores.top(0.2)):
        assert not torch.equal(vlm.answer(batch).logprob, intact)
    target = batch.cover([[Box(0, 0, 32, 32, 0)]])
    with redirect(vlm.model, HeadSet.all(vlm.num_layers, vlm.num_heads), batch.evidence, target, batch.rows("answer")):
        assert not torch.equal(vlm.answer(batch).logprob, intact)
    assert torch.equal(vlm.answer(batch).logprob, intact)


def test_ram_is_that_of_eager_attention_by_hand(chat):
    vlm, inputs, pictures = chat
    batch = vlm.from_inputs(inputs, [pictures], evidence=[[Box(0, 0, 32, 32, 1)]], answer=["97"])
    inner = vlm.model.get_base_model()
    before = inner.config._attn_implementation
    inner.set_attn_implementation("eager")
    with torch.no_grad():
        maps = vlm.model(**batch.inputs, output_attentions=True).attentions
    inner.set_attn_implementation(before)
    first = int(batch.rows("answer")[0].int().argmax())
    by_hand = torch.stack([one[0, :, first : first + 2, batch.evidence[0]].sum(-1).mean(-1) for one in maps])
    torch.testing.assert_close(read_heads(vlm, batch).scores["answer/mean/raw"][0], by_hand, atol=1e-5, rtol=0)


def test_a_place_by_its_tokens_is_the_same_as_by_its_words(chat):
    vlm, inputs, pictures = chat
    by_words = vlm.from_inputs(inputs, [pictures], question=["What is it?"], answer=["97"])
    ids = inputs["input_ids"][0].tolist()
    digits = vlm.tokenizer("97")["input_ids"]
    at = max(k for k in range(len(ids)) if ids[k : k + 2] == digits)
    by_tokens = vlm.from_inputs(inputs, [pictures], question=["What is it?"], answer=[(at, at + 2)])
    assert torch.equal(by_words.told, by_tokens.told) and torch.equal(by_words.tokens, by_tokens.tokens)
    asked = vlm.tokenizer.decode(by_words.tokens[0][by_words.rows("question")[0]])
    assert asked == "What is it?"


def test_without_an_answer_the_last_token_predicts_it(chat):
    vlm, inputs, pictures = chat
    batch = vlm.from_inputs(inputs, [pictures])
    assert torch.equal(batch.tokens, inputs["input_ids"]) and batch.rows("answer")[0].nonzero().tolist() == [
        [batch.tokens.shape[1] - 1]
    ]
    with pytest.raises(BadInput, match="has no answer"):
        vlm.answer(batch)


def test_what_does_not_belong_together_is_refused(chat):
    vlm, inputs, pictures = chat
    for images, message in (
        ([pictures[::-1]], "another order|give .* images of the inputs"),
        ([pictures[:1]], "pixel_values is"),
        ([[]], "images has none"),
        ([[noise(64, 96, seed=3), pictures[1]]], "differs by .* on average"),
        (pictures, "images is of 2 sequences, input_ids of 1"),
    ):
        with pytest.raises(BadInput, match=message):
            vlm.from_inputs(inputs, images)
    for more, message in (
        ({"answer": ["98"]}, "answer '98' does not stand behind its pictures"),
        ({"answer": [""]}, "answer '' does not stand"),
        ({"answer": [(3, 10_000)]}, r"give \[first, past\)"),
        ({"answer": "97"}, "give one entry a sequence"),
        ({"answer": ["97"], "question": [(0, 10_000)]}, r"question is tokens"),
    ):
        with pytest.raises(BadInput, match=message):
            vlm.from_inputs(inputs, [pictures], **more)
    with pytest.raises(BadInput, match="position_ids, which cannot be taken"):
        vlm.from_inputs({**inputs, "position_ids": inputs["input_ids"]}, [pictures])
    with pytest.raises(BadInput, match="input_ids"):
        vlm.from_inputs({}, [pictures])
    with pytest.raises(BadInput, match="bundled model"):
        load("mini-s").from_inputs(inputs, [pictures])


def test_a_clip_may_have_any_pace(vlms):  # noqa: F811
    """How far frames are apart stands in the inputs; frames do not tell it."""
    vlm = vlms("qwen2.5-vl")
    frames = [noise(56, 56, seed) for seed in range(4)]
    clip = replace(Sample.of(frames, "When?", video=True), seconds=0.25, answer="1")
    inputs = vlm.encode([clip], answers=False).inputs
    assert inputs["second_per_grid_ts"].item() == 0.5
    batch = vlm.from_inputs(inputs, [frames], video=True)
    assert batch.inputs["second_per_grid_ts"].item() == 0.5 and batch.visual.sum() == vlm.encode([clip]).visual.sum()
