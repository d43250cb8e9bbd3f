"""`longmill compare` against the stub model server: what variants share is paid for once, and it goes on."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.bench.common import stub_recipe
from flows.comparing import building
from flows.comparing.building import compare_variants
from flows.comparing.variants import make_variants, parse_variation
from infra.errors import LongmillError, YieldError
from tests.support.stub_server import StubServer, running_stub

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect")]

QUESTIONS = 6
TRAINING = "{max_steps: 1}"


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with running_stub() as server:
        yield server


@pytest.fixture
def recipe_path(folder: Path, stub: StubServer) -> str:
    """A recipe file over questions with references that some of the stub's answers hold."""
    rows = []
    for number in range(QUESTIONS):
        words = " ".join(f"word{number}x{place}" for place in range(40))
        references = [f"word{number}x{place}" for place in range(0, 40, 4)]
        row = {"id": f"q{number}", "question": f"What is {number}?", "context": words, "answers": references}
        rows.append(json.dumps(row))
    (folder / "questions.jsonl").write_text("\n".join(rows) + "\n")
    recipe = stub_recipe(
        folder,
        stub.url,
        sampling={"greedy": True},
        execution={"shard_size": 4, "batch_calls": 8, "attempts": 1, "task_retries": 0},
    )
    settings = recipe.model_dump(mode="json")
    settings["policy"]["price"] = {"input_per_million": 1.0, "output_per_million": 2.0}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return str(path)


def compared(path: str, *vary: str, changes: Sequence[str] = (), trained: bool = False) -> dict[str, Any]:
    variations = [parse_variation(text) for text in vary]
    return compare_variants(make_variants(path, changes, variations, trained), variations, trained)


def test_a_larger_sample_count_pays_for_the_difference_alone_and_the_same_again_for_nothing(
    recipe_path: str, stub: StubServer
) -> None:
    first = compared(recipe_path, "sampling.samples=3,5,8")
    assert stub.stats()["requests"] == stub.stats()["distinct"] == QUESTIONS * (8 + 1)
    calls = [(row["calls"]["total"], row["calls"]["new"]) for row in first["rows"]]
    assert calls == [(6 * 4, 6 * 4), (6 * 6, 6 * 2), (6 * 9, 6 * 3)]
    assert first["run"] == {"made": 6 * 9, "reused": 6 * (4 + 6)}
    check_figures(first)
    again = compared(recipe_path, "sampling.samples=3,5,8")
    assert stub.stats()["requests"] == QUESTIONS * 9
    assert again["run"] == {"made": 0, "reused": 0}
    assert {**again, "run": None} == {**first, "run": None}


def check_figures(comparison: dict[str, Any]) -> None:
    """Quality by the references, tokens and cost of the rows; and the files."""
    small, *_, large = comparison["rows"]
    for row in comparison["rows"]:
        assert row["questions"] == QUESTIONS == row["pairs"] + sum(row["drops"].values())
        tokens = row["tokens"]
        assert row["cost"] == pytest.approx((tokens["prompt"] + 2 * tokens["completion"]) / 1e6, abs=1e-6)
    assert 4 * large["tokens"]["prompt"] == 9 * small["tokens"]["prompt"]  # 9 calls a question and 4
    assert small["subem"]["greedy"] == large["subem"]["greedy"]
    assert small["subem"]["oracle"]["value"] <= large["subem"]["oracle"]["value"]
    assert small["subem"]["random"] != large["subem"]["random"]
    assert small["gain"]["value"] == 0
    gain = large["subem"]["mbr"]["value"] - small["subem"]["mbr"]["value"]
    assert large["gain"]["value"] == pytest.approx(gain, abs=1e-6)
    folder = Path(comparison["folder"])
    assert json.loads((folder / "table.json").read_text())["rows"] == comparison["rows"]
    assert (folder / "table.md").read_text().startswith("| samples | questions | pairs | greedy |")
    assert (folder / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_scores_without_a_judge_share_all_samples(recipe_path: str, stub: StubServer) -> None:
    comparison = compared(
        recipe_path, "scoring.scorers.consensus.similarity=rouge_l,rouge_1", changes=["sampling.samples=3"]
    )
    assert [row["value_names"] for row in comparison["rows"]] == [["rouge_l"], ["rouge_1"]]
    assert [row["calls"]["new"] for row in comparison["rows"]] == [24, 0]
    assert stub.stats()["requests"] == 24
    assert len({row["dataset"] for row in comparison["rows"]}) == 2


def test_what_was_interrupted_goes_on_and_its_counts_are_those_of_an_undisturbed_run(
    recipe_path: str, stub: StubServer
) -> None:
    stub.options.script = ["ok"] * 31 + ["500"] * 1000
    with pytest.raises(LongmillError):
        compared(recipe_path, "sampling.samples=3,5")
    answered = stub.stats()["answered"]
    assert 24 <= answered < 36
    stub.options.script.clear()
    resumed = compared(recipe_path, "sampling.samples=3,5")
    assert resumed["run"]["made"] == 36 - answered
    assert stub.stats()["paid_twice"] == 0
    assert [row["calls"] for row in resumed["rows"]] == [{"total": 24, "new": 24}, {"total": 36, "new": 12}]


def test_with_train_every_variant_has_its_own_model(recipe_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training and evaluation are stand-ins here; those of other tests are real."""
    manifests = []

    def train_nothing(recipe: dict[str, Any], manifest: str) -> dict[str, Any]:
        manifests.append(manifest)
        return {"manifest": manifest, "samples": recipe["sampling"]["samples"]}

    def evaluate_nothing(recipe: dict[str, Any], manifest: str, trained: dict[str, Any]) -> dict[str, Any]:
        assert trained == {"manifest": manifest, "samples": recipe["sampling"]["samples"]}
        figure = {"value": trained["samples"] / 10, "low": 0.0, "high": 1.0, "n": 5}
        calls = {"evaluation": {"made": trained["samples"], "reused": 1, "failed": 0}}
        return {"before": {"sub_em": {**figure, "value": 0.25}}, "after": {"sub_em": figure}, "calls": calls}

    monkeypatch.setattr(building, "train", train_nothing)
    monkeypatch.setattr(building, "evaluate", evaluate_nothing)
    comparison = compared(recipe_path, "sampling.samples=3,5", changes=[f"training={TRAINING}"], trained=True)
    assert manifests == [f"{published}/manifest.json" for published in datasets_in_store(comparison)]
    assert comparison["run"] == {"made": 36 + 3 + 5, "reused": 24 + 2}
    table = (Path(comparison["folder"]) / "table.md").read_text()
    header, _, *rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[:4]]
    figures = [[row[header.index("before")], row[header.index("after")]] for row in rows]
    assert figures == [["25.0", "30.0"], ["25.0", "50.0"]]


def datasets_in_store(comparison: dict[str, Any]) -> list[str]:
    """The folders of the variants' datasets, as paths in the store."""
    store = Path(comparison["folder"]).parent.parent
    return [str(Path(row["dataset"]).relative_to(store)) for row in comparison["rows"]]


def test_a_variant_without_a_pair_is_named(recipe_path: str) -> None:
    with pytest.raises(YieldError, match=r"variant .*2: .*gave a pair.*leave this value out"):  # two samples always tie
        compared(recipe_path, "sampling.samples=2,3")


def test_a_fault_in_the_last_variant_costs_no_call(recipe_path: str, stub: StubServer) -> None:
    with pytest.raises(LongmillError, match="no_such_strategy"):
        compared(recipe_path, "sampling.strategy=plan_and_solve,no_such_strategy")
    assert stub.stats()["requests"] == 0
