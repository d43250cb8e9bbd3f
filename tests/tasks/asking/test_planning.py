"""Planning of asking: which spans, which kinds, which documents together; the same plan whatever comes first."""

import itertools
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from infra.errors import InputError, RecipeError
from infra.recipe import Asking
from infra.store import open_store
from tasks.asking.corpus import Corpus
from tasks.asking.kind import kinds_of
from tasks.asking.planning import draw_kinds, make_asking_plan
from tasks.asking.recipes import asking_half, building_half, product_of
from tasks.asking.spans import Lengths, choose_spans, cut_parts, fine_pieces, pieces_of
from tasks.asking.writing import IntendedQuestion
from tasks.documents import SourceDocument
from tasks.planning.make_plan import make_plan
from tasks.records.plan import load_plan, load_shard
from tasks.records.product import PAIRS, QUESTIONS
from tests.support.asking import PIER, asking_recipe

LENGTHS = Lengths(100, 400, 2000)


def document(number: int, text: str) -> SourceDocument:
    return SourceDocument(f"{number:064d}", f"Title {number}", text, (), (), "en", f"{number}.txt", "{}")


def write_documents(folder: Path, count: int = 12) -> None:
    (folder / "documents").mkdir(exist_ok=True)
    for number in range(count):
        town = f"Arden{number // 2:02d}"
        text = "\n\n".join(
            f"The mill of {town} number {number} was built by Ada Brolin {place} in {1800 + 10 * number + place}. "
            f"It stood beside the river Lune{number} and ground {place * 7 + number} sacks of flour a day."
            for place in range(8)
        )
        (folder / "documents" / f"{number:02d}.txt").write_text(text)


def test_pieces_are_paragraphs_and_long_ones_are_cut_at_sentences() -> None:
    text = "One.\n\nTwo is here.\nThree.  " + "A sentence of some length. " * 20
    assert [text[start:end] for start, end in pieces_of(text)][:2] == ["One.", "Two is here."]
    fine = fine_pieces(text, 100)
    assert all(end - start <= 100 for start, end in fine)
    assert "".join("".join(text[start:end] for start, end in fine).split()) == "".join(text.split())


def test_parts_cover_a_long_text_and_a_short_one_is_whole() -> None:
    text = "\n\n".join(f"Paragraph {number} says something." for number in range(200))
    assert cut_parts(text, len(text)) == [(0, len(text))]
    parts = cut_parts(text, 500)
    assert all(end - start <= 500 for start, end in parts)
    assert "".join("".join(text[start:end].split()) for start, end in parts) == "".join(text.split())


@pytest.mark.parametrize("source", ["one", "long", "apart", "documents", "whole"])
def test_spans_lie_in_the_text_in_order_and_do_not_touch(source: str) -> None:
    text = "\n\n".join(f"Paragraph {number} says something about the river Lune." for number in range(40))
    for seed in range(50):
        spans = choose_spans(text, source, LENGTHS, random.Random(seed))  # type: ignore[arg-type]
        assert spans == sorted(spans)
        for start, end in spans:
            assert 0 <= start < end <= len(text)
            assert source == "whole" or end - start <= LENGTHS.longest
        for (_, end), (start, _) in itertools.pairwise(spans):
            assert end <= start
    assert len(spans) == (2 if source == "apart" else 1)


def test_a_text_that_is_too_short_gives_no_span() -> None:
    assert choose_spans("Short.", "one", LENGTHS, random.Random(0)) == []


def test_kinds_come_in_their_shares() -> None:
    asking = Asking(kinds={"single_fact": 3, "list": 1, "number": 0}, per_document=4)
    kinds = kinds_of(asking.kinds)
    assert [kind.name for kind, _ in kinds] == ["list", "single_fact"]
    for number in range(30):  # three of four, about every document
        drawn = Counter(kind.name for kind in draw_kinds(asking, kinds, 0, document(number, PIER)))
        assert drawn == {"single_fact": 3, "list": 1}


def test_an_unknown_kind_names_those_that_exist() -> None:
    with pytest.raises(RecipeError, match="there is no kind 'riddle'; there are: across_documents"):
        kinds_of({"riddle": 1})


def test_neighbours_share_rare_words_and_stay_on_their_side() -> None:
    corpus = Corpus(with_terms=True)
    texts = ["The Brolin mill in Arden", "The Brolin pier in Vadum", "A common text about nothing", "The Arden fair"]
    for number, text in enumerate(texts):
        corpus.add(document(number, f"{text}. This sentence stands everywhere."), "test" if number == 3 else "train")
    corpus.settle()
    assert corpus.neighbour(0) == 1
    assert corpus.neighbour(1) == 0
    assert corpus.neighbour(3) is None  # the only one with Arden is on the other side
    corpus.close()


def test_a_plan_has_every_row_once_and_is_the_same_again(tmp_path: Path) -> None:
    write_documents(tmp_path)
    (tmp_path / "documents" / "short.txt").write_text("Too short.")
    recipe = asking_half(asking_recipe(tmp_path, execution={"shard_size": 7}))
    store = open_store(recipe.store)
    plan = make_asking_plan(recipe, store)
    assert plan.product == QUESTIONS
    planned = [example for shard in plan.shards for example in load_shard(store, plan, shard.index)[0]]
    assert len({example.example_id for example in planned}) == len(planned)
    assert plan.questions == len(planned) + sum(plan.drop_counts.values()) == 12 * 4 + 1
    assert make_asking_plan(recipe, store).plan_id == plan.plan_id
    assert load_plan(store, plan.plan_id) == plan


def test_a_row_says_which_part_of_which_document_is_asked_about(tmp_path: Path) -> None:
    write_documents(tmp_path)
    asking = {"kinds": {"across_documents": 1}, "max_span_tokens": 300, "test_fraction": 0}
    recipe = asking_half(asking_recipe(tmp_path, asking=asking))
    store = open_store(recipe.store)
    plan = make_asking_plan(recipe, store)
    examples, contexts = load_shard(store, plan, 0)
    for example in examples:
        intended = IntendedQuestion.of(example, contexts[example.context_id])
        assert len(intended.places) == len(intended.spans) == 2
        first, second = (place.title for place in intended.places)
        assert int(first) // 2 == int(second) // 2  # of one town
        for (_, passage), place in zip(intended.passages, intended.places, strict=True):
            assert passage in place.text


def test_a_long_document_stands_in_its_rows_as_a_part(tmp_path: Path) -> None:
    write_documents(tmp_path)
    lengths = {"min_span_tokens": 40, "max_span_tokens": 60, "document_tokens": 100, "kinds": {"single_fact": 1}}
    recipe = asking_half(asking_recipe(tmp_path, asking=lengths))
    store = open_store(recipe.store)
    plan = make_asking_plan(recipe, store)
    assert "12 documents are longer than asking.document_tokens (100)" in plan.warnings[0]
    examples, contexts = load_shard(store, plan, 0)
    texts = {path.stem: path.read_text() for path in (tmp_path / "documents").iterdir()}
    starts = set()
    for example in examples:
        (place,) = IntendedQuestion.of(example, contexts[example.context_id]).places
        assert texts[place.title][place.start : place.start + len(place.text)] == place.text
        starts.add(place.start)
    assert len(starts) > 3


def test_a_prompt_that_fits_no_window_is_a_drop(tmp_path: Path) -> None:
    write_documents(tmp_path)
    recipe = asking_recipe(tmp_path, asking={"kinds": {"unanswerable": 1, "single_fact": 1}, "min_span_tokens": 40})
    narrow = recipe.policy.model_copy(update={"context_window": 900})
    plan = make_asking_plan(asking_half(recipe.model_copy(update={"policy": narrow})), open_store(recipe.store))
    assert plan.drop_counts["prompt_too_long"] > 0
    assert plan.questions == 48


def test_a_folder_without_a_document_says_so(tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "a.txt").write_text("Too short.")
    with pytest.raises(InputError, match="there is nothing to ask about; dropped: 1 too_short"):
        make_asking_plan(asking_half(asking_recipe(tmp_path)), open_store(str(tmp_path / "store")))


def test_a_plan_of_nothing_names_its_most_frequent_reason(tmp_path: Path) -> None:
    write_documents(tmp_path)
    (tmp_path / "documents" / "0.txt").write_text("")
    recipe = asking_half(asking_recipe(tmp_path, asking={"kinds": {"decision": 1}}))
    words = r"1 empty, \d+ no_span\. The first no_span: .* is for histories alone, and it is none; add another kind"
    with pytest.raises(InputError, match=words):
        make_asking_plan(recipe, open_store(recipe.store))


def test_what_belongs_to_building_does_not_change_the_plan_of_asking(tmp_path: Path) -> None:
    write_documents(tmp_path)
    recipe = asking_recipe(tmp_path)
    other = asking_recipe(
        tmp_path,
        scoring={"scorers": [{"scorer": "consensus", "over": "final"}]},
        contexts={"build": "pooled"},
        sampling={"strategy": "plain", "samples": 32},
        pairing={"rule": "best_vs_worst"},
        training={},
    )
    assert asking_half(recipe).identity() == asking_half(other).identity()
    assert asking_half(asking_half(recipe)) == asking_half(recipe)
    renamed = asking_recipe(tmp_path, asking={"per_document": 5})
    assert asking_half(recipe).identity() != asking_half(renamed).identity()


def test_the_building_half_is_an_ordinary_recipe_over_the_questions(tmp_path: Path) -> None:
    recipe = asking_recipe(tmp_path, evaluation={})
    half = building_half(recipe, "mill/datasets/asking-questions/v1", with_test=True)
    assert product_of(recipe) == QUESTIONS
    assert product_of(half) == PAIRS
    assert half.questions.source == "mill/datasets/asking-questions/v1"
    assert half.evaluation is not None
    assert half.evaluation.questions is not None
    assert half.evaluation.questions.split == "test"
    assert "asking" not in half.identity()


def test_asking_without_documents_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="asking: there are no `documents` to ask about"):
        asking_recipe(tmp_path, documents=None, asking={}, questions={"source": "x"}, scoring={"scorers": []})
    with pytest.raises(RecipeError, match="there are no documents to ask about"):
        asking_half(building_half(asking_recipe(tmp_path), "x", with_test=False))


def test_plans_of_pairs_do_not_say_what_they_make(tmp_path: Path) -> None:
    row = {"question": "Who?", "context": PIER, "answers": ["Ada"]}
    (tmp_path / "questions.jsonl").write_text(json.dumps(row))
    half = building_half(asking_recipe(tmp_path), str(tmp_path / "questions.jsonl"), with_test=False)
    plan = make_plan(half, open_store(half.store))
    assert plan.product == PAIRS
    assert "makes" not in plan.to_json()
