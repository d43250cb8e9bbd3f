"""The card of a dataset of questions: README.md, with the YAML that `datasets.load_dataset(FOLDER)` reads."""

from collections.abc import Mapping
from typing import Any

from infra.recipe import Recipe
from tasks.records.product import QUESTIONS
from tasks.reporting.dataset_card import card_metadata, render_card, shortened
from tasks.reporting.tables import NOTHING, Rows

_CONFIGS = (QUESTIONS.name, "drops")
_TAGS = ["long-context", "longmill", "question-answering", "synthetic"]


def question_card(recipe: Recipe, manifest: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """README.md of a dataset of questions. `manifest` has the tables among its files."""
    tables = [file for file in manifest["files"] if "config" in file]
    metadata = card_metadata(
        recipe.dataset, tables, list(figures["languages"]), manifest["counts"]["questions"], _CONFIGS, _TAGS
    )
    return render_card(
        "question_card.md.jinja",
        metadata,
        manifest,
        description=recipe.dataset.description,
        figures=figures,
        tables={"kinds": kind_rows(figures), "checks": check_rows(figures), "calls": call_rows(figures)},
        examples=_examples(figures),
        drops=sorted(manifest["counts"]["drops"].items(), key=lambda item: (-item[1], item[0])),
    )


def kind_rows(figures: Mapping[str, Any]) -> Rows:
    """Questions by kind and split, and how hard they are."""
    rows = []
    for kind, counts in figures["kinds"].items():
        difficulty = NOTHING if counts["difficulty"] is None else f"{counts['difficulty']:.2f}"
        rows.append([kind, f"{counts['train']:,}", f"{counts['test']:,}", difficulty])
    return ["kind", "train", "test", "mean difficulty"], rows


def check_rows(figures: Mapping[str, Any]) -> Rows:
    """The checks in their order, with the questions that reached each, and those that it dropped."""
    rows = []
    for counts in figures["checks"]:
        dropped = counts.get("dropped", 0)
        reached = dropped + counts.get("passed", 0)
        rows.append([counts["check"], f"{reached:,}", f"{dropped:,}", f"{100 * dropped / reached:.1f}"])
    return ["check", "questions", "dropped", "%"], rows


def call_rows(figures: Mapping[str, Any]) -> Rows:
    """Calls and tokens by kind of call, and of each published question."""
    rows = []
    total = {"calls": 0, "prompt_tokens": 0, "completion_tokens": 0}
    for kind, counts in figures["calls"].items():
        rows.append([kind, *(f"{counts.get(name, 0):,}" for name in total)])
        for name in total:
            total[name] += counts.get(name, 0)
    questions = figures["counts"]["questions"]
    if questions:
        rows.append(["for each question", *(f"{number / questions:,.1f}" for number in total.values())])
    return ["call", "calls", "prompt tokens", "output tokens"], rows


def _examples(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A question of each kind, with its answer and its proof."""
    examples = []
    for kind, of_kind in figures["examples"].items():
        for example in of_kind:
            answer = "; ".join(example["answers"]) or NOTHING
            evidence = [shortened(sentence) for sentence in example["evidence"]]
            examples.append({"kind": kind, "question": example["question"], "answer": answer, "evidence": evidence})
    return examples
