"""Direct logit attribution: what a head, by itself, adds to the logit of a word.

The logits of a row are linear in what each head, each MLP and the embedding write into the residual stream, but for the
last norm, whose scale depends on all of them together. With that scale as it was,

    attribution[h] = (z_h W_O[h] / rms) · (g ⊙ (u_t − mean_c u_c))

with g the norm's gain, u_t the unembedding of the word t, and c the words it competes with: how much the head raises t
above the mean of its competitors, in nats of the logit. The attributions of all that writes add up to the logit.

Source: "direct logit attribution" as in Elhage et al. (2021), "A mathematical framework for transformer circuits", and
Wang et al. (2022), arXiv:2211.00593.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from corelib.core.errors import BadInput


def logit_attribution(
    written: Float[Tensor, "batch head row width"],
    scale: Float[Tensor, "batch row"],
    direction: Float[Tensor, "batch row width"],
) -> Float[Tensor, "batch head row"]:
    """What each head adds to the logits along a direction, in float32: (written / scale) · direction.

    Args:
        written: What each head writes into the residual stream, as `head_writes` gives it.
        scale: The root mean square by which the last norm divides each row.
        direction: The last norm's gain times the difference of unembeddings, as `word_direction` gives it.

    Raises:
        BadInput: shapes do not fit, or a scale is not above 0.

    >>> written = torch.tensor([[[[2.0, 0.0]], [[0.0, 3.0]]]])
    >>> logit_attribution(written, torch.tensor([[2.0]]), torch.tensor([[[1.0, -1.0]]])).flatten().tolist()
    [1.0, -1.5]
    """
    batch, _, rows, width = written.shape
    if scale.shape != (batch, rows) or direction.shape != (batch, rows, width):
        raise BadInput(
            f"written is {list(written.shape)}, scale {list(scale.shape)}, direction {list(direction.shape)}: give "
            "[batch, head, row, width], [batch, row] and [batch, row, width]"
        )
    if not (scale > 0).all():
        raise BadInput("the scale of a norm is above 0: give the root mean square of each row")
    found: Tensor = torch.einsum("bhrw,brw->bhr", written.float(), direction.float()) / scale.float()[:, None]
    return found


def word_direction(
    unembedding: Float[Tensor, "word width"],
    gain: Float[Tensor, " width"],
    words: Int[Tensor, "batch row"],
    rivals: Int[Tensor, " rival"],
) -> Float[Tensor, "batch row width"]:
    """The direction that raises each of `words` above the mean of its `rivals`: gain ⊙ (u_t − mean_c u_c).

    Raises:
        BadInput: there are no rivals.

    >>> word_direction(torch.eye(3), torch.ones(3), torch.tensor([[1]]), torch.tensor([0, 1])).tolist()
    [[[-0.5, 0.5, 0.0]]]
    """
    if not len(rivals):
        raise BadInput("a word is raised above others: give one rival or more")
    found: Tensor = (unembedding[words].float() - unembedding[rivals].float().mean(0)) * gain.float()
    return found
