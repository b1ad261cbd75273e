"""Programs of the one registered attention function: record, ablate, knock out.

interface       the attention function `core`, and how to run programs of it
call            one layer's attention as a program sees it, and how to read it
decoder         where the language decoder's attention is, and which kinds are refused
positions       where the rows of a forward call stand in the sequence, with any cache
stack           which contexts are open on a model, and what comes back when they are left
selection       positions as a caller may give them: masks or numbers
chosen          heads as a caller may give them: one set, or one a sample
record          read the attention of some query rows
head_outputs    record what heads put out before `o_proj`; averages and resampled outputs
intervene       replace the outputs of heads (`ablate`), hide keys from them (`knockout`)
redirect        move what heads look at to another place
"""
