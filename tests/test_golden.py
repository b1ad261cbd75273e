"""What corelib makes of pictures and clips is what the full stock processors made of them, real token ids included.

`make test-processors` computed `tests/golden/` with torchvision, which is not needed here.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from layouts import cases, differences, golden_file, runs, summary, tokenizer_file
from transformers import PreTrainedTokenizerFast

from corelib.core.errors import BadInput
from corelib.families import tiny, tiny_configs
from corelib.mini.vocabulary import token_id
from corelib.models.vlm import VLM

FAMILIES = tuple(name for name in tiny_configs.KINDS if name != "gemma3")  # whose real tokenizer is not at hand
CLOSE = 0.031  # two of 256 levels, in normalised pixels
TOKENS = {  # real ids; transformers' own configurations of InternVL and LLaVA-OneVision begin with these
    "qwen3-vl": {"<|image_pad|>": 151655, "<|video_pad|>": 151656, "<|vision_start|>": 151652},
    "qwen2.5-vl": {"<|image_pad|>": 151655, "<|video_pad|>": 151656, "<|vision_end|>": 151653},
    "internvl": {"<IMG_CONTEXT>": 151667},
    "llava-onevision": {"<image>": 151646, "<video>": 151647},
}
NEWLINES = {"llava-onevision"}  # families with visual tokens that show nothing


@pytest.fixture(scope="module")
def vlms():
    """A tiny model a family, with the real tokenizer, as far as the cases need it."""
    made: dict[str, VLM] = {}

    def get(name: str) -> VLM:
        torch.set_num_threads(1)
        if name not in made:
            model, family = tiny.build_tiny(name)
            words = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_file(name)), eos_token="<|im_end|>")
            made[name] = VLM(name, model, replace(family, tokenizer=words))
        return made[name]

    return get


def golden(name: str) -> dict[str, dict]:
    return json.loads(golden_file(name).read_text(encoding="utf-8"))


def encoded(vlm: VLM, case):
    try:
        return vlm.encode([case.sample()], answers=False)
    except BadInput:
        return None


@pytest.mark.parametrize("name", FAMILIES)
def test_layouts_are_those_of_the_stock_processors(name, vlms):
    made = {case.name: encoded(vlms(name), case) for case in cases()}
    mine = {case: None if one is None else summary(one.inputs) for case, one in made.items()}
    assert list(differences(golden(name), mine, pixels=CLOSE)) == []
    for case, one in made.items():
        if one is None:
            continue
        shown = torch.cat([view.positions for view in one.views[0]]).sort().values
        assert len(shown.unique()) == len(shown), case
        visual = torch.isin(one.tokens[0], torch.tensor(vlms(name).family.visual_ids)).nonzero().flatten()
        assert torch.isin(shown, visual).all(), case
        assert torch.equal(shown, visual) or name in NEWLINES, case


@pytest.mark.parametrize("name", TOKENS)
def test_ids_are_the_real_ones(name, vlms):
    words = vlms(name).tokenizer
    assert {token: token_id(words, token) for token in TOKENS[name]} == TOKENS[name]


def test_what_a_stock_processor_refuses_is_refused_here():
    refused = {name: {case for case, one in golden(name).items() if one is None} for name in FAMILIES}
    assert refused["qwen3-vl"] == {"picture 4x1000", "clip 1x64x64 at 1 s"}
    assert refused["qwen2.5-vl"] == {"picture 4x1000"}
    assert not any(refused[name] for name in FAMILIES if not name.startswith("qwen"))


def test_one_wrong_token_or_pixel_is_seen():
    written = golden("qwen3-vl")
    case = "clip 6x192x256 at 1 s"
    for part, key, wrong in (
        ("input_ids", "runs", written[case]["input_ids"]["runs"].replace("151656*", "151655*", 1)),
        ("video_grid_thw", "runs", "3 16 18"),
        ("pixel_values_videos", "mean", written[case]["pixel_values_videos"]["mean"] + 2 * CLOSE),
        ("pixel_values_videos", "shape", [1, 1]),
    ):
        other = {**written, case: {**written[case], part: {**written[case][part], key: wrong}}}
        assert list(differences(written, other, pixels=CLOSE)) == [f"{case}: {part} differs"], part
    assert list(differences(written, {**written, case: None}, pixels=CLOSE))
    assert runs(torch.tensor([5, 5, 5, 2])) == "5*3 2"
