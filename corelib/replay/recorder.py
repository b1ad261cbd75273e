"""Write down a forward pass as it runs, and prove that its layers can be taken apart.

Three identities are tested in every layer, at the last positions of each sequence. They cost little there, and no
sequence ends in padding:

    hidden_states = input_layernorm(resid_pre)                        # what the attention is given
    attention = o_proj(z)                                             # no gate, no scale behind the heads
    resid_post = resid_mid + mlp(post_attention_layernorm(resid_mid))
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from corelib.attention.interface import AttentionCall, Inner, attention_modules, running
from corelib.core.errors import NotFinite, UnsupportedArchitecture
from corelib.models.answers import INSTEAD
from corelib.replay.layer import Block, LayerState, axes_last, map_tensors

PARTS = {"input_layernorm", "self_attn", "post_attention_layernorm", "mlp"}  # of a decoder layer that we can take apart
PROVED = slice(-2, None)  # positions
EXACT, ROUGH = 1e-3, 0.05  # what rounding may change: in float32 and float64, and in all that has fewer digits


@torch.no_grad()
def record_pass(
    model: nn.Module, inputs: dict[str, Tensor]
) -> tuple[list[Block], nn.Module, Float[Tensor, "sequence position width"], list[LayerState]]:
    """Run a model once: its decoder layers, the norm after them, what came into the first, and what each computed.

    Raises:
        UnsupportedArchitecture: A layer is built of other parts, or does more with them.
        NotFinite: The pass overflowed.
    """
    blocks, norm = decoder(model)
    recorder = Recorder(blocks)
    with recorder.watching(norm), running(model, recorder.attend):
        model(**inputs, use_cache=False, logits_to_keep=1)
    return blocks, norm, recorder.resid_pre[0], recorder.layers


class Recorder:
    """Takes notes of one pass: hooks of each layer, in the order in which they are called."""

    def __init__(self, blocks: list[Block]) -> None:
        self.blocks = blocks
        self.layers: list[LayerState] = []
        self.resid_pre: list[Tensor] = []  # what came into the first layer, and into the one at work
        self.leaving: Tensor | None = None  # what went out of the last one
        self.heads: tuple[Tensor, Tensor, Tensor] | None = None  # z, keys and values of the one at work

    @contextmanager
    def watching(self, norm: nn.Module) -> Iterator[None]:
        """Hooks for as long as the pass runs; `norm` closes it."""
        handles = [norm.register_forward_pre_hook(self.enter, with_kwargs=True)]
        for block in self.blocks:
            handles.append(block.register_forward_pre_hook(self.enter, with_kwargs=True))
            handles.append(block.self_attn.register_forward_hook(self.attended, with_kwargs=True))
            handles.append(block.register_forward_hook(self.leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def enter(self, module: nn.Module, given: tuple[Any, ...], options: dict[str, Any]) -> None:
        """A layer, or the norm, is given the stream: what has been added to it since the last layer?"""
        entering = given[0] if given else options["hidden_states"]
        self.resid_pre = [*self.resid_pre[:1], entering]
        if self.leaving is not None:
            entering = entering.to(self.leaving.device)
            between = None if torch.equal(entering, self.leaving) else entering - self.leaving
            self.layers[-1] = replace(self.layers[-1], between=between)

    def attend(self, call: AttentionCall, inner: Inner) -> Float[Tensor, "batch query head dim"]:
        """The attention function, as a program."""
        z = inner(call)
        self.heads = z, call.key.transpose(1, 2), call.value.transpose(1, 2)
        return z

    def attended(self, module: Block, given: tuple[Any, ...], options: dict[str, Any], out: tuple[Any, ...]) -> None:
        """The attention of a layer has been computed, `o_proj` included."""
        block, said = self.blocks[len(self.layers)], out[0]
        entering = self.resid_pre[-1].to(said.device)
        arguments = {key: value for key, value in options.items() if key != "hidden_states"}
        arguments["position_embeddings"] = map_tensors(arguments["position_embeddings"], axes_last)
        hidden = options["hidden_states"] if "hidden_states" in options else given[0]
        self._prove(hidden[:, PROVED], block.input_layernorm(entering[:, PROVED]))
        assert self.heads is not None  # the attention function was called
        z, keys, values = self.heads
        self._prove(said[:, PROVED], module.o_proj(z[:, PROVED].flatten(2)))
        self.layers.append(LayerState(entering + said, z, keys, values, arguments))

    def leave(self, module: Block, given: tuple[Any, ...], out: Tensor | tuple[Any, ...]) -> None:
        """A layer is done."""
        self.leaving = out[0] if isinstance(out, tuple) else out
        stream = self.layers[-1].resid_mid[:, PROVED]
        mlp = module.mlp(module.post_attention_layernorm(stream))
        self._prove(self.leaving[:, PROVED], stream, mlp, number=len(self.layers) - 1)

    def _prove(self, said: Tensor, *parts: Tensor, number: int | None = None) -> None:
        """Is what the model says the sum of these parts, but for rounding?

        Rounding is measured against the parts, not against their sum, which may be small where they are not.
        """
        number = len(self.layers) if number is None else number
        name = f"layer {number} ({type(self.blocks[number]).__name__})"
        if not said.isfinite().all():
            raise NotFinite(f"what {name} computes is not finite, so no logits are: {INSTEAD}")
        digits = max(torch.finfo(one.dtype).eps for one in (said, *parts))
        size = torch.stack([one.float().abs() + one.float().square().mean().sqrt() for one in parts]).sum(0)
        apart = (said.float() - torch.stack([one.float() for one in parts]).sum(0)).abs()
        if not (apart <= (EXACT if digits < 1e-6 else ROUGH) * size).all():
            raise UnsupportedArchitecture(
                f"{name} does more than add attention and a feed-forward part: run whole passes under `ablate`"
            )


def decoder(model: nn.Module) -> tuple[list[Block], nn.Module]:
    """The decoder's layers, and the norm after them.

    Raises:
        UnsupportedArchitecture: They are built of other parts than `PARTS`.
    """
    names = {id(module): name for name, module in model.named_modules()}
    paths = [names[id(module)].rsplit(".", 1)[0] for module in attention_modules(model)]
    blocks = [model.get_submodule(path) for path in paths]
    whole = model.get_submodule(paths[0].rsplit(".", 2)[0])
    if any(not PARTS <= dict(block.named_children()).keys() for block in blocks) or not hasattr(whole, "norm"):
        raise UnsupportedArchitecture(
            f"{type(blocks[0]).__name__} is not built of {', '.join(sorted(PARTS))}: run whole passes under `ablate`"
        )
    return blocks, whole.get_submodule("norm")
