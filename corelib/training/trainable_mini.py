"""A mini model in training: tower and language model are trained from nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from transformers import Qwen3VLForConditionalGeneration

from corelib.core import model_folder
from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.families import bundled as families
from corelib.mini import checkpoint as mini_store
from corelib.mini.architecture import SIZES, build_mini
from corelib.mini.processing import MiniProcessor, patchify
from corelib.mini.vocabulary import build_tokenizer
from corelib.sparse import Window
from corelib.sparse.masked import masked_window
from corelib.training.batches import TrainingBatch
from corelib.training.curriculum import Part
from corelib.training.trainable import Trainable, mixed_precision


class TrainableMini(Trainable):
    """A mini model: tower and language model are trained from nothing."""

    model: Qwen3VLForConditionalGeneration

    def __init__(
        self, size: str, seed: int, fast: bool = False, begins_with: str = "", dense: str = "", window: int = 0
    ) -> None:
        self.size, self.seed, self.fast = size, seed, fast
        self.dense, self.window = HeadSet(dense), Window(window) if window else None
        self.model = build_mini(SIZES[size], seed)
        if begins_with:
            self.model.load_state_dict(mini_store.load(model_folder.bundled_folder(begins_with))[0].state_dict())
        self.mini_processor = MiniProcessor(build_tokenizer())
        self.family = families.Mini(self.model.config, self.mini_processor)
        if fast:
            self.model.set_attn_implementation({"text_config": "eager"})  # compiled, its way back beats "sdpa"
            for layer in self.model.model.language_model.layers:
                layer.compile(dynamic=True)

    def trained(self) -> Mapping[str, nn.Parameter]:
        return dict(self.model.named_parameters())

    def set_learning(self, learns: Part) -> None:
        if learns == "adapters":
            raise BadInput("a mini model has no adapters: let its language model learn")
        self.model.model.visual.requires_grad_(learns != "language")
        self.model.model.language_model.requires_grad_(learns != "tower")

    def tower_tokens(self, images: Sequence[Image.Image]) -> list[Float[Tensor, "token width"]]:
        patches, grids = zip(*(patchify(image) for image in images), strict=True)
        out = self.model.model.visual(torch.cat(patches).to(self.device), grid_thw=torch.tensor(grids).to(self.device))
        levels = (*out.deepstack_features, out.pooler_output)
        return [nn.functional.rms_norm(level, level.shape[-1:]) for level in levels]

    def logits(self, batch: TrainingBatch) -> Float[Tensor, "learned word"]:
        with mixed_precision(self.device) if self.fast else nullcontext(), self.short_sighted():
            logits: Tensor = self.model(**batch.inputs, use_cache=False).logits
            return logits[:, :-1][batch.learned]

    def short_sighted(self) -> AbstractContextManager[object]:
        """All heads but the dense ones see a window, if the recipe has one."""
        return nullcontext() if self.window is None else masked_window(self.model, self.dense, self.window)

    def renew_language(self, wording: bool = False) -> None:
        new = dict(build_mini(SIZES[self.size], self.seed).named_parameters())
        for name, parameter in self.model.named_parameters():
            parameter.data.copy_(new[name] if ".language_model." in name else parameter.data.half())

    def save(self, folder: Path) -> str:
        return mini_store.save(folder, self.model, self.mini_processor)

    def eval_precision(self) -> AbstractContextManager[object]:
        return torch.compiler.set_stance("force_eager") if self.fast else nullcontext()
