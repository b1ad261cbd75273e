"""Write what the lab needs: the decoder of `mini-s`, pictures as its tower sees them, and rankings of its heads.

    python tools/lab_data.py            # book/_extra/lab/weights.js and pictures.js
    python tools/lab_data.py --check    # changes nothing; fails if they are not of the present weights and rankings

A page that is opened from a folder may load scripts and no other files: so numbers travel as text (base64) in scripts.
Weights are stored in half precision by the model itself. What the tower puts out is rounded to it here.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from corelib import atlas, load, task
from corelib.core.model_folder import bundled_folder, checksums
from corelib.experiments.answer_parts import answer_parts
from corelib.experiments.rivals import rival_pairs
from corelib.models.vlm import VLM
from corelib.tasks import Sample
from corelib.tasks.base import Picture, Question

HOME = Path(__file__).resolve().parents[1] / "book" / "_extra" / "lab"
MODEL, DOMAINS = "mini-s", ("scenes", "documents", "video")
PICTURES, EXAMPLES = 10, 4  # pictures of each domain; questions of each that are offered, and asked in the game
LANGUAGE = "model.language_model."
NAMES = re.compile(r"^(digit on|frame of) | [?]$")  # what is left of a question names its object


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the data are out of date")
    if parser.parse_args().check:
        if wrong := out_of_date():
            print(f"{wrong}: python tools/lab_data.py", file=sys.stderr)
            sys.exit(1)
        return
    vlm = load(MODEL)
    for name, found in (("weights", weights(vlm)), ("pictures", pictures(vlm))):
        path = write(name, found)
        print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")


def write(name: str, found: dict[str, Any]) -> Path:
    """Write a data file: a script that names what it holds."""
    path = HOME / f"{name}.js"
    path.write_text(f"globalThis.LAB_{name.upper()} = {json.dumps(found)};\n", encoding="utf-8")
    return path


def read(name: str) -> dict[str, Any]:
    """What a data file holds."""
    text = (HOME / f"{name}.js").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text[text.index("{") : text.rindex("}") + 1])
    return found


def out_of_date() -> str:
    """What is not as it should be, or nothing."""
    sha256 = checksums(bundled_folder(MODEL))["sha256"]
    for name in ("weights", "pictures"):
        if not (HOME / f"{name}.js").exists():
            return f"{name}.js is not there"
        if read(name)["sha256"] != sha256:
            return f"{name}.js was made with other weights of {MODEL}"
    return "" if read("pictures")["rankings"] == rankings() else "pictures.js has other rankings than the atlas"


# --- the decoder ---------------------------------------------------------------------------------------------------


def weights(vlm: VLM) -> dict[str, Any]:
    """The language model's weights in half precision, and what else a decoder must know."""
    config = vlm.model.config.get_text_config()
    tensors = {
        name.removeprefix(LANGUAGE): tensor
        for name, tensor in vlm.model.named_parameters()
        if name.startswith(LANGUAGE)
    }
    starts, at = {}, 0
    for name, tensor in tensors.items():
        starts[name] = at
        at += tensor.numel()
    return {
        "sha256": vlm.sha256,
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "kvHeads": config.num_key_value_heads,
        "headDim": config.head_dim,
        "hidden": config.hidden_size,
        "feedForward": config.intermediate_size,
        "eps": config.rms_norm_eps,
        "theta": config.rope_parameters["rope_theta"],
        "sections": config.rope_parameters["mrope_section"],  # rotary frequencies of time, height and width
        "vocabulary": vlm.tokenizer.convert_ids_to_tokens(list(range(config.vocab_size))),
        "starts": starts,
        "numbers": halves(tensors.values()),
    }


def halves(tensors: Iterable[Tensor]) -> str:
    """Tensors one after the other as float16, little-endian, in base64.

    >>> halves([torch.tensor([1.0])])
    'ADw='
    """
    flat = torch.cat([tensor.detach().flatten() for tensor in tensors]).half()
    return base64.b64encode(flat.numpy().astype("<f2").tobytes()).decode()


# --- the pictures --------------------------------------------------------------------------------------------------


def rankings() -> dict[str, Any]:
    """RAM of all heads by domain, from the atlas: ranked on other pictures than these."""
    found = {domain: atlas.cell(MODEL, domain).scores() for domain in DOMAINS}
    heads = next(iter(found.values())).shape[1]
    return {
        domain: {
            "order": [head.layer * heads + head.index for head in one.order()],
            "ram": [[round(float(value), 4) for value in row] for row in one.values],
        }
        for domain, one in found.items()
    }


def pictures(vlm: VLM) -> dict[str, Any]:
    """All pictures, with what can be asked about them, and what the tower makes of them."""
    found, seen, first = [], [], 0
    for domain in DOMAINS:
        drawn = task(domain).draw("test", samples=PICTURES * EXAMPLES, questions=EXAMPLES)
        for number in range(PICTURES):
            samples = drawn.take(range(number * EXAMPLES, (number + 1) * EXAMPLES))
            about, _ = drawn.task.draw_picture("test", drawn.seed, number)
            tokens = tower(vlm, samples[0])
            found.append({"domain": domain, "first": first, **picture(vlm, samples, about)})
            seen.append(tokens)
            first += tokens.shape[1]
    both = torch.cat(seen, 1)  # [embeddings and DeepStack features, token, hidden]
    return {
        "sha256": vlm.sha256,
        "tokens": first,
        "rankings": rankings(),
        "pictures": found,
        "numbers": halves(both),
    }


@torch.no_grad()
def tower(vlm: VLM, sample: Sample) -> Tensor:
    """What the vision tower gives to the decoder, [2, token, hidden]: embeddings, and features that are added to them
    behind the first layer."""
    inputs, suffix = vlm.encode([sample]).inputs, "_videos" if sample.video else ""
    grid = inputs["video_grid_thw" if sample.video else "image_grid_thw"]
    seen = vlm.model.get_submodule("model.visual")(inputs[f"pixel_values{suffix}"], grid_thw=grid)
    (deepstack,) = seen.deepstack_features
    return torch.stack([seen.pooler_output, deepstack])


def picture(vlm: VLM, samples: Sequence[Sample], about: Picture) -> dict[str, Any]:
    """One picture: what is shown, all that can be asked about it, and example questions, each with its rival."""
    sample, asked = samples[0], sorted(about.questions, key=lambda one: one.kind == "relation")
    regions = {(one.evidence[0], one.kind.replace("relation", "attribute")): one for one in reversed(asked)}
    keys = sorted(regions, key=lambda key: (key[0].image, key[0].y0, key[0].x0))
    texts = [one.text for one in asked]
    opening = vlm.family.processor.opening(sample.domain, len(sample.images), video=sample.video)
    views = vlm.encode([sample]).views[0]
    return {
        "opening": vlm.tokenizer.tokenize(opening),
        "views": [
            {"width": image.width, "height": image.height, "rows": one.grid.rows, "columns": one.grid.columns,
             "source": as_text(image)}
            for image, one in zip(sample.images, views, strict=True)
        ],
        "objects": [region(vlm, sample, regions[key]) for key in keys],
        "questions": [
            {"text": one.text, "answer": one.answer,
             "object": keys.index((one.evidence[0], one.kind.replace("relation", "attribute")))}
            for one in asked
        ],
        "examples": [
            {"question": texts.index(pair.sample.question), "rival": texts.index(pair.rival.question)}
            for pair in rival_pairs(samples)
        ],
    }  # fmt: skip


def region(vlm: VLM, sample: Sample, asked: Question) -> dict[str, Any]:
    """What a question asks for: where it stands in pixels, and which visual tokens show it, counted from the first one
    of the picture; of a value of several digits also those of each digit, where the grid tells them apart."""
    batch = vlm.encode([replace(sample, question=asked.text, answer=asked.answer, evidence=asked.evidence)])
    number = torch.cumsum(batch.visual[0], 0) - 1
    parts, complete = answer_parts(batch)
    box = asked.evidence[0]
    return {
        "name": NAMES.sub("", asked.text),
        "kind": asked.kind,
        "value": asked.answer,
        "view": box.image,
        "box": [round(float(side), 1) for side in (box.x0, box.y0, box.x1, box.y1)],
        "tokens": number[batch.evidence[0]].tolist(),
        "parts": [number[part].tolist() for part in parts[0]] if complete and len(parts[0]) > 1 else None,
    }


def as_text(image: Image.Image) -> str:
    """A picture to look at, as the address of an image; what the model sees of it is stored apart."""
    file = io.BytesIO()
    image.convert("RGB").save(file, "WEBP", quality=90, method=6)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


if __name__ == "__main__":
    main()
