"""A trained reward model loaded here: a sequence classifier over (question, answer).

The tokenizer's chat template makes one conversation of both; the score is the model's one logit as it is. Special
tokens of the tokenizer are broken up in both texts, so that no answer can end its turn and begin another.
"""

import math
from collections.abc import Sequence

from infra.errors import RecipeError
from tasks.judging.classifier import Classifier, TokenRow, check_classifier, open_classifier
from tasks.judging.context import SCORE_DIGITS, AnsweredQuestion
from tasks.judging.reward_settings import NAME, RewardModelSettings
from tasks.judging.steps import Job
from tasks.records.example import Answer

AnswerScore = tuple[int, int, float | None, str | None]  # tokens, limit in tokens, score, reason of a null score


def open_reward_model(settings: RewardModelSettings) -> Classifier:
    """The model, loaded once per process. Raises RecipeError or PrerequisiteError when it cannot be, or is none."""
    model = open_classifier(settings, NAME)
    fault = _unfit_reason(model)
    if fault:
        raise RecipeError(f"{NAME}.model: {settings.model!r} {fault}; take a reward model made for chats")
    return model


def check_reward_model(settings: RewardModelSettings) -> None:
    """Raise RecipeError or PrerequisiteError when the model is not there; its weights are not read."""
    check_classifier(settings, NAME)


def conversation_tokens(model: Classifier, question: str, answer: str) -> TokenRow:
    """The conversation as the model reads it. Raises RecipeError when the chat template refuses it."""
    from jinja2 import TemplateError

    texts = {"user": model.plain(question), "assistant": model.plain(answer)}
    messages = [{"role": role, "content": text} for role, text in texts.items()]
    try:
        text = model.tokenizer.apply_chat_template(messages, tokenize=False)
    except (TemplateError, ValueError) as error:
        raise RecipeError(f"{NAME}.model: its chat template is of no use ({error}); take another model") from error
    return TokenRow(model.encode(text, special_tokens=False).ids)


def reward_job(question: AnsweredQuestion, settings: RewardModelSettings) -> Job[list[AnswerScore]]:
    """The scores of a question's answers."""
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
    rows = [conversation_tokens(model, question, answer.text) for answer in answers]
    distinct = sorted({row for row in rows if len(row.ids) <= limit})
    scores = dict(zip(distinct, model.logits(distinct, settings.batch), strict=True))
    results: list[AnswerScore] = []
    for row in rows:
        logits = scores.get(row)
        if logits is None:
            results.append((len(row.ids), limit, None, "input_too_long"))
        elif math.isfinite(logits[0]):
            results.append((len(row.ids), limit, round(logits[0], SCORE_DIGITS), None))
        else:
            results.append((len(row.ids), limit, None, "not_finite"))
    return results


def _unfit_reason(model: Classifier) -> str | None:
    """Why the model gives no reward."""
    if len(model.labels) != 1:
        return f"has {len(model.labels)} labels and not one"
    if model.missing:
        return f"has no trained weights for {', '.join(model.missing)}"
    return None if model.tokenizer.chat_template else "has a tokenizer without a chat template"
