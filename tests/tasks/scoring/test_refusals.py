"""Refusals, half answers, wrong and right ones, in the order that a person would give, in both languages."""

from dataclasses import dataclass
from typing import Any

import pytest

from infra.models.client import Request
from infra.recipe import Pairing, Recipe
from tasks.judging.refusals import unfounded_refusals
from tasks.judging.replies import says_nothing
from tasks.pairing import pair_example
from tasks.records.example import Drop, Judgement
from tasks.scoring import parse_scorers, rewards
from tasks.scoring.run import score_answers
from tests.support.scripted_judge import ScriptedJudge, case_of, inside, judged_recipe, scoring_with


@dataclass(frozen=True)
class Case:
    """A question with its answers from the best to the worst, and a judge that keeps to the scales of the prompts.

    Ratings of each answer: helpfulness, logicality, completeness where the notes hold the answer.
    """

    context: str
    question: str
    note: str
    nothing: str
    right: str
    half: str
    wrong: str
    refusal: str
    facts: dict[str, tuple[str, ...]]
    no_facts: str

    @property
    def answers(self) -> tuple[str, ...]:
        return self.right, self.half, self.wrong, self.refusal


ENGLISH = Case(
    context="The Marten was launched on 19 June 1952 by Mrs Okafor.",
    question="When was the Marten launched, and by whom?",
    note="- The Marten was launched on 19 June 1952 by Mrs Okafor.",
    nothing="No relevant information",
    right="On 19 June 1952, by Mrs Okafor.",
    half="On 19 June 1952.",
    wrong="On 3 March 1951, by the harbour master.",
    refusal="The document does not say when or by whom the Marten was launched.",
    facts={
        "right": ("Mrs Okafor launched the Marten.", "The Marten was launched on 19 June 1952."),
        "half": ("The Marten was launched on 19 June 1952.",),
        "wrong": ("The Marten was launched on 3 March 1951.", "The harbour master launched the Marten."),
    },
    no_facts="No factual statements",
)
CHINESE = Case(
    context="貂号于1952年6月19日下水，由王夫人主持。",
    question="貂号何时下水，由谁主持？",
    note="- 貂号于1952年6月19日下水，由王夫人主持。",
    nothing="没有相关信息",
    right="1952年6月19日，由王夫人主持。",
    half="1952年6月19日。",
    wrong="1951年3月3日，由港务长主持。",
    refusal="文中没有写貂号何时下水、由谁主持。",
    facts={
        "right": ("王夫人主持了貂号下水。", "貂号于1952年6月19日下水。"),
        "half": ("貂号于1952年6月19日下水。",),
        "wrong": ("貂号于1951年3月3日下水。", "港务长主持了貂号下水。"),
    },
    no_facts="没有事实性陈述",
)
CASES = pytest.mark.parametrize("case", [ENGLISH, CHINESE], ids=["en", "zh"])
RATINGS = {  # by the scales of the full prompts; the second completeness is that where the notes are empty
    "right": {"helpfulness": 10, "logicality": 10, "completeness": (10, 0)},
    "half": {"helpfulness": 5, "logicality": 9, "completeness": (5, 0)},
    "wrong": {"helpfulness": 8, "logicality": 9, "completeness": (0, 0)},
    "refusal": {"helpfulness": 2, "logicality": 9, "completeness": (1, 10)},
}


def judge_of(case: Case, notes: bool, ratings: dict[str, Any] | None = None) -> ScriptedJudge:
    names = {getattr(case, name): name for name in RATINGS}

    def reply(request: Request) -> str:
        if request.kind == "notes":
            return case.note if notes else case.nothing
        if request.kind == "support":
            supported = notes and not any(inside(request, "statement") == fact for fact in case.facts["wrong"])
            return "[[Fully supported]]" if supported else "[[No support]]"
        name = names[inside(request, "answer")]
        if request.kind == "facts":
            statements = [f"<statement>{fact}</statement>" for fact in case.facts.get(name, ())]
            return "\n".join(statements) or case.no_facts
        rating = (ratings or RATINGS)[name][request.kind]
        return f"[[{rating if isinstance(rating, int) else rating[0 if notes else 1]}]]"

    return ScriptedJudge(reply)


def recipe_of(despite_notes: Any = None, prune: bool = False) -> Recipe:
    faithfulness: dict[str, Any] = {"scorer": "faithfulness"}
    if despite_notes is not None:
        faithfulness["no_facts_despite_notes"] = despite_notes
    scorers = [{"scorer": name} for name in ("helpfulness", "logicality", "completeness")]
    return judged_recipe(scoring={"scorers": [*scorers, faithfulness], "prune": prune})


def judged(
    case: Case, recipe: Recipe, answers: tuple[str, ...], notes: bool = True, ratings: dict[str, Any] | None = None
) -> tuple[list[Judgement], Any]:
    """The judgements, and the pair or the drop."""
    question = case_of(*answers, context=case.context, question=case.question)
    scoring = scoring_with(judge_of(case, notes, ratings), recipe)
    judgements = score_answers([question], parse_scorers(recipe), scoring)
    reward = rewards(judgements, parse_scorers(recipe))
    never_chosen = unfounded_refusals(judgements)
    pairing = Pairing(rule="best_vs_worst", min_scored=2)
    return judgements, pair_example(question.example, question.answers, reward, pairing, 0, never_chosen)


def reward_of(judgements: list[Judgement], recipe: Recipe) -> list[float | None]:
    return [value for _, value in sorted(rewards(judgements, parse_scorers(recipe)).items())]


def faithfulness_of(judgements: list[Judgement], index: int) -> Judgement:
    return next(
        judgement for judgement in judgements if judgement.scorer == "faithfulness" and judgement.sample_index == index
    )


@CASES
def test_a_refusal_despite_the_notes_has_no_reward_as_in_the_paper(case: Case) -> None:
    recipe = recipe_of()
    judgements, pairs = judged(case, recipe, case.answers)
    assert reward_of(judgements, recipe) == [10.0, 7.25, 4.25, None]
    refusal = faithfulness_of(judgements, 3)
    assert (refusal.score, refusal.reason) == (None, "no_facts_despite_notes")
    assert (pairs[0].chosen_index, pairs[0].rejected_index) == (0, 2)


@CASES
def test_with_a_score_of_0_a_refusal_comes_last_and_may_be_rejected(case: Case) -> None:
    recipe = recipe_of(0)
    judgements, pairs = judged(case, recipe, case.answers)
    assert reward_of(judgements, recipe) == [10.0, 7.25, 4.25, 3.0]
    assert (pairs[0].chosen_index, pairs[0].rejected_index) == (0, 3)


@CASES
def test_where_the_notes_are_empty_an_honest_refusal_comes_before_any_answer(case: Case) -> None:
    recipe = recipe_of()
    judgements, pairs = judged(case, recipe, (case.wrong, case.half, case.refusal), notes=False)
    wrong, half, refusal = reward_of(judgements, recipe)
    assert (wrong, half, refusal) == (4.25, 3.5, 7.75)
    assert faithfulness_of(judgements, 2).score == 10.0
    assert (pairs[0].chosen_index, pairs[0].rejected_index) == (2, 1)


@CASES
def test_a_refusal_despite_the_notes_is_never_chosen_over_the_poorest_answer(case: Case) -> None:
    poor = RATINGS | {"wrong": {"helpfulness": 1, "logicality": 1, "completeness": (0, 0)}}
    recipe = recipe_of(0)
    judgements, outcome = judged(case, recipe, (case.wrong, case.refusal), ratings=poor)
    assert reward_of(judgements, recipe) == [0.5, 3.0]
    assert isinstance(outcome, Drop)


@CASES
def test_ignoring_the_notes_is_the_way_of_earlier_plans(case: Case) -> None:
    recipe = recipe_of("ignore_notes")
    judgements, _ = judged(case, recipe, case.answers)
    assert reward_of(judgements, recipe) == [10.0, 7.25, 4.25, 5.5]
    assert "no_facts_despite_notes" not in faithfulness_of(judgements, 3).evidence


@CASES
@pytest.mark.parametrize("despite_notes", [None, 0])
@pytest.mark.parametrize("notes", [True, False])
def test_pruning_changes_no_pair_with_refusals(case: Case, despite_notes: Any, notes: bool) -> None:
    answers = (case.refusal, case.wrong, case.refusal, case.half, case.right)
    _, in_full = judged(case, recipe_of(despite_notes), answers, notes)
    _, pruned = judged(case, recipe_of(despite_notes, prune=True), answers, notes)
    assert pruned == in_full


@CASES
def test_a_refusal_that_is_never_chosen_prunes_no_answer_below_it(case: Case) -> None:
    poor = RATINGS | {
        "half": {"helpfulness": 0, "logicality": 1, "completeness": (0, 0)},
        "wrong": {"helpfulness": 0, "logicality": 0, "completeness": (0, 0)},
    }
    answers = (case.wrong, case.half, case.refusal)  # the refusal has the highest reward of the three
    _, in_full = judged(case, recipe_of(0), answers, ratings=poor)
    _, pruned = judged(case, recipe_of(0, prune=True), answers, ratings=poor)
    assert pruned == in_full
    assert (in_full[0].chosen_index, in_full[0].rejected_index) == (1, 0)


def test_without_completeness_nothing_is_known_of_the_notes() -> None:
    recipe = judged_recipe(scoring={"scorers": [{"scorer": "faithfulness"}], "prune": False})
    judgements, _ = judged(ENGLISH, recipe, ENGLISH.answers)
    assert faithfulness_of(judgements, 3).score == 10.0


@pytest.mark.parametrize(
    "notes",
    [
        "No relevant information. This part is about herring.",
        "**No relevant information**",
        "- No relevant information",
        "There is no relevant information in this part of the document.",
        "None.",
        "【没有相关信息】",
        "没有找到与问题相关的信息。",
    ],
)
def test_notes_that_hold_nothing_in_other_words(notes: str) -> None:
    assert says_nothing(notes)


@pytest.mark.parametrize(
    "notes",
    [
        "- The year was 1952.",
        "- No relevant information on B, but A opened in 1911.",
        "- 没有相关文件的箱子共12个。",
        "No relevant information.\n- The year was 1952.",
    ],
)
def test_notes_that_hold_something(notes: str) -> None:
    assert not says_nothing(notes)


def test_the_prompts_no_longer_invite_a_refusal_by_default_of_the_box() -> None:
    from flows.recipes import BOX
    from infra.recipe import load_recipe
    from tasks.sample_prompt import sample_prompt_text

    for language in ("en", "zh"):
        text = sample_prompt_text(load_recipe(BOX["longreward"]).sampling.strategy, language).text
        assert "say so" not in text and "说明" not in text
