"""The ground floor: errors, results on disk, heads and sets of heads, boxes; everything else stands on it.

errors          typed errors: what was given, what is allowed, how to fix it
entries         values that people write: are they of the kind that is needed?
geometry        `Box`, a pixel rectangle on one picture
heads           `Head`, `HeadSet`
head_scores     `HeadScores`
results         JSON results: written whole or not at all
checked_tensors tensors with their checksum
sample_store    scores of single samples on disk, from which a stopped run goes on
model_folder    folders of bundled models: files, checksums, cards
weights         their weights, in half precision
memory          will it fit?
claim           one command at a time in a folder
distributed     which of several processes is this?
"""
