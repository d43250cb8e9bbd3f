"""Facts by sentence or atomic: which prompt lists them, how the lists are read, and the same way in a judge's trial."""

import re
from typing import Any

import pytest

from tasks.judging.fact_settings import FactSettings
from tasks.judging.facts import list_query
from tasks.judging.replies import NO_FACTS, read_facts
from tasks.judging.trying import try_judge
from tasks.prompts import load_prompt
from tasks.scoring import faithfulness
from tests.support.judge_replies import prompt_in, running_judge
from tests.support.scripted_judge import ScriptedJudge, case_of, judge_with, judged_recipe, scoring_with

STEPS = {"sentence": "sentence-facts", "atomic": "facts"}


def query_of(granularity: Any, prompts: str = "full", language: str = "en") -> Any:
    recipe = judged_recipe()
    assert recipe.judge is not None
    recipe = recipe.model_copy(update={"judge": recipe.judge.model_copy(update={"prompts": prompts})})
    case = case_of("The pier was opened in 1911.")
    object.__setattr__(case.example, "language", language)
    scoring = scoring_with(ScriptedJudge(lambda _: ""), recipe)
    return list_query(case, case.answers[0], FactSettings(granularity=granularity), scoring)


def opening(step: str, prompts: str, language: str) -> str:
    """The text of a prompt file before its first placeholder."""
    return load_prompt(f"judge-{prompts}-{step}", language).text.partition("{question}")[0]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("prompts", ["full", "terse"])
@pytest.mark.parametrize("granularity", ["sentence", "atomic"])
def test_each_granularity_has_its_prompt_in_both_languages(granularity: str, prompts: str, language: str) -> None:
    query = query_of(granularity, prompts, language)
    (message,) = query.prompt.messages
    assert message["content"].startswith(opening(STEPS[granularity], prompts, language))
    assert query.kind == "facts"  # calls of both are counted as one kind


def test_by_sentence_is_the_default() -> None:
    assert FactSettings() == FactSettings(granularity="sentence")
    assert FactSettings().facts_per_answer < FactSettings(granularity="atomic").facts_per_answer
    assert FactSettings(expected_facts=3, granularity="atomic").facts_per_answer == 3


@pytest.mark.parametrize("granularity", ["sentence", "atomic"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_form_holds_the_replies_of_the_examples(granularity: str, language: str) -> None:
    text = load_prompt(f"judge-full-{STEPS[granularity]}", language).text
    last = {"en": "Reply:", "zh": "答复："}[language]
    replies = re.findall(rf"\n{last}\n(.*?)\n</example>", text, re.DOTALL)
    pattern = query_of(granularity).form.value
    assert len(replies) == {"sentence": 4, "atomic": 3}[granularity]
    assert all(re.fullmatch(pattern, reply) for reply in replies)
    assert re.fullmatch(pattern, NO_FACTS[language])


def test_a_sentence_may_be_longer_than_an_atomic_statement() -> None:
    sentence = f"<statement>The members are {', '.join(f'Member {number}' for number in range(70))}.</statement>"
    assert 600 < len(sentence) < 1200
    assert re.fullmatch(query_of("sentence").form.value, sentence)
    assert not re.fullmatch(query_of("atomic").form.value, sentence)


@pytest.mark.parametrize(
    "statement",
    [
        "The dam was built in 1911 by Ann Lee; it is 41.5 metres high, and it holds about 3,800,000 cubic metres.",
        'The mayor wrote: "No. Not in my time. Ask me again in 1950!"',
        "The board has three members: Ann Lee, Bo Hahn and Cy Marr.",
        "The effect was weak (p < 0.05; n > 30).",
        "石门渡槽1966年10月动工，全长1240米；老支书说：“渠水一响，穷根就断。”",
    ],
)
def test_a_statement_with_several_facts_is_read_as_one_whatever_the_judges_manner(statement: str) -> None:
    following = "A second one."
    for reply in (
        f"<statement>{statement}</statement>\n<statement>{following}</statement>",
        f"<statement>{statement}\n<statement>{following}",
        f"1. {statement}\n2. {following}",
        f"- {statement}\n- {following}",
    ):
        assert read_facts(reply) == (statement, following), reply


def test_a_statement_over_several_lines_becomes_one_line() -> None:
    assert read_facts("<statement>The members are:\n- Ann Lee,\n- Bo Hahn.</statement>") == (
        "The members are: - Ann Lee, - Bo Hahn.",
    )


def test_the_scorer_checks_a_fact_for_each_statement_that_its_prompt_brings() -> None:
    def reply(request: Any) -> str:
        if request.kind == "support":
            return "[[Fully supported]]"
        if "sentence-facts" in request.prompt.messages[0]["content"].partition("\n")[0]:
            return "<statement>The pier was built by Ada Brolin in 1911.</statement>"
        return "<statement>Ada Brolin built the pier.</statement>\n<statement>The pier is of 1911.</statement>"

    calls = {}
    for granularity in STEPS:
        judge = ScriptedJudge(reply)
        settings = FactSettings(granularity=granularity)  # type: ignore[arg-type]
        scoring = scoring_with(judge, judged_recipe())
        judgements = judge_with(faithfulness, [case_of("Ada Brolin built it in 1911.")], settings, scoring)
        assert [judgement.score for judgement in judgements] == [10.0]
        calls[granularity] = judge.calls["support"]
    assert calls == {"sentence": 1, "atomic": 2}


@pytest.mark.parametrize(("changes", "step"), [({}, "sentence-facts"), ({"granularity": "atomic"}, "facts")])
def test_a_judge_is_tried_with_the_prompt_that_the_recipe_will_use(changes: dict[str, str], step: str) -> None:
    def reply(body: dict[str, Any]) -> str:
        return "<statement>A is.</statement>" if "facts\n" in prompt_in(body)[:30] else "[[7]]"

    with running_judge(reply) as judge:
        recipe = judged_recipe({"scorer": "faithfulness", **changes})
        assert recipe.judge is not None
        settings = recipe.judge.model_copy(update={"name": "stub", "endpoints": (judge.url,)})
        try_judge(recipe.model_copy(update={"judge": settings}))
        steps = {re.split(r"[：:] ?", prompt_in(body).partition("\n")[0])[1] for body in judge.bodies}
    assert steps == {"helpfulness", "logicality", "completeness", step}
