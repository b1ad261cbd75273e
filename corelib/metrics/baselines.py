"""Other scores that have been used to find heads which retrieve, on the same attention as RAM.

With E the evidence, |E| its number of tokens, A the attention of a row over all keys,

    box_hit        [argmax_k A ∈ E] / |E|                                       SparseMM, arXiv 2506.05344
    copy_paste     box_hit on a token that the row writes, or on pixels         retrieval heads, arXiv 2404.15574
    top_k_evidence Σ_{k ∈ top-|E| keys of A, k ∈ E} A_k / |E|                   HeadKV, arXiv 2410.19258
    contrastive    softmax over evidence and distractors of (mass / τ), at E    variant of arXiv 2510.02219
    output_norm    ‖Σ_k A_k v_k‖: how loud a head is, whatever it looks at      arXiv 2504.03889

They were made for other models, tasks and inputs; what they measure here, on one row at a time, is our definition.
The papers add box hits up over rows and samples; here rows and samples are averaged, which ranks alike.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from corelib.core.errors import BadInput
from corelib.metrics.ram import Attention, Keys, Rows, mass, ram, total

TEMPERATURE = 0.1  # of `contrastive`; published lists of heads use 0.1 or 0.001, by model


def box_hit(attention: Attention, evidence: Keys) -> Rows:
    """1 / |E| where the key that a row looks at most lies in the evidence, else 0. Ties go to the earlier key.

    Args:
        attention: [batch, head, row, key].
        evidence: [batch, key].

    Source: SparseMM, arXiv 2506.05344 (added up there, a mean here).

    >>> box_hit(torch.tensor([[[0.2, 0.5, 0.3]]]), torch.tensor([False, True, True]))
    tensor([[0.5000]])
    """
    most = attention.argmax(-1)
    keys = evidence[..., None, None, :].expand(attention.shape)
    whole = total(attention)
    hit = (keys.gather(-1, most[..., None])[..., 0] & (whole > 0)) / evidence.sum(-1)[..., None, None]
    return hit.masked_fill(whole.isnan(), torch.nan)


def copy_hit(attention: Attention, evidence: Keys, shown: Bool[Tensor, "*#lead row key"]) -> Rows:
    """A box hit on a key that shows what the row should write: 1 / |E| where the key that a row looks at most lies in
    the evidence *and* shows the row's next token, else 0. Ties go to the earlier key.

    Args:
        attention: [batch, head, row, key].
        evidence: [batch, key].
        shown: [batch, row, key], the keys that show each row's next token. A token of a text shows itself; one of a
            picture is not a word, and may show any: our definition.

    >>> shown = torch.tensor([[False, False, True], [False, True, False]])
    >>> copy_hit(torch.tensor([[[0.2, 0.5, 0.3], [0.2, 0.5, 0.3]]]), torch.tensor([False, True, True]), shown)
    tensor([[0.0000, 0.5000]])
    """
    most = attention.argmax(-1)
    keys = shown[..., None, :, :].expand(attention.shape)
    return box_hit(attention, evidence) * keys.gather(-1, most[..., None])[..., 0]


def copy_paste(hits: Rows, produced: Bool[Tensor, "*#lead row"]) -> Rows:
    """The copy-paste score of each row: its `copy_hit`, if the model does write the token that is shown there.

        [argmax_k A ∈ E]  ·  [that key shows the row's next token]  ·  [the model writes it]  /  |E|

    The published code adds this up over the tokens that a model writes freely. Here answers are teacher-forced, and
    `produced` says in which rows the most likely token is the answer's: up to the first wrong token both are the same.

    Args:
        hits: [batch, head, row], of `copy_hit`.
        produced: [batch, row].

    Source: Wu et al., arXiv 2404.15574.

    >>> copy_paste(torch.tensor([[0.5, 0.5]]), torch.tensor([True, False]))
    tensor([[0.5000, 0.0000]])
    """
    return hits * produced[..., None, :]


def top_k_evidence(attention: Attention, evidence: Keys) -> Rows:
    """The attention on evidence tokens that are among the row's |E| most looked-at keys, over |E|. Ties go to the
    earlier key.

    Source: HeadKV, arXiv 2410.19258.

    >>> top_k_evidence(torch.tensor([[[0.1, 0.5, 0.4]]]), torch.tensor([True, True, False]))
    tensor([[0.2500]])
    """
    size = evidence.sum(-1)[..., None, None]
    rank = attention.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    inside = evidence[..., None, None, :] & (rank < size[..., None])
    return total(attention * inside) / size


def contrastive(
    attention: Attention,
    evidence: Keys,
    distractors: Bool[Tensor, "*#lead region key"],
    temperature: float = TEMPERATURE,
) -> Rows:
    """How clearly the evidence wins against regions of its kind, in each row:

        exp(mass(E) / τ) / [exp(mass(E) / τ) + Σ_D exp(mass(D) / τ)]

    Regions that only fill up the tensor, all False, do not take part. With no rival at all it is 1.

    A variant of the score of contrastive retrieval heads (Tran et al., arXiv 2510.02219). Their code
    (github.com/linhhtran/CoRe-Reranking, `core_detector.py`) differs in four things:

        rows          all tokens of the query, a few of the template among them; here those that a metric asks for, by
                      default the rows that predict the answer
        order         attention is averaged over rows first, then one softmax is taken of the mean masses; here each row
                      has a softmax of its own, and these are averaged
        temperature   a parameter: 0.001 unless given; of the published lists two have 0.001, two 0.1; here 0.1
        rivals        hard negatives, whole documents; here distractor regions without the evidence's tokens

    For their order, average the rows before: `contrastive(attention.mean(-2, keepdim=True), …, temperature=0.001)`.

    Args:
        attention: [batch, head, row, key].
        evidence: [batch, key].
        distractors: [batch, region, key].
        temperature: τ, above 0.

    Raises:
        BadInput: the temperature is not above 0.
        BadRegion: a sample has no evidence token.

    >>> rows = torch.tensor([[[[0.6, 0.2, 0.2], [0.0, 0.2, 0.8]]]])
    >>> evidence, rival = torch.tensor([[True, False, False]]), torch.tensor([[[False, True, False]]])
    >>> contrastive(rows, evidence, rival).mean(-1)
    tensor([[0.5506]])
    >>> contrastive(rows.mean(-2, keepdim=True), evidence, rival)[..., 0]
    tensor([[0.7311]])
    """
    if not temperature > 0:
        raise BadInput(f"temperature is {temperature}: give one above 0")
    masses = [ram(attention, evidence), *(mass(attention, region) for region in distractors.unbind(-2))]
    real = torch.stack([torch.ones_like(evidence[..., 0]), *distractors.any(-1).unbind(-1)])
    scaled = torch.stack(masses) / temperature
    return scaled.masked_fill(~real[..., None, None], -torch.inf).softmax(0)[0]


def output_norm(
    attention: Float[Tensor, "batch head row key"], values: Float[Tensor, "batch kv_head key dim"]
) -> Float[Tensor, "batch head row"]:
    """The Euclidean norm of a head's output, ‖Σ_k A_k v_k‖, before `o_proj`, in float32; it knows nothing of the
    evidence.

    Source: output norms tell idle heads, arXiv 2504.03889.

    >>> output_norm(torch.tensor([[[[0.5, 0.5]]]]), torch.tensor([[[[6.0, 0.0], [0.0, 8.0]]]]))
    tensor([[[5.]]])
    """
    batch, heads, rows, _ = attention.shape
    kv_heads, dim = values.shape[1], values.shape[-1]
    folded = attention.reshape(batch, kv_heads, -1, attention.shape[-1])  # heads that share values, together
    norms: Tensor = (folded.float() @ values.float()).reshape(batch, heads, rows, dim).norm(dim=-1)
    return norms
