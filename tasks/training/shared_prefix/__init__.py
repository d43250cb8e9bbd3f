"""Training that reads the shared prompt once: `[prompt + answer 1 | answer 2 | ...]` in place of one row per answer.

`layout` says which token stands where, `attention` keeps the answers blind to each other, `forward` runs a model on
a padded batch in that layout and hands back log-probabilities in the batch's shape, so that losses do not know of
it. A row holds the trees of one question or of several (training.pack_tokens). `cost` predicts from lengths what
sharing saves, `support` refuses models it would be wrong for, `choice` decides by both. Leaves out: SFT, which
reads one answer of each prompt, and so has nothing to share.
"""
