"""A trained reward model loaded here: a sequence classifier over question and answer.

The tokenizer's chat template makes one conversation of both, with the context before the question where the recipe
says so; the score is the model's one logit as it is, or the mean of its heads. With the context, the prompt is read
once for all answers of a question where the model's layers allow it.
"""

import math
from collections.abc import Sequence
from typing import Any

from infra.errors import RecipeError
from infra.recipe import Recipe
from tasks.judging.classifier import Classifier, check_classifier, open_classifier
from tasks.judging.classifier_input import TokenRow
from tasks.judging.context import SCORE_DIGITS, AnsweredQuestion
from tasks.judging.reward_input import Messages, RewardEncoder, question_messages
from tasks.judging.reward_settings import NAME, RewardModelSettings
from tasks.judging.steps import Job

# Tokens, limit in tokens, score, reason of a null score, and the model's numbers where it gives several.
AnswerScore = tuple[int, int, float | None, str | None, list[float]]


def open_reward_model(settings: RewardModelSettings) -> Classifier:
    """The model, loaded once per process. Raises RecipeError or PrerequisiteError when it cannot be, or is none."""
    model = open_classifier(settings, NAME, share_prompts=settings.with_context)
    fault = _unfit_reason(model, settings)
    if fault:
        raise RecipeError(f"{NAME}.model: {settings.model!r} {fault}; take a reward model made for chats")
    return model


def check_reward_model(settings: RewardModelSettings) -> None:
    """Raise RecipeError or PrerequisiteError when the model is not there; its weights are not read."""
    check_classifier(settings, NAME)


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
    encoder = RewardEncoder(model.tokenizer, f"{NAME}.model")
    rows = [TokenRow(tuple(ids)) for ids in encoder.rows(messages, answers)]
    distinct = sorted({row for row in rows if len(row.ids) <= limit})
    logits = model.logits_of_question if settings.with_context else model.logits
    heads_of_row = dict(zip(distinct, logits(distinct, settings.batch), strict=True))
    results: list[AnswerScore] = []
    for row in rows:
        heads = heads_of_row.get(row)
        if heads is None:
            results.append((len(row.ids), limit, None, "input_too_long", []))
            continue
        score = sum(heads) / len(heads)
        if math.isfinite(score):
            several = [round(head, SCORE_DIGITS) for head in heads] if settings.labels > 1 else []
            results.append((len(row.ids), limit, round(score, SCORE_DIGITS), None, several))
        else:
            results.append((len(row.ids), limit, None, "not_finite", []))
    return results


def _unfit_reason(model: Classifier, settings: RewardModelSettings) -> str | None:
    """Why the model gives no reward."""
    if len(model.labels) != settings.labels:
        return f"has {len(model.labels)} labels and not {settings.labels_in_words}"
    if model.missing:
        return f"has no trained weights for {', '.join(model.missing)}"
    return None if model.tokenizer.chat_template else "has a tokenizer without a chat template"
