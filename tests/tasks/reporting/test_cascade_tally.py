"""The figures of a cascade: by stage, and the agreement on the control sample with its exact interval."""

from tasks.records.example import Example
from tasks.reporting.cascade_tables import cascade_rows
from tasks.reporting.cascade_tally import CascadeTally, exact_interval
from tasks.reporting.judge_report import JudgeTally
from tasks.reporting.judged_questions import JudgedAnswer, JudgedQuestion, Score


def question(name: str, *by: str, **evidence: object) -> JudgedQuestion:
    """A question that the last stage of these decided, with an answer for each."""
    example = Example(name, "Why?", "c", (), "", "en", "{}")
    answers = []
    for index, stage in enumerate(by):
        score = Score(5.0, None, {"by": stage, "stage": by[-1], "expected": 0.97, **evidence})
        answers.append(JudgedAnswer(index, "text", False, None, {"cascade": score}))
    return JudgedQuestion(example, tuple(answers), ())


def test_questions_count_by_the_stage_that_decided_and_the_control_sample_apart() -> None:
    parts = CascadeTally(), CascadeTally()
    parts[0].add(question("a", "consensus", "consensus"))
    parts[0].add(question("b", "consensus", "judge"))
    parts[1].add(question("c", "judge", "judge", control=True, agrees=True))
    parts[1].add(question("d", "judge", "judge", control=True, agrees=False))
    merged = CascadeTally()
    for part in parts:
        merged.merge(part.state())
    figures = merged.figures()
    assert figures is not None
    assert figures["decided"] == {"consensus": 1, "judge": 1}
    assert (figures["answers"], figures["judged"], figures["expected"]) == (4, 1, 0.97)
    assert figures["measured"] == {"value": 0.5, "low": 0.0126, "high": 0.9874, "n": 2}
    rows = dict(cascade_rows({"cascade": figures})[1])
    assert rows["answers that the judge was asked about"] == "1, 25.0%"
    assert rows["· measured on the control sample"] == "50.0% [1.3, 98.7] of 2 questions"


def test_answers_judged_in_part_alone_count_apart() -> None:
    tally = CascadeTally()
    tally.add(question("a", "judge in part", "consensus", "judge"))
    figures = tally.figures()
    assert figures is not None
    assert (figures["judged"], figures["in_part"]) == (1, 1)
    rows = dict(cascade_rows({"cascade": figures})[1])
    assert rows["· and that it was asked about in part"] == "1, 33.3%"


def test_an_agreement_below_the_expected_one_is_said() -> None:
    tally = CascadeTally()
    for number in range(40):
        tally.add(question(f"q{number}", "judge", control=True, agrees=number % 4 > 0))
    rows = dict(cascade_rows({"cascade": tally.figures()})[1])
    assert rows["· measured on the control sample"] == "75.0% [58.8, 87.3] of 40 questions"
    assert rows["· that is less than expected"].startswith("calibrate anew")


def test_a_dataset_without_a_cascade_has_no_such_figures() -> None:
    tally = JudgeTally()
    assert "cascade" not in tally.state()
    assert "cascade" not in tally.figures()
    assert cascade_rows(tally.figures())[1] == []


def test_the_interval_is_exact() -> None:
    assert exact_interval(20, 20) == (0.8316, 1.0)
    assert exact_interval(0, 20) == (0.0, 0.1684)
    low, high = exact_interval(95, 100)
    assert (round(low, 3), round(high, 3)) == (0.887, 0.984)
