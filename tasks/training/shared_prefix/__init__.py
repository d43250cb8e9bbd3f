"""Training that reads the shared prompt once: `[prompt + answer 1 | answer 2 | ...]` in place of one row per answer.

`layout` says which token stands where, `attention` stops an answer from seeing another, `forward` runs a model on
a padded batch in that layout and returns log-probabilities in the batch's shape, so that losses need not know of
it. A row holds the trees of one question or of several (training.pack_tokens). `cost` predicts from lengths what
sharing saves; `choice` decides by that, and refuses models that sharing would be wrong for. Leaves out: SFT, which
reads one answer of each prompt, and so has nothing to share.
"""
