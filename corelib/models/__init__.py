"""A model with its evidence: load it, encode samples into batches, ask it, map its attention.

load            `load`: any model by its name or folder
vlm             `VLM`: encode, answer, ask, generate
batch           `Batch`: encoded samples, and what is known about every token
answers         `AnswerScores`: was the right answer the most likely one?
devices         where a module computes
head_writes     what heads write into the residual stream, asked of the module
checkpoints     published checkpoints: from a folder or the hub to a model and its family
hub             downloads, checked before they begin
attention_map   where a model looks at the moment it begins to answer
grid_check      is a token where a family says it is?
"""
