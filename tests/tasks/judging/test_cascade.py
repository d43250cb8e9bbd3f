"""What a cascade decides and what it promises: on simulated questions whose truth is given."""

from dataclasses import replace

import numpy as np
import pytest

from infra.errors import InputError
from tasks.judging import cascade_calibration
from tasks.judging.cascade import Candidate, StageModel, StageModels, decide, predict, with_parts, with_rewards
from tasks.judging.cascade_calibration import (
    IN_PART,
    JUDGE,
    JudgedCandidates,
    end_of,
    fit_cascade,
    fit_models,
    least_questions,
    trace,
)

STAGES = ("consensus", "reward_model")
MODELS = StageModels((StageModel((), 6.0, 1.0, 1.0), StageModel((1.0,), 6.0, 1.0, 0.5)), -30.0, 30.0)


def simulated(rng: np.random.Generator, count: int, heavy: bool, answers: int = 4) -> list[JudgedCandidates]:
    """Questions with a level of their own, and two stages that correlate with the judge by 0.6 and 0.9 within them.

    `heavy`: errors with heavy tails, of a size that differs between questions, and a judge that rates in halves.
    """
    questions = []
    for number in range(count):
        rewards = rng.normal(0, 1, answers)
        columns = []
        for correlation in (0.6, 0.9):
            noise = rng.standard_t(3, answers) * rng.choice((0.3, 1.0)) if heavy else rng.normal(0, 1, answers)
            columns.append(correlation * rewards + np.sqrt(1 - correlation**2) * noise + rng.normal(0, 0.5))
        judged = rng.normal(6, 1) + rewards
        if heavy:
            judged = np.round(2 * judged) / 2
        candidates = []
        for place in range(answers):
            scores = tuple(float(column[place]) for column in columns)
            candidates.append(Candidate(f"{place:02d}", scores, reward=float(judged[place]), judged=True))
        questions.append(JudgedCandidates(f"q{number}-{rng.integers(10**9)}", tuple(candidates)))
    return questions


def with_word_in_part(questions: list[JudgedCandidates], rng: np.random.Generator) -> list[JudgedCandidates]:
    """The same where the judge's word in part correlates with its reward by 0.97 within a question."""
    with_part = []
    for question in questions:
        candidates = []
        for candidate in question.candidates:
            assert candidate.reward is not None
            candidates.append(replace(candidate, part=candidate.reward + float(rng.normal(0, 0.25))))
        with_part.append(JudgedCandidates(question.example_id, tuple(candidates)))
    return with_part


def agreement_on(questions: list[JudgedCandidates], calibration: cascade_calibration.CascadeCalibration) -> float:
    """The share of questions whose pair is the judge's at the confidence that the calibration takes for 0.95."""
    point = calibration.operating(0.95)
    if point is None:  # all is judged
        return 1.0
    ends = [end_of(trace(question, calibration.models, STAGES), point.threshold) for question in questions]
    return sum(end.agrees for end in ends) / len(ends)


@pytest.mark.medium
def test_the_promised_agreement_is_reached_in_19_of_20_calibrations() -> None:
    rng = np.random.default_rng(7)
    fresh = {heavy: simulated(rng, 100, heavy) for heavy in (False, True)}
    reached, sets = 0, 20
    answers = []
    for number in range(sets):
        heavy = number % 2 == 0
        calibration = fit_cascade(simulated(rng, 80, heavy), STAGES, {}, 0.95)
        reached += agreement_on(fresh[heavy], calibration) >= 0.95
        point = calibration.operating(0.95)
        answers.append(1.0 if point is None else point.answers)
    assert reached >= 0.95 * sets
    assert np.mean(answers) < 0.95  # and it is not reached by judging everything


@pytest.mark.medium
def test_with_scorers_that_come_last_the_promise_holds_and_they_are_asked_less() -> None:
    rng = np.random.default_rng(8)
    fresh = with_word_in_part(simulated(rng, 100, heavy=False), rng)
    reached, sets = 0, 10
    lasts, answers = [], []
    for _ in range(sets):
        questions = with_word_in_part(simulated(rng, 80, heavy=False), rng)
        calibration = fit_cascade(questions, STAGES, {}, 0.95, some_last=True)
        point = calibration.operating(0.95)
        if point is None:
            reached += 1
            continue
        assert point.reached_last is not None
        ends = [end_of(trace(one, calibration.models, STAGES, True), point.threshold) for one in fresh]
        reached += sum(end.agrees for end in ends) / len(ends) >= 0.95
        lasts.append(point.reached_last)
        plain = fit_cascade(questions, STAGES, {}, 0.95).operating(0.95)
        answers.append(1.0 if plain is None else plain.reached)
    assert reached >= 0.9 * sets
    assert np.mean(lasts) < np.mean(answers) - 0.1


def test_the_judges_word_in_part_comes_first_and_then_the_rest_of_those_that_are_open() -> None:
    models = replace(MODELS, stages=(*MODELS.stages, StageModel((0.1, 0.9), 0.6, 0.3, 0.1)))
    close = [Candidate("a", (-20.0,)), Candidate("b", (9.0,)), Candidate("c", (9.1,)), Candidate("d", (5.0,))]
    first = decide(close, models, some_last=True)
    assert first.in_part
    assert first.ask == (2,)
    second = decide(with_parts(close, [2], [15.0]), models, 1, some_last=True)
    assert (second.in_part, second.ask) == (True, (1,))
    clear = decide(with_parts(close, [2, 1], [15.0, 11.0]), models, 2, some_last=True)
    assert clear.best == 2
    assert clear.confidence > 0.95
    open_still = decide(with_parts(close, [2, 1], [15.0, 15.01]), models, 2, some_last=True)
    assert not open_still.in_part  # nobody else may be best
    assert set(open_still.ask) <= {1, 2}
    judged = with_rewards(with_parts(close, [2, 1], [15.0, 15.01]), open_still.ask, [14.0] * len(open_still.ask))
    assert not decide(judged, models, 3, some_last=True).in_part  # what is once for a question has been paid


def test_a_word_in_part_tells_the_level_to_compare_with_answers_without_one() -> None:
    models = replace(MODELS, stages=(*MODELS.stages, StageModel((0.1, 0.9), 0.6, 0.3, 0.1)))
    candidates = [Candidate("a", (0.0,)), Candidate("b", (1.0,))]
    with_part = predict(with_parts(candidates, [0], [9.0]), models)  # by the stages alone, 6 was expected
    assert with_part[0].reward == pytest.approx(0.6 + 0.9 * 9.0)
    assert 8.0 < with_part[1].reward < 10.0


def test_a_word_in_part_that_misses_a_score_takes_the_answer_out() -> None:
    candidates = with_parts([Candidate("a", (0.0,)), Candidate("b", (1.0,)), Candidate("c", (2.0,))], [2], [None])
    decision = decide(candidates, MODELS, 1, some_last=True)
    assert decision.best == 1


def test_the_last_scorers_are_asked_about_no_more_answers_than_the_first() -> None:
    rng = np.random.default_rng(3)
    question = with_word_in_part(simulated(rng, 1, heavy=False), rng)[0]
    models = fit_models(with_word_in_part(simulated(rng, 50, heavy=False), rng), 2, some_last=True)
    points = list(trace(question, models, STAGES, some_last=True))
    stages = [point.stage for point in points]
    assert stages[:3] == [*STAGES, IN_PART]
    assert stages == sorted(stages, key=[*STAGES, IN_PART, JUDGE].index)
    assert all(point.judged_last <= point.judged for point in points)
    assert points[-1].judged_last == len(question.candidates)
    assert points[-1].agrees


def test_the_stages_own_word_alone_breaks_the_promise() -> None:
    """So the test above can fail: here a confidence of a half is enough, whatever the calibration says."""
    questions = simulated(np.random.default_rng(7), 100, heavy=False)
    models = fit_models(questions, len(STAGES))
    ends = [end_of(trace(question, models, STAGES), 0.5) for question in questions]
    assert sum(end.agrees for end in ends) / len(ends) < 0.9


def test_few_questions_are_refused() -> None:
    assert least_questions(0.95) == 59
    questions = simulated(np.random.default_rng(0), 58, heavy=False)
    with pytest.raises(InputError, match="takes 59 questions"):
        fit_cascade(questions, STAGES, {}, 0.95)


def test_stages_that_say_nothing_promise_nothing() -> None:
    rng = np.random.default_rng(1)
    questions = []
    for question in simulated(rng, 80, heavy=False):
        noise = [replace(one, scores=(float(rng.normal()), float(rng.normal()))) for one in question.candidates]
        questions.append(JudgedCandidates(question.example_id, tuple(noise)))
    point = fit_cascade(questions, STAGES, {}, 0.95).operating(0.95)
    assert point is None or point.answers > 0.9


def test_models_are_those_of_the_simulation() -> None:
    nothing, first, both = fit_models(simulated(np.random.default_rng(2), 400, heavy=False), 2).stages
    assert nothing.weights == ()
    assert nothing.spread == pytest.approx(1.0, abs=0.05)
    assert first.weights == pytest.approx((0.6,), abs=0.05)
    assert first.spread == pytest.approx(0.8, abs=0.05)
    assert both.spread < 0.45


def test_a_judged_answer_tells_the_level_of_its_question() -> None:
    candidates = [Candidate("a", (0.0,)), Candidate("b", (1.0,))]
    before = predict(candidates, MODELS)
    assert [one.reward for one in before] == pytest.approx([6.0, 7.0])
    after = predict(with_rewards(candidates, [0], [8.0]), MODELS)
    assert 8.0 < after[1].reward < 9.0
    assert after[1].spread > before[1].spread


def test_a_clear_question_is_decided_and_a_close_one_is_asked_about() -> None:
    clear = decide([Candidate("a", (0.0,)), Candidate("b", (9.0,)), Candidate("c", (4.0,))], MODELS)
    assert (clear.best, clear.worst) == (1, 0)
    assert clear.confidence > 0.99
    close = [Candidate("a", (0.0,)), Candidate("b", (9.0,)), Candidate("c", (9.1,)), Candidate("d", (5.0,))]
    decision = decide(close, MODELS)
    assert decision.confidence < 0.7
    assert set(decision.ask) <= {1, 2}  # nobody asks about the worst, which is clear
    judged = decide(with_rewards(close, [1, 2], [15.0, 14.0]), MODELS, 1)
    assert judged.best == 1
    assert judged.confidence > 0.99


def test_an_answer_with_the_highest_reward_that_there_is_is_best_whatever_the_others_get() -> None:
    candidates = [Candidate("a", (4.0,)), Candidate("b", (3.9,)), Candidate("c", (-6.0,))]
    models = replace(MODELS, low=0.0, high=10.0)
    assert decide(candidates, models).confidence > decide(candidates, MODELS).confidence  # they may share it
    judged = decide(with_rewards(candidates, [1], [10.0]), models, 1)
    assert judged.best == 1
    assert judged.confidence > 0.95


def test_an_answer_that_was_cut_off_is_never_best() -> None:
    candidates = [Candidate("a", (9.0,), cut_off=True), Candidate("b", (5.0,)), Candidate("c", (0.0,))]
    assert decide(candidates, MODELS).best == 1


def test_an_answer_without_the_score_of_a_stage_is_predicted_by_those_before() -> None:
    models = replace(MODELS, stages=(*MODELS.stages, StageModel((0.5, 0.5), 6.0, 1.0, 0.1)))
    wide, narrow = predict([Candidate("a", (1.0, None)), Candidate("b", (1.0, 1.0))], models)
    assert (wide.spread, narrow.spread) == (0.5, 0.1)
    alone = predict([Candidate("a", (None, 1.0))], models)[0]
    assert alone.spread == 1.0


def test_in_the_end_everything_is_judged_and_certain() -> None:
    question = simulated(np.random.default_rng(3), 1, heavy=False)[0]
    models = fit_models(simulated(np.random.default_rng(4), 50, heavy=False), 2)
    points = list(trace(question, models, STAGES))
    assert [point.stage for point in points[:3]] == [*STAGES, JUDGE]
    assert points[-1].decision.confidence == 1.0
    assert points[-1].agrees
    counts = [point.judged for point in points]
    assert counts == sorted(counts)
