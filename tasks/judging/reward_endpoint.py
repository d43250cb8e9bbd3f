"""A reward model behind an endpoint: vLLM's /classify, /pooling or /score, in place of a model that is loaded here.

Each answer is a call like any other: paid once through the ledger, with the client's retries, limits and budget. The
conversation of question and answer goes to the server as messages, of which its chat template makes one text; /score
takes the two texts. Both are quoted as in a judge's prompt, so that neither can end its turn. The server cuts nothing:
what is too long for its model, or longer than `max_tokens`, has no score.

Before the first answer the server is sent one short conversation. It shows by which route the server gives one score.
"""

import math
from collections.abc import Generator, Sequence
from typing import Any

from infra.models.client import Prompt
from infra.models.scores import Scores, read_scores
from tasks.judging.classifier_endpoint import PARAMETERS, find_route
from tasks.judging.context import SCORE_DIGITS, AnsweredQuestion, ScoringContext
from tasks.judging.quoting import quoted
from tasks.judging.rating import subject_of
from tasks.judging.replies import Unusable
from tasks.judging.reward_input import Messages, question_messages
from tasks.judging.reward_settings import NAME, RewardModelSettings
from tasks.judging.steps import JudgeQuery, Step, ask
from tasks.records.example import Judgement

_PROBE = ([{"role": "user", "content": "What is two and two?"}], "Four.")
_TOO_LONG = "input_too_long"


def ask_reward_model(
    questions: Sequence[AnsweredQuestion], settings: RewardModelSettings, scoring: ScoringContext
) -> Generator[Step, Any, list[Judgement]]:
    """One judgement for each answer; evidence {"tokens": of the conversation, 0 when unknown, "limit",
    "heads": the numbers of several heads}."""
    if not any(question.answers for question in questions):
        return []
    probes = dict.fromkeys(settings.routes, conversation(*_PROBE))
    route = find_route(NAME, NAME, settings, probes, lambda labels: _fault_of(labels, settings), scoring)
    queries = []
    answers = []
    for question in questions:
        context = question.context if settings.with_context else None
        messages = question_messages(question.example, context, scoring.recipe)
        for answer in question.answers:
            answers.append(answer)
            queries.append(
                JudgeQuery(
                    NAME,
                    conversation(messages, answer.text),
                    question.context.context_id,
                    lambda raw: _tokens_and_score(raw, settings),
                    settings.max_tokens,
                    reads="raw",
                    parameters=PARAMETERS,
                    subject=subject_of(answer),
                    route=route,
                )
            )
    verdicts = yield from ask(queries, role=NAME)
    judgements = []
    for answer, verdict in zip(answers, verdicts, strict=True):
        tokens, score, heads = verdict.value or (0, None, [])
        reason = verdict.reason if verdict.reason != "prompt_too_long" else _TOO_LONG
        if verdict.value is not None and score is None:
            reason = _TOO_LONG
        evidence = {"tokens": tokens, "limit": settings.max_tokens, **({"heads": heads} if heads else {})}
        judgements.append(answer.judged(NAME, score, reason, evidence, verdict.keys))
    return judgements


def conversation(prompt: Messages, answer: str) -> Prompt:
    """The messages before an answer, and the answer, as the reward model is shown them."""
    messages = [{"role": message["role"], "content": quoted(message["content"])} for message in prompt]
    return Prompt((*messages, {"role": "assistant", "content": quoted(answer)}))


def _fault_of(labels: int, settings: RewardModelSettings) -> str | None:
    if labels == settings.labels:
        return None
    return (
        f" and not {settings.labels_in_words}; set labels, take another reward model, or for an embedding model "
        "`protocol: score`"
    )


def _tokens_and_score(raw: str, settings: RewardModelSettings) -> tuple[int, float | None, list[float]]:
    """Tokens of the conversation, its score, None when it is longer than the recipe allows, and the numbers of several
    heads. Raises Unusable."""
    scores = read_scores(raw)
    if scores.labels != settings.labels:
        raise Unusable("not_one_label")
    if scores.prompt_tokens > settings.max_tokens:
        return scores.prompt_tokens, None, []
    heads = _of_tokens(scores, settings)
    score = math.fsum(heads) / len(heads)
    if not math.isfinite(score):
        raise Unusable("not_finite")
    several = [round(head, SCORE_DIGITS) for head in heads] if settings.labels > 1 else []
    return scores.prompt_tokens, round(score, SCORE_DIGITS), several


def _of_tokens(scores: Scores, settings: RewardModelSettings) -> list[float]:
    """The number of each head."""
    if settings.combine == "last":
        return list(scores.rows[-1])
    heads = list(zip(*scores.rows, strict=True))
    if settings.combine == "min":
        return [min(values) for values in heads]
    return [math.fsum(values) / len(values) for values in heads]
