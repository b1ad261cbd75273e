"""Programs of the one registered attention function: record, ablate, knock out.

interface       the attention function `core`, and the stack of programs that it runs
record          read the attention of some query rows
head_outputs    record what heads put out before `o_proj`; averages and resampled outputs
intervene       replace the outputs of heads (`ablate`), hide keys from them (`knockout`)
"""
