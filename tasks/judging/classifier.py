"""A transformers sequence classifier loaded here, once per process, on a GPU if there is one.

One forward pass at a time. Errors name the recipe's key that gives the model, such as `reward_model.model`.
"""

import math
import os
import re
import threading
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from infra.errors import PrerequisiteError, RecipeError
from infra.models.embedding.windows import TokenMeter
from infra.models.packaged.quiet import without_progress_bars
from infra.models.tokens import resolve_model
from tasks.judging.classifier_settings import ClassifierSettings

_guard = threading.RLock()  # one thread at a time loads or runs a model, or tells a tokenizer how to cut


class TokenRow(NamedTuple):
    """An input as the model reads it; `types` tells the two texts of a pair apart, for models that want to know."""

    ids: tuple[int, ...]
    types: tuple[int, ...] = ()


@dataclass(frozen=True)
class Classifier:
    """A loaded model with its tokenizer."""

    model: Any
    tokenizer: Any
    special: re.Pattern[str] | None  # the tokenizer's special tokens
    missing: tuple[str, ...]  # weights that the model's files do not have: transformers has filled them with chance

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels, in the model's order."""
        names = self.model.config.id2label
        return tuple(str(names.get(place, place)) for place in range(self.model.config.num_labels))

    @property
    def window(self) -> float:
        """Tokens that the model and its tokenizer say they can take."""
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return min(positions or math.inf, self.tokenizer.model_max_length or math.inf)

    @cached_property
    def meter(self) -> TokenMeter:
        """Where the tokens of a text stand."""
        return TokenMeter(self.tokenizer)

    def encode(self, *texts: str, special_tokens: bool = True) -> TokenRow:
        """One text, or a pair of texts, in tokens; nothing is cut."""
        with _guard:
            encoded = self.tokenizer(*texts, add_special_tokens=special_tokens, truncation=False)
        return TokenRow(tuple(encoded["input_ids"]), tuple(encoded.get("token_type_ids", ())))

    def plain(self, text: str) -> str:
        """The text with every special token of the tokenizer broken up: it stays readable."""
        while self.special and (broken := self.special.sub(_broken_up, text)) != text:
            text = broken
        return text

    def logits(self, rows: Sequence[TokenRow], batch: int) -> list[list[float]]:
        """The logits of each row, one for each label, in the order given."""
        import torch

        pad = self.model.config.get_text_config().pad_token_id
        size = 1 if pad is None else batch  # without the model's own padding, it takes the end of the row for the end
        order = sorted(range(len(rows)), key=lambda place: (len(rows[place].ids), rows[place]))
        logits: dict[int, list[float]] = {}
        with _guard, torch.inference_mode():
            for start in range(0, len(order), size):
                places = order[start : start + size]
                inputs = _padded([rows[place] for place in places], pad)
                tensors = {name: torch.tensor(values, device=self.model.device) for name, values in inputs.items()}
                logits.update(zip(places, self.model(**tensors).logits.float().tolist(), strict=True))
        return [logits[place] for place in range(len(rows))]


def open_classifier(settings: ClassifierSettings, key: str, trust_remote_code: bool = False) -> Classifier:
    """The model, loaded once per process. Raises RecipeError or PrerequisiteError when it cannot be."""
    with _guard:
        return _load(settings.model, settings.revision, settings.dtype, key, trust_remote_code)


def check_classifier(settings: ClassifierSettings, key: str, trust_remote_code: bool = False) -> None:
    """Raise RecipeError or PrerequisiteError when the model is not there; its weights are not read."""
    if settings.endpoint is not None:
        _check_endpoint(settings.endpoint, settings.api_key_env, key)
        return
    from transformers import AutoConfig

    def load(place: str, source: dict[str, Any]) -> Any:
        return AutoConfig.from_pretrained(place, **source, trust_remote_code=trust_remote_code)

    _load_from(settings.model, settings.revision, key, load)


def _check_endpoint(endpoint: str, api_key_env: str, key: str) -> None:
    """Raise PrerequisiteError when the endpoint does not answer."""
    secret = os.environ.get(api_key_env)
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    request = urllib.request.Request(f"{endpoint}/models", headers=headers)  # noqa: S310 - an endpoint of the recipe
    try:
        urllib.request.urlopen(request, timeout=10).read()  # noqa: S310
    except (OSError, ValueError) as error:
        raise PrerequisiteError(f"{endpoint} does not answer ({error}); start it, or mend {key}.endpoint") from error


def _padded(rows: Sequence[TokenRow], pad: int | None) -> dict[str, list[list[int]]]:
    """The model's inputs for some rows, each padded at its end to the longest."""
    longest = max(len(row.ids) for row in rows)
    inputs: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": []}
    if rows[0].types:
        inputs["token_type_ids"] = []
    for row in rows:
        rest = longest - len(row.ids)
        inputs["input_ids"].append([*row.ids, *[pad or 0] * rest])
        inputs["attention_mask"].append([1] * len(row.ids) + [0] * rest)
        if row.types:
            inputs["token_type_ids"].append([*row.types, *[0] * rest])
    return inputs


@lru_cache(maxsize=2)
def _load(model_name: str, revision: str, dtype: str, key: str, trust_remote_code: bool) -> Classifier:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    def load(place: str, source: dict[str, Any]) -> tuple[Any, Any, Any]:
        tokenizer = AutoTokenizer.from_pretrained(place, **source, trust_remote_code=trust_remote_code)
        with without_progress_bars():
            model, loading_info = AutoModelForSequenceClassification.from_pretrained(
                place,
                **source,
                trust_remote_code=trust_remote_code,
                dtype=getattr(torch, dtype),
                output_loading_info=True,
            )
        return tokenizer, model, loading_info

    tokenizer, model, loading_info = _load_from(model_name, revision, key, load)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    missing = tuple(sorted(loading_info["missing_keys"]))
    return Classifier(model.eval().to(device), tokenizer, _special_tokens(tokenizer), missing)


def _load_from(model_name: str, revision: str, key: str, load: Callable[[str, dict[str, Any]], Any]) -> Any:
    """What `load` makes of the model's place and the arguments for its revision; its errors as Longmill's own."""
    place = resolve_model(model_name)
    source = {"local_files_only": True} if Path(place).is_dir() else {"revision": revision}
    try:
        return load(place, source)
    except ImportError as error:
        raise PrerequisiteError(f"{key}.model: {model_name!r} needs a package that is missing: {error}") from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise RecipeError(
            f"{key}.model: cannot load {model_name!r} ({error}). Give the folder of a transformers sequence "
            "classifier, or the hub name of one that can be reached from here"
        ) from error


def _special_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    tokens = set()
    for token in tokenizer.added_tokens_decoder.values():
        text = str(token)
        if token.special and len(text) > 1 and not re.search(r"\s", text):
            tokens.add(text)
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def _broken_up(match: re.Match[str]) -> str:
    return f"{match.group()[0]} {match.group()[1:]}"
