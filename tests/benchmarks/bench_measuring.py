"""What measuring costs: a forward pass with rows recorded against the plain one, and against eager attention.

    python tests/benchmarks/bench_measuring.py [tokens …]

Ratios are medians of alternating runs in one process, on random weights (four decoder layers, hidden 1024, 16 query
heads, 8 KV heads). Not part of the test suite: a timing is no test.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from corelib.record import record
from corelib.vlm import load


def timed(action) -> float:
    began = time.perf_counter()
    with torch.no_grad():
        action()
    return time.perf_counter() - began


def recording(tokens: int, rounds: int = 3) -> dict[str, float]:
    torch.manual_seed(0)
    shape = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 4, "head_dim": 64}
    heads = {"num_attention_heads": 16, "num_key_value_heads": 8}
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=512, max_position_embeddings=tokens, **shape, **heads)).eval()
    ids = torch.randint(0, 512, (1, tokens))
    rows = torch.zeros(1, tokens, dtype=torch.bool)
    rows[:, -16:] = True

    def plain():
        model(ids, use_cache=False, logits_to_keep=1)

    def recorded():
        with record(model, rows, reduce=lambda call, attention: attention.amax(-1)):
            plain()

    def eager():
        model.set_attn_implementation("eager")
        try:
            model(ids, use_cache=False, logits_to_keep=1, output_attentions=True)
        finally:
            model.set_attn_implementation("sdpa")

    timed(plain)
    times = [(timed(plain), timed(recorded), timed(eager) if tokens <= 2048 else float("nan")) for _ in range(rounds)]
    base, taped, slow = (statistics.median(column) for column in zip(*times, strict=True))
    return {"plain, s": base, "recorded / plain": taped / base, "eager / plain": slow / base}


if __name__ == "__main__":
    load("mini-s")
    print(f"load mini-s, after imports: {timed(lambda: load('mini-s')):.2f} s")
    for tokens in map(int, sys.argv[1:] or ("1024", "2048")):
        print(f"{tokens:6d} tokens: ", {name: round(value, 2) for name, value in recording(tokens).items()})
