"""The hub: what is asked for is checked before it is downloaded, and a revision becomes the commit that results name.

    folder, commit = fetch("Qwen/Qwen3-VL-2B-Instruct", revision="main", each=2, device=torch.device("cuda"))

Without a network, what an earlier download left is taken. Only safetensors are fetched, and no code.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import torch

from corelib.core.errors import BadInput, BadWeights, HubUnreachable, MissingPackage
from corelib.core.memory import check_weights
from corelib.families import tiny

log = logging.getLogger(__name__)
FILES = ["*.json", "*.jinja", "*.safetensors", "*.txt", "*.model"]


def is_hub_id(text: str) -> bool:
    """Does it look like `owner/name`?

    >>> is_hub_id("Qwen/Qwen3-VL-2B-Instruct"), is_hub_id("mini-s"), is_hub_id("./runs/mini-s")
    (True, False, False)
    """
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", text) is not None and not os.path.exists(text)


def fetch(name: str, revision: str | None, each: float, device: torch.device | None) -> tuple[Path, str]:
    """The folder of a checkpoint of the hub, downloaded where it is not there yet, and its commit. Refused before the
    download if the disk or the memory of the `device` will not hold it at so many bytes a weight.

    The hub is asked only if the extra `hub` is there, and that is said. A name whose owner is a folder here is taken
    for a mistyped path, unless a revision is given: nothing leaves the machine unasked.

    Raises: HubUnreachable without a network or the right to it, BadInput for a name or revision that is not there or
    does not fit, BadWeights if there are no safetensors, MissingPackage without the extra.
    """
    owner, model = name.split("/")
    if revision is None and os.path.isdir(owner):
        raise BadInput(
            f"there is a folder {owner} here, and no {model} in it: give the path of a model, or --revision main, if "
            f"you mean {name} of the hub"
        )
    if find_spec("accelerate") is None:
        raise MissingPackage(
            f"{name} is no folder here, and the hub is asked only with the extra hub: pip install 'corelib-heads[hub]'"
        )
    log.warning("%s is no folder here: asking the hub for it", name)
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        found = HfApi().model_info(name, revision=revision, files_metadata=True, timeout=20)
    except GatedRepoError:
        raise HubUnreachable(f"{name} wants its terms accepted: do so on its page, then `hf auth login`") from None
    except RevisionNotFoundError:
        raise BadInput(f"{name} has no revision {revision!r}: leave it away for the newest") from None
    except RepositoryNotFoundError:
        raise BadInput(f"the hub has no model {name} (or it is private: `hf auth login`)") from None
    except (HfHubHTTPError, OSError, RuntimeError) as error:
        return _cached(name, revision, error)
    except Exception as error:  # the hub's client has changed its errors with its transport more than once
        if "http" not in type(error).__module__:
            raise
        return _cached(name, revision, error)
    sizes = {one.rfilename: one.size or 0 for one in found.siblings or ()}
    stored = sum(size for file, size in sizes.items() if file.endswith(".safetensors"))
    if not stored:
        raise BadWeights(f"{name} has no .safetensors file: other formats can run code and are not read")
    if device:  # the hub counts the numbers in most repositories; else, two bytes each are usual
        counted = getattr(getattr(found, "safetensors", None), "total", None)
        check_weights(name, (counted or stored / 2) * each, device)
    cache, commit = Path(constants.HF_HUB_CACHE), found.sha
    if commit is None:
        raise BadWeights(f"the hub names no commit of {name}: results could not say which weights they are of")
    if not (cache / f"models--{name.replace('/', '--')}" / "snapshots" / commit).exists():
        _check_disk(name, stored, cache)
    return Path(snapshot_download(name, revision=commit, allow_patterns=FILES)), commit


def _cached(name: str, revision: str | None, error: Exception) -> tuple[Path, str]:
    """Without a network: what an earlier download left."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
    except Exception:
        raise HubUnreachable(
            f"the hub cannot be reached ({type(error).__name__}), and {name} is not in the cache: connect once, or "
            f"give the folder of a download (`hf download {name}`), or try the code on {tiny.tiny_names()[0]}"
        ) from None
    return folder, folder.name


def _check_disk(name: str, needed: float, cache: Path) -> None:
    place = next(one for one in (cache, *cache.parents) if one.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise BadInput(
            f"{name} takes {needed / 2**30:.1f} GiB on disk, {free / 2**30:.1f} are free at {place}: make room, or set "
            "HF_HOME to another disk"
        )
