"""The card of a dataset of questions: README.md, with the YAML that `datasets.load_dataset(FOLDER)` reads."""

from collections.abc import Mapping
from typing import Any

from infra.recipe import Recipe
from tasks.records.product import QUESTIONS
from tasks.reporting.asking_tables import call_rows, check_rows, kind_rows
from tasks.reporting.dataset_card import card_metadata, render_card, shortened
from tasks.reporting.tables import NOTHING

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


def _examples(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A question of each kind, with its answer and its proof."""
    examples = []
    for kind, of_kind in figures["examples"].items():
        for example in of_kind:
            answer = "; ".join(example["answers"]) or NOTHING
            evidence = [shortened(sentence) for sentence in example["evidence"]]
            examples.append({"kind": kind, "question": example["question"], "answer": answer, "evidence": evidence})
    return examples
