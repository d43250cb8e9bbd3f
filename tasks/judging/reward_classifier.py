"""A trained reward model loaded here: a sequence classifier over question and answer, once per process.

The tokenizer's chat template makes one conversation of both, with the context before the question where the recipe
says so; the score is the model's one logit as it is, or the mean of its heads. With the context, the prompt is read
once for all answers of a question where the model's layers allow it (tasks/training/shared_prefix).
"""

import math
import os
import threading
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from infra.errors import PrerequisiteError, RecipeError
from infra.models.packaged.quiet import without_progress_bars
from infra.recipe import Recipe
from tasks.judging.context import SCORE_DIGITS, AnsweredQuestion
from tasks.judging.reward_input import Messages, RewardEncoder, common_prefix, question_messages
from tasks.judging.reward_settings import NAME, RewardModelSettings
from tasks.judging.steps import Job

_guard = threading.RLock()  # one thread at a time loads or runs a model
Row = list[int]  # token ids of a conversation


@dataclass(frozen=True)
class RewardModel:
    """A loaded model with its encoder; `shares` says whether it can read the prompt of several answers once."""

    model: Any
    tokenizer: Any
    encoder: RewardEncoder
    shares: bool

    @property
    def window(self) -> float:
        """Tokens that the model and its tokenizer say they can take."""
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return min(positions or math.inf, self.tokenizer.model_max_length or math.inf)

    def scores(self, rows: Sequence[Row], batch: int) -> list[list[float]]:
        """The logits of each row of tokens, in the order given, `batch` rows at a time; each row is read whole."""
        import torch

        pad = self.model.config.get_text_config().pad_token_id
        size = 1 if pad is None else batch  # without the model's own padding, it takes the end of the row for the end
        order = sorted(range(len(rows)), key=lambda place: (len(rows[place]), rows[place]))
        scores: dict[int, list[float]] = {}
        with _guard, torch.inference_mode():
            for start in range(0, len(order), size):
                places = order[start : start + size]
                tensors = padded_batch([rows[place] for place in places], pad or 0, self.model.device)
                logits = self.model(**tensors).logits.float().tolist()
                scores.update(zip(places, logits, strict=True))
        return [scores[place] for place in range(len(rows))]

    def scores_of_question(self, rows: Sequence[Row], batch: int) -> list[list[float]]:
        """`scores` of distinct rows that differ in their answers alone; what they begin with is read once."""
        import torch

        prompt = common_prefix(rows) if len(rows) > 1 else 0
        if not (self.shares and prompt and self._fits_layers(max(map(len, rows)))):
            return self.scores(rows, batch)
        order = sorted(range(len(rows)), key=lambda place: (len(rows[place]), rows[place]))
        with _guard, torch.inference_mode():
            tensors = padded_batch([rows[place] for place in order], 0, self.model.device)
            logits = self.model(**tensors, trees=torch.tensor([[prompt, len(rows)]])).logits.float().tolist()
        scores = dict(zip(order, logits, strict=True))
        return [scores[place] for place in range(len(rows))]

    def _fits_layers(self, longest: int) -> bool:
        from tasks.training.shared_prefix.classifier import classifier_obstacle

        return classifier_obstacle(self.model, longest) is None


def padded_batch(rows: Sequence[Row], pad: int, device: Any) -> dict[str, Any]:
    """input_ids and attention_mask of rows, padded on the right: both [rows, tokens of the longest]."""
    import torch

    longest = max(map(len, rows))
    padded = [[*row, *[pad] * (longest - len(row))] for row in rows]
    mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    return {
        "input_ids": torch.tensor(padded, device=device),
        "attention_mask": torch.tensor(mask, device=device),
    }


def open_reward_model(settings: RewardModelSettings) -> RewardModel:
    """The model, loaded once per process. Raises RecipeError or PrerequisiteError when it cannot be."""
    with _guard:
        return _load(settings.model, settings.revision, settings.dtype, settings.labels, settings.with_context)


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


# Tokens, limit in tokens, score, reason of a null score, and the model's numbers where it gives several.
AnswerScore = tuple[int, int, float | None, str | None, list[float]]


def reward_job(question: AnsweredQuestion, settings: RewardModelSettings, recipe: Recipe) -> Job[list[AnswerScore]]:
    """The scores of a question's answers, in order."""
    own = settings.model_dump(include={"model", "revision", "max_tokens", "batch", "dtype"})
    texts = [answer.text for answer in question.answers]
    identity: list[Any] = [own, question.example.question, texts]
    if settings.labels > 1:
        identity.append(settings.labels)
    context = question.context if settings.with_context else None
    messages = question_messages(question.example, context, recipe)
    if settings.with_context:
        identity.append(messages)
    return Job(lambda: _score_answers(messages, texts, settings), identity, len(texts), question.example.example_id)


def _score_answers(messages: Messages, answers: Sequence[str], settings: RewardModelSettings) -> list[AnswerScore]:
    if not answers:
        return []
    model = open_reward_model(settings)
    limit = int(min(settings.max_tokens, model.window))
    rows = model.encoder.rows(messages, answers)
    distinct = [list(row) for row in sorted({tuple(row) for row in rows if len(row) <= limit})]
    score_rows = model.scores_of_question if settings.with_context else model.scores
    scored = score_rows(distinct, settings.batch) if distinct else []
    heads_of_row = dict(zip(map(tuple, distinct), scored, strict=True))
    results: list[AnswerScore] = []
    for row in rows:
        heads = heads_of_row.get(tuple(row))
        if heads is None:
            results.append((len(row), limit, None, "input_too_long", []))
            continue
        score = sum(heads) / len(heads)
        if math.isfinite(score):
            several = [round(head, SCORE_DIGITS) for head in heads] if settings.labels > 1 else []
            results.append((len(row), limit, round(score, SCORE_DIGITS), None, several))
        else:
            results.append((len(row), limit, None, "not_finite", []))
    return results


@lru_cache(maxsize=2)
def _load(model_name: str, revision: str, dtype: str, labels: int, with_context: bool) -> RewardModel:
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
    fault = _unfit_reason(tokenizer, model, loading_info, labels)
    if fault:
        raise RecipeError(f"{NAME}.model: {model_name!r} {fault}; take a reward model made for chats")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.eval().to(device)
    return RewardModel(model, tokenizer, RewardEncoder(tokenizer, f"{NAME}.model"), with_context and can_share(model))


def can_share(model: Any) -> bool:
    """Let a loaded classifier read the prompt of several answers once, where that gives the same logits."""
    from tasks.training.shared_prefix.classifier import classifier_obstacle, passes_trial, share_classifier

    if classifier_obstacle(model, 1) is not None:
        return False
    share_classifier(model)
    return passes_trial(model)


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


def _unfit_reason(tokenizer: Any, model: Any, loading_info: Any, labels: int) -> str | None:
    """Why the model gives no reward."""
    if model.config.num_labels != labels:
        expected = "one" if labels == 1 else f"the {labels} of {NAME}.labels"
        return f"has {model.config.num_labels} labels and not {expected}"
    if loading_info["missing_keys"]:  # transformers would fill them with chance
        return f"has no trained weights for {', '.join(sorted(loading_info['missing_keys']))}"
    return None if tokenizer.chat_template else "has a tokenizer without a chat template"
