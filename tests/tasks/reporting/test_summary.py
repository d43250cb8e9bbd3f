"""The figures of a dataset, checked against numbers computed by hand."""

import json
from dataclasses import replace

import pytest

from infra.canonical import canonical_json
from tasks.records.dataset import ShardData
from tasks.records.example import Answer, Drop, Example, Judgement, Pair
from tasks.reporting.summary import Summary, SummaryTally

WEIGHTS = {"consensus": 1.0}


def example(name: str, *references: str) -> Example:
    return Example(name, "Where?", "c", references, "kind", "en", "{}")


def answer(name: str, index: int, text: str, finish_reason: str = "stop", tokens: int = 10) -> Answer:
    return Answer(name, index, text, finish_reason, 100, tokens, "default", "k")


def judged(name: str, index: int, score: float | None) -> Judgement:
    return Judgement(name, index, "consensus", score, None if score is not None else "empty", "{}", ())


def shard() -> ShardData:
    """a: Paris right in 2 of 4 samples, the best scored one wrong. b: no pair, a refused sample. c: no reference."""
    answers = [
        answer("a", 0, "Rome"),
        answer("a", 1, "in Paris", tokens=20),
        answer("a", 2, "Paris"),
        answer("a", 3, "Lyon"),
        answer("a", -1, "Paris!"),
        answer("b", 0, "Oslo", "length"),
        answer("b", 1, "", "content_filter", tokens=0),
        answer("c", 0, "x"),
        answer("c", 1, "y"),
    ]
    scores = {("a", 0): 0.9, ("a", 1): 0.7, ("a", 2): 0.7, ("a", 3): 0.1, ("b", 0): 0.5, ("b", 1): None}
    return ShardData(
        examples=[example("a", "Paris"), example("b", "Oslo"), example("c", "The")],
        contexts={},
        answers=answers,
        judgements=[judged(name, index, score) for (name, index), score in scores.items()],
        pairs=[Pair("a", "c", 1, 3, 0.7, 0.1, 0.6)],
        drops=[Drop("b", "pair", "too_few_scored", ""), Drop("c", "pair", "too_few_scored", "")],
        rewards=scores,
    )


def summary(times: int = 1) -> Summary:
    tally = SummaryTally(WEIGHTS)
    for _ in range(times):
        tally.add(shard())
    return tally.summary()


def test_subem_of_each_way_to_pick_an_answer() -> None:
    assert summary().subem == {
        "greedy": {"value": 1.0, "n": 1},
        "random": {"value": 0.75, "n": 2},  # (2/4 + 1/1) / 2: the refused sample is not an answer
        "mbr": {"value": 0.5, "n": 2},  # Rome has a's highest reward
        "oracle": {"value": 1.0, "n": 2},
        "chosen": {"value": 1.0, "n": 1},
        "rejected": {"value": 0.0, "n": 1},
    }


@pytest.mark.parametrize(
    ("rewards", "picked_right"),
    [
        ((0.7, 0.7, 0.7, 0.1), 0.0),  # Rome, Paris and Paris tie: the lowest index
        ((0.1, 0.8, 0.2, 0.3), 1.0),
        ((None, None, 0.1, 0.0), 1.0),
    ],
)
def test_the_consensus_pick_has_the_highest_reward(rewards: tuple[float | None, ...], picked_right: float) -> None:
    data = shard()
    tally = SummaryTally(WEIGHTS)
    by_answer = {("a", index): reward for index, reward in enumerate(rewards)}
    tally.add(ShardData(data.examples[:1], {}, data.answers[:5], [], [], [], by_answer))
    assert tally.summary().subem["mbr"] == {"value": picked_right, "n": 1}


def test_counts_and_score_figures() -> None:
    figures = summary()
    assert (figures.questions, figures.pairs, figures.answers) == (3, 1, 8)
    assert figures.drops == {"too_few_scored": 2}
    assert figures.finish_reasons == {"content_filter": 1, "length": 1, "stop": 6}
    scores = figures.scores["consensus"]
    assert scores["mean"] == pytest.approx(0.58)  # (0.9 + 0.7 + 0.7 + 0.1 + 0.5) / 5
    assert scores["deviation"] == pytest.approx(0.271293, abs=1e-6)  # sqrt of the mean of squared differences
    assert (scores["low"], scores["high"], scores["n"], scores["missing"]) == (0.1, 0.9, 5, 1)
    assert figures.histograms["margins"] == ((0.6, 1),)
    assert figures.histograms["chosen_tokens"] == ((20, 1),)
    assert figures.histograms["sample_tokens"] == ((0, 1), (10, 6), (20, 1))


def test_nulls_are_counted_by_reason_and_scores_by_side() -> None:
    figures = summary()
    assert figures.scores["consensus"]["nulls"] == {"empty": 1}
    assert figures.score_histograms == {"consensus": {"chosen": ((0.7, 1),), "rejected": ((0.1, 1),)}}


def test_agreement_is_in_the_summary() -> None:
    # Of a, both right answers (0.7) are compared with Rome (0.9) and Lyon (0.1): two of four; b has no two answers.
    agreement = summary().agreement
    assert agreement is not None
    assert (agreement["pairs"], agreement["mean"]["accuracy"], agreement["leave_one_out"]) == (4, 0.5, {})


def test_a_question_with_several_pairs_counts_once_in_shares_and_each_pair_in_histograms() -> None:
    data = shard()
    tally = SummaryTally(WEIGHTS)
    tally.add(replace(data, pairs=[*data.pairs, Pair("a", "c", 0, 3, 0.9, 0.1, 0.8)]))  # Rome over Lyon
    figures = tally.summary()
    assert (figures.questions, figures.pairs) == (3, 2)
    assert figures.subem["chosen"] == {"value": 0.5, "n": 1}
    assert figures.subem["rejected"] == {"value": 0.0, "n": 1}
    assert figures.histograms["margins"] == ((0.6, 1), (0.8, 1))
    assert figures.score_histograms == {"consensus": {"chosen": ((0.7, 1), (0.9, 1)), "rejected": ((0.1, 2),)}}
    longer = figures.judging["length"]["longer_chosen"]
    assert (longer["value"], longer["n"]) == (0.75, 1)  # "in Paris" is longer than "Lyon", "Rome" as long


def test_an_older_summary_that_says_less_is_read() -> None:
    older = json.loads(canonical_json(summary().to_json()))
    for name in ("score_histograms", "agreement", "judging"):
        del older[name]
    figures = Summary.from_json(older)
    assert (figures.score_histograms, figures.agreement, figures.judging) == ({}, None, {})
    assert figures.subem == summary().subem


def test_without_references_there_is_no_subem() -> None:
    data = shard()
    tally = SummaryTally(WEIGHTS)
    tally.add(ShardData(data.examples[2:], {}, data.answers[7:], [], [], data.drops[1:], {}))
    assert set(tally.summary().subem.values()) == {None}


def test_memory_is_of_distinct_values() -> None:
    assert list(map(len, summary(50).histograms.values())) == list(map(len, summary().histograms.values()))


def test_a_summary_survives_json() -> None:
    assert Summary.from_json(json.loads(canonical_json(summary().to_json()))) == summary()
