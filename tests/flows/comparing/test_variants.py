"""The variants of a recipe: how they are written, what is refused before any work, and what they are called."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.comparing.variants import Variant, ablation, make_variants, parse_variation
from flows.recipes import read_recipe
from infra.errors import RecipeError


def variants_of(recipe: str, *vary: str, changes: Sequence[str] = (), trained: bool = False) -> list[Variant]:
    return make_variants(recipe, changes, [parse_variation(text) for text in vary], trained)


def test_every_combination_is_a_variant_and_the_last_key_changes_first() -> None:
    variants = variants_of("demo-sealong", "sampling.samples=8,16", "scoring.scorers.consensus.over=answer,final")
    assert [variant.name for variant in variants] == ["8 · answer", "8 · final", "16 · answer", "16 · final"]
    last = variants[-1].recipe
    assert last.sampling.samples == 16
    assert last.scoring.scorers == ({"scorer": "consensus", "similarity": "embedding", "over": "final"},)
    assert variants[-1].values == (16, "final")


def test_values_are_yaml_so_a_list_of_scorers_is_one_value() -> None:
    text = "scoring.scorers=[{scorer: consensus}],[{scorer: consensus, similarity: bertscore}],[{scorer: quality}]"
    assert parse_variation(text).value_names == ["consensus", "consensus(bertscore)", "quality"]
    weighted = parse_variation(
        "scoring.scorers=[{scorer: consensus, weight: 10}, {scorer: quality}],[{scorer: quality}]"
    )
    assert weighted.value_names == ["10 × consensus + quality", "quality"]
    assert parse_variation("pairing.cut_off_as_chosen=true,false").value_names == ["true", "false"]


def test_numbers_can_be_drawn_as_a_line_and_names_cannot() -> None:
    assert parse_variation("sampling.temperature=0.5,1").numeric()
    assert not parse_variation("sampling.strategy=plan_and_solve,default").numeric()
    assert not parse_variation("pairing.cut_off_as_chosen=true,false").numeric()


def test_an_ablation_leaves_out_each_scorer_of_the_reward_in_turn() -> None:
    recipe = read_recipe("demo-longreward", ["scoring.scorers.logicality.weight=0"])
    variation = ablation(recipe)
    assert variation.value_names == [
        "all scorers",
        "without helpfulness",
        "without completeness",
        "without faithfulness",
    ]
    variants = make_variants("demo-longreward", ["scoring.scorers.logicality.weight=0"], [variation], False)
    scorers = [[entry["scorer"] for entry in variant.recipe.scoring.scorers] for variant in variants]
    assert scorers[0] == ["helpfulness", "logicality", "completeness", "faithfulness"]
    assert scorers[2] == ["helpfulness", "logicality", "faithfulness"]
    with pytest.raises(RecipeError, match=r"--ablate .*one alone: consensus; take a recipe with several"):
        ablation(read_recipe("demo-sealong"))


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ("sampling.samples", r"write it as key\.sub_key=VALUE,VALUE"),
        ("sampling.sample=8,16", r"--vary sampling\.sample: a recipe has no such key; there are: sampling\.samples"),
        ("sampling.colour=1,2", r"no such key; there are: .*sampling\."),
        ("scoring.scorers.consensus.similar=a,b", r"no such key; there are: scoring\.scorers\.consensus\.similarity"),
        ("scoring.scorers.nobody.weight=1,2", "no such key"),
        ("nothing=1,2", "no such key; there are: name, store, .*; `longmill keys` lists all"),
        ("sampling.samples=8,[", "not valid YAML"),
        ("sampling.samples=8,16,8", r"8 is there more than once"),
    ],
)
def test_a_variation_that_cannot_be_read_is_refused_by_its_key(vary: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_variation(vary)


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        (("sampling.samples=8,0",), r"sampling\.samples: Input should be greater than 0"),
        (("sampling.samples=8,many",), r"sampling\.samples: .*integer"),
        (
            ("scoring.scorers.consensus.similarity=embedding,jaccard",),
            r"similarity: Input should be 'embedding', 'rouge_1', 'rouge_2', 'rouge_l' or 'bertscore'",
        ),
        (("scoring.scorers=[{scorer: nobody}],[{scorer: consensus}]",), r"no scorer 'nobody'; there are: .*consensus"),
        (("scoring.scorers.quality.weight=1,2",), r"the recipe has no scorer 'quality'; it has: consensus"),
        (("scoring.scorers=[{scorer: quality}],[{scorer: consensus}]",), "quality asks a judge"),
        (("sampling.samples=8",), "nothing to compare"),
        ((), "nothing to compare"),
        (("sampling.samples=8,16", "sampling.samples=4,5"), "more than once; give all its values at once"),
        (("execution.concurrency=8,16",), "changes no dataset and no model"),
        (("training.beta=0.1,0.2",), "add --train"),
        (("sampling.temperature=1,1.0",), r"1 and 1\.0 would be the same dataset"),
    ],
)
def test_a_value_that_its_key_refuses_is_named_before_any_work(vary: tuple[str, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        variants_of("demo-sealong", *vary)


def test_keys_of_training_can_be_varied_where_models_are_trained() -> None:
    variants = variants_of("demo-sealong", "training.beta=0.1,0.2", trained=True)
    assert [variant.recipe.training.beta for variant in variants if variant.recipe.training] == [0.1, 0.2]


def test_a_wrong_key_ends_the_command_before_anything_is_written(folder: Path) -> None:
    from flows.cli.app import app

    ended = CliRunner().invoke(app, ["compare", "demo-sealong", "--vary", "sampling.sample=8,16"])
    assert isinstance(ended.exception, RecipeError)
    assert list(folder.iterdir()) == []
