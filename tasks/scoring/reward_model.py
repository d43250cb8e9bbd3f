"""Reward model: a sequence classifier that scores (question, answer) and never sees the context. A baseline.

The tokenizer's chat template makes one conversation of both; the score is the model's one logit as it is, so its scale
is the model's own and not 0..10. The model is loaded once per process and runs one forward pass at a time, on a GPU
where there is one. A batch holds answers to one question, in order of length, so the company that an answer is scored
in depends on nothing but its question. An input that is too long is not cut: its score is null. Special tokens of the
tokenizer are broken up in both texts, so that no answer can end its turn and begin another.

Leaves out: models behind an endpoint, models with code of their own, templates whose marks are no special tokens.
"""

import math
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from infra.canonical import canonical
from infra.errors import PrerequisiteError, RecipeError
from infra.models.embedding import without_bars
from infra.recipe import Positive, RecipeSection
from tasks.judging.rating import no_text_reason, unscored
from tasks.records.example import Answer, Judgement
from tasks.scoring import DIGITS, AnsweredQuestion, Scorer, ScoringContext

NAME = "reward_model"
_loaded: dict[tuple[str, str, str], "RewardModel"] = {}
_guard = threading.RLock()  # held while a model loads or runs


class RewardModelSettings(RecipeSection):
    """Which model scores, and what fits into it."""

    model: str = Field(description="folder or hub name of a transformers sequence classifier with one label")
    revision: str = Field("main", description="revision of a hub model; part of the plan")
    max_tokens: Positive = Field(
        4096, description="longest conversation that is scored, in tokens, within the model's window; null beyond it"
    )
    batch: Positive = Field(8, description="answers to a question per forward pass")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="number format of the model")


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
        found: dict[int, float] = {}
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
                found.update(zip(places, logits, strict=True))
        return [found[place] for place in range(len(rows))]

    def _plain(self, text: str) -> str:
        """The text with every special token broken up: it stays readable."""
        while self.special and (broken := self.special.sub(_parted, text)) != text:
            text = broken
        return text


def open_reward_model(settings: RewardModelSettings) -> RewardModel:
    """The model, loaded once per process. Raises RecipeError or PrerequisiteError when it cannot be."""
    key = (settings.model, settings.revision, settings.dtype)
    with _guard:
        if key not in _loaded:
            _loaded[key] = _load(settings)
        return _loaded[key]


def judge(cases: Sequence[AnsweredQuestion], settings: RewardModelSettings, bench: ScoringContext) -> list[Judgement]:
    """One judgement for each answer of each case; evidence {"tokens": of the conversation, "limit"}."""
    return [judgement for case in cases for judgement in _judge_case(case, settings)]


def check(settings: RewardModelSettings) -> None:
    """Raise RecipeError or PrerequisiteError when the model is not there; its weights are not read."""
    from transformers import AutoConfig

    _found(settings, lambda place, which: AutoConfig.from_pretrained(place, **which, trust_remote_code=False))


def _judge_case(case: AnsweredQuestion, settings: RewardModelSettings) -> list[Judgement]:
    spoken = [answer for answer in case.answers if no_text_reason(answer) is None]
    if not spoken:
        return [unscored(NAME, answer) for answer in case.answers]
    model = open_reward_model(settings)
    limit = int(min(settings.max_tokens, model.window))
    rows = {answer.sample_index: tuple(model.tokens(case.example.question, answer.text)) for answer in spoken}
    distinct = sorted({row for row in rows.values() if len(row) <= limit})
    scores = dict(zip(distinct, model.scores(distinct, settings.batch), strict=True))
    return [
        _judgement(answer, len(row), limit, scores.get(row))
        if (row := rows.get(answer.sample_index)) is not None
        else unscored(NAME, answer)
        for answer in case.answers
    ]


def _judgement(answer: Answer, tokens: int, limit: int, score: float | None) -> Judgement:
    """`score`: null for a conversation that is too long."""
    reason = "input_too_long" if score is None else None if math.isfinite(score) else "not_finite"
    value = None if score is None or reason else round(score, DIGITS)
    evidence = canonical({"tokens": tokens, "limit": limit}).decode()
    return Judgement(answer.example_id, answer.sample_index, NAME, value, reason, evidence, ())


def _load(settings: RewardModelSettings) -> RewardModel:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    def load(place: str, which: dict[str, Any]) -> tuple[Any, Any, Any]:
        tokenizer = AutoTokenizer.from_pretrained(place, **which, trust_remote_code=False)
        with without_bars():
            model, told = AutoModelForSequenceClassification.from_pretrained(
                place,
                **which,
                trust_remote_code=False,
                dtype=getattr(torch, settings.dtype),
                output_loading_info=True,
            )
        return tokenizer, model, told

    tokenizer, model, told = _found(settings, load)
    fault = _unfit(tokenizer, model, told)
    if fault:
        raise RecipeError(f"{NAME}.model: {settings.model!r} {fault}; take a reward model made for chats")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return RewardModel(model.eval().to(device), tokenizer, _special_tokens(tokenizer))


def _found(settings: RewardModelSettings, load: Callable[[str, dict[str, Any]], Any]) -> Any:
    """What `load` makes of the model's place and the arguments for its revision; its errors as Longmill's own."""
    folder = Path(settings.model).is_dir()
    try:
        return load(settings.model, {"local_files_only": True} if folder else {"revision": settings.revision})
    except ImportError as error:
        raise PrerequisiteError(f"{NAME}.model: {settings.model!r} needs a package that is missing: {error}") from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise RecipeError(
            f"{NAME}.model: cannot load {settings.model!r} ({error}). Give the folder of a transformers sequence "
            "classifier, or the hub name of one that can be reached from here"
        ) from error


def _unfit(tokenizer: Any, model: Any, told: Any) -> str | None:
    """Why the model gives no reward."""
    if model.config.num_labels != 1:
        return f"has {model.config.num_labels} labels and not one"
    if told["missing_keys"]:  # transformers would fill them with chance
        return f"has no trained weights for {', '.join(sorted(told['missing_keys']))}"
    return None if tokenizer.chat_template else "has a tokenizer without a chat template"


def _special_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    tokens = {str(each) for each in tokenizer.added_tokens_decoder.values() if each.special}
    known = sorted((each for each in tokens if len(each) > 1 and not re.search(r"\s", each)), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, known))) if known else None


def _parted(found: re.Match[str]) -> str:
    return f"{found.group()[0]} {found.group()[1:]}"


SCORER = Scorer(NAME, RewardModelSettings, judge, check=check)
