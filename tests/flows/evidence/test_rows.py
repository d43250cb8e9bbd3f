"""Figures that rows make from answers: picks of a consensus, gains of the same question."""

import pytest

from flows.evidence import Observation, consensus, merge_observations, only_figure
from flows.evidence.consensus import pick_values
from tasks.judging.similarity import ConsensusSettings
from tasks.records.example import Answer, Context, Example
from tasks.scoring import AnsweredQuestion, ScoringContext
from tests.support.recipes_for_scoring import no_embedder, recipe_with


def answer(index: int, text: str, reason: str = "stop") -> Answer:
    return Answer("q", index, text, reason, 900, 9, "plan_and_solve", f"key-{index}")


def case(answers: list[Answer]) -> AnsweredQuestion:
    example = Example("q", "Where?", "c", ("Rome",), "one-hop", "en", "{}")
    return AnsweredQuestion(example, Context("c", "", 0, (), (), ()), tuple(answers))


def test_n_samples_are_the_first_n(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the first 8 samples 5 say Oslo and 3 Rome; of 16, 11 say Rome. Greedy says Oslo."""
    texts = ["Oslo"] * 5 + ["Rome"] * 3 + ["Rome"] * 8
    answers = [answer(-1, "Oslo"), *(answer(index, text) for index, text in enumerate(texts))]
    monkeypatch.setattr(consensus, "SIMILARITIES", {"MBR(ROUGE)": ConsensusSettings(similarity="rouge_l")})
    scoring = ScoringContext(no_embedder, None, recipe_with({"scorer": "consensus"}))
    picks = {name: value for name, (value, _) in pick_values(case(answers), scoring, (8, 16, 32)).items()}
    assert picks["greedy"] == 0.0
    assert (picks["random@8"], picks["MBR(ROUGE)@8"], picks["oracle@8"]) == (3 / 8, 0.0, 1.0)
    assert (picks["random@16"], picks["MBR(ROUGE)@16"]) == (11 / 16, 1.0)
    assert picks["random@32"] == picks["random@16"]  # there are no more samples


def test_observations_of_one_question_become_one() -> None:
    first = [Observation("a", "list", 1, {"x": (1.0, 1.0)}), Observation("b", "list", 1, {})]
    second = [Observation("a", "list", 1, {"y": (0.0, 1.0)})]
    assert merge_observations(first, second) == [
        Observation("a", "list", 1, {"x": (1.0, 1.0), "y": (0.0, 1.0)}),
        Observation("b", "list", 1, {}),
    ]


def test_one_figure_of_an_observation_under_a_new_name() -> None:
    observation = Observation("a", "list", 1, {"SubEM gain": (1.0, 1.0), "SubEM after": (0.0, 1.0)})
    assert only_figure(observation, "SubEM gain", "gain at 8").values == {"gain at 8": (1.0, 1.0)}
    assert only_figure(observation, "recall gain", "gain at 8").values == {}
