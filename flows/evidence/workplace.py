"""What a row of the evidence measures with: one seed's questions, recipes, and the factory's own flows.

Everything goes through build, train and evaluate, in one store: what one row has paid for, built or trained costs the
next one nothing. The demo's recipes are taken as they are; what is changed is where the questions come from, how long
their contexts are, and that no judgement is saved by pruning, because every one of them is compared with the truth.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.evidence import LONGREWARD, SAMPLE_COUNTS, SEALONG, EvidenceSettings, Observation
from flows.evidence.questions import HELD_OUT, SHORT, TRAIN, write_questions
from flows.recipes import read_recipe
from infra.canonical import fingerprint
from infra.models.serving import local_folder
from infra.models.tokens import load_tokenizer, resolve_model
from infra.recipe import Recipe
from infra.store import open_store
from tasks.evaluation.compare import EvaluationRow as Outcome
from tasks.evaluation.heldout import heldout_cases
from tasks.records.dataset import ShardData
from tasks.training.base_identity import base_identity

SUITE = "microworld"
Endpoints = Mapping[str, tuple[str, ...]]  # by the recipe's section
Trained = Mapping[str, Any]  # what the train flow returned


@dataclass
class Workplace:
    """One seed's place of work. `endpoints` of the servers that run; none while nothing is asked."""

    seed: int
    settings: EvidenceSettings
    endpoints: Endpoints = field(default_factory=dict)
    _built: dict[str, dict[str, Any]] = field(default_factory=dict)

    def recipe(self, method: str, *changes: str, questions: int | None = None, measured_on: str = HELD_OUT) -> Recipe:
        """The demo's recipe of a method on this seed's questions, with further changes like "training.loss=sft"."""
        asked = {"source": str(self.folder / f"{TRAIN}.jsonl"), "limit": questions or self.settings.questions}
        measured = {"source": str(self.folder / f"{measured_on}.jsonl"), "limit": self.settings.questions}
        given = read_recipe(
            f"demo-{method}",
            (
                f"store={json.dumps(self.settings.out)}",
                f"seed={self.seed}",
                f"questions={json.dumps(asked)}",
                'contexts={"build": "given"}',
                f"evaluation.questions={json.dumps(measured)}",
                'evaluation.contexts={"build": "given"}',
                f"evaluation.suite={SUITE}",
                "evaluation.samples=0",
                f"dataset.name=evidence-{method}",
                "dataset.test_fraction=0",
                "scoring.prune=false",
                f"policy.context_window={context_window(method, self.settings)}",
                *((f"sampling.samples={SAMPLE_COUNTS[-1]}",) if method == SEALONG else ()),
                *self.settings.changes,
                *changes,
            ),
        )
        reached = {
            section: model.model_copy(update={"endpoints": urls})
            for section, urls in self.endpoints.items()
            if (model := getattr(given, section)) is not None
        }
        return given.model_copy(update=reached)

    @property
    def folder(self) -> Path:
        """Where this seed's questions lie."""
        return local_folder(self.settings.out) / "questions" / f"seed-{self.seed}"

    @property
    def lengths(self) -> tuple[int, int]:
        """Tokens of the contexts: as in the demo, and twice as many."""
        return lengths(self.settings)

    def write_questions(self) -> None:
        """Write this seed's questions; nothing changes where they lie already."""
        recipe = read_recipe(f"demo-{SEALONG}", self.settings.changes)
        counts = self.settings.amounts[-1], self.settings.questions
        write_questions(self.folder, self.seed, *counts, self.lengths, load_tokenizer(recipe.policy.tokenizer))

    def identity(self, methods: Sequence[str]) -> str:
        """What decides the figures of rows by these methods: recipes, questions, models; 16 hex digits."""
        recipes = {method: self.recipe(method) for method in methods}
        models = {
            f"{method} {section}": base_identity(model.serve.model_path)
            for method, recipe in recipes.items()
            for section in ("policy", "judge")
            if (model := getattr(recipe, section)) is not None and model.serve is not None
        }
        parts = {
            "recipes": {
                method: [
                    recipe.identity(),
                    recipe.training and recipe.training.model_dump(mode="json"),
                    recipe.evaluation and recipe.evaluation.model_dump(mode="json", exclude={"questions"}),
                ]
                for method, recipe in recipes.items()
            },
            "models": models,
            "questions": [(self.folder / f"{name}.jsonl").read_text("utf-8") for name in (TRAIN, HELD_OUT, SHORT)],
            "amounts": [self.settings.questions, *self.settings.amounts],
        }
        return fingerprint(parts)[:16]

    def built(self, recipe: Recipe) -> dict[str, Any]:
        """What the build flow returns; of the same recipe, once."""
        from flows.build import build
        from flows.shard import shard_recipe

        parameters = shard_recipe(recipe)
        key = fingerprint(parameters)
        if key not in self._built:
            self._built[key] = build(parameters)
        return self._built[key]

    def shards(self, recipe: Recipe) -> Iterator[ShardData]:
        """The answers, judgements and pairs of the recipe's dataset, shard by shard."""
        from tasks.publishing import load_shard_data
        from tasks.records.plan import load_plan
        from tasks.records.shard import read_shard_result

        store = open_store(recipe.store)
        plan = load_plan(store, self.built(recipe)["plan_id"])
        for each in plan.shards:
            result = read_shard_result(store, plan.plan_id, each.index)
            assert result is not None  # `build` publishes nothing before
            yield load_shard_data(plan, result, recipe, store)

    def trained(self, recipe: Recipe) -> Trained | None:
        """What the train flow returns for the recipe's dataset; None when it holds no pair to train on."""
        from flows.shard import shard_recipe
        from flows.train import train

        dataset = self.built(recipe)["dataset"]
        if not dataset["splits"].get("train"):
            return None
        trained: Trained = train(shard_recipe(recipe), dataset["manifest"])
        return trained

    def compared(self, recipe: Recipe, trained: Trained | None, label: str = "") -> list[Observation]:
        """Before, after and gain of each metric on the recipe's held-out questions, `label` before their names.

        Without a trained model there is nothing but before.
        """
        from flows.evaluate import evaluated

        cases = heldout_cases(recipe, open_store(recipe.store), None)
        before, after, _ = evaluated(cases, recipe, dict(trained) if trained else None)
        others: Sequence[Outcome | None] = after or [None] * len(before)
        return [
            Observation(one.example_id, one.kind, self.length(one.prompt_tokens), _values(one, other, label))
            for one, other in zip(before, others, strict=True)
        ]

    def length(self, prompt_tokens: int) -> int:
        """The length that a context was made for: prompts are somewhat longer, contexts somewhat shorter."""
        shorter, longer = self.lengths
        return shorter if prompt_tokens <= (shorter + longer) / 2 else longer

    def about(self, recipe: Recipe, trained: Trained | None) -> dict[str, Any]:
        """Questions, pairs and drops of the recipe's dataset, and how training went."""
        counts = self.built(recipe)["dataset"]["counts"]
        found = {name: counts[name] for name in ("questions", "pairs", "drops")}
        if trained is None:
            return found
        table = open_store(recipe.store).read_table(f"{trained['model']}/metrics.parquet")
        curve = [round(float(each), 4) for each in table.column("loss").to_pylist()]
        return {**found, "loss": trained["loss"], "steps": trained["steps"], "curve": curve}


def lengths(settings: EvidenceSettings) -> tuple[int, int]:
    """Tokens of the contexts: the demo's longest, and twice as many."""
    longest = read_recipe(f"demo-{SEALONG}", settings.changes).contexts.max_tokens
    return longest, 2 * longest


def context_window(method: str, settings: EvidenceSettings) -> int:
    """The recipe's window, or as much more as the longest contexts need where the model in the box has room."""
    recipe = read_recipe(f"demo-{method}", settings.changes)
    asked = recipe.policy.context_window
    needed = asked - recipe.contexts.max_tokens + lengths(settings)[1]
    config = Path(resolve_model(recipe.policy.serve.model_path if recipe.policy.serve else "")) / "config.json"
    room = json.loads(config.read_text(encoding="utf-8"))["max_position_embeddings"] if config.is_file() else asked
    return max(asked, min(needed, int(room)))


def _values(before: Outcome, after: Outcome | None, label: str) -> dict[str, tuple[float, float]]:
    values: dict[str, tuple[float, float]] = {}
    for metric, was in before.scores.items():
        name = f"{label} {NAMES[metric]}".strip()
        now = after.scores[metric] if after is not None else None
        values |= {f"{name} before": (was, 1.0)} if was is not None else {}
        values |= {f"{name} after": (now, 1.0)} if now is not None else {}
        values |= {f"{name} gain": (now - was, 1.0)} if was is not None and now is not None else {}
    return values


NAMES = {"sub_em": "SubEM", "item_recall": "recall", "fact_precision": "precision"}
__all__ = ["LONGREWARD", "SEALONG", "SHORT", "Workplace"]
