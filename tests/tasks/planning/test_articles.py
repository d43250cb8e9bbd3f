"""Contexts as SeaLong makes them: whole articles in place of the row's paragraphs, hard distractors before the rest."""

from pathlib import Path
from typing import Any

import pytest

from infra.errors import InputError, RecipeError
from infra.models.tokens import load_tokenizer
from infra.recipe import Recipe
from infra.store import open_store
from tasks.contexts import BuiltQuestion
from tasks.planning.articles import Articles, title_key
from tasks.planning.distractors import gather_pool
from tasks.planning.make_plan import make_plan
from tasks.records.example import Document, Drop
from tests.support.planning import build_examples, small_recipe, write_rows

LENGTHS = {"build": "pooled", "min_tokens": 2048, "max_tokens": 2048, "step_tokens": 128}


def article(title: str, words: int = 30) -> dict[str, str]:
    return {"title": title, "text": f"Article on {title}. " + "more " * words}


def musique_row(name: str, supporting: list[str], others: list[str]) -> dict[str, Any]:
    """A row of MuSiQue, with one short paragraph on each title."""
    paragraphs = []
    for title in [*supporting, *others]:
        paragraphs.append({"title": title, "paragraph_text": f"Short {title}.", "is_supporting": title in supporting})
    return {
        "id": f"2hop__{name}",
        "question": "Who?",
        "answer": "A",
        "answer_aliases": [],
        "answerable": True,
        "paragraphs": paragraphs,
    }


def recipe_of(folder: Path, rows: list[dict[str, Any]], pool: list[dict[str, str]], **contexts: Any) -> Recipe:
    path = write_rows(folder / "pool.jsonl", pool)
    return small_recipe(
        folder, rows, questions={"format": "musique"}, contexts={**LENGTHS, "pool": str(path), **contexts}
    )


def build(recipe: Recipe) -> list[BuiltQuestion | Drop]:
    return list(build_examples(recipe, load_tokenizer(recipe.policy.tokenizer)))


def texts(built: BuiltQuestion | Drop) -> list[str]:
    assert isinstance(built, BuiltQuestion)
    context = built.context
    ranges = zip(context.span_starts, context.span_ends, strict=True)
    return [context.text[start:end] for start, end in ranges]


FILLER = [article(f"Filler {number}") for number in range(20)]


def test_articles_replace_the_paragraphs_and_own_distractors_come_first(tmp_path: Path) -> None:
    row = musique_row("a", ["Alpha", "Beta"], ["Gamma", "Delta"])
    own = [article(title, words=60) for title in ("Alpha", "Beta", "Gamma", "Delta")]
    (built,) = build(recipe_of(tmp_path, [row], [*FILLER, *own], articles="require"))
    contents = texts(built)
    assert {document["text"] for document in own} < set(contents)
    assert not any(text.startswith("Short") for text in contents)
    assert sum(text.startswith("Article on Filler") for text in contents) == 3  # what the target still holds
    assert len(set(contents)) == len(contents)


def test_own_distractors_fill_the_context_before_the_pools_documents(tmp_path: Path) -> None:
    """All of the row's documents that fit, though the pool has many more."""
    row = musique_row("a", ["Alpha"], ["Gamma", "Delta", "Epsilon", "Zeta"])
    own = [article(title, words=40) for title in ("Alpha", "Gamma", "Delta", "Epsilon", "Zeta")]
    pool = [article(f"Filler {number}") for number in range(200)]
    for size in (512, 768, 1024):
        recipe = recipe_of(tmp_path, [row], [*pool, *own], articles="require", min_tokens=size, max_tokens=size)
        own_articles = [text for text in texts(build(recipe)[0]) if "Filler" not in text]
        assert len(own_articles) == min(5, size // (len(own[0]["text"]) + 20))


def test_a_paragraph_without_an_article_stays_or_drops_its_question_and_is_counted(tmp_path: Path) -> None:
    rows = [musique_row("a", ["Alpha", "Beta"], ["Gamma", "Delta"]), musique_row("b", ["Alpha"], ["Delta"])]
    pool = [*FILLER, article("Alpha"), article("Gamma")]
    preferred = recipe_of(tmp_path, rows, pool, articles="prefer")
    first, second = map(texts, build(preferred))
    assert {"Short Beta.", "Short Delta."} == {text for text in first if text.startswith("Short")}
    assert {"Short Delta."} == {text for text in second if text.startswith("Short")}
    assert make_plan(preferred, open_store(preferred.store)).warnings[:2] == (
        "1 of 3 supporting documents have no article of their title in contexts.pool, and stay as short as they are",
        "2 of 3 distractors of the questions' own rows have no article of their title in contexts.pool, and stay too",
    )
    required = recipe_of(tmp_path, rows, pool, articles="require")
    drop, built = build(required)
    assert isinstance(drop, Drop)
    assert (drop.example_id, drop.stage, drop.reason) == ("2hop__a", "context", "no_article")
    assert "'Beta'" in drop.detail and "'Alpha'" not in drop.detail
    assert not any(text.startswith("Short") for text in texts(built))
    plan = make_plan(required, open_store(required.store))
    assert plan.drop_counts == {"no_article": 1}
    assert "their questions are dropped" in plan.warnings[0] and "are left out" in plan.warnings[1]


def test_a_plan_without_a_single_article_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, [musique_row("a", ["Alpha"], [])], FILLER, articles="require")
    with pytest.raises(InputError, match=r"1 no_article.*contexts\.articles to prefer or never"):
        make_plan(recipe, open_store(recipe.store))


def test_paragraphs_of_one_article_are_one_article(tmp_path: Path) -> None:
    """And another text with an article's title does not come in as a distractor."""
    row = musique_row("a", ["Alpha"], ["Gamma"])
    row["paragraphs"].append({"title": "alpha", "paragraph_text": "More on it.", "is_supporting": True})
    row["paragraphs"].append({"title": "ALPHA.", "paragraph_text": "Not it.", "is_supporting": False})
    pool = [*FILLER[:2], article("Alpha", words=50), article("alpha.", words=20), article("Gamma")]
    contents = texts(build(recipe_of(tmp_path, [row], pool, articles="require"))[0])
    assert len(contents) == 4  # two of the row, and all of the pool that is left
    # "alpha." has no article written so: the longest of the title
    assert [text for text in contents if "lpha" in text] == [article("Alpha", words=50)["text"]]


def test_the_article_written_as_the_paragraph_comes_before_the_longest() -> None:
    pool = [Document("US", "a long text on us"), Document("U.S.", "a state"), Document("u.s", "longer")]
    for documents in (pool, pool[::-1]):
        articles = Articles(["U.S.", "Us"], "prefer")
        assert list(articles.collect(documents)) == documents
        assert articles.find("U.S.") == pool[1]
        assert articles.find("Us") == pool[0]
        assert articles.find("Them") is None


@pytest.mark.parametrize(
    ("title", "same"),
    [
        ("Saint–Denis", "saint-denis"),
        ("J. R. R. Tolkien", "J R R  Tolkien"),
        ("Bad_Boy Records", "bad boy records"),
        ("Beyoncé", "Beyonce\u0301"),
        ("ＡＢＣ", "abc"),
    ],
)
def test_titles_are_compared_without_case_full_stops_and_kinds_of_dashes(title: str, same: str) -> None:
    assert title_key(title) == title_key(same) != ""
    assert title_key(title) != title_key(f"{title} 2")


def test_documents_without_a_title_have_no_article(tmp_path: Path) -> None:
    pool = [*FILLER, {"text": "untitled"}, {"title": ".", "text": "full stop"}]
    recipe = recipe_of(tmp_path, [musique_row("a", [""], [])], pool, articles="prefer")
    assert "Short ." in texts(build(recipe)[0])


def test_articles_are_there_whatever_of_the_pool_is_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.planning.distractors.POOL_BYTES", 500)
    row = musique_row("a", ["Alpha", "Beta"], ["Gamma"])
    pool = [*FILLER, *map(article, ("Alpha", "Beta", "Gamma")), {"title": "Alpha", "text": "\ud800"}]
    recipe = recipe_of(tmp_path, [row], pool, articles="require")
    gathered = gather_pool(recipe, recipe.questions)
    assert len(gathered.documents) < 4
    assert "1 documents of the pool hold lone surrogates and are left out" in gathered.warnings
    assert {article(title)["text"] for title in ("Alpha", "Beta", "Gamma")} <= set(texts(build(recipe)[0]))


def test_the_pools_order_does_not_matter(tmp_path: Path) -> None:
    row = musique_row("a", ["Alpha"], ["Gamma"])
    pool = [*FILLER, article("Alpha"), article("alpha", words=31), article("Gamma")]
    assert build(recipe_of(tmp_path, [row], pool, articles="require")) == build(
        recipe_of(tmp_path, [row], pool[::-1], articles="require")
    )


@pytest.mark.parametrize("contexts", [{"build": "pooled"}, {"build": "given", "pool": "pool.jsonl"}])
def test_articles_need_a_pool(tmp_path: Path, contexts: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"contexts: articles: require takes articles from `pool`.*or set articles"):
        small_recipe(tmp_path, [], contexts={"articles": "require", **contexts})


@pytest.mark.parametrize(
    ("form", "language", "text"),
    [
        ("untitled", "en", "Passage 1:\nOne.\n\nPassage 2:\nTwo."),
        ("untitled", "zh", "段落 1：\nOne.\n\n段落 2：\nTwo."),
        ("titled", "en", "A title\nOne.\n\nTwo."),
        ("titled", "zh", "A title\nOne.\n\nTwo."),
    ],
)
def test_passages_are_written_as_the_recipe_says(tmp_path: Path, form: str, language: str, text: str) -> None:
    row = {
        "question": "Q?",
        "language": language,
        "documents": [{"title": "A\ntitle", "text": "One."}, {"text": "Two."}],
    }
    for seed in range(20):  # until the order is that of the row
        recipe = small_recipe(tmp_path, [row], contexts={"passages": form}).model_copy(update={"seed": seed})
        (built,) = build(recipe)
        if texts(built) == ["One.", "Two."]:
            break
    assert isinstance(built, BuiltQuestion)
    assert built.context.text == text
    assert built.context.span_titles == ("A\ntitle", "")


def test_an_unknown_way_to_write_passages_names_those_there_are(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, [{"question": "Q?", "context": "C"}], contexts={"passages": "boxed"})
    with pytest.raises(RecipeError, match="passage-numbered"):
        make_plan(recipe, open_store(recipe.store))


@pytest.mark.parametrize("text", ["{number}", "{text} by {title}", "{number}. {text}", "{question}\n{text}"])
def test_a_passage_file_without_its_text_at_the_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    from tasks import prompts
    from tasks.planning.passages import heading_prompt

    (tmp_path / "en").mkdir()
    (tmp_path / "en/passage-own.txt").write_text(text)
    monkeypatch.setattr(prompts, "_FOLDER", tmp_path)
    prompts.load_prompt.cache_clear()
    with pytest.raises(RecipeError, match=r"'passage-own' \(en\) must end with a line \{text\}"):
        heading_prompt("own", "en")
    prompts.load_prompt.cache_clear()


def test_other_ways_of_context_are_other_plans_and_the_defaults_are_none(tmp_path: Path) -> None:
    plain = recipe_of(tmp_path, [], FILLER)
    assert not {"articles", "passages"} & plain.identity()["contexts"].keys()
    others = [recipe_of(tmp_path, [], FILLER, articles="prefer"), recipe_of(tmp_path, [], FILLER, passages="titled")]
    assert len({str(recipe.identity()) for recipe in [plain, *others]}) == 3
