"""Hold corelib's layouts to those of the full stock processors, and write these down.

    make test-processors            # compare them token by token, and with tests/golden/
    make test-processors WRITE=1    # write tests/golden/ anew

It needs torchvision, which does not go into the ordinary environment. Of each family, a checkpoint folder is made: a
tiny model, a real tokenizer, and the settings of both processors. Transformers opens it with `AutoProcessor`, corelib
with `load`. Then both prepare the cases of `tests/layouts.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from real_tokenizers import cut, qwen, smollm2
from transformers import AutoProcessor, PreTrainedTokenizerFast, ProcessorMixin

from corelib import load
from corelib.core.errors import BadInput
from corelib.families.chat import BRIEFLY
from corelib.families.tiny_configs import KINDS, LINES
from corelib.mini.vocabulary import token_id
from corelib.models.vlm import VLM

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from layouts import QUESTION, Case, cases, differences, golden_file, summary, tokenizer_file

CLOSE = 0.031  # normalised pixels: torchvision and Pillow round differently, by two of 256 levels at most
SAME = 0.001  # the same processor on another computer
Layouts = dict[str, Mapping[str, Any] | None]  # by case; None where it is refused
PLAIN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN2 = (
    *PLAIN, "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>",
    "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
QWEN25 = (
    *QWEN2, "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
    "<|repo_name|>", "<|file_sep|>",
)  # fmt: skip
AROUND = {  # tokens that InternVL's processor asks of its tokenizer by name
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
SMOL = ("<global-img>", *LINES, "<fake_token_around_image>", "<image>", "<end_of_utterance>", "<video>")
TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "qwen3-vl": partial(qwen, QWEN25),
    "qwen2.5-vl": partial(qwen, QWEN25),
    "internvl": partial(qwen, (*QWEN25, *AROUND.values()), extra_special_tokens=AROUND),
    "llava-onevision": partial(qwen, (*PLAIN, "<image>", "<video>")),
    "smolvlm": partial(smollm2, SMOL),
}
PROCESSORS: dict[str, tuple[str, str, dict[str, Any]]] = {  # the stock classes, of both and of the video part
    "qwen3-vl": ("Qwen3VLProcessor", "Qwen3VLVideoProcessor", {}),
    "qwen2.5-vl": ("Qwen2_5_VLProcessor", "Qwen2VLVideoProcessor", {}),
    "internvl": ("InternVLProcessor", "InternVLVideoProcessor", {"image_seq_length": 16}),
    "llava-onevision": (
        "LlavaOnevisionProcessor",
        "LlavaOnevisionVideoProcessor",
        {"num_image_tokens": 49, "vision_feature_select_strategy": "full"},
    ),
    "smolvlm": ("SmolVLMProcessor", "SmolVLMVideoProcessor", {"image_seq_len": 4}),
}


def checkpoint(name: str, folder: Path) -> None:
    """A folder as it lies on the hub: a tiny model, a real tokenizer, the settings of both processors."""
    kind, tokenizer = KINDS[name], TOKENIZERS[name]()
    config = kind.config(partial(token_id, tokenizer))
    config.text_config.vocab_size = len(tokenizer)
    getattr(transformers, kind.family.architecture)(config).save_pretrained(folder)
    title, video, more = PROCESSORS[name]
    images = getattr(transformers, kind.family.processor.__name__.removesuffix("Pil"))(**kind.pixels)
    frames = getattr(transformers, video)(**kind.video)
    parts = {"image_processor": images, "tokenizer": tokenizer, "video_processor": frames}
    getattr(transformers, title)(**parts, chat_template=kind.template, **more).save_pretrained(folder)


def stock(processor: ProcessorMixin, case: Case) -> Mapping[str, Any] | None:
    """What the stock processor makes of a case; None if it refuses."""
    sample = case.sample()
    content: list[dict[str, str]] = [{"type": "video"}] if case.frames else []
    for number in range(0 if case.frames else len(sample.images)):
        if len(sample.images) > 1:
            content.append({"type": "text", "text": f"Picture {number + 1}: "})
        content.append({"type": "image"})
    content.append({"type": "text", "text": f"{QUESTION}\n{BRIEFLY}"})
    turns = [{"role": "user", "content": content}]
    text = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    count = len(sample.images)
    known = {"total_num_frames": count, "fps": 1 / case.seconds, "frames_indices": list(range(count))}
    given: dict[str, Any] = {"images": [list(sample.images)]}
    if case.frames:
        given = {"videos": [list(sample.images)], "video_metadata": [known], "do_sample_frames": False}
    try:
        made = processor(text=[text], return_tensors="pt", **given)
    except ValueError:
        return None
    return {name: value for name, value in made.items() if name != "video_metadata"}


def mine(vlm: VLM, case: Case) -> Mapping[str, Any] | None:
    try:
        return vlm.encode([case.sample()], answers=False).inputs
    except BadInput:
        return None


def apart(theirs: Mapping[str, Any] | None, ours: Mapping[str, Any] | None) -> tuple[list[str], float]:
    """What differs between two layouts, where every whole number counts; and the largest difference of a pixel."""
    if theirs is None or ours is None:
        alone = "the stock processor" if theirs is None else "corelib"
        return ([] if theirs is ours else [f"{alone} alone refuses it"]), 0.0
    wrong, far = [f"{name} is in one of both" for name in sorted(set(theirs) ^ set(ours))], 0.0
    for name in sorted(set(theirs) & set(ours)):
        one, two = torch.as_tensor(theirs[name]), ours[name]
        if one.shape != two.shape:
            wrong.append(f"{name} is {list(one.shape)}, and here {list(two.shape)}")
        elif name.startswith("pixel_values"):
            far = max(far, (one - two).abs().max().item())
        elif not torch.equal(one, two):
            wrong.append(f"{name} differs at {(one != two).sum().item()} of {one.numel()} places")
    return wrong + [f"a pixel differs by {far:.3f}"] * (far > CLOSE), far


def layouts(name: str) -> tuple[PreTrainedTokenizerFast, Layouts, Layouts]:
    """The tokenizer of a family, and what the stock processor and corelib make of every case."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint(name, Path(folder))
        processor, vlm = AutoProcessor.from_pretrained(folder), load(folder)
    theirs = {case.name: stock(processor, case) for case in cases()}
    return processor.tokenizer, theirs, {case.name: mine(vlm, case) for case in cases()}


def write(name: str, tokenizer: PreTrainedTokenizerFast, theirs: Layouts) -> None:
    texts = [tokenizer.decode(one["input_ids"][0]) for one in theirs.values() if one]
    tokenizer_file(name).parent.mkdir(parents=True, exist_ok=True)
    tokenizer_file(name).write_text(json.dumps(cut(tokenizer, texts), ensure_ascii=False) + "\n", encoding="utf-8")
    lines = (f"{json.dumps(case)}: {json.dumps(one)}" for case, one in summaries(theirs).items())
    golden_file(name).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def summaries(made: Layouts) -> dict[str, Any]:
    return {case: None if one is None else summary(one) for case, one in made.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write tests/golden/ anew")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    failed = 0
    for name in KINDS:
        tokenizer, theirs, ours = layouts(name)
        found = {case: apart(theirs[case], ours[case]) for case in theirs}
        if options.write:
            write(name, tokenizer, theirs)
        golden = json.loads(golden_file(name).read_text(encoding="utf-8"))
        wrong = [f"{case}: {line}" for case, (lines, _) in found.items() for line in lines]
        wrong += [f"tests/golden: {line}" for line in differences(golden, summaries(theirs), pixels=SAME)]
        far = max(far for _, far in found.values())
        print("\n".join([f"{name}: {len(found)} cases, pixels within {far:.3f}", *wrong]), flush=True)
        failed += len(wrong)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
