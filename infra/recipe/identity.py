"""What of a recipe is no part of its identity.

Sections without effect on the dataset, places, transport, and later keys with their earlier meaning.
"""

from typing import Any


def drop_request_defaults(model: dict[str, Any]) -> None:
    """Leave out what a model's requests do not have; the seed names a draw, whether a server gets it or not."""
    model["omit"] = [name for name in model["omit"] if name != "seed"]
    for key in ("system", "parameters", "omit"):
        if not model[key]:
            del model[key]


WITHOUT_EFFECT = {  # on the bytes of a dataset
    "name",
    "store",
    "documents",
    "budget",
    "execution",
    "training",
    "reward_training",
    "evaluation",
}
MODELS = ("policy", "judge", "strong")
_TRANSPORT = ("rename", "headers", "organization", "mode", "batch", "requests_per_minute", "tokens_per_minute")
PLACE_KEYS = {
    "questions": ("source", "subset", "split", "limit"),
    "contexts": ("pool", "tools"),  # the contexts themselves say whether tool calls are text
    "policy": ("tokenizer", "endpoints", "api_key_env", "serve", "price", *_TRANSPORT),
    "judge": ("endpoints", "api_key_env", "serve", "price", *_TRANSPORT),
    "strong": ("tokenizer", "endpoints", "api_key_env", "serve", "price", *_TRANSPORT),
    "embedding": ("endpoint", "api_key_env", "batch_size", "price"),
}
PLACE_KEYS_OF_SCORERS = ("endpoint", "api_key_env", "price")  # of a scorer, or its verifier, with a model of its own
# Keys of scorers that are younger than the first plans, by the value that means what these plans did.
LATER_KEYS_OF_SCORERS: dict[str, Any] = {
    "no_facts_despite_notes": "ignore_notes",
    "granularity": "atomic",
    "verifier": None,
    "control_share": 0,
    "with_context": False,
    "labels": 1,
}
# Keys that are younger than the first plans, by their defaults: with these, a plan keeps its id.
LATER_KEYS: dict[str, dict[str, Any]] = {
    "questions": {"fields": None},
    "contexts": {"articles": "never", "passages": "numbered", "options": {}},
    "policy": {"reasoning": "auto"},
    "judge": {"reasoning": "auto", "reasoning_tokens": 0},
    "strong": {"reasoning": "auto"},
    "embedding": {
        "truncate_tokens": None,
        "max_tokens": None,
        "long_texts": "windows",
        "tokenizer": None,
        "prompt": None,
        "task": None,
        "dimensions": None,
        "trust_remote_code": False,
    },
    "sampling": {"context": "full", "options": {}, "stop": None, "logprobs": False},
    "scoring.cascade": {"last": []},  # before "scoring", which takes away a cascade that is not there
    "scoring": {"cascade": None},
    "pairing": {"pairs_per_question": 1},
}
