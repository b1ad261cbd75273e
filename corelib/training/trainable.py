"""What is trained: a model with its processor, which of its parts learn, and how its tower sees by itself.

Everything else about training (curriculum, resume, processes) is the same for a mini model, of which every weight is
new, and for the bridge, whose language model is not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel, Qwen3VLForConditionalGeneration, SmolVLMForConditionalGeneration

from corelib.attention.intervene import knockout
from corelib.bridge import adapter, language
from corelib.bridge import checkpoint as bridge_store
from corelib.bridge.architecture import build_bridge, new_parts, word_scale
from corelib.core import model_folder
from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.families import bundled as families
from corelib.mini import checkpoint as mini_store
from corelib.mini.architecture import SIZES, build_mini
from corelib.mini.processing import MiniProcessor, patchify
from corelib.mini.vocabulary import build_tokenizer, token_id
from corelib.training.batches import TrainingBatch
from corelib.training.connector_init import translation
from corelib.training.curriculum import Part
from corelib.training.kl_to_base import kl_to_base, passages
from corelib.training.recipe import Recipe


class Trainable(ABC):
    """A model in training."""

    model: PreTrainedModel
    family: families.Bundled

    @property
    def processor(self) -> families.Processor:
        return self.family.processor

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @abstractmethod
    def trained(self) -> Mapping[str, nn.Parameter]:
        """The parameters that some stage trains, by name."""

    @abstractmethod
    def set_learning(self, learns: Part) -> None:
        """Let the vision `tower` learn, the `language` model, or `both`; or the `adapters` of the bridge alone.

        Raises: BadInput for the adapters of a model that has none.
        """

    @abstractmethod
    def tower_tokens(self, images: Sequence[Image.Image]) -> list[Float[Tensor, "token width"]]:
        """The tower alone: the visual tokens of all images in order, at every level that the language model gets, in
        the scale in which they state facts (`tower_supervision.py`)."""

    @abstractmethod
    def logits(self, batch: TrainingBatch) -> Float[Tensor, "learned word"]:
        """What the model predicts at the rows that are learned."""

    @abstractmethod
    def renew_language(self, wording: bool = False) -> None:
        """Keep the tower, in half precision as it would ship, and put an untrained language model (or untrained
        adapters) behind it. With `wording`, what the tower states is first put into the language model's words."""

    @abstractmethod
    def save(self, folder: Path) -> str:
        """Write a folder that `corelib.load` reads. Returns the weights' sha256."""

    def eval_precision(self) -> AbstractContextManager[object]:
        """How the model computes while it is measured: in which precision, and not compiled."""
        return nullcontext()

    def kl_to_base(self, step: int, share: int, count: int) -> Float[Tensor, ""]:
        """How far a pretrained language model has moved from what it was, on `count` passages of its own: nats a token.

        Raises: BadInput for a model that was nothing before.
        """
        raise BadInput("a stage that keeps what a language model was needs one that was something before: the bridge")


class TrainableMini(Trainable):
    """A mini model: tower and language model are trained from nothing."""

    model: Qwen3VLForConditionalGeneration

    def __init__(self, size: str, seed: int, fast: bool = False, begins_with: str = "") -> None:
        self.size, self.seed, self.fast = size, seed, fast
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
        with mixed_precision(self.device) if self.fast else nullcontext():
            logits: Tensor = self.model(**batch.inputs, use_cache=False).logits
            return logits[:, :-1][batch.learned]

    def renew_language(self, wording: bool = False) -> None:
        new = dict(build_mini(SIZES[self.size], self.seed).named_parameters())
        for name, parameter in self.model.named_parameters():
            parameter.data.copy_(new[name] if ".language_model." in name else parameter.data.half())

    def save(self, folder: Path) -> str:
        return mini_store.save(folder, self.model, self.mini_processor)

    def eval_precision(self) -> AbstractContextManager[object]:
        return torch.compiler.set_stance("force_eager") if self.fast else nullcontext()


class TrainableBridge(Trainable):
    """The bridge: a new tower and connector, and adapters on a language model that stays as it is.

    It may begin with a bundled bridge, or, `renewed`, with its tower and connector alone; and `unseeing` heads may be
    kept from ever seeing a picture.
    """

    model: SmolVLMForConditionalGeneration

    def __init__(self, seed: int, begins_with: str = "", renewed: bool = False, unseeing: str = "") -> None:
        self.seed = seed
        self.unseeing = HeadSet(unseeing)
        self.spoken: dict[int, Int[Tensor, "passage token"]] = {}  # by share
        source = language.locate()
        self.model = build_bridge(source, seed)
        self.family = families.Bridge(self.model.config, bridge_store.processor(source))
        self.model.set_attn_implementation("eager")  # learns faster on a processor than "sdpa": its way back is quick
        self.words = word_scale(self.model)
        adapter.put_on(self.model, seed)
        for layer in self.model.model.text_model.modules():
            if isinstance(layer, nn.Linear) and not layer.weight.requires_grad:
                layer.to(torch.bfloat16)  # as it lies in the cache: nothing is lost, and nothing to cast at every step
        self.fresh = {name: p.detach().clone() for name, p in adapter.adapters(self.model).items()}
        if begins_with:
            known = load_file(model_folder.bundled_folder(begins_with) / model_folder.WEIGHTS)
            adapter.set_trained(self.model, {**known, **(self.fresh if renewed else {})})

    def trained(self) -> Mapping[str, nn.Parameter]:
        return adapter.trained(self.model)

    def set_learning(self, learns: Part) -> None:
        self.model.requires_grad_(False)
        for part in new_parts(self.model):
            part.requires_grad_(learns in ("tower", "both"))
        if learns != "tower":
            # the way from the tower to the words belongs to both
            self.model.model.connector.requires_grad_(learns != "adapters")
            for parameter in adapter.adapters(self.model).values():
                parameter.requires_grad_(True)

    def tower_tokens(self, images: Sequence[Image.Image]) -> list[Float[Tensor, "token width"]]:
        _, pixels = self.processor.expand([[self.model.config.image_token_id]] * len(images), [[i] for i in images])
        features = self.model.model.get_image_features(pixels["pixel_values"].to(self.device)).pooler_output
        return [torch.cat(list(features)) / self.words]

    def logits(self, batch: TrainingBatch) -> Float[Tensor, "learned word"]:
        inputs, unseen = batch.apart(), batch.labels == self.model.config.image_token_id
        if self.unseeing:  # programs take boolean masks
            inputs["attention_mask"] = inputs["attention_mask"] >= 0
        with self.eval_precision(), unsighted(self.model, unseen, self.unseeing):
            hidden = self.model.model(**inputs, use_cache=False).last_hidden_state
            logits: Tensor = self.model.lm_head(hidden[:, :-1][batch.learned])
            return logits

    def renew_language(self, wording: bool = False) -> None:
        with torch.no_grad():
            if wording:
                connector = self.model.model.connector.modality_projection.proj.weight
                connector.copy_(translation(self.embed).to(connector) @ connector)
            for name, parameter in self.trained().items():
                parameter.copy_(self.fresh[name] if name in self.fresh else parameter.half())

    def embed(self, word: str) -> Float[Tensor, " width"]:
        """A word's embedding: the mean of its tokens'."""
        ids = self.processor.tokenizer(word, add_special_tokens=False)["input_ids"]
        words: Float[Tensor, "word width"] = self.model.model.text_model.get_input_embeddings().weight
        return words[ids].mean(0).cpu()

    def save(self, folder: Path) -> str:
        return bridge_store.save(folder, self.model)

    def eval_precision(self) -> AbstractContextManager[object]:
        return mixed_precision(self.device)

    def kl_to_base(self, step: int, share: int, count: int) -> Float[Tensor, ""]:
        with self.eval_precision():
            if share not in self.spoken:  # of its own language model: the same whenever a run goes on
                start = token_id(self.processor.tokenizer, "<|endoftext|>")
                self.spoken[share] = passages(self.model, start, seed=self.seed * 64 + share)
            pool = self.spoken[share]
            chosen = torch.arange(step * count, (step + 1) * count) % len(pool)
            return kl_to_base(self.model, pool[chosen])


def unsighted(model: nn.Module, visual: Bool[Tensor, "batch token"], heads: HeadSet) -> AbstractContextManager[object]:
    """No row of text of these `heads` sees a picture's tokens. The rows of the pictures themselves stay as they are."""
    return knockout(model, visual, ~visual, heads) if heads else nullcontext()


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """Products in bfloat16 where autocast finds them safe."""
    return torch.autocast(device.type, torch.bfloat16)


def build_trainable(recipe: Recipe) -> Trainable:
    """The model of a recipe, as it is before the first step."""
    if recipe.model_kind == "bridge":
        return TrainableBridge(recipe.seed, recipe.begins_with, recipe.renewed, recipe.unseeing)
    return TrainableMini(recipe.size, recipe.seed, recipe.fast, recipe.begins_with)
