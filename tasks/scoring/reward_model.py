"""Reward model: a sequence classifier that scores an answer to a question, with or without the context.

The tokenizer's chat template makes one conversation of question and answer; with `with_context` the question comes as
the policy was asked it, the whole context before it. The score is the model's one logit as it is, so its scale is the
model's own and not 0..10; a model with several heads (`labels`) gives their mean, and each head's number is in the
evidence. The model is loaded once per process and runs one forward pass at a time, on a GPU where there is one. A pass
holds answers to one question, in order of length, so the company that an answer is scored in depends on nothing but its
question. With the context, a pass reads it once for all answers. An input that is too long is not cut: its score is
null. Special tokens of the tokenizer are broken up in all texts, so that no answer can end its turn and begin another.

With `endpoint` the model runs on a vLLM server instead (`tasks/judging/reward_endpoint.py`).

Leaves out: models with code of their own, templates whose marks are no special tokens.
"""

from collections.abc import Mapping, Sequence

from infra.recipe import Recipe
from tasks.judging.context import AnsweredQuestion, ScoringContext
from tasks.judging.reward_classifier import check_reward_model, reward_job
from tasks.judging.reward_endpoint import ask_reward_model
from tasks.judging.reward_settings import NAME, RewardModelSettings
from tasks.judging.steps import Steps, compute
from tasks.scoring import Scorer


def score(questions: Sequence[AnsweredQuestion], settings: RewardModelSettings, scoring: ScoringContext) -> Steps:
    """One judgement for each answer of each question; evidence {"tokens": of the conversation, "limit",
    "heads": the numbers of several heads}."""
    if settings.endpoint is not None:
        return (yield from ask_reward_model(questions, settings, scoring))
    jobs = [reward_job(question, settings, scoring.recipe) for question in questions]
    scores_by_question = yield from compute(NAME, jobs)
    judgements = []
    for question, scores in zip(questions, scores_by_question, strict=True):
        for answer, (tokens, limit, value, reason, heads) in zip(question.answers, scores, strict=True):
            evidence = {"tokens": tokens, "limit": limit, **({"heads": heads} if heads else {})}
            judgements.append(answer.judged(NAME, value, reason, evidence))
    return judgements


def calls(settings: RewardModelSettings, recipe: Recipe, context_tokens: int) -> Mapping[str, float]:
    """Calls for one question: one for each answer, where the model is behind an endpoint."""
    return {NAME: float(recipe.sampling.samples)} if settings.endpoint is not None else {}


SCORER = Scorer(NAME, RewardModelSettings, score, calls=calls, check=check_reward_model)
