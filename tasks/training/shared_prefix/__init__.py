"""Training that reads the shared prompt once: `[prompt + answer 1 | answer 2 | ...]` in place of one row per answer.

`layout` says which token stands where, `attention` keeps the answers blind to each other, `forward` runs a model on
TRL's padded batch in that layout and hands back log-probabilities as TRL expects them, so that losses and metrics
stay TRL's own. `cost` predicts from lengths what sharing saves, `support` refuses models it would be wrong for,
`choice` decides by both. Leaves out: SFT, whose rows have one answer each, and so nothing to share.
"""
