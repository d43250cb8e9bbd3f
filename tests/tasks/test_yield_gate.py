"""The yield gate: which drops count, which shares stop a shard or a plan, and what the message says."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.errors import YieldError
from infra.models.completions import _NAMES, FINISHED
from infra.recipe import Execution
from infra.store import Store, open_store
from tasks.publishing import move_latest
from tasks.records import example as records
from tasks.records.example import Drop, Judgement, Pair
from tasks.records.plan import Plan, PlannedShard
from tasks.records.shard import ShardResult
from tasks.records.table import StoredTable
from tasks.yield_gate import BY_DESIGN, REMEDIES, check_plan, check_reading, check_shard, reading_yield, warning_of
from tests.support.published import fake_recipe, stored_plan

ROOT = Path(__file__).parents[2]
PlannedShards = tuple[Store, Plan, list[ShardResult]]


def made(
    folder: Path,
    *shards: list[Drop],
    questions: int = 10,
    early: list[Drop] | None = None,
    judged: dict[str, list[str | None]] | None = None,
) -> PlannedShards:
    """Shards of so many questions with these drops; all others have a pair."""
    store = open_store(str(folder))
    planned = []
    for index in range(len(shards)):
        planned.append(PlannedShard(index, "", "", questions, 1, 100))
    plan = stored_plan(store, fake_recipe(folder), planned, early or [])
    plan = replace(plan, drop_counts={"early": len(early)} if early else {})
    results = []
    for index, drops in enumerate(shards):
        pairs = []
        for number in range(questions - len(drops)):
            pairs.append(Pair(f"s{index}-q{number}", "c", 0, 1, 0.9, 0.1, 0.8))
        judgements = []
        for example_id, missing in (judged or {}).items():
            for sample, why in enumerate(missing):
                score = 1.0 if why is None else None
                reply = '{"reply": "What a good answer!"}'
                judgements.append(Judgement(example_id, sample, "helpfulness", score, why, reply, ()))
        tables: dict[str, Any] = {
            "answers": records.to_table([], records.ANSWER),
            "judgements": records.to_table(judgements, records.JUDGEMENT),
            "pairs": records.to_table(pairs, records.PAIR),
            "drops": records.to_table(drops, records.DROP),
        }
        stored = {name: StoredTable.put(store, f"plans/x/{index}/{name}", table) for name, table in tables.items()}
        results.append(ShardResult.of(store, plan.plan_id, index, questions, stored))
    return store, plan, results


def dropped(reason: str, count: int, stage: str = "sample", detail: str = "bad_request: 4") -> list[Drop]:
    return [Drop(f"{reason}-{number}", stage, reason, detail) for number in range(count)]


def test_faults_beyond_the_limit_of_a_plan_stop_it_with_reason_example_and_remedy(tmp_path: Path) -> None:
    faults = [*dropped("no_answers", 2), *dropped("cut_off", 1, "pair")]
    store, plan, results = made(tmp_path, faults, [])
    assert check_plan(store, plan, results, Execution()).share == 3 / 20
    store, plan, results = made(tmp_path, faults, dropped("no_answers", 2))
    with pytest.raises(YieldError) as stopped:
        check_plan(store, plan, results, Execution())
    message = str(stopped.value)
    assert "5 of 20 questions (25%)" in message
    assert "execution.max_drop_share = 0.2; nothing is published" in message
    assert "Most often no_answers (4), as of no_answers-0: bad_request: 4. Remedy: the policy's replies" in message
    assert "--set execution.max_drop_share=0.25" in message
    assert check_plan(store, plan, results, Execution(max_drop_share=0.25)).share == 0.25


@pytest.mark.parametrize("reason", ["tie", "small_margin", "near_identical"])
def test_what_the_pairing_rule_leaves_out_is_no_fault(tmp_path: Path, reason: str) -> None:
    store, plan, results = made(tmp_path, dropped(reason, 9, "pair"))
    check_shard(store, plan, results[0], Execution(max_shard_drop_share=0))
    outcome = check_plan(store, plan, results, Execution(max_drop_share=0))
    assert (outcome.questions, outcome.share) == (10, 0)
    assert warning_of(store, plan, results, outcome, Execution()) == ""


def test_a_shard_stops_the_run_and_a_small_one_is_judged_with_the_plan(tmp_path: Path) -> None:
    store, plan, results = made(tmp_path, dropped("too_few_scored", 5), dropped("too_few_scored", 6))
    check_shard(store, plan, results[0], Execution())
    with pytest.raises(YieldError, match=r"shard 1 of plan \w+: 6 of 10.*max_shard_drop_share = 0\.5") as stopped:
        check_shard(store, plan, results[1], Execution())
    assert str(stopped.value).count("--set") == 2  # the plan's limit would stop it next
    store, plan, (small,) = made(tmp_path, dropped("too_few_scored", 7), questions=7)
    check_shard(store, plan, small, Execution())


def test_a_dataset_without_a_pair_is_stopped_whatever_the_limits_say(tmp_path: Path) -> None:
    store, plan, results = made(tmp_path, dropped("tie", 10, "pair", "all 4 rewards are 1.0"))
    with pytest.raises(YieldError, match=r"never published\. Most often tie \(10\), as of tie-0: all 4 rewards"):
        check_plan(store, plan, results, Execution(max_drop_share=1, max_shard_drop_share=1))


def test_questions_that_a_content_filter_stopped_altogether_are_no_faults(tmp_path: Path) -> None:
    drops = [
        *dropped("no_answers", 1, detail="bad_request: 1, content_filter: 1"),
        *dropped("content_filter", 1),
        *dropped("too_few_scored", 2, "pair"),
    ]
    judged: dict[str, list[str | None]] = {
        "too_few_scored-0": ["content_filter", "notes: content_filter", None],
        "too_few_scored-1": ["no_rating", "content_filter"],
    }
    store, plan, results = made(tmp_path, drops, judged=judged)
    outcome = check_plan(store, plan, results, Execution())
    assert outcome.faults == {"no_answers": 1, "too_few_scored": 1}
    assert outcome.by_design == {"content_filter": 2}
    assert outcome.questions == 10


def test_a_prompt_that_is_too_long_for_the_server_is_a_fault_and_one_of_the_plan_is_none(tmp_path: Path) -> None:
    early = dropped("prompt_too_long", 30, "context")
    store, plan, results = made(tmp_path, dropped("prompt_too_long", 6), early=early)
    check_reading(store, plan, Execution(max_drop_share=0))
    with pytest.raises(YieldError, match=r"prompt_too_long \(6\).*Remedy: the server takes less than policy"):
        check_shard(store, plan, results[0], Execution())


def test_the_judges_words_stand_in_the_message(tmp_path: Path) -> None:
    judged: dict[str, list[str | None]] = {"too_few_scored-0": ["no_rating", "no_rating", None]}
    store, plan, results = made(tmp_path, dropped("too_few_scored", 6, "pair", "1 of 3"), judged=judged)
    with pytest.raises(YieldError, match="1 of 3; without a score: 2 no_rating; a reply: “What a good answer!”"):
        check_shard(store, plan, results[0], Execution())


def test_rows_that_were_never_to_give_a_pair_are_left_out_of_the_share(tmp_path: Path) -> None:
    early = [
        *dropped("unanswerable", 30, "read"),
        *dropped("prompt_too_long", 20, "context"),
        *dropped("duplicate_id", 10, "read", "row 7 of a.jsonl repeats row 1"),
    ]
    store, plan, results = made(tmp_path, dropped("no_answers", 1), early=early)
    assert plan.questions == 70
    check_reading(store, plan, Execution(max_drop_share=0))
    outcome = check_plan(store, plan, results, Execution())
    assert (outcome.questions, outcome.share) == (10, 0.1)
    assert warning_of(store, plan, results, outcome, Execution()).startswith(
        "1 of 10 questions (10%) gave no pair for a fault"
    )
    assert warning_of(store, plan, results, outcome, Execution(warn_drop_share=0.1)) == ""


def test_rows_that_are_read_wrongly_stop_the_plan_before_a_call(tmp_path: Path) -> None:
    early = dropped("duplicate_id", 3, "read", "row 7 of a.jsonl has the id of row 1, which says something else")
    store, plan, _ = made(tmp_path, [], early=early)
    assert reading_yield(store, plan).to_json() == {
        "questions": 13,
        "faults": {"duplicate_id": 3},
        "by_design": {},
        "share": 0.2308,
    }
    with pytest.raises(YieldError, match=r"3 of 13 questions.*give each row an id of its own.*No call was made"):
        check_reading(store, plan, Execution())


def test_faults_of_reading_do_not_count_again_at_the_end(tmp_path: Path) -> None:
    early = dropped("empty_question", 2, "read", "row 7 of a.jsonl")
    store, plan, results = made(tmp_path, dropped("no_answers", 2), early=early)
    check_reading(store, plan, Execution())
    outcome = check_plan(store, plan, results, Execution())
    assert (outcome.questions, outcome.share) == (10, 0.2)
    assert warning_of(store, plan, results, outcome, Execution()).count("gave no pair for a fault") == 2


def test_every_reason_has_a_remedy_and_a_line_in_the_documentation() -> None:
    reasons = set()
    for path in (ROOT / "tasks").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        reasons |= set(re.findall(r'Drop\(.*"(?:read|context|sample|pair)", "(\w+)"', text))
        reasons |= set(re.findall(r'_drop\(example, "(\w+)"', text))
    assert {"tie", "cut_off", "unanswerable", "duplicate_id", "no_separator"} <= reasons
    page = (ROOT / "docs/operate.md").read_text(encoding="utf-8")
    table = page.partition("## The yield gate")[2].partition("\n- More than")[0]
    reasons |= {"no_answers", "unfinished_thinking", *_NAMES.values()} - FINISHED
    for reason in reasons.union(*BY_DESIGN.values()):
        assert reason in REMEDIES or reason in ("unanswerable", "code"), reason
        assert f"`{reason}`" in table, reason


def test_latest_says_when_it_moves_to_fewer_pairs(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))

    def publish(version: str, pairs: int) -> str:
        manifest = {
            "schema_version": 1,
            "version": version,
            "files": [],
            "counts": {"pairs": pairs, "questions": 12},
        }
        folder = f"datasets/case/{version}"
        store.write(f"{folder}/manifest.json", json.dumps(manifest).encode())
        return move_latest(store, "case", folder, manifest)

    assert publish("one", 10) == ""
    assert publish("two", 10) == ""
    line = publish("three", 4)
    assert "4 pairs of 12 questions (three), after 10 of 12 (two): 60% fewer" in line
    assert publish("three", 4) == ""  # the same one again
    assert publish("four", 5) == ""
