"""The evaluation in a model's card, read back with the hub's own functions."""

from pathlib import Path

from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from infra.store import open_store
from tasks.evaluation.compare import compare
from tasks.reporting.evaluated_card import with_evaluation, write_evaluation_to_card
from tests.support.evaluated import evaluated
from tests.support.recipes_for_scoring import recipe_with

RECIPE = recipe_with({"scorer": "consensus"}, evaluation={"resamples": 100})
CARD = """---
base_model: base
library_name: peft
tags:
- longmill
---
# tiny: ORPO

Text with --- in it.
"""
COMMAND = "longmill evaluate test.yaml --model models/small/abc"
SUITES = {"qa": compare(evaluated(0.5, seed=1), evaluated(0.8, seed=2), RECIPE)}


def test_the_hub_reads_the_figures_as_its_own() -> None:
    card = ModelCard(with_evaluation(CARD, "small-abc", SUITES, COMMAND))
    assert card.data.model_name == "small-abc"
    results = {result.metric_type: result for result in card.data.eval_results}
    after = SUITES["qa"]["after"]["sub_em"]
    assert results["sub_em"].metric_value == after["value"]
    assert results["sub_em"].metric_args == {"low": after["low"], "high": after["high"], "questions": 96}
    assert (results["sub_em"].task_type, results["sub_em"].dataset_name) == ("text-generation", "qa")
    assert results["macro_sub_em"].metric_value == SUITES["qa"]["macro"]["qa"]["sub_em"]["after"]["value"]
    name, again = model_index_to_eval_results(card.data.to_dict()["model-index"])
    assert (name, len(again)) == ("small-abc", len(results))
    assert card.data.base_model == "base" and card.data.tags == ["longmill"]


def test_the_text_has_the_table_and_the_command_and_a_second_evaluation_replaces_it() -> None:
    card = with_evaluation(CARD, "small-abc", SUITES, COMMAND)
    assert "Text with --- in it." in card and "| SubEM |" in card and f"```bash\n{COMMAND}\n```" in card
    assert "differences under" in card
    assert with_evaluation(card, "small-abc", SUITES, COMMAND) == card
    other = with_evaluation(card, "small-abc", SUITES, "longmill evaluate other.yaml")
    assert COMMAND not in other and other.count("## Evaluation") == 1


def test_a_model_without_a_card_gets_none(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    assert write_evaluation_to_card(store, "models/small/abc", "small-abc", SUITES, COMMAND) is None
    store.write("models/small/abc/README.md", CARD.encode())
    assert write_evaluation_to_card(store, "models/small/abc", "small-abc", SUITES, COMMAND)
    assert "## Evaluation" in store.read("models/small/abc/README.md").decode()
