"""One plain forward pass, kept layer by layer: what `replay_from_layer`, `shared_prefix` and `reread` go on from.

    kept = residual_cache(vlm, encoded)
    kept.resid_mid[3]                           # the residual stream in layer 3, [sequence, position, width]

A decoder layer is taken apart into its attention and its feed-forward part, both added to the stream; a decoder that
does more is refused. What a model adds between layers (Qwen's deep stack of visual features) is kept, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from corelib.attention.interface import AttentionCall, Inner, attention_modules, running
from corelib.attention.record import row_index
from corelib.core.errors import UnsupportedArchitecture
from corelib.models.answers import AnswerScores, score_answers
from corelib.models.batch import Batch
from corelib.models.vlm import VLM

PARTS = {"input_layernorm", "self_attn", "post_attention_layernorm", "mlp"}  # of a decoder layer that we can take apart


@dataclass(frozen=True)
class ResidualCache:
    """One plain forward pass over a batch, kept layer by layer. The stream of a layer is the residual stream after its
    attention was added, before its feed-forward part."""

    vlm: VLM
    layers: list[nn.Module]  # the decoder's
    norm: nn.Module  # after the last of them
    resid_pre: Float[Tensor, "batch position width"]  # what came into the first of them
    resid_mid: list[Float[Tensor, "batch position width"]]
    between: list[Float[Tensor, "batch position width"] | None]  # between a layer and the next one
    keys: list[Float[Tensor, "batch position kv_head dim"]]
    values: list[Float[Tensor, "batch position kv_head dim"]]
    z: list[Float[Tensor, "batch position head dim"]]  # of the heads, before o_proj
    arguments: list[dict]  # what else the attention is given
    sequence: Int[Tensor, " sample"]  # of the batch, that a sample is in
    rows: Int[Tensor, "sample row"]  # its positions that predict the answer
    real: Bool[Tensor, "sample row"]  # which of them are
    targets: Int[Tensor, "sample row"]  # what they should predict


@torch.no_grad()
def residual_cache(vlm: VLM, encoded: Batch) -> ResidualCache:
    """Run the model once, and keep what can be gone on from."""
    layers, norm = _decoder(vlm.model)
    stream, added, arguments, keys, values, outputs = ([] for _ in range(6))
    entered = entering = None  # what comes into the first layer, and into the one at work
    leaving = left = None  # what goes out of that one, and out of the first

    def program(call: AttentionCall, inner: Inner) -> Float[Tensor, "batch query head dim"]:
        keys.append(call.key.transpose(1, 2))
        values.append(call.value.transpose(1, 2))
        outputs.append(inner(call))
        return outputs[-1]

    def enters(module, given, options):
        nonlocal entered, entering
        entering = given[0] if given else options["hidden_states"]
        if leaving is None:
            entered = entering
        else:
            added.append(None if torch.equal(entering, leaving) else entering - leaving)

    def attends(module, given, options, out):
        mine = {key: value for key, value in options.items() if key != "hidden_states"}
        arguments.append({**mine, "position_embeddings": map_tensors(mine["position_embeddings"], axes_last)})
        stream.append(entering + out[0])

    def leaves(module, given, out):
        nonlocal leaving, left
        leaving = out[0] if isinstance(out, tuple) else out
        left = leaving if left is None else left

    handles = [layer.register_forward_pre_hook(enters, with_kwargs=True) for layer in layers]
    handles += [layer.self_attn.register_forward_hook(attends, with_kwargs=True) for layer in layers]
    handles += [layer.register_forward_hook(leaves) for layer in layers]
    handles.append(norm.register_forward_pre_hook(enters, with_kwargs=True))
    try:
        with running(vlm.model, program):
            vlm.model(**encoded.inputs, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    if not torch.allclose(add_mlp(layers[0], stream[0]), left, atol=1e-5, rtol=1e-4):
        raise UnsupportedArchitecture(
            f"{type(layers[0]).__name__} does more than add attention and a feed-forward part"
        )
    rows, real = row_index(encoded.rows("answer"))
    targets = encoded.tokens.gather(1, (rows + 1).clamp(max=encoded.tokens.shape[1] - 1))
    sequence = torch.arange(len(rows), device=rows.device)
    kept = (entered, stream, added, keys, values, outputs, arguments)
    return ResidualCache(vlm, layers, norm, *kept, sequence, rows, real, targets)


def add_mlp(layer: nn.Module, stream: Tensor) -> Tensor:
    return stream + layer.mlp(layer.post_attention_layernorm(stream))


def add_attention(layer: nn.Module, stream: Tensor, arguments: dict) -> Tensor:
    """A layer's attention, added to the stream; `arguments` as a trace keeps them."""
    options = {**arguments, "position_embeddings": map_tensors(arguments["position_embeddings"], axes_first)}
    return stream + layer.self_attn(hidden_states=layer.input_layernorm(stream), **options)[0]


def scores_from_resid(kept: ResidualCache, stream: Float[Tensor, "set sample row width"]) -> AnswerScores:
    """The end of a pass, from the last layer's feed-forward part on, at the rows that predict the answer."""
    stream = add_mlp(kept.layers[-1], stream)
    if kept.between[-1] is not None:
        stream = stream + kept.between[-1][kept.sequence[:, None], kept.rows]
    logits = kept.vlm.model.get_output_embeddings()(kept.norm(stream)).float()
    targets, real = (value.repeat(len(stream), 1) for value in (kept.targets, kept.real))
    found = score_answers(logits.flatten(0, 1), targets, real)
    return AnswerScores(found.correct.view(len(stream), -1).cpu(), found.logprob.view(len(stream), -1).cpu())


def map_tensors(value: object, change: Callable[[Tensor], Tensor]) -> object:
    """What an attention is given, with every tensor in it changed."""
    if isinstance(value, tuple | list):
        return type(value)(map_tensors(one, change) for one in value)
    return change(value) if isinstance(value, Tensor) else value


def axes_last(value: Tensor) -> Tensor:
    """Rotations, [sequence, position, …]. Some versions of Qwen2.5-VL keep those of time, row and column apart, and
    these three axes first."""
    return value.permute(1, 2, 0, 3) if value.ndim == 4 else value


def axes_first(value: Tensor) -> Tensor:
    """The way back, to what the attention asks for."""
    return value.permute(2, 0, 1, 3) if value.ndim == 4 else value


def _decoder(model: nn.Module) -> tuple[list[nn.Module], nn.Module]:
    """The decoder's layers, and the norm after them."""
    names = {id(module): name for name, module in model.named_modules()}
    paths = [names[id(module)].rsplit(".", 1)[0] for module in attention_modules(model)]
    layers = [model.get_submodule(path) for path in paths]
    whole = model.get_submodule(paths[0].rsplit(".", 2)[0])
    if any(not PARTS <= dict(layer.named_children()).keys() for layer in layers) or not hasattr(whole, "norm"):
        raise UnsupportedArchitecture(
            f"{type(layers[0]).__name__} is not built of {', '.join(sorted(PARTS))}: run whole passes under `ablate`"
        )
    return layers, whole.norm
