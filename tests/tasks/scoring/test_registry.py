"""The scorers' registry: settings checked, one file adds a scorer, rewards."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tasks.scoring
from infra.errors import BalanceError, LongmillError, RecipeError
from infra.recipe import RecipeSection
from tasks.judging.context import no_text_reason
from tasks.records.example import Answer, Context, Example, Judgement
from tasks.scoring import (
    ActiveScorer,
    AnsweredQuestion,
    ScoringContext,
    known_scorers,
    parse_scorers,
    rewards,
)
from tasks.scoring.run import score_answers
from tests.support.recipes_for_scoring import no_embedder, recipe_with

PLUGIN = """
from infra.recipe import RecipeSection
from tasks.records.example import Judgement
from tasks.scoring import Scorer


class LengthSettings(RecipeSection):
    longest: int = 10


def score(questions, settings, scoring):
    return [
        Judgement("e", answer.sample_index, "length", min(len(answer.text), settings.longest), None, "{}", ())
        for question in questions for answer in reversed(question.answers) if answer.text != "LOST"
    ]


SCORER = Scorer("length", LengthSettings, score)
"""


@pytest.fixture
def with_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files are scorers too."""
    (tmp_path / "length_for_test.py").write_text(PLUGIN)
    monkeypatch.setattr(tasks.scoring, "__path__", [*tasks.scoring.__path__, str(tmp_path)])
    known_scorers.cache_clear()
    yield tmp_path  # type: ignore[misc]
    known_scorers.cache_clear()


def case_of(*texts: str) -> AnsweredQuestion:
    example = Example("e", "q", "c", (), "qa", "en", "{}")
    answers = tuple(Answer("e", i, text, "stop", 1, 1, "default", "") for i, text in enumerate(texts))
    return AnsweredQuestion(example, Context("c", "text", 1, (), (), ()), answers)


def judgement(index: int, scorer: str, score: float | None) -> Judgement:
    return Judgement("e", index, scorer, score, None if score is not None else "why", "{}", ())


def test_a_recipes_scorers_come_with_weights_and_checked_settings() -> None:
    (scorer,) = parse_scorers(recipe_with({"scorer": "consensus", "weight": 2, "similarity": "rouge_l"}))
    assert (scorer.name, scorer.weight) == ("consensus", 2.0)
    assert scorer.settings.model_dump() == {"similarity": "rouge_l", "over": "answer"}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"scorer": "consensus"}, {"scorer": "nonsense"}], r"scoring\.scorers\.1\.scorer: .*'nonsense'.*consensus"),
        ([{}], r"scoring\.scorers\.0\.scorer"),
        ([{"scorer": ["consensus"]}], r"scoring\.scorers\.0\.scorer"),
        ([{"scorer": "consensus", "similar": "x"}], r"scoring\.scorers\.0\.similar: no such key"),
        ([{"scorer": "consensus", "similarity": "x"}], r"scoring\.scorers\.0\.similarity: .*rouge_l"),
        ([{"scorer": "consensus", "weight": -1}], r"scoring\.scorers\.0\.weight"),
        ([{"scorer": "consensus", "weight": "a"}], r"scoring\.scorers\.0\.weight"),
        ([{"scorer": "consensus", "weight": True}], r"scoring\.scorers\.0\.weight"),
        ([{"scorer": "consensus", "weight": float("nan")}], r"scoring\.scorers\.0\.weight"),
        ([{"scorer": "consensus"}, {"scorer": "consensus"}], "more than once"),
        ([{"scorer": "consensus", "weight": 0}], "weight above 0"),
        ([], "weight above 0"),
    ],
)
def test_a_fault_in_a_scorers_settings_names_its_key(entries: list[dict[str, object]], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_scorers(recipe_with(*entries))


def test_every_setting_of_every_scorer_is_described() -> None:
    for scorer in known_scorers().values():
        assert issubclass(scorer.settings, RecipeSection)
        assert all(field.description for field in scorer.settings.model_fields.values()), scorer.name


def test_a_file_in_the_package_is_a_scorer(with_plugin: Path) -> None:
    recipe = recipe_with({"scorer": "length", "longest": 3}, {"scorer": "consensus", "similarity": "rouge_l"})
    found = score_answers([case_of("ab", "abcd")], parse_scorers(recipe), ScoringContext(no_embedder, None, recipe))
    assert [(each.sample_index, each.scorer, each.score) for each in found] == [
        (0, "length", 2),
        (0, "consensus", 0.5),
        (1, "length", 3),
        (1, "consensus", 0.5),
    ]


def test_two_files_with_one_name_are_an_error(with_plugin: Path) -> None:
    (with_plugin / "other_for_test.py").write_text(PLUGIN)
    with pytest.raises(LongmillError, match="both register 'length'"):
        known_scorers()


def test_a_scorer_that_leaves_an_answer_out_is_an_error(with_plugin: Path) -> None:
    recipe = recipe_with({"scorer": "length"})
    with pytest.raises(BalanceError, match="'length' gave 1 judgements on 2 answers"):
        score_answers([case_of("ab", "LOST")], parse_scorers(recipe), ScoringContext(no_embedder, None, recipe))


def active(name: str, weight: float) -> ActiveScorer:
    return ActiveScorer(name, weight, RecipeSection())


def test_a_reward_is_the_mean_of_the_scores_by_weight() -> None:
    scores = [judgement(0, "a", 1.0), judgement(0, "b", 4.0), judgement(1, "a", 0.1), judgement(1, "b", 0.2)]
    assert rewards(scores, [active("a", 1), active("b", 2)]) == {("e", 0): 3.0, ("e", 1): 0.166667}


def test_a_reward_is_null_when_a_score_it_needs_is_null_or_not_there() -> None:
    scores = [judgement(0, "a", 1.0), judgement(0, "b", None), judgement(1, "a", 1.0), judgement(2, "b", 1.0)]
    assert rewards(scores, [active("a", 1), active("b", 1)]) == {("e", 0): None, ("e", 1): None, ("e", 2): None}


def test_a_score_of_weight_zero_is_not_needed() -> None:
    scores = [judgement(0, "a", 1.0), judgement(0, "b", None)]
    assert rewards(scores, [active("a", 3), active("b", 0)]) == {("e", 0): 1.0}


@given(st.lists(st.floats(0, 10), min_size=2, max_size=2), st.lists(st.floats(0.1, 5), min_size=2, max_size=2))
def test_a_reward_lies_between_its_scores(scores: list[float], weights: list[float]) -> None:
    judged = [judgement(0, name, score) for name, score in zip("ab", scores, strict=True)]
    reward = rewards(judged, [active(name, weight) for name, weight in zip("ab", weights, strict=True)])[("e", 0)]
    assert reward is not None
    assert min(scores) - 1e-6 <= reward <= max(scores) + 1e-6


WAITING_PLUGIN = """
from infra.recipe import RecipeSection
from tasks.judging.steps import pruning_bounds
from tasks.scoring import Scorer


def score(questions, settings, scoring):
    yield from pruning_bounds()
    return [answer.judged("NAME", 1.0, None) for question in questions for answer in question.answers]


SCORER = Scorer("NAME", RecipeSection, score)
"""


def test_two_scorers_that_wait_for_each_other_are_an_error(with_plugin: Path) -> None:
    for name in ("first", "second"):
        (with_plugin / f"{name}_for_test.py").write_text(WAITING_PLUGIN.replace("NAME", name))
    known_scorers.cache_clear()
    recipe = recipe_with({"scorer": "first"}, {"scorer": "second"})
    with pytest.raises(BalanceError, match="first, second wait for each other"):
        score_answers([case_of("a")], parse_scorers(recipe), ScoringContext(no_embedder, None, recipe))


def test_an_answer_without_text_has_a_null_score_with_its_reason(with_plugin: Path) -> None:
    recipe = recipe_with({"scorer": "length"})
    scoring = ScoringContext(no_embedder, None, recipe)
    judgements = score_answers([case_of("ab", " ")], parse_scorers(recipe), scoring)
    assert [(judgement.sample_index, judgement.score) for judgement in judgements] == [(0, 2), (1, None)]
    assert judgements[1].reason == no_text_reason(case_of(" ").answers[0])


@pytest.mark.parametrize(
    ("name", "answers", "message"),
    [
        ("eager", "(*question.answers, *question.without_text)", "'eager' gave a score to an answer without text"),
        ("twice", "(*question.answers, *question.answers)", "'twice' gave 3 judgements on 2 answers"),
    ],
)
def test_a_scorer_that_judges_more_than_it_was_given_is_an_error(
    with_plugin: Path, name: str, answers: str, message: str
) -> None:
    plugin = PLUGIN.replace('"length"', f'"{name}"').replace("reversed(question.answers)", answers)
    (with_plugin / f"{name}_for_test.py").write_text(plugin)
    known_scorers.cache_clear()
    recipe = recipe_with({"scorer": name})
    with pytest.raises(BalanceError, match=message):
        score_answers([case_of("ab", "")], parse_scorers(recipe), ScoringContext(no_embedder, None, recipe))
