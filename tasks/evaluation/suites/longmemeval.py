"""LongMemEval (Wu et al., 2024): questions about what a user once said, judged yes or no by the type of question.

The judge compares an answer with the right one; what counts as right depends on the type: spans of time may be off by
one, an update may name earlier states, a preference is judged by a description. A question that the history does not
answer ("_abs" in its id) wants an answer that says so. Accuracy by type; the headline is the mean over the questions.
With `contexts: {build: history}` the history stays chat messages.
"""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

from tasks.evaluation.judged import compared_values, role_of, score_of, yes_query
from tasks.evaluation.suites import JudgedSettings, Scores, Suite, SuiteAnswer, SuiteJudge, SuiteQuestion
from tasks.judging.context import ScoringContext
from tasks.judging.steps import Step, ask
from tasks.records.example import Example

_BY_TYPE = {
    "temporal-reasoning": "time",
    "knowledge-update": "update",
    "single-session-preference": "preference",
}  # the others compare answers
_ABSTENTION = "_abs"


def _prepare(question: SuiteQuestion, settings: Any, seed: int) -> SuiteQuestion:
    unanswerable = _ABSTENTION in question.example.example_id
    groups = {"answerable": "no" if unanswerable else "yes"}
    return replace(question, task=question.example.kind, groups=groups)


def _rule(example: Example) -> str:
    """What counts as right: the end of the prompt's name."""
    if _ABSTENTION in example.example_id:
        return "abstention"
    return _BY_TYPE.get(example.kind, "answer")


def _judged(
    answers: Sequence[SuiteAnswer], settings: JudgedSettings, scoring: ScoringContext
) -> Generator[Step, Any, Sequence[Scores]]:
    scores: list[Scores] = [{}] * len(answers)
    for rule in sorted({_rule(answer.example) for answer in answers}):
        places = [place for place, answer in enumerate(answers) if _rule(answer.example) == rule]
        queries = []
        for place in places:
            values = compared_values(answers[place], answers[place].example.references[0])
            queries.append(yes_query(f"memory-{rule}", answers[place], values, settings))
        verdicts = yield from ask(queries, "answers", role_of(settings))
        for place, verdict in zip(places, verdicts, strict=True):
            scores[place] = {"judged": score_of(verdict, float)}
    return scores


SUITE = Suite(
    "longmemeval",
    about="LongMemEval: what a user once said, judged yes or no by the type of question",
    settings=JudgedSettings,
    format="longmemeval",
    prepare=_prepare,
    prompt=lambda example, settings: "evaluate-memory",
    judge=SuiteJudge(("judged",), _judged),
    answer_tokens={"": 500},
)
