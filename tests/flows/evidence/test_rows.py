"""What rows make of answers: picks of a consensus, gains that belong to the same question."""

import pytest

from flows.evidence import Observation, consensus, merged
from flows.evidence.consensus import picked
from tasks.records.example import Answer, Context, Example
from tasks.scoring import AnsweredQuestion, ScoringContext
from tasks.scoring.consensus import ConsensusSettings
from tests.support.recipes_for_scoring import no_embedder, recipe_with


def answer(index: int, text: str, reason: str = "stop") -> Answer:
    return Answer("q", index, text, reason, 900, 9, "plan_and_solve", f"key-{index}")


def case(answers: list[Answer]) -> AnsweredQuestion:
    example = Example("q", "Where?", "c", ("Rome",), "one-hop", "en", "{}")
    return AnsweredQuestion(example, Context("c", "", 0, (), (), ()), tuple(answers))


def test_each_n_looks_at_the_first_n_samples_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the first 8 samples 5 say Oslo and 3 Rome; of 16, 11 say Rome. Greedy says Oslo."""
    texts = ["Oslo"] * 5 + ["Rome"] * 3 + ["Rome"] * 8
    answers = [answer(-1, "Oslo"), *(answer(index, text) for index, text in enumerate(texts))]
    monkeypatch.setattr(consensus, "SIMILARITIES", {"MBR(ROUGE)": ConsensusSettings(similarity="rouge_l")})
    bench = ScoringContext(no_embedder, None, recipe_with({"scorer": "consensus"}))
    found = {name: value for name, (value, _) in picked(case(answers), bench).items()}
    assert found["greedy"] == 0.0
    assert (found["random@8"], found["MBR(ROUGE)@8"], found["oracle@8"]) == (3 / 8, 0.0, 1.0)
    assert (found["random@16"], found["MBR(ROUGE)@16"]) == (11 / 16, 1.0)
    assert found["random@32"] == found["random@16"]  # there are no more samples


def test_observations_of_one_question_become_one() -> None:
    first = [Observation("a", "list", 1, {"x": (1.0, 1.0)}), Observation("b", "list", 1, {})]
    second = [Observation("a", "list", 1, {"y": (0.0, 1.0)})]
    assert merged(first, second) == [
        Observation("a", "list", 1, {"x": (1.0, 1.0), "y": (0.0, 1.0)}),
        Observation("b", "list", 1, {}),
    ]
