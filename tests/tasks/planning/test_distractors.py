"""The pool: bounded, the same whatever the order, and drawn without repeats."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tasks.contexts import gather_pool_for
from tasks.planning import distractors
from tasks.planning.distractors import draw, gather_pool
from tests.support.planning import pooled_rows, small_recipe

POOLED = {"build": "pooled"}


def pool(folder, rows, **changes):
    recipe = small_recipe(folder, rows, contexts=POOLED).model_copy(update=changes)
    return gather_pool(recipe, recipe.questions)


@given(st.integers(0, 60), st.integers(0, 5))
def test_a_draw_is_a_shuffle(count, seed):
    assert sorted(draw(count, random.Random(seed))) == list(range(count))


def test_every_order_is_drawn_about_equally_often():
    orders = Counter(tuple(draw(3, random.Random(seed))) for seed in range(6000))
    assert len(orders) == 6
    assert all(850 < count < 1150 for count in orders.values())


def test_the_pool_does_not_depend_on_the_order_of_the_source(tmp_path):
    rows = pooled_rows(20)
    assert pool(tmp_path, rows) == pool(tmp_path, rows[::-1])
    titles = [document.title for document in pool(tmp_path, rows).documents]
    assert titles != [row["documents"][0]["title"] for row in rows]


def test_the_pool_holds_the_documents_of_all_rows_whatever_the_limit(tmp_path):
    rows = pooled_rows(6)
    rows[0]["distractors"] = [{"text": "a distractor"}]
    recipe = small_recipe(tmp_path, rows, contexts=POOLED, questions={"limit": 1})
    gathered = gather_pool(recipe, recipe.questions)
    assert len(gathered.documents) == 7


def test_a_pool_too_large_is_sampled_fairly_and_says_so(tmp_path, monkeypatch):
    rows = pooled_rows(60)
    size = len(rows[0]["documents"][0]["text"])
    monkeypatch.setattr(distractors, "POOL_BYTES", 20 * size)
    sample = pool(tmp_path, rows)
    assert 18 <= len(sample.documents) <= 21
    assert "a seeded sample of" in sample.warnings[0]
    assert pool(tmp_path, rows[::-1]).documents == sample.documents
    other = pool(tmp_path, rows, seed=1)
    assert set(other.documents) != set(sample.documents)


def test_nothing_is_gathered_for_given_contexts(tmp_path):
    recipe = small_recipe(tmp_path, pooled_rows(2))
    assert gather_pool_for(recipe, recipe.questions).documents == ()
