"""The bridge in training: a new tower and connector, and adapters on a language model that stays as it is."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float, Int
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import SmolVLMForConditionalGeneration

from corelib.bridge import adapter, language
from corelib.bridge import checkpoint as bridge_store
from corelib.bridge.architecture import build_bridge, new_parts, word_scale
from corelib.core import model_folder
from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet
from corelib.families import bundled as families
from corelib.mini.vocabulary import token_id
from corelib.training import turns
from corelib.training.batches import TrainingBatch
from corelib.training.connector_init import translation
from corelib.training.curriculum import Part
from corelib.training.kl_to_base import POOL, kept_passages, kl_to_base, passages
from corelib.training.trainable import Trainable, mixed_precision, unsighted


class TrainableBridge(Trainable):
    """The bridge: a new tower and connector, and adapters on a language model that stays as it is.

    It may begin with a bundled bridge, or, `renewed`, with its tower and connector alone; and `unseeing` heads may be
    kept from ever seeing a picture.
    """

    model: SmolVLMForConditionalGeneration

    def __init__(
        self,
        seed: int,
        begins_with: str = "",
        renewed: bool = False,
        unseeing: str = "",
        precision: str = "bfloat16",
    ) -> None:
        self.seed = seed
        self.mixed = precision == "bfloat16"
        self.unseeing = HeadSet(unseeing)
        self.spoken: dict[int, Int[Tensor, "passage token"]] = {}  # by share
        source = language.locate()
        self.model = build_bridge(source, seed)
        self.family = families.Bridge(self.model.config, bridge_store.processor(source))
        self.model.set_attn_implementation("eager")  # learns faster on a processor than "sdpa": its way back is quick
        self.model.set_attn_implementation({"text_config": turns.NAME})  # eager, too, but for rows that are read alone
        self.words = word_scale(self.model)
        adapter.put_on(self.model, seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="`gradient_checkpointing_enable`", category=FutureWarning)
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        self._compute_again(False)
        for layer in self.model.model.text_model.modules():
            if self.mixed and isinstance(layer, nn.Linear) and not layer.weight.requires_grad:
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

    def logits_alone(self, batch: TrainingBatch, gaps: Int[Tensor, " token"]) -> Float[Tensor, "learned word"]:
        if self.unseeing:
            raise BadInput("heads that do not see pictures cannot be had where rows are read alone: leave one of both")
        inputs, turn = dict(batch.inputs), batch.turns[0]
        inputs |= {"attention_mask": turns.turn_mask(turn), "position_ids": turns.positions(turn, gaps)}
        self._compute_again(len(turn) > turns.LONG)
        with self.eval_precision():
            hidden = self.model.model(**inputs, use_cache=False).last_hidden_state
            logits: Tensor = self.model.lm_head(hidden[:, :-1][batch.learned])
        return logits

    def _compute_again(self, again: bool) -> None:
        """Are the states inside of layers computed again on the way back, or kept?"""
        for module in self.model.modules():
            if hasattr(module, "gradient_checkpointing"):
                vars(module)["gradient_checkpointing"] = again

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
        return mixed_precision(self.device) if self.mixed else nullcontext()

    def kl_to_base(self, step: int, share: int, count: int) -> Float[Tensor, ""]:
        with self.eval_precision():
            if share not in self.spoken:  # of its own language model: the same whenever a run goes on
                start = token_id(self.processor.tokenizer, "<|endoftext|>")
                seed, precision = self.seed * 64 + share, "bfloat16" if self.mixed else "float32"
                path = (
                    language.cache_folder().parent
                    / "passages"
                    / f"{language.NAME}-{POOL}-{seed}-{precision}.safetensors"
                )
                self.spoken[share] = kept_passages(path, partial(passages, self.model, start, seed=seed)).to(
                    self.device
                )
            pool = self.spoken[share]
            chosen = torch.arange(step * count, (step + 1) * count) % len(pool)
            return kl_to_base(self.model, pool[chosen])
