"""The keys that a block of rows sees, in one piece: the sinks, and behind them the last ones in a ring."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Ring:
    """The key at position p lies in slot p mod `size`. So each key is copied once, over one that is no longer seen.

    `size` is the least number of whole blocks that holds `width` keys for every row of a block. `key` and `value`,
    [batch, kv_head, sink + slot, dim], have the dtype and device of what they are copied from.

    >>> keys = torch.arange(9.0)[None, None, :, None]
    >>> ring = Ring(keys, keys, torch.tensor([[0]]), width=3, block=2)
    >>> for start in (0, 2, 4):
    ...     ring.hold(start, start + 2)
    >>> ring.key.flatten().tolist(), ring.positions.tolist()  # the sink; then 4 and 5 over 0 and 1
    ([0.0, 4.0, 5.0, 2.0, 3.0], [4, 5, 2, 3])
    """

    def __init__(
        self,
        key: Float[Tensor, "batch kv_head key dim"],
        value: Float[Tensor, "batch kv_head key dim"],
        sinks: Int[Tensor, "#batch sink"],
        width: int,
        block: int,
    ) -> None:
        self.size = min(-(-(width - 1) // block) * block + block, key.shape[2])
        self.positions = torch.full((self.size,), -1, device=key.device)  # of what a slot holds; -1: nothing
        self.key, self.value = (  # [batch, kv_head, sink + slot, dim]
            torch.cat([_at(states, sinks), states.new_zeros(*states.shape[:2], self.size, states.shape[-1])], 2)
            for states in (key, value)
        )
        self._copies = [
            (mine[:, :, sinks.shape[1] :], states) for mine, states in ((self.key, key), (self.value, value))
        ]

    @property
    def turn(self) -> int:
        """The slot of the last key."""
        return int(self.positions.argmax())

    def hold(self, start: int, stop: int) -> None:
        """Copy those of the keys `start` … `stop` − 1 that it does not hold yet."""
        start = max(start, int(self.positions.max()) + 1)
        while start < stop:
            slot = start % self.size
            until = min(stop, start + self.size - slot)  # the end of the ring
            here = slice(slot, slot + until - start)
            self.positions[here] = torch.arange(start, until, device=self.positions.device)
            for mine, states in self._copies:
                mine[:, :, here] = states[:, :, start:until]
            start = until


def _at(
    states: Float[Tensor, "batch kv_head key dim"], sinks: Int[Tensor, "#batch sink"]
) -> Float[Tensor, "batch kv_head sink dim"]:
    if len(sinks) == 1:  # all sequences begin at the same place
        return states[:, :, sinks[0]]
    return states[torch.arange(len(sinks), device=sinks.device)[:, None], :, sinks].transpose(1, 2)
