"""Running the judge of a suite over answers, without a model: `says` is the judge's reply to each request."""

from collections.abc import Sequence
from typing import Any

from infra.canonical import text_id
from infra.models.client import Request
from tasks.evaluation.suites import Scores, Suite, SuiteAnswer
from tasks.records.example import Context, Example
from tasks.scoring.run import InThread, run_to_end
from tests.support.scripted_judge import Says, ScriptedJudge, judged_recipe, scoring_with


def suite_answer(
    text: str,
    *references: str,
    kind: str = "",
    name: str = "q1",
    context: str = "The sky is blue.",
    language: str = "en",
    metadata: str = "{}",
    baseline: str | None = None,
    question: str = "Why?",
) -> SuiteAnswer:
    example = Example(name, question, text_id(context), references, kind, language, metadata)
    return SuiteAnswer(example, Context(text_id(context), context, 1, (), (), ()), text, kind, baseline)


def judged(
    suite: Suite, answers: Sequence[SuiteAnswer], says: Says, **settings: Any
) -> tuple[list[Scores], list[Request]]:
    """The judge's scores of each answer, and what the judge was sent."""
    assert suite.judge is not None
    judge = ScriptedJudge(says)
    scoring = scoring_with(judge, judged_recipe())
    steps = suite.judge.score(answers, suite.settings.model_validate(settings), scoring)
    return list(run_to_end(steps, InThread(scoring))), judge.asked
