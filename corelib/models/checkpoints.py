"""Published checkpoints: from the hub or a folder on disk to a model and its family.

    load("Qwen/Qwen3-VL-2B-Instruct")                                # from corelib.models.load, which calls this
    load("OpenGVLab/InternVL3_5-1B-HF", revision="main", device="cuda", quantize="8bit")
    load("/data/my-finetuned-qwen")                                  # config.json, *.safetensors, tokenizer, …

Only safetensors are read, and no code of a repository is ever run. What is asked for is checked before it is loaded:
the family, the room on the disk, the memory. A revision is resolved to its commit, which is what results name.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, TypedDict

import torch
import transformers
from PIL import Image
from transformers import AutoConfig, AutoTokenizer, BaseImageProcessor, PreTrainedModel, PreTrainedTokenizerBase

from corelib.core import distributed, model_folder
from corelib.core.errors import BadInput, BadWeights, MissingPackage, UnsupportedArchitecture, check_known
from corelib.core.memory import check_device, check_weights
from corelib.core.weights import count_weights, load_whole, reading, weights_checksum
from corelib.families import gemma3, internvl, llava_onevision, qwen2_5_vl, qwen3_vl, smolvlm, tiny
from corelib.families.chat import Chat
from corelib.models.hub import fetch, is_hub_id
from corelib.tasks.sample import Sample

FAMILIES: dict[str, type[Chat]] = {  # by config.json's model_type
    "qwen3_vl": qwen3_vl.Qwen3VL,
    "qwen2_5_vl": qwen2_5_vl.Qwen25VL,
    "internvl": internvl.InternVL,
    "llava_onevision": llava_onevision.LlavaOnevision,
    "smolvlm": smolvlm.SmolVLM,
    "gemma3": gemma3.Gemma3,
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
QUANTIZED = {"8bit": 1.0, "4bit": 0.5}  # bytes a weight
PREPROCESSOR = ("preprocessor_config.json", "processor_config.json")  # what only a published checkpoint has


class HubOptions(TypedDict, total=False):
    """How a published checkpoint is loaded, beside its device: see `open_checkpoint`."""

    revision: str | None
    dtype: str | None
    device_map: str | None
    quantize: str | None


def load_tiny(name: str) -> tuple[PreTrainedModel, Chat, str]:
    """A tiny model of random weights (`tiny-random:qwen3-vl`), its family and a checksum of its weights."""
    kind = name.removeprefix(tiny.PREFIX)
    check_known("model", name, tiny.tiny_names())
    model, family = tiny.build_tiny(kind)
    return model, family, weights_checksum(model)


def open_checkpoint(
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    device_map: str | None = None,
    quantize: str | None = None,
) -> tuple[PreTrainedModel, Chat, str]:
    """A published checkpoint, its family, and what identifies its weights: the commit, or a checksum of the files.

    `device`: left out, a GPU if there is one (of several processes, each its own). `dtype`: left out, what the device
    is fast in (`fitting_dtype`). `device_map="auto"` spreads a model over several GPUs and needs accelerate; `quantize`
    ("8bit", "4bit") needs bitsandbytes and an NVIDIA GPU.

    Raises: UnsupportedArchitecture for another family, BadWeights if there are no safetensors, BadInput for an option
    that cannot be followed, HubUnreachable.
    """
    where = check_device(device or (f"cuda:{distributed.local_rank()}" if torch.cuda.is_available() else "cpu"))
    precision = DTYPES[check_known("dtype", dtype, DTYPES)] if dtype else fitting_dtype(where)
    each = QUANTIZED[check_known("quantization", quantize, QUANTIZED)] if quantize else precision.itemsize
    placed = _placement(where, device_map, quantize)
    if is_hub_id(str(name_or_path)):
        folder, identity = fetch(str(name_or_path), revision, each, None if device_map else where)
    else:
        if revision:
            raise BadInput(f"revision {revision}: {name_or_path} is a folder on disk and has none")
        folder, identity = Path(name_or_path), ""
    kind = model_folder.model_type(folder)
    if kind not in FAMILIES:
        raise UnsupportedArchitecture(
            f"{name_or_path} is a {kind!r} model; supported: {', '.join(FAMILIES)} (how to add one: the book, 'Add "
            "your own family')"
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise BadWeights(f"{folder} has no .safetensors file: other formats can run code and are not read; convert it")
    if not device_map:
        check_weights(str(name_or_path), count_weights(weights) * each, where)
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    family = FAMILIES[kind]
    with reading(folder, "config.json"):
        config = AutoConfig.from_pretrained(folder, **local)
    model = load_whole(
        getattr(transformers, family.architecture), folder, config=config, dtype=precision, use_safetensors=True,
        attn_implementation="sdpa", **placed, **local,
    )  # fmt: skip
    with reading(folder, "tokenizer, chat template or image settings"):
        tokenizer = AutoTokenizer.from_pretrained(folder, **local)
        processor: type[BaseImageProcessor] = family.processor
        images = processor.from_pretrained(folder, **local)
        template = _template(folder, tokenizer)
        adapter = family(model.config, tokenizer, images, template, _video_settings(folder))
        adapter.build_inputs((Sample.of(Image.new("RGB", (64, 64)), "What is it?"),), False)  # they work together
    return model.eval().requires_grad_(False), adapter, identity or _checksum(weights)


def fitting_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on a GPU that computes in it, float16 on an older one (a T4), float32 on a processor.

    >>> fitting_dtype(torch.device("cpu"))
    torch.float32
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    return torch.float16 if device.type == "mps" else torch.float32


def _placement(device: torch.device, device_map: str | None, quantize: str | None) -> dict[str, Any]:
    """Where the weights go, as `from_pretrained` is told."""
    placed: dict[str, Any] = {"device_map": device_map or ({"": str(device)} if device.type != "cpu" else None)}
    if quantize:
        if device.type != "cuda":
            raise BadInput(f"quantize={quantize!r} needs an NVIDIA GPU: leave it away on {device}")
        _need("bitsandbytes", "quantize")
        from transformers import BitsAndBytesConfig

        placed["quantization_config"] = BitsAndBytesConfig(**{f"load_in_{quantize}": True})
    if placed["device_map"]:
        _need("accelerate", "device_map")
    return placed


def _need(package: str, option: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise MissingPackage(f"{option} needs the package {package}: pip install {package}")


def _template(folder: Path, tokenizer: PreTrainedTokenizerBase) -> str:
    """The chat template of a checkpoint, wherever it keeps it."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    if (folder / "chat_template.json").is_file():
        return str(json.loads((folder / "chat_template.json").read_text(encoding="utf-8"))["chat_template"])
    if isinstance(tokenizer.chat_template, str) and tokenizer.chat_template:
        return tokenizer.chat_template
    raise BadInput(f"{folder} has no chat template: it is no model that answers questions; take its Instruct version")


def _video_settings(folder: Path) -> dict[str, Any] | None:
    """The settings of a checkpoint's video processor, looked for where transformers looks for them."""
    for name in ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json"):
        if (folder / name).is_file():
            found: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
            settings = found.get("video_processor") if name == "processor_config.json" else found
            if settings is not None:
                return settings
    return None


def _checksum(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(model_folder.sha256(path).encode())
    return digest.hexdigest()
