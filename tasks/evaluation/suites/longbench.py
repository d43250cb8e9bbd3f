"""LongBench (Bai et al., 2023): QA and summaries as LongReward reports them (arXiv 2410.21252), and the other tasks.

`score` is the measure that LongBench defines for a task, best over the references:

    token F1            narrativeqa, qasper, multifieldqa_en/_zh, hotpotqa, 2wikimqa, musique, triviaqa
    ROUGE-L             dureader, gov_report, qmsum, multi_news, vcsum, samsum
    classification      trec, lsht: 1 / the number of classes named, where the right one is among them
    right numbers       passage_count, passage_retrieval_en/_zh: the share of the numbers in an answer that are right
    edit similarity     lcc, repobench-p: of the first line that is code (`questions.format: longbench_code`)

Of the few-shot tasks the first line of an answer counts. `judged` is LongReward's: the judge grades an answer to a
question by each reference from 1 to 3, a summary from 1 to 5, and the best grade counts, mapped to [0, 1]. Other tasks
are not judged: "not_judged". LongReward takes an answer without a usable grade for 0.5; here it is missing. The
headline is the mean over the tasks of their means.

Differences from LongBench's script: Chinese is compared by characters and not by jieba's words, and ROUGE-L is that of
the whole text. Prompts are written anew; `answers: open` asks as LongReward does: context and question, 1,024 tokens.
"""

import difflib
import json
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, model_validator

from tasks.evaluation.judged import compared_values, grade_query, role_of, score_of
from tasks.evaluation.suites import JudgedSettings, Score, Scores, Suite, SuiteAnswer, SuiteJudge, SuiteQuestion
from tasks.judging.context import ScoringContext
from tasks.judging.steps import Step, ask
from tasks.metrics import rouge_l, token_f1
from tasks.records.example import Context, Example

SUMMARIES = {"gov_report", "qmsum", "multi_news", "vcsum"}
QUESTIONS = {
    "narrativeqa",
    "qasper",
    "multifieldqa_en",
    "multifieldqa_zh",
    "hotpotqa",
    "2wikimqa",
    "musique",
    "dureader",
}
_FIRST_LINE = {"trec", "triviaqa", "samsum", "lsht"}
_TOKENS = {
    "narrativeqa": 128, "qasper": 128, "multifieldqa_en": 64, "multifieldqa_zh": 64, "hotpotqa": 32, "2wikimqa": 32,
    "musique": 32, "dureader": 128, "gov_report": 512, "qmsum": 512, "multi_news": 512, "vcsum": 512, "trec": 64,
    "triviaqa": 32, "samsum": 128, "lsht": 64, "passage_count": 32, "passage_retrieval_en": 32,
    "passage_retrieval_zh": 32, "lcc": 64, "repobench-p": 64,
}  # fmt: skip
_PROMPTS = {
    "narrativeqa": "story", "qasper": "paper", "multifieldqa_en": "short-answer", "multifieldqa_zh": "short-answer",
    "hotpotqa": "short-answer", "2wikimqa": "short-answer", "musique": "short-answer", "dureader": "answer",
    "gov_report": "summary", "qmsum": "meeting", "multi_news": "summary", "vcsum": "summary", "lcc": "code",
    "repobench-p": "code",
}  # fmt: skip
_NUMBER = re.compile(r"\d+")
_NOT_JUDGED: Scores = {"judged": Score(None, "not_judged")}


class LongBenchSettings(JudgedSettings):
    """How LongBench is asked."""

    answers: Literal["short", "open"] = Field(
        "short", description="short: by the task's prompt, as long as LongBench allows; open: as LongReward asks"
    )

    @model_validator(mode="before")
    @classmethod
    def _open_answers(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("answers") == "open":
            return {"max_tokens": 1024} | values
        return values


def task_of(example: Example) -> str:
    """The task of a question, as LongBench and LongBench-E name it."""
    return example.kind.removesuffix("_e")


def _prepare(question: SuiteQuestion, settings: Any, seed: int) -> SuiteQuestion:
    return replace(question, task=task_of(question.example))


def _prompt(example: Example, settings: LongBenchSettings) -> str:
    short = settings.answers == "short"
    return f"evaluate-{_PROMPTS.get(task_of(example), 'plain') if short else 'plain'}"


def _score(text: str, example: Example, context: Context) -> float | None:
    task = task_of(example)
    if task in _FIRST_LINE:
        text = text.lstrip("\n").partition("\n")[0]
    if task in _MEASURES:
        return _best(text, example, _MEASURES[task])
    if task in ("trec", "lsht"):
        return _best(text, example, lambda answer, reference: _class_score(answer, reference, _classes(example)))
    measure = rouge_l if task in SUMMARIES | {"dureader", "samsum"} else token_f1
    return measure(text, example.references)


def _best(text: str, example: Example, measure: Callable[[str, str], float]) -> float | None:
    return max((measure(text, reference) for reference in example.references), default=None)


def _classes(example: Example) -> Sequence[str]:
    return json.loads(example.metadata).get("all_classes") or ()


def _class_score(text: str, reference: str, classes: Sequence[str]) -> float:
    named = {name for name in classes if name in text}
    named -= {name for name in named if name in reference and name != reference}  # parts of the right one's name
    return 1 / len(named) if reference in named else 0.0


def _right_numbers(text: str, reference: str) -> float:
    numbers, right = _NUMBER.findall(text), _NUMBER.search(reference)
    if not numbers or right is None:
        return 0.0
    return numbers.count(right.group()) / len(numbers)


def edit_similarity(text: str, reference: str) -> float:
    """Likeness of the first line that is code and the right line: 2 x matching characters / all characters."""
    for line in text.lstrip("\n").split("\n"):
        if not any(sign in line for sign in ("`", "#", "//")):
            return difflib.SequenceMatcher(None, line, reference, autojunk=False).ratio()
    return 0.0


_MEASURES: Mapping[str, Callable[[str, str], float]] = {
    "passage_count": _right_numbers,
    "passage_retrieval_en": _right_numbers,
    "passage_retrieval_zh": _right_numbers,
    "lcc": edit_similarity,
    "repobench-p": edit_similarity,
}


def _judged(
    answers: Sequence[SuiteAnswer], settings: LongBenchSettings, scoring: ScoringContext
) -> Generator[Step, Any, Sequence[Scores]]:
    scores: list[Scores] = [_NOT_JUDGED] * len(answers)
    for tasks, name, scale in ((QUESTIONS, "rate-answer", (1, 3)), (SUMMARIES, "rate-summary", (1, 5))):
        places: list[int] = []
        queries = []
        for place, answer in enumerate(answers):
            if task_of(answer.example) in tasks:
                for reference in dict.fromkeys(answer.example.references):
                    places.append(place)
                    queries.append(grade_query(name, answer, compared_values(answer, reference), scale, settings))
        verdicts = yield from ask(queries, "answers", role_of(settings))
        lowest, highest = scale
        by_place: dict[int, list[Score]] = {}
        for place, verdict in zip(places, verdicts, strict=True):
            score = score_of(verdict, float)
            if score.value is not None:
                score = Score((score.value - lowest) / (highest - lowest))
            by_place.setdefault(place, []).append(score)
        for place, of_answer in by_place.items():
            scores[place] = {"judged": _best_grade(of_answer)}
    return scores


def _empty(answer: SuiteAnswer) -> Scores:
    """What the judge would say of an answer without text."""
    return {"judged": Score(0.0)} if task_of(answer.example) in QUESTIONS | SUMMARIES else _NOT_JUDGED


def _best_grade(scores: Sequence[Score]) -> Score:
    """The best of the grades by several references; missing where one is that could be better."""
    values = [score.value for score in scores if score.value is not None]
    missing = [score for score in scores if score.value is None]
    best = max(values, default=0.0)
    return missing[0] if missing and best < 1.0 else Score(best)


SUITE = Suite(
    "longbench",
    {"score": _score},
    about="LongBench by task: its own metrics, and LongReward's judge (1-3 for answers, 1-5 for summaries)",
    settings=LongBenchSettings,
    format="longbench",
    prepare=_prepare,
    prompt=_prompt,
    judge=SuiteJudge(("judged",), _judged, "1 a reference answer", _empty),
    answer_tokens=_TOKENS,
    average="tasks",
)
