"""A trained reward model loaded here: a sequence classifier over (question, answer), once per process.

The tokenizer's chat template makes one conversation of both; the score is the model's one logit as it is. Special
tokens of the tokenizer are broken up in both texts, so that no answer can end its turn and begin another.
"""

import math
import os
import re
import threading
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from infra.errors import PrerequisiteError, RecipeError
from infra.models.packaged.quiet import without_progress_bars
from tasks.judging.context import SCORE_DIGITS, AnsweredQuestion
from tasks.judging.reward_settings import NAME, RewardModelSettings
from tasks.judging.steps import Job
from tasks.records.example import Answer

_guard = threading.RLock()  # one thread at a time loads or runs a model


@dataclass(frozen=True)
class RewardModel:
    """A loaded model with its tokenizer."""

    model: Any
    tokenizer: Any
    special: re.Pattern[str] | None  # the tokenizer's special tokens

    @property
    def window(self) -> float:
        """Tokens that the model and its tokenizer say they can take."""
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return min(positions or math.inf, self.tokenizer.model_max_length or math.inf)

    def tokens(self, question: str, answer: str) -> list[int]:
        """The conversation as the model reads it. Raises RecipeError when the chat template refuses it."""
        from jinja2 import TemplateError

        texts = {"user": self._plain(question), "assistant": self._plain(answer)}
        messages = [{"role": role, "content": text} for role, text in texts.items()]
        try:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False)
        except (TemplateError, ValueError) as error:
            raise RecipeError(f"{NAME}.model: its chat template is of no use ({error}); take another model") from error
        with _guard:  # a tokenizer that is told how to cut cannot be told by two threads at once
            return list(self.tokenizer(text, add_special_tokens=False, truncation=False)["input_ids"])

    def scores(self, rows: Sequence[Sequence[int]], batch: int) -> list[float]:
        """The logit of each row of tokens, in the order given."""
        import torch

        pad = self.model.config.get_text_config().pad_token_id
        size = 1 if pad is None else batch  # without the model's own padding, it takes the end of the row for the end
        order = sorted(range(len(rows)), key=lambda place: (len(rows[place]), rows[place]))
        scores: dict[int, float] = {}
        with _guard, torch.inference_mode():
            for start in range(0, len(order), size):
                places = order[start : start + size]
                longest = len(rows[places[-1]])
                padded = [[*rows[place], *[pad] * (longest - len(rows[place]))] for place in places]
                mask = [[1] * len(rows[place]) + [0] * (longest - len(rows[place])) for place in places]
                tensors = {
                    name: torch.tensor(values, device=self.model.device)
                    for name, values in (("input_ids", padded), ("attention_mask", mask))
                }
                logits = self.model(**tensors).logits[:, 0].float().tolist()
                scores.update(zip(places, logits, strict=True))
        return [scores[place] for place in range(len(rows))]

    def _plain(self, text: str) -> str:
        """The text with every special token broken up: it stays readable."""
        while self.special and (broken := self.special.sub(_broken_up, text)) != text:
            text = broken
        return text


def open_reward_model(settings: RewardModelSettings) -> RewardModel:
    """The model, loaded once per process. Raises RecipeError or PrerequisiteError when it cannot be."""
    with _guard:
        return _load(settings.model, settings.revision, settings.dtype)


def check_reward_model(settings: RewardModelSettings) -> None:
    """Raise RecipeError or PrerequisiteError when the model is not there; its weights are not read."""
    if settings.endpoint is not None:
        _check_endpoint(settings.endpoint, settings)
        return
    from transformers import AutoConfig

    def load(place: str, source: dict[str, Any]) -> Any:
        return AutoConfig.from_pretrained(place, **source, trust_remote_code=False)

    _load_from(settings.model, settings.revision, load)


def _check_endpoint(endpoint: str, settings: RewardModelSettings) -> None:
    """Raise PrerequisiteError when the endpoint does not answer."""
    key = os.environ.get(settings.api_key_env)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(f"{endpoint}/models", headers=headers)  # noqa: S310 - an endpoint of the recipe
    try:
        urllib.request.urlopen(request, timeout=10).read()  # noqa: S310
    except (OSError, ValueError) as error:
        raise PrerequisiteError(f"{endpoint} does not answer ({error}); start it, or mend {NAME}.endpoint") from error


AnswerScore = tuple[int, int, float | None, str | None]  # tokens, limit in tokens, score, reason of a null score


def reward_job(question: AnsweredQuestion, settings: RewardModelSettings) -> Job[list[AnswerScore]]:
    own = settings.model_dump(include={"model", "revision", "max_tokens", "batch", "dtype"})
    identity = [own, question.example.question, [answer.text for answer in question.answers]]
    return Job(
        lambda: _score_answers(question.example.question, question.answers, settings),
        identity,
        len(question.answers),
        question.example.example_id,
    )


def _score_answers(question: str, answers: Sequence[Answer], settings: RewardModelSettings) -> list[AnswerScore]:
    if not answers:
        return []
    model = open_reward_model(settings)
    limit = int(min(settings.max_tokens, model.window))
    rows = [tuple(model.tokens(question, answer.text)) for answer in answers]
    distinct = sorted({row for row in rows if len(row) <= limit})
    scores = dict(zip(distinct, model.scores(distinct, settings.batch), strict=True))
    results: list[AnswerScore] = []
    for row in rows:
        score = scores.get(row)
        if score is None:
            results.append((len(row), limit, None, "input_too_long"))
        elif math.isfinite(score):
            results.append((len(row), limit, round(score, SCORE_DIGITS), None))
        else:
            results.append((len(row), limit, None, "not_finite"))
    return results


@lru_cache(maxsize=2)
def _load(model_name: str, revision: str, dtype: str) -> RewardModel:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    def load(place: str, source: dict[str, Any]) -> tuple[Any, Any, Any]:
        tokenizer = AutoTokenizer.from_pretrained(place, **source, trust_remote_code=False)
        with without_progress_bars():
            model, loading_info = AutoModelForSequenceClassification.from_pretrained(
                place,
                **source,
                trust_remote_code=False,
                dtype=getattr(torch, dtype),
                output_loading_info=True,
            )
        return tokenizer, model, loading_info

    tokenizer, model, loading_info = _load_from(model_name, revision, load)
    fault = _unfit_reason(tokenizer, model, loading_info)
    if fault:
        raise RecipeError(f"{NAME}.model: {model_name!r} {fault}; take a reward model made for chats")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return RewardModel(model.eval().to(device), tokenizer, _special_tokens(tokenizer))


def _load_from(model_name: str, revision: str, load: Callable[[str, dict[str, Any]], Any]) -> Any:
    """What `load` makes of the model's place and the arguments for its revision; its errors as Longmill's own."""
    folder = Path(model_name).is_dir()
    try:
        return load(model_name, {"local_files_only": True} if folder else {"revision": revision})
    except ImportError as error:
        raise PrerequisiteError(f"{NAME}.model: {model_name!r} needs a package that is missing: {error}") from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise RecipeError(
            f"{NAME}.model: cannot load {model_name!r} ({error}). Give the folder of a transformers sequence "
            "classifier, or the hub name of one that can be reached from here"
        ) from error


def _unfit_reason(tokenizer: Any, model: Any, loading_info: Any) -> str | None:
    """Why the model gives no reward."""
    if model.config.num_labels != 1:
        return f"has {model.config.num_labels} labels and not one"
    if loading_info["missing_keys"]:  # transformers would fill them with chance
        return f"has no trained weights for {', '.join(sorted(loading_info['missing_keys']))}"
    return None if tokenizer.chat_template else "has a tokenizer without a chat template"


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
