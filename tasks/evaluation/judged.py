"""Asking a judge about an answer of a suite: the queries for a grade, a yes or no, or a support, and their scores.

The prompts are files `tasks/prompts/LANGUAGE/evaluate-NAME.txt`, in the language of the question. What is judged is
quoted, so that an answer cannot grade itself. The kind of every query is "evaluate_" and the prompt's name.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from tasks.evaluation.suites import JudgedSettings, Score, SuiteAnswer
from tasks.judging.asking import quoted_prompt
from tasks.judging.replies import SUPPORT_LABELS, read_rating, read_support, read_yes
from tasks.judging.steps import JudgeQuery, ModelRole, ReplyForm, Verdict

Value = TypeVar("Value")

YES_FORMS = {"en": ReplyForm("choice", ("[[yes]]", "[[no]]")), "zh": ReplyForm("choice", ("[[是]]", "[[否]]"))}


def grade_query(
    name: str,
    answer: SuiteAnswer,
    values: Mapping[str, str],
    scale: tuple[int, int],
    settings: JudgedSettings,
    **parts: str,
) -> JudgeQuery[int]:
    """The query for a whole number on a scale. `parts` stand in the prompt as they are, and are quoted already."""
    lowest, highest = scale
    form = ReplyForm("choice", tuple(f"[[{grade}]]" for grade in range(lowest, highest + 1)))
    material = "\n".join((*values.values(), *parts.values()))
    read = partial(read_rating, material=material, lowest=lowest, highest=highest)
    return _query(name, answer, values, read, form, settings, **parts)


def yes_query(name: str, answer: SuiteAnswer, values: Mapping[str, str], settings: JudgedSettings) -> JudgeQuery[bool]:
    """The query for a yes or a no."""
    read = partial(read_yes, material="\n".join(values.values()))
    return _query(name, answer, values, read, YES_FORMS[answer.example.language], settings)


def support_query(
    name: str, answer: SuiteAnswer, values: Mapping[str, str], settings: JudgedSettings
) -> JudgeQuery[float]:
    """The query for a support: 1 fully, 0.5 partially, 0 not supported."""
    labels = tuple(f"[[{label}]]" for label in SUPPORT_LABELS[answer.example.language])
    read = partial(read_support, material="\n".join(values.values()))
    return _query(name, answer, values, read, ReplyForm("choice", labels), settings)


def compared_values(answer: SuiteAnswer, reference: str) -> dict[str, str]:
    """The values of prompts that compare an answer with a reference."""
    return {"question": answer.example.question, "reference": reference, "answer": answer.text.strip()}


def score_of(verdict: Verdict[Value], score: Callable[[Value], float]) -> Score:
    """The score that a verdict becomes; missing for its reason where the judge gave none."""
    if verdict.value is None:
        return Score(None, f"judge_{verdict.reason}")
    return Score(score(verdict.value))


def role_of(settings: JudgedSettings) -> ModelRole:
    """The model that is asked."""
    assert settings.judge != "none"  # such an entry asks nobody
    return settings.judge


def _query(
    name: str,
    answer: SuiteAnswer,
    values: Mapping[str, str],
    read: Callable[[str], Value],
    form: ReplyForm,
    settings: JudgedSettings,
    **parts: str,
) -> JudgeQuery[Value]:
    return JudgeQuery(
        f"evaluate_{name.replace('-', '_')}",
        quoted_prompt(f"evaluate-{name}", answer.example.language, values, **parts),
        answer.example.example_id,  # the prompt is short: no context that calls could share
        read,
        settings.judge_tokens,
        form,
        subject=f"question {answer.example.example_id}",
    )
