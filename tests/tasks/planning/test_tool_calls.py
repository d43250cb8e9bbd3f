"""Tool calls of histories are messages of the policy's template: the same tokens counted, sent, published, trained."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.errors import TrainingError
from infra.models.protocol import Request
from infra.models.tokens import CountingTokenizer, load_tokenizer, renders_tool_calls, tokenizer_settings
from infra.models.tool_calls import read_arguments
from infra.recipe import Model, Recipe
from infra.store import Store, open_store
from tasks.contexts import BuiltQuestion
from tasks.evaluation.truncation import fit_messages
from tasks.judging.reward_input import question_messages
from tasks.planning.make_plan import make_plan
from tasks.planning.wire import outcomes_from_json, outcomes_to_json, questions_from_json, questions_to_json
from tasks.published_rows import further_columns, pair_rows
from tasks.questions import RawQuestion, read_questions
from tasks.questions.chat import exchanges_of, flat_context
from tasks.records.dataset import PairRow, ShardData, Split, pair_table
from tasks.records.example import Answer, Context, Example, Pair
from tasks.records.history import messages_of, tools_in
from tasks.records.plan import Plan, load_shard
from tasks.records.table import StoredTable
from tasks.reporting.prompt_context import context_in
from tasks.sample_prompt import sample_prompt
from tasks.samplers.evidence import short_context
from tasks.samplers.parts import context_of_parts
from tasks.training.external import PairSource, read_external_pairs
from tasks.training.gate import EncodedTree, gate
from tests.support.planning import build_examples, write_rows
from tests.support.tool_template import (
    SCHEMAS,
    TOOL_TEMPLATE,
    asks,
    call,
    result,
    save_tool_tokenizer,
    trajectory,
)
from tests.tasks.planning.test_history import history_recipe

ANSWERS = ("In 1901.", "In 1902.")
MISTRAL_LIKE = (
    "{% for message in messages %}{% if message.role == 'tool' and message.tool_call_id | length != 9 %}"
    "{{ raise_exception('ids have nine characters') }}{% endif %}{% endfor %}" + TOOL_TEMPLATE
)
ONE_CALL_ALONE = (
    "{% for message in messages %}{% if message.tool_calls and message.tool_calls | length > 1 %}"
    "{{ raise_exception('one call at a time') }}{% endif %}{% endfor %}" + TOOL_TEMPLATE
)


def tool_row(number: int = 0, messages: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    own = trajectory(2, f"row {number}") if messages is None else messages
    return {"id": f"t{number}", "messages": own, "question": "When did it open?", "answer": "1901", **more}


def tool_recipe(folder: Path, rows: list[dict[str, Any]], template: str = TOOL_TEMPLATE, **options: Any) -> Recipe:
    folder.mkdir(exist_ok=True)
    recipe = history_recipe(folder, rows, **options)
    tokenizer = save_tool_tokenizer(folder / "tokenizer", template) if template else "microworld"
    return recipe.model_copy(update={"policy": recipe.policy.model_copy(update={"tokenizer": tokenizer})})


def with_text(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"contexts": recipe.contexts.model_copy(update={"tools": "text"})})


def built_by(recipe: Recipe) -> list[BuiltQuestion]:
    outcomes = list(build_examples(recipe, load_tokenizer(recipe.policy.tokenizer)))
    return [outcome for outcome in outcomes if isinstance(outcome, BuiltQuestion)]


def as_served(body: dict[str, Any], tokenizer: Any) -> list[int]:
    """The tokens of a request's prompt, as vLLM 0.32 makes them: null contents are empty, arguments objects."""
    messages = []
    for message in body["messages"]:
        own = {**message, "content": message.get("content") or ""}
        if "tool_calls" in message:
            own["tool_calls"] = []
            for entry in message["tool_calls"]:
                function = {"arguments": json.loads(entry["function"]["arguments"]), "name": entry["function"]["name"]}
                own["tool_calls"].append({"id": entry["id"], "function": function, "type": "function"})
        messages.append(own)
    assert body.get("tool_choice", "none") == "none"
    tokens: list[int] = tokenizer.apply_chat_template(
        messages, tools=body.get("tools"), tokenize=True, add_generation_prompt=True, return_dict=False
    )
    return tokens


def policy_of(folder: Path) -> Model:
    endpoints = ("http://127.0.0.1:9/v1",)
    return Model(name="policy", tokenizer=str(folder / "tokenizer"), endpoints=endpoints, system="Be brief.")


def body_of(example: Example, context: Context, policy: Model, special_tokens: Any = frozenset()) -> dict[str, Any]:
    prompt = sample_prompt(example, context, "default", policy, special_tokens)
    body: dict[str, Any] = json.loads(Request("sample", policy.name, "main", prompt, {"seed": 1}, 0, "c").body())
    return body


def assert_whole(messages: list[dict[str, Any]]) -> None:
    """Every call is followed by its results, and every result stands after its call."""
    results = 0
    for place, message in enumerate(messages):
        ids = [entry["id"] for entry in message.get("tool_calls", ())]
        answered = messages[place + 1 : place + 1 + len(ids)]
        assert sorted(ids) == sorted(other["tool_call_id"] for other in answered)
        results += len(ids)
    assert results == sum(message["role"] == "tool" for message in messages)


def published(store: Store, plan: Plan, recipe: Recipe) -> tuple[StoredTable, list[PairRow]]:
    """The pairs of the plan's first shard in the store, and as they were before."""
    examples, contexts = load_shard(store, plan, 0)
    answers, pairs = [], []
    for example in examples:
        for index, text in enumerate(ANSWERS):
            answers.append(Answer(example.example_id, index, text, "stop", 9, 9, "default", f"k{index}"))
        pairs.append(Pair(example.example_id, example.context_id, 0, 1, 1.0, 0.0, 1.0))
    shard = ShardData(examples, contexts, answers, [], pairs, [], {})
    rows = pair_rows(shard, recipe, plan.plan_id, Split(0, 0.0), plan.special_tokens)["train"]
    return StoredTable.put(store, "data/train/0", pair_table(rows, False, further_columns(recipe, plan))), rows


def test_calls_and_results_are_messages_with_their_ids_and_names(tmp_path: Path) -> None:
    [built] = built_by(tool_recipe(tmp_path, [tool_row(tools=SCHEMAS)]))
    messages = messages_of(built.context)
    roles = ["user", "assistant", "tool", "tool", "assistant", "tool"]
    assert [message["role"] for message in messages] == [*roles, *roles[1:], "assistant"]
    assert [len(own) for own in exchanges_of(messages)] == [1, 3, 3, 3, 2, 2, 3, 3, 3, 2, 2, 1]
    assert messages[1]["content"] == ""
    functions = [entry["function"] for entry in messages[1]["tool_calls"]]
    assert functions == [
        {"arguments": {"q": "bridge 0", "near": ["mill"]}, "name": "search"},
        {"arguments": {"page": 0}, "name": "read"},
    ]
    assert messages[2] == {
        "role": "tool",
        "content": "Page 0 is empty. row 0",
        "tool_call_id": "b0",
        "name": "read",
    }
    assert (messages[4]["content"], messages[4]["tool_calls"][0]["id"]) == ("Next, step 0.", "c0")
    text = built.context.text
    assert text.startswith('[tools that may be called]\n{"name": "search", "description": "Search the archive')
    assert '\n\n[5] assistant: Next, step 0.\n[calls the tool search]\n{"q": "opening"}\n\n[6] tool: ' in text
    body = body_of(built.example, built.context, policy_of(tmp_path))
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert body["messages"][2]["tool_calls"][0]["function"]["arguments"] == '{"q": "bridge 0", "near": ["mill"]}'
    assert [tool["function"].keys() for tool in body["tools"]] == [{"name", "description", "parameters"}] * 2
    assert list(body["tools"][0]["function"]["parameters"]) == ["type", "properties", "required"]


@pytest.mark.parametrize("tools", [SCHEMAS, None])
def test_prompts_have_the_same_tokens_where_they_are_counted_served_published_and_trained(
    tmp_path: Path, tools: Any
) -> None:
    rows = [tool_row(number, trajectory(number + 1, "<|user|> «é»"), tools=tools) for number in range(2)]
    plain = tool_row(9, [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}])
    recipe = tool_recipe(tmp_path, [*rows, plain])
    tokenizer = load_tokenizer(recipe.policy.tokenizer)
    counted = {built.example.example_id: built.prompt_tokens for built in built_by(recipe)}
    store = open_store(recipe.store)
    plan = make_plan(recipe, store)
    assert plan.has_tool_calls
    assert "2 histories have tool calls" in plan.warnings[0]
    examples, contexts = load_shard(store, plan, 0)
    served = {}
    for example in examples:
        body = body_of(example, contexts[example.context_id], recipe.policy, plan.special_tokens)
        assert ("tools" in body) == (tools is not None and example.example_id != "t9")
        served[example.example_id] = as_served(body, tokenizer)
    assert {name: len(tokens) for name, tokens in served.items()} == counted
    assert sum(counted.values()) == plan.shards[0].prompt_tokens
    table, _ = published(store, plan, recipe)
    trees: list[EncodedTree] = []
    gate(list(table.rows_of(store)), tokenizer, 100_000, add=trees.append)
    assert {tree.example_id: tree.prompt_ids for tree in trees} == served


def test_a_published_pair_goes_to_trl_as_it_is_and_has_its_context(tmp_path: Path) -> None:
    from datasets import load_dataset

    recipe = tool_recipe(tmp_path, [tool_row(0, tools=json.dumps(SCHEMAS)), tool_row(1)])
    store = open_store(recipe.store)
    plan = make_plan(recipe, store)
    table, before = published(store, plan, recipe)
    tokenizer = load_tokenizer(recipe.policy.tokenizer)
    rows = list(table.rows_of(store))
    loaded = load_dataset("parquet", data_files=str(tmp_path / "mill" / table.path), cache_dir=str(tmp_path / "cache"))
    trees: list[EncodedTree] = []
    gate(rows, tokenizer, 100_000, add=trees.append)
    examples, contexts = load_shard(store, plan, 0)
    texts = {example.example_id: contexts[example.context_id].text for example in examples}
    for row, written, own, tree in zip(loaded["train"], before, rows, trees, strict=True):
        assert row["prompt"] == own["prompt"] == written["prompt"]
        tools = row["tools"]
        assert tools == own["tools"] == (json.loads(written["tools"]) if written["tools"] else None)
        trl = tokenizer.apply_chat_template(  # as trl/trainer/dpo_trainer.py calls it
            row["prompt"], tools=tools, tokenize=True, add_generation_prompt=True, return_dict=False
        )
        assert trl == tree.prompt_ids
        assert context_in(own["prompt"], own) == texts[own["example_id"]]
    external = list(read_external_pairs(PairSource(str(tmp_path / "mill" / table.path))).pairs())
    again: list[EncodedTree] = []
    gate(external, tokenizer, 100_000, add=again.append)
    assert [tree.prompt_ids for tree in again] == [tree.prompt_ids for tree in trees]


def test_a_base_model_without_a_place_for_tools_is_refused(tmp_path: Path) -> None:
    recipe = tool_recipe(tmp_path, [tool_row()])
    store = open_store(recipe.store)
    table, _ = published(store, make_plan(recipe, store), recipe)
    with pytest.raises(TrainingError, match=r"no place for the tools and tool calls.*contexts\.tools: text"):
        gate(list(table.rows_of(store)), load_tokenizer("microworld"), 100_000)


def test_what_a_model_without_tools_reads_is_text(tmp_path: Path) -> None:
    """Reward models, and models that are compared with a policy whose template knows tools."""
    recipe = tool_recipe(tmp_path, [tool_row(tools=SCHEMAS)])
    [built] = built_by(recipe)
    [as_text] = built_by(with_text(recipe))
    flat = flat_context(built.context, "en")
    assert flat.tool_use is None
    assert messages_of(flat) == messages_of(as_text.context)
    assert question_messages(built.example, built.context, recipe) == list(
        sample_prompt(built.example, flat, "default", recipe.policy).messages
    )


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_an_evaluation_cuts_a_history_by_whole_exchanges(tmp_path: Path, share: float) -> None:
    recipe = tool_recipe(tmp_path, [tool_row(0, trajectory(6), tools=SCHEMAS)])
    [built] = built_by(recipe)
    limit = round(share * built.prompt_tokens)

    def count(part: Context) -> int:
        return len(as_served(body_of(built.example, part, recipe.policy), load_tokenizer(recipe.policy.tokenizer)))

    fitted = fit_messages(built.context, limit, "en", count)
    assert isinstance(fitted.context, Context)
    assert (fitted.tokens_before, fitted.tokens) == (built.prompt_tokens, count(fitted.context))
    assert fitted.tokens <= limit
    assert_whole(messages_of(fitted.context))


@pytest.mark.parametrize("place", range(12))
def test_a_part_of_a_history_has_whole_exchanges(tmp_path: Path, place: int) -> None:
    [built] = built_by(tool_recipe(tmp_path, [tool_row(0, tools=SCHEMAS)]))
    context = built.context
    spans = [(context.span_starts[place], context.span_ends[place])]
    part = context_of_parts(context, spans, "en", "numbered")
    messages = messages_of(part)
    assert_whole(messages)
    assert messages[0]["role"] == "user"
    own = messages_of(context)
    texts = [message["content"] for message in messages]
    assert all(own[number]["content"] in texts for number in exchanges_of(own)[place])


def test_a_template_without_tools_has_them_as_text_in_the_plans_of_earlier_versions(tmp_path: Path) -> None:
    assert not renders_tool_calls(load_tokenizer("microworld"))
    recipe = tool_recipe(tmp_path, [tool_row(tools=SCHEMAS)], template="")
    plan = make_plan(recipe, open_store(recipe.store))
    assert not plan.has_tool_calls
    assert make_plan(with_text(recipe), open_store(recipe.store)).plan_id == plan.plan_id
    [built] = built_by(recipe)
    assert built.context.tool_use is None
    assert "[3] user: [result of the tool read]" in built.context.text
    knows = with_text(tool_recipe(tmp_path, [tool_row(tools=SCHEMAS)]))
    assert built_by(knows)[0].context == built.context
    table, _ = published(open_store(recipe.store), plan, recipe)
    assert "tools" not in table.column_names(open_store(recipe.store))


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([asks(call("a", "search", {"q": "x"}))], '[calls the tool search]\n{"q": "x"}'),  # no result
        (
            [asks(call("a", "search", {}), call("b", "read", {})), result("a", "one")],
            "[result of the tool search]\none",
        ),
        ([result("z", "who knows")], "[result of the tool ]\nwho knows"),  # no call
        ([asks(call("a", "search", "{q: x")), result("a", "one")], "[calls the tool search]\n{q: x"),
        ([asks(call("a", "search", "[1]")), result("a", "one")], "[calls the tool search]\n[1]"),
        ([asks(call("a", "", {})), result("a", "one")], "[calls the tool ]\n{}"),
        ([asks(call("a", "search", {})), result("b", "one")], "[result of the tool ]\none"),
    ],
)
def test_what_is_no_whole_exchange_is_text_and_nothing_is_lost(tmp_path: Path, messages: Any, text: str) -> None:
    before, after = trajectory(1), [{"role": "user", "content": "And then?"}, {"role": "assistant", "content": "So."}]
    recipe = tool_recipe(tmp_path, [tool_row(0, [*before, *messages, *after])])
    [built] = built_by(recipe)
    assert text in built.context.text
    own = messages_of(built.context)
    assert [message["role"] for message in own].count("tool") == 3
    assert any(text in message["content"] for message in own if message["role"] != "tool")
    body = body_of(built.example, built.context, recipe.policy)
    assert len(as_served(body, load_tokenizer(recipe.policy.tokenizer))) == built.prompt_tokens


def test_unlisted_names_missing_ids_empty_results_and_old_calls_are_messages(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "Go."},
        asks(call("", "fly", {}), call("", "walk", {})),
        {"role": "tool", "content": ""},
        {"role": "tool", "content": "there"},
        {"role": "assistant", "content": "", "function_call": {"name": "read", "arguments": ""}},
        {"role": "function", "name": "read", "content": "7"},
        {"role": "assistant", "content": "Done."},
    ]
    [built] = built_by(tool_recipe(tmp_path, [tool_row(0, messages, tools=SCHEMAS)]))
    own = messages_of(built.context)
    roles = [message["role"] for message in own]
    assert roles == ["user", "assistant", "tool", "tool", "assistant", "tool", "assistant"]
    ids = [entry["id"] for message in own for entry in message.get("tool_calls", ())]
    assert ids == [message["tool_call_id"] for message in own if message["role"] == "tool"]
    assert ids == ["call00001", "call00002", "call00003"]
    assert [message["name"] for message in own if message["role"] == "tool"] == ["fly", "walk", "read"]
    assert read_arguments('{"a": "\\ud800"}') is None  # no UTF-8 holds it


def test_a_template_that_refuses_ids_gets_others_and_one_that_refuses_calls_has_text(tmp_path: Path) -> None:
    one_call = [*trajectory(0)[:2], asks(call("x", "read", {"page": 1})), result("x", "p"), *trajectory(0)[2:]]
    rows = [tool_row(0), tool_row(1, one_call)]
    for built in built_by(tool_recipe(tmp_path / "ids", rows, MISTRAL_LIKE)):
        ids = {message["tool_call_id"] for message in messages_of(built.context) if message["role"] == "tool"}
        assert ids
        assert all(len(call_id) == 9 for call_id in ids)
    recipe = tool_recipe(tmp_path / "calls", rows, ONE_CALL_ALONE)
    two, one = built_by(recipe)
    assert (two.context.tool_use, two.refused_tools) == (None, True)
    assert one.context.tool_use is not None
    warnings = make_plan(recipe, open_store(recipe.store)).warnings
    assert "the chat template refuses the tool calls of 1 histories as messages: they are text" in warnings


def test_a_cut_in_the_middle_never_parts_a_call_from_its_results(tmp_path: Path) -> None:
    rows = [tool_row(0, trajectory(12, "x" * 60), tools=SCHEMAS)]
    [whole] = built_by(tool_recipe(tmp_path, rows, window=16_384))
    for window in range(2100, 5000, 400):
        [built] = built_by(tool_recipe(tmp_path, rows, window=window))
        assert built.prompt_tokens <= window - 64 < whole.prompt_tokens
        messages = messages_of(built.context)
        assert "turns are left out here]" in built.context.text
        assert (messages[0]["role"], messages[-1]["content"]) == ("user", "It opened in 1901.")
        assert_whole(messages)


def test_filled_histories_have_the_tools_of_all_sessions(tmp_path: Path) -> None:
    rows = []
    for number in range(4):
        other = {"messages": trajectory(1, f"other {number}"), "tools": [{"name": f"tool{number}"}]}
        own = {"messages": trajectory(1, f"own {number}"), "tools": SCHEMAS, "supports": True}
        rows.append({"id": f"s{number}", "sessions": [other, own], "question": "When?", "answer": "1901"})
    recipe = tool_recipe(tmp_path, [{"messages": []}], fill=True, window=16_384)
    write_rows(Path(recipe.questions.source), rows)
    lengths = recipe.contexts.model_copy(update={"min_tokens": 6144, "max_tokens": 6144})
    recipe = recipe.model_copy(update={"contexts": lengths})
    built = built_by(recipe)
    assert len(built) == 4
    assert outcomes_from_json(json.loads(json.dumps(outcomes_to_json(built)))) == built
    questions = [row for row in read_questions(recipe.questions, "history") if isinstance(row, RawQuestion)]
    assert questions_from_json(json.loads(json.dumps(questions_to_json(questions)))) == questions
    settings = tokenizer_settings(load_tokenizer(recipe.policy.tokenizer))
    assert list(build_examples(recipe, CountingTokenizer(json.loads(json.dumps(settings))))) == built
    for question in built:
        assert_whole(messages_of(question.context))
        names = [tool["function"]["name"] for tool in tools_in(question.context)]
        assert {"search", "read"} < set(names)
        assert len(names) == len(set(names)) > 3


def test_a_sample_that_sees_the_evidence_sees_its_call_with_all_results(tmp_path: Path) -> None:
    rows = [tool_row(0, trajectory(3), tools=SCHEMAS, metadata={"evidence": [{"sentence": "The mill of step 1."}]})]
    recipe = tool_recipe(tmp_path, rows)
    sampling = recipe.sampling.model_copy(update={"context": "evidence", "samples": 4})
    [built] = built_by(recipe.model_copy(update={"sampling": sampling}))
    short = short_context(built.example, built.context, recipe.model_copy(update={"sampling": sampling}))
    messages = messages_of(short)
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
    assert [message["tool_call_id"] for message in messages[2:]] == ["b1", "a1"]
    assert tools_in(short) == tools_in(built.context)
    assert built.sample_tokens is not None
    assert built.sample_tokens < 4 * built.prompt_tokens
