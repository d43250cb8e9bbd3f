"""A transformers sequence classifier loaded here, once per process, on a GPU if there is one.

One forward pass at a time. A model may read the prompt of several answers once, where its layers allow it
(tasks/training/shared_prefix). Errors name the recipe's key that gives the model, such as `reward_model.model`.
"""

import math
import os
import threading
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from infra.errors import PrerequisiteError, RecipeError
from infra.models.embedding.windows import TokenMeter
from infra.models.packaged.quiet import without_progress_bars
from infra.models.tokens import resolve_model
from tasks.judging.classifier_input import TextEncoder, TokenRow, common_prefix
from tasks.judging.classifier_settings import ClassifierSettings

_guard = threading.RLock()  # one thread at a time loads or runs a model


@dataclass(frozen=True)
class Classifier:
    """A loaded model with its tokenizer; `shares` says whether it can read the prompt of several answers once."""

    model: Any
    tokenizer: Any
    missing: tuple[str, ...] = ()  # weights that the model's files do not have: transformers fills them with chance
    shares: bool = False

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

    @cached_property
    def encoder(self) -> TextEncoder:
        """Makes the model's inputs of texts."""
        return TextEncoder(self.tokenizer)

    def logits(self, rows: Sequence[TokenRow], batch: int) -> list[list[float]]:
        """The logits of each row, one for each label, in the order given; each row is read whole."""
        import torch

        pad = self.model.config.get_text_config().pad_token_id
        size = 1 if pad is None else batch  # without the model's own padding, it takes the end of the row for the end
        order = _by_length(rows)
        logits: dict[int, list[float]] = {}
        with _guard, torch.inference_mode():
            for start in range(0, len(order), size):
                places = order[start : start + size]
                inputs = padded_batch([rows[place].ids for place in places], pad or 0, self.model.device)
                if rows[places[0]].types:
                    inputs["token_type_ids"] = _padded([rows[place].types for place in places], 0, self.model.device)
                logits.update(zip(places, self.model(**inputs).logits.float().tolist(), strict=True))
        return [logits[place] for place in range(len(rows))]

    def logits_of_question(self, rows: Sequence[TokenRow], batch: int) -> list[list[float]]:
        """`logits` of distinct rows that differ in their answers alone; what they begin with is read once."""
        import torch

        prompt = common_prefix([row.ids for row in rows]) if len(rows) > 1 else 0
        if not (self.shares and prompt and self._fits_layers(max(len(row.ids) for row in rows))):
            return self.logits(rows, batch)
        order = _by_length(rows)
        with _guard, torch.inference_mode():
            inputs = padded_batch([rows[place].ids for place in order], 0, self.model.device)
            of_rows = self.model(**inputs, trees=torch.tensor([[prompt, len(rows)]])).logits.float().tolist()
        logits = dict(zip(order, of_rows, strict=True))
        return [logits[place] for place in range(len(rows))]

    def _fits_layers(self, longest: int) -> bool:
        from tasks.training.shared_prefix.classifier import classifier_obstacle

        return classifier_obstacle(self.model, longest) is None


def _by_length(rows: Sequence[TokenRow]) -> list[int]:
    """The places of the rows, the shortest first."""
    return sorted(range(len(rows)), key=lambda place: (len(rows[place].ids), rows[place]))


def padded_batch(rows: Sequence[Sequence[int]], pad: int, device: Any) -> dict[str, Any]:
    """input_ids and attention_mask of rows, padded on the right: both [rows, tokens of the longest]."""
    mask = [[1] * len(row) for row in rows]
    return {"input_ids": _padded(rows, pad, device), "attention_mask": _padded(mask, 0, device)}


def open_classifier(
    settings: ClassifierSettings, key: str, trust_remote_code: bool = False, share_prompts: bool = False
) -> Classifier:
    """The model, loaded once per process. Raises RecipeError or PrerequisiteError when it cannot be.

    With `share_prompts` it reads the prompt of several answers once, if it can.
    """
    with _guard:
        return _load(settings.model, settings.revision, settings.dtype, key, trust_remote_code, share_prompts)


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


def _padded(rows: Sequence[Sequence[int]], filling: int, device: Any) -> Any:
    import torch

    longest = max(map(len, rows))
    return torch.tensor([[*row, *[filling] * (longest - len(row))] for row in rows], device=device)


@lru_cache(maxsize=2)
def _load(
    model_name: str, revision: str, dtype: str, key: str, trust_remote_code: bool, share_prompts: bool
) -> Classifier:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from tasks.training.shared_prefix.classifier import can_share

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
    model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    missing = tuple(sorted(loading_info["missing_keys"]))
    return Classifier(model, tokenizer, missing, share_prompts and can_share(model))


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
