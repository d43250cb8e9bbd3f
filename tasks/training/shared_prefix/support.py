"""Models that can read a shared prompt once: attention through transformers' interface, all of it, and RoPE.

A layer that sees the sequence otherwise (a sliding window shorter than the rows, linear attention, a recurrent state)
would see one answer while it reads the other. What cannot be told from the model here is found in the first forward
pass, which counts the layers that followed the layout.
"""

from typing import Any


def obstacle(model: Any, longest: int) -> str | None:
    """Why `model` cannot share prompts over rows of up to `longest` tokens; None when it can."""
    settings = model.config.get_text_config()
    name = type(model).__name__
    if settings._attn_implementation != "sdpa" or not model._supports_attention_backend:
        return f"{name} does not run its attention through transformers' interface with sdpa"
    kinds = set(getattr(settings, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        return f"{name} has layers of {', '.join(sorted(kinds))}, which cannot keep two answers apart"
    if (window := _window(settings)) is not None and window < longest:
        return f"{name} sees through a sliding window of {window:,} tokens, the longest row has {longest:,}"
    if getattr(settings, "rope_parameters", None) is None:
        return f"{name} has no rotary position embedding"
    if getattr(settings, "output_router_logits", None) is not None:
        return f"{name} may have an auxiliary loss over its experts, which counts the tokens of both prompts"
    return None


def _window(settings: Any) -> int | None:
    """The sliding window that some layer has."""
    window: int | None = getattr(settings, "sliding_window", None)
    kinds = getattr(settings, "layer_types", None)
    return window if kinds is None or "sliding_attention" in kinds else None
