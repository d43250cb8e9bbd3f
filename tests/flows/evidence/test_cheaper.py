"""Rows about cheaper judges and choices: what a question adds to their figures."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from flows.evidence import Figures, Observation
from flows.evidence.cheaper import JudgedCase, Spent, compare_judging, parts_of, target_met
from flows.evidence.cheaper_training import _differences
from flows.evidence.combined import choice_values, learnt_weights
from flows.evidence.fewer_samples import replayed, samples_drawn, with_rule
from infra.errors import InputError
from infra.models.embedding.embedder import Embedder
from tasks.records.example import Answer, Context, Example
from tasks.reporting.agreement import gold_preferences
from tasks.reporting.judged_questions import JudgedAnswer, JudgedQuestion, Score
from tasks.reporting.learnt_weights import learn_weights, pick
from tasks.scoring import AnsweredQuestion, ScoringContext
from tests.support.recipes_for_scoring import recipe_with

CONTEXT = Context("c", "", 0, (), (), ())


def judged(texts: dict[str, dict[str, float]], pairs: tuple[tuple[int, int], ...] = ()) -> JudgedQuestion:
    """A question whose answer is Rome; answers by text, with their scores."""
    answers = []
    for index, (text, scores) in enumerate(texts.items()):
        by_scorer = {name: Score(value, None, {}) for name, value in scores.items()}
        answers.append(JudgedAnswer(index, text, False, None, by_scorer))
    return JudgedQuestion(Example("q", "Where?", "c", ("Rome",), "one-hop", "en", "{}"), tuple(answers), pairs)


def case(pairs: tuple[tuple[int, int], ...], spent: Spent, truth: tuple[float, float] = (1, 2)) -> JudgedCase:
    question = judged({"Rome": {}, "Oslo": {}, "Bern": {}, "Roma": {}}, pairs)
    rewards = (9.0, 2.0, 4.0, 9.0)  # the full judge's
    answers = [replace(answer, reward=reward) for answer, reward in zip(question.answers, rewards, strict=True)]
    question = replace(question, answers=tuple(answers))
    return JudgedCase(question, spent, 512, {"mean": truth})


def test_a_cheaper_judge_is_compared_by_its_pair_and_by_what_it_has_cost() -> None:
    full = {"q": case(((0, 1),), Spent(40, 2000, 0.5))}
    (observation,) = compare_judging(full, {"q": case(((0, 2),), Spent(4, 500, 0.1), (2, 2))})
    assert observation.values == {
        "pairs as the full judge's": (0.0, 1.0),
        "chosen as the full judge's": (1.0, 1.0),
        "agreement with the truth": (2, 2),
        "agreement with the truth, full judge": (1, 2),
        "calls": (4, 40),
        "tokens": (500, 2000),
        "money": (0.1, 0.5),
    }
    (equally_good,) = compare_judging(full, {"q": case(((3, 1),), Spent())})
    assert equally_good.values["pairs as the full judge's"] == (1.0, 1.0)
    (without,) = compare_judging({"q": case((), Spent(40, 2000, 0.5))}, {"q": case(((0, 1),), Spent())})
    assert "pairs as the full judge's" not in without.values
    (dropped,) = compare_judging(full, {"q": case((), Spent())})
    assert dropped.values["pairs as the full judge's"] == (0.0, 1.0)


def test_the_goal_is_met_by_few_calls_few_tokens_and_the_same_pairs() -> None:
    def figures(calls: float, tokens: float, pairs: float) -> Figures:
        values = {"calls": calls, "tokens": tokens, "pairs as the full judge's": pairs}
        return {name: {"value": value} for name, value in values.items()}

    assert target_met(figures(0.2, 0.15, 0.95), ()) is True
    for missed in (figures(0.21, 0.15, 0.95), figures(0.2, 0.16, 0.95), figures(0.2, 0.15, 0.94)):
        assert target_met(missed, ()) is False
    assert target_met({}, ()) is None


def test_no_question_is_in_two_parts() -> None:
    ids = [str(number) for number in range(16)]
    made_on, chosen_on, measured = parts_of(ids)
    assert [*made_on, *chosen_on, *measured] == ids
    assert (len(made_on), len(chosen_on), len(measured)) == (8, 4, 4)


ROME = {"consensus": 0.4, "claims": 1.0, "votes": 0.25, "reward_model": 9.0}
OSLO = {"consensus": 0.9, "claims": 0.1, "votes": 0.75, "reward_model": 2.0}


def test_a_choice_closes_its_part_of_the_gap() -> None:
    question = judged({"It is Rome.": ROME, "Oslo": OSLO})
    choices = {"MBR(embedding)": {"consensus": 1.0}, "votes": {"votes": 1.0}, "claims": {"claims": 1.0}}
    values = choice_values(question, CONTEXT, {**choices, "combined": {"consensus": 0.1, "reward_model": 0.9}})
    assert values["random"] == (0.5, 1.0)
    assert (values["MBR(embedding)"], values["oracle"]) == ((0.0, 1.0), (1.0, 1.0))
    assert (values["votes"], values["claims"], values["combined"]) == ((0.0, 1.0), (1.0, 1.0), (1.0, 1.0))
    assert values["combined of the gap"] == (1.0, 1.0)
    assert values["votes of the gap"] == (0.0, 1.0)
    assert values["combined − MBR(embedding)"] == (1.0, 1.0)
    assert choice_values(question, CONTEXT, choices, "judged: ")["judged: oracle"] == (1.0, 1.0)
    assert choice_values(judged({}), CONTEXT, {}) == {}


def test_weights_are_learnt_from_what_the_references_prefer() -> None:
    questions = [judged({"Rome": ROME, "Oslo": OSLO}) for _ in range(4)]
    weights = learnt_weights(questions, {"combined": list(ROME)})
    assert weights["combined"]["consensus"] == weights["combined"]["votes"] == 0
    assert sum(weights["combined"].values()) == pytest.approx(1, abs=1e-5)
    # The reward model's scores are seven apart where claims are 0.9: the same pull takes a smaller weight.
    assert weights["combined"]["claims"] / weights["combined"]["reward_model"] == pytest.approx(7 / 0.9, rel=1e-3)
    chosen = pick(questions[0], weights["combined"])
    assert chosen is not None and chosen.text == "Rome"


def test_scores_that_only_mislead_give_no_weights() -> None:
    question = judged({"Rome": {"votes": 0.1}, "Oslo": {"votes": 0.9}})
    with pytest.raises(InputError, match="prefers the better answers"):
        learn_weights([(question, gold_preferences(question))], ["votes"])
    alike = judged({"Rome": {"votes": 0.1}, "It is Rome": {"votes": 0.9}})
    with pytest.raises(InputError, match="nothing to learn from"):
        learn_weights([(alike, gold_preferences(alike))], ["votes"])


def test_a_rule_is_replayed_on_the_first_samples() -> None:
    """Of 32 samples the first eight say Rome but for one; the last twenty say Oslo. All 32 choose Oslo."""
    texts = ["Answer: Rome"] * 7 + ["Answer: Bern"] + ["Answer: Rome"] * 4 + ["Answer: Oslo"] * 20
    answers = tuple(Answer("q", index, text, "stop", 9, 5, "", "") for index, text in enumerate(texts))
    example = Example("q", "Where?", "c", ("Rome",), "one-hop", "en", "{}")
    recipe = recipe_with({"scorer": "consensus"})
    directions = {"Answer: Rome": (1, 0), "Answer: Bern": (1, 1), "Answer: Oslo": (0, 1)}
    embedder = Embedder(lambda some: np.array([directions[text] for text in some], np.float32))
    scoring = ScoringContext(lambda: embedder, None, recipe)
    question = AnsweredQuestion(example, CONTEXT, answers)
    assert samples_drawn(example, answers, with_rule(recipe, 0.95)) == 8
    assert samples_drawn(example, answers, with_rule(recipe, 1.0)) == 28  # the four that are left cannot change it
    values: dict[str, Any] = replayed(question, with_rule(recipe, 0.95), scoring, "here")
    assert values == {
        "samples here": (8.0, 32.0),
        "tokens here": (40.0, 160.0),
        "choice with fewer − with all here": (1.0, 1.0),
    }


def test_gains_are_compared_question_by_question() -> None:
    full = [Observation("a", "list", 1, {"full judge SubEM gain": (1.0, 1.0)}), Observation("b", "list", 1, {})]
    gains = [Observation(name, "list", 1, {"cascade SubEM gain": (0.0, 1.0)}) for name in ("a", "b")]
    first, second = _differences(gains, full, "cascade")
    assert first.values == {"cascade − full judge": (-1.0, 1.0)}
    assert second.values == {}
