"""Plans: the same bytes in every process, nothing lost, nothing readable before the plan, clear errors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.errors import BalanceError, InputError, RecipeError, StoreError
from infra.store import open_store
from tasks.planning import make_plan as planning
from tasks.planning.make_plan import make_plan
from tasks.prompts import load_prompt
from tasks.records.example import DROP, Drop, from_table
from tasks.records.plan import Plan, load_examples, load_plan, load_shard, plan_path, resolve_plan
from tests.support.planning import pooled_rows, small_recipe
from tests.support.s3 import s3_bucket

ROOT = Path(__file__).parents[3]
POOLED = {"build": "pooled", "min_tokens": 256, "max_tokens": 1024, "step_tokens": 128}
NASTY = [
    {"id": "long", "question": "Q?", "context": "x" * 5000},
    {"id": "empty", "question": "", "context": "C"},
    {"id": "fr", "question": "Q?", "context": "C", "language": "fr"},
    {"id": "zh", "question": "谁？🦊", "context": "文字", "language": "zh"},
    {"id": "zh", "question": "谁？🦊", "context": "文字", "language": "zh"},
]


def planned(recipe):
    store = open_store(recipe.store)
    return make_plan(recipe, store), store


def everything(store):
    return {path: store.read(path) for path in store.list()}


def given_rows(count, contexts=3):
    return [
        {"id": f"g{number}", "question": f"Q{number}?", "context": f"Context {number % contexts}. " + "w " * 50}
        for number in range(count)
    ]


def test_every_row_is_planned_or_dropped_with_its_reason(tmp_path):
    plan, store = planned(small_recipe(tmp_path, [*given_rows(6), *NASTY]))
    examples = []
    for shard in plan.shards:
        examples += load_examples(store, plan, shard.index)
    drops = from_table(store.read_table(plan.drops), Drop)
    assert plan.questions == 11 == len(examples) + len(drops)
    assert plan.drop_counts == {"duplicate_id": 1, "empty_question": 1, "language": 1, "prompt_too_long": 1}
    assert {drop.example_id: drop.stage for drop in drops} == {
        "long": "context",
        "empty": "read",
        "fr": "read",
        "zh": "read",
    }
    assert "prompts do not fit policy.context_window" in plan.warnings[0]
    assert store.read_table(plan.drops).schema == DROP


def test_shards_follow_the_source_and_keep_a_contexts_questions_together(tmp_path):
    plan, store = planned(small_recipe(tmp_path, given_rows(10)))
    assert [shard.questions for shard in plan.shards] == [4, 4, 2]
    assert [shard.index for shard in plan.shards] == [0, 1, 2]
    examples, contexts = load_shard(store, plan, 0)
    assert [example.example_id for example in examples] == ["g0", "g3", "g1", "g2"]
    assert len(contexts) == plan.shards[0].context_count == 3
    assert all(contexts[example.context_id].text.startswith("Context") for example in examples)


def test_a_shard_ends_early_when_its_contexts_grow_large(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "SHARD_CHARACTERS", 250)
    plan, _ = planned(small_recipe(tmp_path, given_rows(6, contexts=6)))
    assert [shard.questions for shard in plan.shards] == [2, 2, 2]
    plan, _ = planned(small_recipe(tmp_path, given_rows(6, contexts=1)))
    assert [shard.questions for shard in plan.shards] == [4, 2]


def test_prompt_tokens_are_the_sum_over_the_examples(tmp_path):
    plan, store = planned(small_recipe(tmp_path, given_rows(2)))
    template = load_prompt("sample-default", "en")
    examples, contexts = load_shard(store, plan, 0)
    texts = [
        template.render(context=contexts[example.context_id].text, question=example.question) for example in examples
    ]
    assert plan.shards[0].prompt_tokens == sum(len(text.encode()) + 2 for text in texts)
    assert plan.exact_prompt_tokens


def test_only_the_prompts_of_the_languages_that_occur_are_part_of_the_plan(tmp_path):
    english = {"en/sample-default": load_prompt("sample-default", "en").fingerprint}
    chinese = {"zh/sample-default": load_prompt("sample-default", "zh").fingerprint}
    assert planned(small_recipe(tmp_path, given_rows(2)))[0].prompts == english
    assert planned(small_recipe(tmp_path, [*given_rows(2), *NASTY]))[0].prompts == english | chinese


def test_planning_again_changes_no_byte(tmp_path):
    recipe = small_recipe(tmp_path, [*pooled_rows(9), *NASTY], contexts=POOLED)
    first, store = planned(recipe)
    before = everything(store)
    assert planned(recipe)[0] == first
    assert everything(store) == before
    assert planned(recipe.model_copy(update={"seed": 5}))[0].plan_id != first.plan_id


def test_what_does_not_decide_the_data_does_not_change_the_plan(tmp_path):
    one = small_recipe(tmp_path, given_rows(3))
    other = small_recipe(
        tmp_path, given_rows(3), policy={"endpoints": ["http://127.0.0.1:8/v1"]}, execution={"concurrency": 3}
    )
    assert planned(one)[0].plan_id == planned(other)[0].plan_id


@pytest.mark.slow
def test_two_processes_with_other_hash_seeds_write_the_same_bytes(tmp_path):
    rows = [*pooled_rows(30), *NASTY]
    recipe = small_recipe(tmp_path, rows, contexts=POOLED)
    script = (
        "import json, sys; from infra.recipe import parse_recipe; from infra.store import open_store;"
        "from tasks.planning.make_plan import make_plan; recipe = parse_recipe(json.loads(sys.argv[1]));"
        "print(make_plan(recipe, open_store(recipe.store)).plan_id)"
    )
    stores = []
    for seed in ("1", "2"):
        settings = recipe.model_dump(mode="json") | {"store": str(tmp_path / f"mill-{seed}")}
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", script, json.dumps(settings)]
        subprocess.run(command, check=True, cwd=ROOT, env=environment, timeout=120)
        stores.append(everything(open_store(settings["store"])))
    assert stores[0] == stores[1]
    assert any(path.endswith("plan.json") for path in stores[0])


def test_a_plan_survives_json_and_the_store(tmp_path):
    plan, store = planned(small_recipe(tmp_path, given_rows(5)))
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert load_plan(store, plan.plan_id) == plan
    assert resolve_plan(store, plan.plan_id[:5]) == plan.plan_id


def test_a_plan_is_found_by_a_prefix_that_only_it_has(tmp_path):
    one, store = planned(small_recipe(tmp_path, given_rows(5)))
    other, _ = planned(small_recipe(tmp_path, given_rows(6)))
    assert resolve_plan(store, other.plan_id) == other.plan_id
    with pytest.raises(InputError, match=f"several plans begin with ''.*{min(one.plan_id, other.plan_id)}"):
        resolve_plan(store, "")
    with pytest.raises(InputError, match="no plan begins with 'x'"):
        resolve_plan(store, "x")
    for strange in ("0" * 16, "../../etc", ""):
        with pytest.raises(InputError, match="there is no plan"):
            load_plan(store, strange)
    with pytest.raises(InputError, match="has the shards 0 to 1, but no 2"):
        load_shard(store, one, 2)


def test_what_was_changed_in_the_store_is_not_used(tmp_path):
    plan, store = planned(small_recipe(tmp_path, given_rows(5)))
    contexts = plan.shards[0].contexts
    store.write(contexts, store.read(plan.shards[1].contexts))
    with pytest.raises(StoreError, match=r"its bytes are not those that were written.*plan again"):
        load_shard(store, plan, 0)
    path = plan_path(plan.plan_id)
    store.write(path, store.read(path).replace(b'"questions":5', b'"questions":6'))
    with pytest.raises(StoreError, match="its content is not that of plan"):
        load_plan(store, plan.plan_id)
    store.write(path, b'{"plan_id"')
    with pytest.raises(StoreError, match="damaged"):
        load_plan(store, plan.plan_id)


def test_a_hard_fault_leaves_no_plan(tmp_path):
    recipe = small_recipe(tmp_path, [*given_rows(9), {"question": 3}])
    with pytest.raises(InputError, match=r"row 10, field 'question'"):
        planned(recipe)
    assert [path for path in open_store(recipe.store).list() if path.startswith("plans")] == []


def test_no_question_left_is_an_error_that_lists_the_drops(tmp_path):
    with pytest.raises(InputError, match="no question is left to plan; dropped: 1 empty_question, 1 language"):
        planned(small_recipe(tmp_path, NASTY[1:3]))


def test_a_strategy_or_format_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="no prompt 'sample-guess'"):
        planned(small_recipe(tmp_path, given_rows(1), sampling={"strategy": "guess"}))
    with pytest.raises(RecipeError, match="no format 'csv'"):
        planned(small_recipe(tmp_path, given_rows(1), questions={"format": "csv"}))


def test_a_lost_question_is_never_planned_over(tmp_path, monkeypatch):
    sharded = planning.sharded
    monkeypatch.setattr(planning, "sharded", lambda questions, size: list(sharded(questions, size))[1:])
    with pytest.raises(BalanceError, match="9 rows were read, but 5 are planned and 0 dropped"):
        planned(small_recipe(tmp_path, given_rows(9)))


def test_a_pool_too_small_is_a_warning(tmp_path):
    plan, _ = planned(small_recipe(tmp_path, pooled_rows(2), contexts={**POOLED, "min_tokens": 1024}))
    assert "2 contexts are shorter than their target" in plan.warnings[0]


@pytest.mark.medium
def test_a_plan_on_s3_is_the_plan_on_disk(tmp_path, monkeypatch):
    recipe = small_recipe(tmp_path, given_rows(5))
    here, store = planned(recipe)
    with s3_bucket(monkeypatch) as bucket:
        there = open_store(f"{bucket}/mill")
        assert make_plan(recipe, there) == here
        assert everything(there) == everything(store)
        assert load_shard(there, load_plan(there, here.plan_id), 1) == load_shard(store, here, 1)


_MEASURE = """
import json, resource, sys
from infra.recipe import parse_recipe
from infra.store import open_store
from tasks.contexts import built, given
from tasks.planning.make_plan import make_plan
given.rough_tokens = built.count_tokens = lambda tokenizer, texts: [len(text) for text in texts]
built.prompt_tokens = lambda tokenizer, prompts, counts, arguments, tools: [tokens for _, tokens in counts]
recipe = parse_recipe(json.loads(sys.argv[1]))
make_plan(recipe, open_store(recipe.store))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_text(tmp_path):
    peaks = []
    for count in (20, 140):
        folder = tmp_path / str(count)
        folder.mkdir()
        execution = {"shard_size": 8, "planning_processes": 1}  # what reads and builds the text is this one
        recipe = small_recipe(folder, policy={"context_window": 10_000_000}, execution=execution)
        with (folder / "questions.jsonl").open("w") as lines:
            for number in range(count):
                lines.write(json.dumps({"question": f"Q{number}", "context": f"{number} " + "text " * 200_000}) + "\n")
        command = [sys.executable, "-c", _MEASURE, json.dumps(recipe.model_dump(mode="json"))]
        done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, timeout=300)
        peaks.append(int(done.stdout))
    assert peaks[1] < peaks[0] + 50, f"MiB: {peaks}"
