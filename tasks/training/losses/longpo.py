"""LongPO (Chen et al. 2025, arXiv 2502.13922): DPO whose reference reads the short context, with a likelihood term.

The model reads the long prompt x_L, the reference the short one x_S, over the evidence that the chosen answer was drawn
from: what the base model says over it is what the trained one is to say over the long context. A pair's loss is

    -log sigmoid(beta * (gain(chosen) - gain(rejected))) + sft_weight * NLL(chosen)
    gain(y) = log p_model(y | x_L) - log p_reference(y | x_S)

of chosen and rejected alike, as in the paper and its public code; NLL is over the chosen answer after x_L. That code
adds 0.01 times the first term (beta 0.01) to the whole NLL: sft_weight 100, up to the scale of the loss. All else is as
in DPO: reading prompts once, a reference that is kept, the adapter switched off. A short-context pair that is mixed in
has one prompt, which both read.
"""

from tasks.training.losses import Loss
from tasks.training.losses.dpo import make_trainer

LOSS = Loss("longpo", make_trainer, reference=True, short_reference=True)
