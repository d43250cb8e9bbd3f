"""Faithfulness: the facts of an answer, each checked against the chunks that lie nearest to it."""

import json
import re
from typing import Any

import pytest

from infra.models.client import Failure, Request
from infra.models.embedding.embedder import Embedder
from tasks.judging.fact_settings import FactSettings
from tasks.scoring import faithfulness
from tests.support.scripted_judge import (
    ScriptedJudge,
    case_of,
    count_words,
    inside,
    judge_with,
    judged_recipe,
    prompt_of,
    scoring_with,
)

CONTEXT = " ".join(
    f"The number of {word} is {number}." for number, word in enumerate(["apples", "pears", "plums", "figs", "nuts"])
)
SETTINGS = FactSettings(chunk_tokens=40, nearest=2)


def says(request: Request) -> str:
    """Facts are the answer's sentences; "half" is half right, what the passages hold is right."""
    if request.kind == "facts":
        sentences = re.findall(r"[^.]+\.", inside(request, "answer"))
        return "\n".join(f"<statement>{each.strip()}</statement>" for each in sentences) or "No factual statements"
    statement = inside(request, "statement")
    if "half" in statement:
        return "[[Partially supported]]"
    passages = "".join(inside(request, "passages").split())  # a chunk may end within a word
    return "[[Fully supported]]" if "".join(statement.split()) in passages else "[[No support]]"


def judged(*answers: str, judge: ScriptedJudge | None = None, **changes: Any) -> tuple[list[Any], ScriptedJudge]:
    asked = judge or ScriptedJudge(says)
    settings = SETTINGS.model_copy(update=changes)
    return judge_with(
        faithfulness, [case_of(*answers, context=CONTEXT)], settings, scoring_with(asked, judged_recipe())
    ), asked


def test_the_score_is_ten_times_the_mean_support() -> None:
    found, _ = judged("The number of figs is 3. This is half true. The number of figs is 9. The number of nuts is 4.")
    assert found[0].score == pytest.approx(10 * (1 + 0.5 + 0 + 1) / 4)


def test_each_fact_is_traced_to_its_passages_verdict_and_call() -> None:
    found, judge = judged("The number of figs is 3.")
    [fact] = json.loads(found[0].evidence)["facts"]
    assert (fact["text"], fact["support"], fact["reply"]) == ("The number of figs is 3.", 1.0, "[[Fully supported]]")
    assert "figs is 3" in "".join(CONTEXT[start:end] for start, end in fact["passages"])
    assert fact["passages"] == sorted(fact["passages"])
    assert fact["key"] == judge.asked[-1].key
    assert found[0].keys == tuple(request.key for request in judge.asked)


def test_an_honest_refusal_claims_nothing_false() -> None:
    assert [each.score for each in judged("I do not know")[0]] == [10.0]
    [none] = judged("I do not know", no_facts=None)[0]
    assert (none.score, none.reason) == (None, "no_facts")


def test_one_verdict_that_cannot_be_had_makes_the_score_null() -> None:
    judge = ScriptedJudge(
        lambda r: "[[Not fully supported]]" if r.kind == "support" and "nuts" in prompt_of(r)[-80:] else says(r)
    )
    found, _ = judged("The number of figs is 3. The number of nuts is 4.", "The number of figs is 3.", judge=judge)
    assert [(each.score, each.reason) for each in found] == [(None, "support: unknown_label"), (10.0, None)]


def test_facts_that_cannot_be_listed_make_the_score_null() -> None:
    judge = ScriptedJudge(lambda r: Failure("", "content_filter", "", True) if r.kind == "facts" else says(r))
    found, _ = judged("The number of figs is 3.", judge=judge)
    assert (found[0].score, found[0].reason) == (None, "facts: content_filter")


def test_equal_facts_of_a_question_are_judged_once_with_the_same_scores() -> None:
    answers = (
        "The number of figs is 3. The number of nuts is 4.",
        "The number of figs is 3. The number of plums is 9.",
    )
    shared, few = judged(*answers)
    apart, many = judged(*answers, share_facts=False)
    assert [each.score for each in shared] == [each.score for each in apart] == [10.0, 5.0]
    assert (few.calls["support"], many.calls["support"]) == (3, 4)
    marks = [fact["shared"] for each in shared for fact in json.loads(each.evidence)["facts"]]
    assert marks == [False, False, True, False]


def test_a_contexts_chunks_are_embedded_once_for_all_questions_and_answers() -> None:
    texts: list[str] = []

    def counting(some: list[str]) -> Any:
        texts.extend(some)
        return count_words(some)

    cases = [
        case_of("The number of figs is 3.", "The number of nuts is 4.", context=CONTEXT, name=name)
        for name in ("q1", "q2")
    ]
    judge_with(faithfulness, cases, SETTINGS, scoring_with(ScriptedJudge(says), judged_recipe(), Embedder(counting)))
    chunks = [text for text in texts if text in CONTEXT and not re.fullmatch(r"The number of \w+ is \d\.", text)]
    assert len(chunks) == len(set(chunks)) == 2


def test_an_empty_context_supports_nothing() -> None:
    case = case_of("The number of figs is 3.", context="")
    (found,) = judge_with(faithfulness, [case], SETTINGS, scoring_with(ScriptedJudge(says), judged_recipe()))
    assert found.score == 0.0
