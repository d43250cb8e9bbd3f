"""The card: YAML that loads, the figures of the dataset, and text that stays text."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from infra.store import open_store
from tasks.publishing import publish
from tasks.reporting.dataset_card import markdown_text, shortened
from tests.support.published import fake_plan, fake_recipe

HOSTILE = (
    "<script>alert(1)</script>",
    "| a | b |\n\n# A heading",
    "![pixel](http://evil.example/x.png) [link](javascript:alert(1))",
    "```\n---\nlicense: mit\n---",
)


def card_of(folder: Path, texts: tuple[str, ...] = (), **dataset: Any) -> str:
    store, recipe = open_store(str(folder)), fake_recipe(folder, **dataset)
    plan, results = fake_plan(store, recipe, texts=texts)
    return store.read(f"{publish(plan, results, recipe, store).path}/README.md").decode()


def metadata_of(card: str) -> dict[str, Any]:
    _, front, _ = card.split("---\n", 2)
    metadata: dict[str, Any] = yaml.safe_load(front)
    return metadata


@pytest.mark.medium
def test_the_licence_is_the_stated_one_and_the_rest_is_counted(tmp_path: Path) -> None:
    card = card_of(tmp_path, licence="cc-by-nc-4.0")
    metadata = metadata_of(card)
    assert metadata["license"] == "cc-by-nc-4.0"
    assert metadata["language"] == ["en"]
    assert metadata["size_categories"] == ["n<1K"]
    assert [config["config_name"] for config in metadata["configs"]] == ["pairs", "evidence", "drops"]
    assert [config.get("default") for config in metadata["configs"]] == [True, None, None]
    assert "| in a pair | 10 |" in card
    assert "| dropped: margin_too_small | 2 |" in card
    assert "| mbr | 100.0% | 10 |" in card
    assert "![Prompt lengths](plots/prompt-lengths.png)" in card


@pytest.mark.medium
def test_a_licence_or_description_with_yaml_in_it_stays_a_value(tmp_path: Path) -> None:
    card = card_of(tmp_path, licence="x\nlicense: mit", description="# Not a heading\n<b>bold</b> **x**")
    assert metadata_of(card)["license"] == "x\nlicense: mit"
    body = card.split("---\n", 2)[2]
    assert "<b>" not in body
    assert "&#35; Not a heading &lt;b&gt;bold&lt;/b&gt; &#42;&#42;x&#42;&#42;" in body


@pytest.mark.medium
def test_model_text_cannot_make_markup(tmp_path: Path) -> None:
    body = card_of(tmp_path, texts=(*HOSTILE, "# greedy")).split("---\n", 2)[2]
    row = next(line for line in body.splitlines() if line.startswith("| chosen (reward"))
    assert row.count("|") == 3
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in row
    assert "<" not in body.replace("<folder>", "")
    plots = [line for line in body.splitlines() if "](" in line]
    assert all("](plots/" in line for line in plots)
    assert body.count("```") == 2


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("best_vs_lower_half", "best_vs_lower_half"),
        ("_emphasis_", "&#95;emphasis&#95;"),
        ("a|b\n# c", "a&#124;b &#35; c"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("- item", "&#8203;- item"),
        ("12. item", "&#8203;12. item"),
        ("0.3", "0.3"),
        ("see https://evil.example or www.evil.example", "see http&#115;://evil.example or ww&#119;.evil.example"),
        ("日本語 العربية 🙂", "日本語 العربية 🙂"),
    ],
)
def test_text_is_escaped_only_where_it_is_needed(text: str, escaped: str) -> None:
    assert markdown_text(text) == escaped


@given(st.text())
def test_escaped_text_is_one_line_without_markup(text: str) -> None:
    escaped = markdown_text(text)
    assert "\n" not in escaped
    assert not set("<>|`*[]\\") & set(escaped)


def test_a_long_text_loses_its_middle() -> None:
    assert shortened("abc", 10) == "abc"
    assert shortened("a" * 50 + "b" * 50, 20) == "a" * 10 + " […] " + "b" * 10
