"""Contexts: exact spans, exact counts, respected targets, the same every time; what does not fit is a drop."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.canonical import text_id
from infra.models.tokens import load_tokenizer
from infra.recipe import Contexts, Model
from tasks.contexts import built as contexts
from tasks.contexts import given as builder
from tasks.contexts.built import BuiltQuestion, target_tokens
from tasks.planning import building
from tasks.planning.distractors import gather_pool
from tasks.planning.passages import render
from tasks.records.example import Document, Drop
from tasks.sample_prompt import sample_prompt
from tests.support.planning import build_examples, pooled_rows, small_recipe, write_rows
from tests.support.tokenizer import TEMPLATE_TOKENS, byte_count

POOLED = {"build": "pooled", "min_tokens": 256, "max_tokens": 1024, "step_tokens": 128}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    recipe = small_recipe(tmp_path_factory.mktemp("tokenizer"))
    return load_tokenizer(recipe.policy.tokenizer)


def build(recipe, tokenizer, **options):
    return list(build_examples(recipe, tokenizer, **options))


def prompt_bytes(built):
    model = Model(name="policy", tokenizer="microworld", endpoints=("http://127.0.0.1:9/v1",))
    prompt = sample_prompt(built.example, built.context.text, "default", model)
    return byte_count(prompt.messages[0]["content"]) + TEMPLATE_TOKENS


def assert_exact(built):
    """Counts and spans, checked by hand."""
    context = built.context
    assert context.context_id == text_id(context.text) == built.example.context_id
    assert context.tokens == byte_count(context.text)
    assert built.prompt_tokens == prompt_bytes(built)
    assert len(context.span_starts) == len(context.span_ends) == len(context.span_titles)
    assert all(0 <= start <= end for start, end in zip(context.span_starts, context.span_ends, strict=True))


def spans(context):
    return [context.text[start:end] for start, end in zip(context.span_starts, context.span_ends, strict=True)]


def test_passages_are_numbered_in_the_questions_language():
    documents = [Document("A\ntitle", "Text one."), Document("", "二")]
    english = render(documents, "en")
    assert english.text == "Passage 1: A title\nText one.\n\nPassage 2:\n二"
    ranges = zip(english.starts, english.ends, strict=True)
    assert [english.text[start:end] for start, end in ranges] == ["Text one.", "二"]
    assert render(documents, "zh").text == "段落 1：A title\nText one.\n\n段落 2：\n二"


def test_a_given_context_stays_as_it_is(tmp_path, tokenizer):
    text = "  Some text 文 🦊\r\n\x00 with its own spaces. "
    [built] = build(small_recipe(tmp_path, [{"question": "Q?", "context": text}]), tokenizer)
    assert_exact(built)
    assert built.context.text == text
    assert spans(built.context) == [text]


def test_given_documents_become_passages(tmp_path, tokenizer):
    row = {"question": "Q?", "documents": [{"text": "one"}, {"text": "two"}], "distractors": [{"text": "three"}]}
    [built] = build(small_recipe(tmp_path, [row]), tokenizer)
    assert_exact(built)
    assert sorted(spans(built.context)) == ["one", "three", "two"]


@pytest.mark.parametrize("room", [0, -1])
def test_a_prompt_fits_to_the_token_or_is_dropped(tmp_path, tokenizer, room):
    rows = [{"id": "a", "question": "Q?", "context": "c" * 500}]
    [built] = build(small_recipe(tmp_path, rows), tokenizer)
    window = built.prompt_tokens + 64 + room
    [outcome] = build(small_recipe(tmp_path, rows, policy={"context_window": window}), tokenizer)
    if room == 0:
        assert outcome == built
    else:
        assert isinstance(outcome, Drop)
        assert (outcome.example_id, outcome.stage, outcome.reason) == ("a", "context", "prompt_too_long")


def test_a_text_far_too_long_is_dropped_without_an_exact_count(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(builder, "LONG_CHARACTERS", 5_000)
    counted_texts = []
    monkeypatch.setattr(contexts, "count_tokens", lambda tokenizer, texts: counted_texts.extend(texts) or [])
    monkeypatch.setattr(contexts, "prompt_tokens", lambda tokenizer, prompts, counts, arguments, tools: [])
    long = {"id": "long", "question": "Q?", "context": "x" * 10_000}
    [drop] = build(small_recipe(tmp_path, [long]), tokenizer)
    assert drop.reason == "prompt_too_long"
    assert "about 10000" in drop.detail
    assert counted_texts == []


def test_pooled_contexts_reach_their_target_and_never_pass_it(tmp_path, tokenizer):
    recipe = small_recipe(tmp_path, pooled_rows(40), contexts=POOLED)
    outcomes = build(recipe, tokenizer)
    assert len(outcomes) == 40
    lengths = set()
    for built in outcomes:
        assert_exact(built)
        target = target_tokens(recipe.contexts, recipe.seed, built.example.example_id)
        assert target - 2 * 90 < built.context.tokens <= target
        number = built.example.example_id[1:]
        assert sum(text.startswith(f"Fact {number}:") for text in spans(built.context)) == 1
        assert len(set(spans(built.context))) == len(built.context.span_starts)
        assert not built.short
        lengths.add(target)
    assert lengths == {step * 128 for step in range(2, 9)}


def test_the_supporting_document_is_anywhere(tmp_path, tokenizer):
    recipe = small_recipe(tmp_path, pooled_rows(40), contexts=POOLED)
    places = set()
    for built in build(recipe, tokenizer):
        names = [text.split(":")[0] for text in spans(built.context)]
        places.add(names.index(f"Fact {built.example.example_id[1:]}"))
    assert len(places) > 3


def test_building_twice_gives_the_same_and_another_seed_another(tmp_path, tokenizer):
    recipe = small_recipe(tmp_path, pooled_rows(12), contexts=POOLED)
    assert build(recipe, tokenizer) == build(recipe, tokenizer)
    assert build(recipe, tokenizer) != build(recipe.model_copy(update={"seed": 1}), tokenizer)


def test_an_example_does_not_depend_on_its_neighbours(tmp_path, tokenizer, monkeypatch):
    recipe = small_recipe(tmp_path, pooled_rows(12), contexts=POOLED)
    together = build(recipe, tokenizer)
    monkeypatch.setattr(building, "_BATCH_QUESTIONS", 1)
    assert build(recipe, tokenizer) == together
    limited = recipe.questions.model_copy(update={"limit": 3})
    assert build(recipe, tokenizer, questions=limited) == together[:3]


def test_own_distractors_come_before_the_pools(tmp_path, tokenizer):
    rows = pooled_rows(20)
    repeated = rows[0]["documents"][0]["text"]
    rows[0]["distractors"] = [{"text": "Own 0 " + "x" * 40}, {"text": "Own 1 " + "x" * 40}, {"text": repeated}]
    built = build(small_recipe(tmp_path, rows, contexts={**POOLED, "min_tokens": 384}), tokenizer)[0]
    texts = spans(built.context)
    assert sum(text.startswith("Own") for text in texts) == 2
    assert sum(text.startswith("Fact 0:") for text in texts) == 1


def test_a_pool_of_its_own_is_used_and_its_damage_is_counted(tmp_path, tokenizer):
    pool = [{"title": "P", "text": f"Pool {number} {'y' * 50}"} for number in range(30)]
    path = write_rows(tmp_path / "pool.jsonl", [*pool, pool[0], {"text": " "}, {"text": "\ud800"}])
    recipe = small_recipe(tmp_path, pooled_rows(3), contexts={**POOLED, "pool": str(path)})
    gathered = gather_pool(recipe, recipe.questions)
    assert len(gathered.documents) == 30
    assert gathered.warnings == ("1 documents of the pool hold lone surrogates and are left out",)
    first_words = set()
    for built in build(recipe, tokenizer):
        first_words.update(text.split()[0] for text in spans(built.context))
    assert first_words == {"Fact", "Pool"}


def test_a_pool_too_small_gives_a_short_context_that_says_so(tmp_path, tokenizer):
    outcomes = build(small_recipe(tmp_path, pooled_rows(1), contexts=POOLED), tokenizer)
    assert [built.short for built in outcomes] == [True]
    assert len(outcomes[0].context.span_starts) == 1


def test_supporting_documents_longer_than_the_longest_context_are_a_drop(tmp_path, tokenizer):
    rows = [*pooled_rows(2), {"id": "long", "question": "Q?", "documents": [{"text": "z" * 1100}]}]
    outcomes = build(small_recipe(tmp_path, rows, contexts=POOLED), tokenizer)
    assert [getattr(outcome, "reason", "built") for outcome in outcomes] == ["built", "built", "context_too_long"]


def test_supporting_documents_longer_than_the_target_stand_alone(tmp_path, tokenizer):
    rows = [*pooled_rows(5), {"id": "big", "question": "Q?", "documents": [{"text": "z" * 900}]}]
    lengths = {**POOLED, "min_tokens": 128, "max_tokens": 1000}
    built = build(small_recipe(tmp_path, rows, contexts=lengths), tokenizer)[-1]
    assert target_tokens(Contexts(**lengths), 0, "big") < 900
    assert len(built.context.span_starts) == 1


def test_pooled_contexts_leave_room_in_the_window(tmp_path, tokenizer):
    rows = pooled_rows(20)
    recipe = small_recipe(tmp_path, rows, contexts={**POOLED, "min_tokens": 1024}, policy={"context_window": 800})
    outcomes = build(recipe, tokenizer)
    assert all(isinstance(outcome, BuiltQuestion) and outcome.prompt_tokens <= 800 - 64 for outcome in outcomes)
    recipe = small_recipe(tmp_path, rows, contexts=POOLED, policy={"context_window": 200})
    assert {drop.reason for drop in build(recipe, tokenizer)} == {"prompt_too_long"}


def has_words(text):
    """Whether it is a text of a document; a special token is one token here, which the count by hand does not know."""
    return text.strip() and "<|" not in text


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=120).filter(has_words)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    documents=st.lists(st.lists(TEXT, min_size=1, max_size=3), min_size=1, max_size=5),
    pool=st.lists(TEXT, max_size=12),
    steps=st.tuples(st.integers(1, 6), st.integers(0, 6)),
    seed=st.integers(0, 3),
)
def test_targets_spans_and_counts_hold_for_any_text(tmp_path, tokenizer, documents, pool, steps, seed):
    rows = []
    for number, texts in enumerate(documents):
        rows.append({"id": str(number), "question": "Q?", "documents": [{"text": text} for text in texts]})
    path = write_rows(tmp_path / "pool.jsonl", [{"title": "t", "text": text} for text in [*pool, "x"]])
    low, high = steps[0] * 64, (steps[0] + steps[1]) * 64
    lengths = {"build": "pooled", "pool": str(path), "min_tokens": low, "max_tokens": high, "step_tokens": 64}
    recipe = small_recipe(tmp_path, rows, contexts=lengths).model_copy(update={"seed": seed})
    outcomes = build(recipe, tokenizer)
    assert len(outcomes) == len(rows)
    for supporting, outcome in zip(documents, outcomes, strict=True):
        if isinstance(outcome, Drop):
            assert outcome.reason == "context_too_long"
            continue
        assert_exact(outcome)
        texts = spans(outcome.context)
        assert set(supporting) <= set(texts)
        assert len(texts) == len(set(texts))
        target = target_tokens(recipe.contexts, seed, outcome.example.example_id)
        assert outcome.context.tokens <= target or len(texts) == len(set(supporting))


def test_metadata_and_references_travel_with_the_example(tmp_path, tokenizer):
    row = {"question": "Q?", "context": "C", "answers": ["a"], "kind": "k", "metadata": {"m": "é"}}
    example = build(small_recipe(tmp_path, [row]), tokenizer)[0].example
    assert (example.references, example.kind, json.loads(example.metadata)) == (("a",), "k", {"m": "é"})


def test_an_empty_pool_is_no_fault(tmp_path, tokenizer):
    path = write_rows(tmp_path / "pool.jsonl", [{"text": " "}])
    recipe = small_recipe(tmp_path, pooled_rows(1), contexts={**POOLED, "pool": str(path)})
    assert isinstance(build(recipe, tokenizer)[0], BuiltQuestion)
