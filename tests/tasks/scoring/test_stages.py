"""A cascade: the judge is asked where the stages leave the pair open, and every row says whose word its number is."""

import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from infra.errors import InputError, RecipeError
from infra.models.client import Request
from infra.recipe import Recipe
from infra.store import open_store
from tasks.judging.cascade_calibration import IN_PART, JUDGE, load_cascade, operating_point
from tasks.judging.pruning import PRUNED
from tasks.pairing import pair_example
from tasks.planning.cascade_shares import cascade_view, expected_calls
from tasks.planning.full_judge import judged_in_full
from tasks.published_rows import evidence_rows, further_columns, pair_rows
from tasks.records.dataset import CASCADE_COLUMNS, ShardData, Split
from tasks.records.example import Drop, Judgement, Pair
from tasks.records.plan import Plan
from tasks.records.reader import read_dataset
from tasks.reporting.cascade_calibration import calibrate_cascade
from tasks.reporting.cascade_tables import choice_rows
from tasks.reporting.tables import plan_rows
from tasks.scoring import CASCADE, AnsweredQuestion, pairing_rewards, parse_scorers, rewards
from tasks.scoring.run import score_answers
from tasks.scoring.stages import DECIDED, score_by_recipe
from tests.support.longreward import publish_judged
from tests.support.scripted_judge import ScriptedJudge, case_of, inside, judged_recipe, scoring_with

ANSWERS, QUESTIONS = 6, 60
FACTS = 4
JUDGES = ("helpfulness", "logicality", "faithfulness")


def cascade_recipe(store: Path, scorers: Sequence[dict[str, Any]] = (), **cascade: Any) -> Recipe:
    """The judge's quality as a stage, then its helpfulness, logicality and faithfulness."""
    own = [{"scorer": "quality", "weight": 0}, *({"scorer": name} for name in JUDGES)]
    scoring = {"scorers": [*own, *scorers], "cascade": {"stages": ["quality"], "agreement": 0.9, **cascade}}
    return judged_recipe(store=str(store), scoring=scoring, sampling={"samples": ANSWERS})


def with_cascade(recipe: Recipe, **changes: Any) -> Recipe:
    assert recipe.scoring.cascade is not None
    cascade = recipe.scoring.cascade.model_copy(update=changes)
    return recipe.model_copy(update={"scoring": recipe.scoring.model_copy(update={"cascade": cascade})})


def says(request: Request) -> str:
    """Ratings around the answer's quality; its facts are supported as often as the quality says."""
    if request.kind == "support":
        quality, number = re.findall(r"quality (\d+\.\d) has fact (\d)", inside(request, "statement"))[0]
        return "[[Fully supported]]" if (int(number) + 0.5) / FACTS < float(quality) / 10 else "[[No support]]"
    text = inside(request, "answer")
    quality = float(re.findall(r"quality (\d+\.\d)", text)[0])
    if request.kind == "facts":
        return "\n".join(f"<statement>{text} has fact {number}.</statement>" for number in range(FACTS))
    noise = random.Random(f"{request.kind} {text}").uniform(-0.8, 0.8)
    return f"[[{round(min(10.0, max(0.0, quality + noise)))}]]"


def cases(count: int, seed: int = 0) -> list[AnsweredQuestion]:
    rng = random.Random(seed)
    questions = []
    for number in range(count):
        texts = [f"Answer {index} of {seed}.{number}, quality {rng.uniform(1, 9):.1f}" for index in range(ANSWERS)]
        texts[-1] = texts[0] if number % 5 == 0 else texts[-1]  # two samples of one text
        question = case_of(*texts, name=f"q{seed}.{number}", question=f"What is {seed}.{number}?")
        without_text = replace(question.answers[1], text="", finish_reason="content_filter")
        rest = question.answers[2:]
        answers = (question.answers[0], without_text, *rest) if number % 7 == 0 else question.answers
        questions.append(replace(question, answers=answers))
    return questions


def judged(recipe: Recipe, questions: Sequence[AnsweredQuestion]) -> tuple[list[Judgement], ScriptedJudge]:
    judge = ScriptedJudge(says)
    return score_by_recipe(questions, parse_scorers(recipe), scoring_with(judge, recipe)), judge


def pair_of(question: AnsweredQuestion, judgements: Sequence[Judgement], recipe: Recipe) -> list[Pair] | Drop:
    return pair_example(
        question.example, question.answers, pairing_rewards(judgements, recipe), recipe.pairing, recipe.seed
    )


def texts_of(question: AnsweredQuestion, outcome: list[Pair] | Drop) -> tuple[str, ...]:
    if isinstance(outcome, Drop):
        return (outcome.reason,)
    texts = {answer.sample_index: answer.text for answer in question.answers}
    return texts[outcome[0].chosen_index], texts[outcome[0].rejected_index]


@cache
def calibrated(store: Path, **cascade: Any) -> Recipe:
    """The recipe with a calibration by a dataset that it has made, all of it judged."""
    recipe = cascade_recipe(store, **cascade)
    questions = cases(QUESTIONS)
    judgements, _ = judged(recipe, questions)
    pairs, answers = [], []
    for question in questions:
        outcome = pair_of(question, judgements, recipe)
        pairs += [] if isinstance(outcome, Drop) else outcome
        answers += question.answers
    examples = [question.example for question in questions]
    published = publish_judged(
        open_store(str(store)), recipe, examples, [questions[0].context], answers, judgements, pairs
    )
    view = calibrate_cascade(published.folder, recipe)
    return cascade_recipe(store, calibration=view["calibration"], **cascade)


def rows_of_plan(view: dict[str, Any]) -> dict[str, str]:
    """What `longmill plan` shows where this is expected of the cascade."""
    plan = {"questions": 1, "shards": 1, "drops": {}, "most_pairs": 1, "examples": 1, "calls": {}}
    tokens = {"input": 0, "output": {"low": 0, "high": 0, "expected": 0}}
    cost = {"low": 0.0, "high": 0.0, "expected": 0.0, "currency": "USD"}
    judge = {"calls": {}, "tokens": tokens, "cascade": view}
    return {row[0]: row[1] for row in plan_rows({**plan, "tokens": tokens, "cost": cost, "judge": judge})[1]}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return calibrated(tmp_path_factory.mktemp("mill"))


@pytest.fixture(scope="module")
def recipe_with_last(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return calibrated(tmp_path_factory.mktemp("mill-last"), last=("logicality",))


def test_without_a_calibration_every_answer_is_judged(tmp_path: Path) -> None:
    recipe = cascade_recipe(tmp_path)
    questions = cases(8)
    judgements, _ = judged(recipe, questions)
    assert len(judgements) == 8 * ANSWERS * 5
    reasons = {judgement.reason for judgement in judgements}
    assert reasons == {None, "content_filter"}
    by = {json.loads(judgement.evidence)["by"] for judgement in judgements if judgement.scorer == CASCADE}
    assert by == {JUDGE, None}


@pytest.mark.medium
def test_the_pairs_are_the_full_judges_and_calls_are_saved(recipe: Recipe) -> None:
    questions = cases(60, seed=1)
    judgements, judge = judged(recipe, questions)
    in_full = judged_in_full(recipe)
    assert in_full is not None
    in_full = in_full.model_copy(update={"scoring": in_full.scoring.in_full()})
    every, full_judge = judged(in_full, questions)
    same = 0
    for question in questions:
        own = texts_of(question, pair_of(question, judgements, recipe))
        same += own == texts_of(question, pair_of(question, every, in_full))
    assert same >= 0.85 * len(questions)
    calls = judge.calls.total() - judge.calls["quality"]
    assert calls < 0.75 * full_judge.calls.total()


def test_nothing_is_hidden_and_no_row_is_lost(recipe: Recipe) -> None:
    questions = cases(40, seed=2)
    judgements, _ = judged(recipe, questions)
    scorers = [scorer.name for scorer in parse_scorers(recipe)]
    expected = []
    for question in questions:
        for answer in question.answers:
            expected += [(*answer.id, name) for name in (*scorers, CASCADE)]
    assert [(*judgement.answer_id, judgement.scorer) for judgement in judgements] == expected
    by_answer: dict[tuple[str, int], dict[str, Judgement]] = {}
    for judgement in judgements:
        by_answer.setdefault(judgement.answer_id, {})[judgement.scorer] = judgement
    stages = set()
    for of_answer in by_answer.values():
        cascade = of_answer[CASCADE]
        evidence = json.loads(cascade.evidence)
        stages.add(evidence["stage"])
        of_judge = [of_answer[name] for name in JUDGES]
        if evidence["by"] == JUDGE:
            scores = [judgement.score for judgement in of_judge]
            if None in scores:
                assert cascade.reason == PRUNED
            else:
                assert cascade.score == pytest.approx(sum(score or 0.0 for score in scores) / 3, abs=1e-6)
        elif evidence["by"] == "quality":
            assert {(judgement.score, judgement.reason) for judgement in of_judge} == {(None, DECIDED)}
            assert cascade.score is not None and evidence["spread"] > 0
        else:
            assert cascade.reason == "content_filter"
    assert stages <= {"quality", JUDGE} and JUDGE in stages


@pytest.mark.medium
def test_a_scorer_that_comes_last_is_asked_where_the_others_leave_the_pair_open(recipe_with_last: Recipe) -> None:
    questions = cases(40, seed=2)
    judgements, judge = judged(recipe_with_last, questions)
    assert 0 < judge.calls["logicality"] < judge.calls["helpfulness"] < 40 * ANSWERS
    by_answer: dict[tuple[str, int], dict[str, Judgement]] = {}
    for judgement in judgements:
        by_answer.setdefault(judgement.answer_id, {})[judgement.scorer] = judgement
    in_part = 0
    for of_answer in by_answer.values():
        evidence = json.loads(of_answer[CASCADE].evidence)
        if evidence["by"] == JUDGE:
            assert of_answer["logicality"].score is not None
        elif evidence["by"] == IN_PART:
            in_part += 1
            last = of_answer["logicality"]
            assert (last.score, last.reason) == (None, DECIDED)
            assert of_answer["helpfulness"].score is not None
            assert of_answer["faithfulness"].score is not None
            assert of_answer[CASCADE].score is not None and evidence["spread"] > 0
    assert in_part > 0
    one_by_one = [judgement for question in questions for judgement in judged(recipe_with_last, [question])[0]]
    assert one_by_one == judgements


def test_the_plan_expects_what_comes_last_for_fewer_answers(recipe_with_last: Recipe) -> None:
    of_kind = {}
    for scorer in parse_scorers(recipe_with_last):
        of_kind.update(expected_calls(scorer, recipe_with_last, 1000))
    assert of_kind["logicality"] < of_kind["helpfulness"] < ANSWERS
    view = cascade_view(recipe_with_last)
    assert view is not None and view["last"] == ["logicality"]
    assert view["answers_last"] < view["answers"]
    rows = rows_of_plan(view)
    assert rows["cascade: · by logicality"].startswith(f"about {100 * view['answers_last']:.0f}%, in ")
    folder = next(Path(recipe_with_last.store, "datasets").rglob("manifest.json")).parent
    columns, choices = choice_rows(calibrate_cascade(str(folder), recipe_with_last))
    assert columns[-2:] == ["in full %", "in full, questions %"]
    assert all(len(row) == len(columns) for row in choices)
    with pytest.raises(RecipeError, match="was made with other last"):
        load_cascade(with_cascade(recipe_with_last, last=()))


def test_a_control_question_says_what_would_be_decided_with_a_scorer_last(recipe_with_last: Recipe) -> None:
    questions = cases(30, seed=4)
    plain, _ = judged(with_cascade(recipe_with_last, control_share=0), questions)
    controlled, _ = judged(with_cascade(recipe_with_last, control_share=1), questions)
    stages = []
    for judgements in (plain, controlled):
        of_cascade = [judgement for judgement in judgements if judgement.scorer == CASCADE]
        stages.append([json.loads(judgement.evidence)["stage"] for judgement in of_cascade])
    assert stages[0] == stages[1]
    assert {IN_PART, JUDGE} <= set(stages[0])


def test_the_same_is_decided_whatever_questions_come_together(recipe: Recipe) -> None:
    questions = cases(12, seed=3)
    together, _ = judged(recipe, questions)
    one_by_one = []
    for question in reversed(questions):
        one_by_one += judged(recipe, [question])[0]
    assert sorted(together, key=str) == sorted(one_by_one, key=str)


def test_the_control_sample_is_judged_in_full_and_says_what_the_cascade_would_do(recipe: Recipe) -> None:
    controlled = with_cascade(recipe, control_share=0.5)
    questions = cases(40, seed=4)
    plain, _ = judged(with_cascade(recipe, control_share=0), questions)
    judgements, _ = judged(controlled, questions)
    agreed = control = 0
    for question in questions:
        own = [judgement for judgement in judgements if judgement.example_id == question.example.example_id]
        evidence = json.loads(next(one.evidence for one in own if one.scorer == CASCADE))
        if not evidence.get("control"):
            continue
        control += 1
        assert all(judgement.reason in (None, "content_filter") for judgement in own)
        theirs = texts_of(question, pair_of(question, plain, controlled))
        agreed += evidence["agrees"]
        if theirs == texts_of(question, pair_of(question, own, controlled)):
            assert evidence["agrees"]
    assert 10 <= control <= 30
    assert agreed >= 0.8 * control


def test_the_plan_expects_fewer_calls_and_the_full_judge_beside_it(recipe: Recipe) -> None:
    point = operating_point(recipe)
    assert point is not None and point.answers < 1
    of_kind = {}
    for scorer in parse_scorers(recipe):
        of_kind.update(expected_calls(scorer, recipe, 1000))
    share = 0.05 + 0.95 * point.answers
    assert of_kind["quality"] == ANSWERS
    assert of_kind["helpfulness"] == pytest.approx(share * ANSWERS)
    full = judged_in_full(recipe)
    assert full is not None
    assert [entry["scorer"] for entry in full.scoring.scorers] == list(JUDGES)
    assert expected_calls(parse_scorers(full)[0], full, 1000)["helpfulness"] == ANSWERS


def test_a_calibration_is_for_one_cascade(recipe: Recipe) -> None:
    cascade = recipe.scoring.cascade
    assert cascade is not None and cascade.calibration is not None
    assert load_cascade(recipe) is not None
    other = recipe.model_copy(update={"sampling": recipe.sampling.model_copy(update={"samples": 3})})
    with pytest.raises(RecipeError, match="was made with other samples"):
        load_cascade(other)
    content = (Path(recipe.store) / cascade.calibration).read_text()
    (Path(recipe.store) / "cascades" / "0123456789abcdef.json").write_text(content)
    with pytest.raises(RecipeError, match="its name is not the hash of its content"):
        load_cascade(with_cascade(recipe, calibration="cascades/0123456789abcdef.json"))


def test_the_command_shows_what_each_agreement_costs(recipe: Recipe, tmp_path: Path) -> None:
    folder = next(Path(recipe.store, "datasets").rglob("manifest.json")).parent
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(cascade_recipe(Path(recipe.store)).model_dump(mode="json")))
    ended = CliRunner().invoke(app, ["agreement", str(folder), "--cascade", str(path)], env={"COLUMNS": "200"})
    assert ended.exit_code == 0, ended.output
    assert "0.9 (recipe)" in ended.output
    cascade = recipe.scoring.cascade
    assert cascade is not None and str(cascade.calibration) in ended.output
    strict = CliRunner().invoke(
        app, ["agreement", str(folder), "--cascade", str(path), "--set", "scoring.cascade.agreement=0.99"]
    )
    assert strict.exit_code != 0
    assert "takes 299" in str(strict.exception)
    assert read_dataset(str(folder)).weights["quality"] == 0
    with pytest.raises(InputError, match=r"no score of references"):
        more = cascade_recipe(Path(recipe.store), [{"scorer": "references", "weight": 0}])
        calibrate_cascade(str(folder), with_cascade(more, stages=("references", "quality")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scoring": {"scorers": [{"scorer": "quality"}, {"scorer": "helpfulness"}]}}, "with weight: 0"),
        ({"scoring": {"scorers": [{"scorer": "quality", "weight": 0}, {"scorer": "consensus"}]}}, "consensus compares"),
        ({"pairing": {"rule": "best_vs_lower_half"}}, "set pairing.rule: best_vs_worst"),
    ],
)
def test_what_a_cascade_cannot_do_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    scoring = {"scorers": [{"scorer": "quality", "weight": 0}, {"scorer": "helpfulness"}]} | changes.pop("scoring", {})
    recipe = judged_recipe(store=str(tmp_path), scoring={**scoring, "cascade": {"stages": ["quality"]}}, **changes)
    with pytest.raises(RecipeError, match=message):
        parse_scorers(recipe)


@pytest.mark.parametrize("last", [("quality",), ("references",), ("helpfulness", "helpfulness"), JUDGES])
def test_what_cannot_come_last_is_refused(last: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"scoring\.cascade\.last"):
        parse_scorers(cascade_recipe(tmp_path, last=last))


def test_the_plan_says_that_its_shares_are_an_estimate(recipe: Recipe, tmp_path: Path) -> None:
    view = cascade_view(recipe)
    assert view is not None and view["questions"] == QUESTIONS
    rows = rows_of_plan(view)
    assert rows["cascade: answers judged"].endswith(f"an estimate, from {QUESTIONS} questions")
    assert "cascade: decided by judge" in rows
    assert cascade_view(cascade_recipe(tmp_path)) == {"control": 1.0}
    assert cascade_view(judged_recipe()) is None


def test_published_rows_say_by_which_stage_each_reward_came(recipe: Recipe) -> None:
    questions = cases(40, seed=6)
    judgements, _ = judged(recipe, questions)
    pairs: list[Pair] = []
    for question in questions:
        outcome = pair_of(question, judgements, recipe)
        pairs += [] if isinstance(outcome, Drop) else outcome
    answers = [answer for question in questions for answer in question.answers]
    contexts = {question.context.context_id: question.context for question in questions}
    own = rewards(judgements, parse_scorers(recipe))
    shard = ShardData([question.example for question in questions], contexts, answers, judgements, pairs, [], own)
    split = Split(0, 0.0)
    by_answer = {}
    for row in evidence_rows(shard, "plan", split)["train"]:
        by_answer[row["example_id"], row["sample_index"]] = row
        if row["reward_by"] == "quality":
            assert row["reward"] is None
            assert row["expected_reward"] is not None
        else:
            assert row["expected_reward"] is None
    assert {row["reward_by"] for row in by_answer.values()} == {"quality", JUDGE, None}
    for pair in pair_rows(shard, recipe, "plan", split)["train"]:
        chosen = by_answer[pair["example_id"], pair["chosen_index"]]
        assert pair["chosen_by"] == chosen["reward_by"]
        value = chosen["reward"] if chosen["reward"] is not None else chosen["expected_reward"]
        assert pair["chosen_reward"] == value
    plan = Plan("0" * 64, recipe.identity(), {}, (), 0, "", {}, True, ())
    assert further_columns(recipe, plan) == CASCADE_COLUMNS


def test_pruning_counts_the_answers_that_were_judged_in_earlier_rounds(recipe: Recipe) -> None:
    texts = ("Answer 0, quality 9.0", "Answer 1, quality 1.0", "Answer 2, quality 5.0")
    question = case_of(*texts)
    judges = [scorer for scorer in parse_scorers(recipe) if scorer.weight > 0]
    ends = replace(question, answers=question.answers[:2])
    middle = replace(question, answers=question.answers[2:])
    earlier: dict[tuple[str, int], dict[str, Judgement]] = {}
    for judgement in score_answers([ends], judges, scoring_with(ScriptedJudge(says), recipe)):
        earlier.setdefault(judgement.answer_id, {})[judgement.scorer] = judgement
    before = [(answer, earlier[answer.id]) for answer in ends.answers]
    judge = ScriptedJudge(says)
    *_, faithfulness = score_answers([middle], judges, scoring_with(judge, recipe), None, before)
    assert faithfulness.reason == PRUNED
    assert judge.calls["support"] == 0
    alone = ScriptedJudge(says)
    *_, faithfulness = score_answers([middle], judges, scoring_with(alone, recipe))
    assert faithfulness.score is not None
    assert alone.calls["support"] == FACTS
