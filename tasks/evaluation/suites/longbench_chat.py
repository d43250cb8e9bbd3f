"""LongBench-Chat (Bai et al., 2024, "LongAlign"): open questions, graded from 1 to 10 by a judge with graded examples.

The judge sees a person's reference answer and, where there are any, three other answers with their grades: a row's
`few_shot_scores`, or the file `few_shots.json` of LongBench-Chat: for each row a list of {"answer", "score"}. The
score is the grade / 10, so that 100 times the mean is the figure that papers report.
"""

import json
from collections.abc import Generator, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import Field

from infra.errors import InputError
from tasks.evaluation.judged import compared_values, grade_query, role_of, score_of
from tasks.evaluation.suites import JudgedSettings, Scores, Suite, SuiteAnswer, SuiteJudge
from tasks.judging.context import ScoringContext
from tasks.judging.quoting import quoted
from tasks.judging.steps import JudgeQuery, Step, ask
from tasks.prompts import load_prompt
from tasks.records.example import Example

_SCALE = (1, 10)
_INTRODUCTION = {
    "en": "\nAnswers of others to the same question, with their grades\n",
    "zh": "\n对同一问题的其他回答及其分数\n",
}


class LongBenchChatSettings(JudgedSettings):
    """Where the graded examples are."""

    few_shots: str | None = Field(
        None, description="LongBench-Chat's few_shots.json; without it, the rows' own `few_shot_scores`, or no examples"
    )


def _judged(
    answers: Sequence[SuiteAnswer], settings: LongBenchChatSettings, scoring: ScoringContext
) -> Generator[Step, Any, Sequence[Scores]]:
    queries = [_query(answer, settings) for answer in answers]
    verdicts = yield from ask(queries, "answers", role_of(settings))
    return [{"judged": score_of(verdict, lambda grade: grade / 10)} for verdict in verdicts]


def _query(answer: SuiteAnswer, settings: LongBenchChatSettings) -> JudgeQuery[int]:
    language = answer.example.language
    template = load_prompt("evaluate-rated-example", language)
    texts = []
    for example in _examples(answer.example, settings):
        texts.append(template.render(answer=quoted(str(example["answer"]).strip()), rating=str(example["score"])))
    examples = _INTRODUCTION[language] + "\n".join(texts) if texts else ""
    values = compared_values(answer, answer.example.references[0])
    return grade_query("rate-by-examples", answer, values, _SCALE, settings, examples=examples)


def _examples(example: Example, settings: LongBenchChatSettings) -> Sequence[Mapping[str, Any]]:
    own = json.loads(example.metadata).get("few_shot_scores")
    if own or settings.few_shots is None:
        return own or ()
    by_row = _few_shots(settings.few_shots)
    number = int(example.example_id) if example.example_id.isdecimal() else 0
    if not 1 <= number <= len(by_row):
        raise InputError(
            f"{settings.few_shots}: has {len(by_row)} lists of examples, and question {example.example_id!r} is none "
            "of them; take the file that belongs to the questions"
        )
    return by_row[number - 1]


@cache
def _few_shots(path: str) -> list[list[dict[str, Any]]]:
    """The lists of examples, of row 1 first. Raises InputError for another content."""
    from infra.store.sources import file_system

    filesystem, place = file_system(path)
    try:
        with filesystem.open(place, "rb") as file:
            lists = json.load(file)
        for examples in lists:
            for example in examples:
                str(example["answer"]), int(example["score"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: no list of lists of {{answer, score}} ({error}); take few_shots.json") from error
    return list(lists)


SUITE = Suite(
    "longbench_chat",
    about="LongBench-Chat: open questions, graded 1-10 by a judge with a reference and graded examples",
    settings=LongBenchChatSettings,
    format="longbench_chat",
    prompt=lambda example, settings: "evaluate-plain",
    judge=SuiteJudge(("judged",), _judged),
    answer_tokens={"": 1024},
)
