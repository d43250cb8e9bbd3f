"""Trying a judge without a run: 32 small calls on texts that are made up, half of them in Chinese.

Four answers to a question, from right to refused, get a rating for helpfulness, logicality and completeness each, and
a list of facts. Each call is made once; nothing is written to a ledger.
"""

from dataclasses import dataclass, replace
from typing import Any

from infra.canonical import text_id
from infra.errors import PrerequisiteError
from infra.models.embedding.embedder import Embedder
from infra.recipe import Recipe
from tasks.judging.asking import ask_judge, judge_settings
from tasks.judging.context import AnsweredQuestion, ScoringContext
from tasks.judging.fact_settings import GRANULARITY, FactSettings
from tasks.judging.facts import list_query
from tasks.judging.rating import FORMS, RatingSettings, rating_query
from tasks.judging.refusals import FACTS_SCORER
from tasks.judging.steps import JudgeQuery
from tasks.judging.trial import SIZE, JudgeTrial
from tasks.model_trial import trial_client
from tasks.records.example import Answer, Context, Example

_RATINGS = ("helpfulness", "logicality", "completeness")


@dataclass(frozen=True, slots=True)
class _Material:
    language: str
    context: str
    question: str
    answers: tuple[str, ...]


_MATERIALS = (
    _Material(
        "en",
        "The plans of the Tessin pier were drawn by Ada Brolin in 1907. It was opened on 4 May 1911.",
        "Who drew the plans of the Tessin pier, and when was it opened?",
        (
            "Ada Brolin drew the plans, and the pier was opened on 4 May 1911.",
            "Ada Brolin drew the plans.",
            "The plans are by Carl Emmer. It was opened in 1931.",
            "The document does not say who drew the plans or when the pier was opened.",
        ),
    ),
    _Material(
        "zh",
        "青禾渡槽由工程师陆闻溪设计，1968年9月建成通水。",
        "青禾渡槽是谁设计的，何时建成？",
        (
            "青禾渡槽由陆闻溪设计，1968年9月建成。",
            "是工程师陆闻溪设计的。",
            "由何仲平设计，建成于1978年。",
            "文中没有说明青禾渡槽由谁设计、何时建成。",
        ),
    ),
)


def try_judge(recipe: Recipe) -> list[str]:
    """Make the calls; returns what had to be settled in their form, a line each.

    Raises JudgeError when half of the replies cannot be used, ModelError when none can be had.
    """
    judge = recipe.judge
    assert judge is not None  # the caller has looked
    once = recipe.model_copy(update={"judge": judge.model_copy(update={"replies": 1})})
    with trial_client(judge, "judge") as client:
        scoring = ScoringContext(_no_embedder, None, once, client, trial=JudgeTrial(SIZE, f"judge {judge.name}", ""))
        for kind in (*_RATINGS, "facts"):
            ask_judge(_queries(kind, scoring), scoring)
        return client.settled()


def _queries(kind: str, scoring: ScoringContext) -> list[JudgeQuery[Any]]:
    queries: list[JudgeQuery[Any]] = []
    prompts = judge_settings(scoring).prompts
    for material in _MATERIALS:
        question = _answered(material)
        for answer in question.answers:
            values = {"question": material.question, "answer": answer.text}
            if kind == "facts":
                queries.append(list_query(question, answer, _fact_settings(scoring.recipe), scoring))
                continue
            if kind == "completeness":
                values["notes"] = material.context
            subject = (question, answer, values)
            queries.append(rating_query(kind, subject, prompts, RatingSettings().max_tokens, FORMS[prompts]))
    return queries


def _fact_settings(recipe: Recipe) -> FactSettings:
    """The recipe's way of listing facts; the default where its answers are not checked for facts."""
    for entry in recipe.scoring.scorers:
        if entry.get("scorer") == FACTS_SCORER and GRANULARITY in entry:
            return FactSettings(granularity=entry[GRANULARITY])
    return FactSettings()


def _answered(material: _Material) -> AnsweredQuestion:
    name, text = f"trial-{material.language}", material.context
    context = Context(text_id(text), text, 0, (0,), (len(text),), ("",))
    example = Example(name, material.question, context.context_id, (), "", material.language, "{}")
    answer = Answer(name, 0, "", "stop", 0, 0, "", "")
    answers = [replace(answer, sample_index=index, text=text) for index, text in enumerate(material.answers)]
    return AnsweredQuestion(example, context, tuple(answers))


def _no_embedder() -> Embedder:
    raise PrerequisiteError("a trial of the judge embeds nothing")
