"""What a row of the evidence measures with: one seed's questions and recipes, and the factory's own flows.

Everything goes through build, train and evaluate, in one store: calls, datasets and models of one row cost the next
row nothing. The demo's recipes are used with three changes: where the questions come from, how long their contexts
are, and no pruning, because every judgement is compared with the references.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.evidence import SEALONG, EvidenceSettings, Observation
from flows.evidence.file_questions import write_file_questions
from flows.evidence.questions import HELD_OUT, SHORT, TRAIN, write_questions
from flows.recipes import read_recipe
from infra.canonical import fingerprint
from infra.models.tokens import load_tokenizer, resolve_model
from infra.recipe import Questions, Recipe
from infra.serving.servers import local_folder
from infra.store import open_store
from tasks.evaluation.compare import EvaluationRow
from tasks.evaluation.suite_questions import read_suite_questions
from tasks.records.dataset import ShardData
from tasks.training.base_identity import base_identity

SUITE, FILE_SUITE = "microworld", "qa"
METRIC_NAMES = {
    "sub_em": "SubEM",
    "item_recall": "recall",
    "fact_precision": "precision",
    "token_f1": "F1",
    "rouge_l": "ROUGE-L",
}
FILE_LENGTHS = (512, 1024)
Endpoints = Mapping[str, tuple[str, ...]]  # by the recipe's section
Trained = Mapping[str, Any]  # what the train flow returned


@dataclass
class Experiment:
    """One seed. `endpoints` of the servers that run; none where no model is called."""

    seed: int
    settings: EvidenceSettings
    endpoints: Endpoints = field(default_factory=dict)
    _built: dict[str, dict[str, Any]] = field(default_factory=dict)  # by the fingerprint of the recipe

    def recipe(
        self,
        method: str,
        *changes: str,
        questions: int | None = None,
        trained_on: str = TRAIN,
        measured_on: str = HELD_OUT,
    ) -> Recipe:
        """The recipe of a method on this seed's questions, with further changes like "training.loss=sft"."""
        training = {"source": str(self.folder / f"{trained_on}.jsonl"), "limit": questions or self.settings.questions}
        measuring = {"source": str(self.folder / f"{measured_on}.jsonl"), "limit": self.settings.questions}
        all_changes = [
            f"store={json.dumps(self.settings.out)}",
            f"seed={self.seed}",
            f"questions={json.dumps(training)}",
            'contexts={"build": "given"}',
            f"evaluation.questions={json.dumps(measuring)}",
            'evaluation.contexts={"build": "given"}',
            f"evaluation.suites=[{FILE_SUITE if self.settings.file else SUITE}]",
            "evaluation.samples=0",
            f"dataset.name=evidence-{method}",
            "dataset.test_fraction=0",
            "scoring.prune=false",
            "execution.max_drop_share=1",  # drops are among the figures
            "execution.max_shard_drop_share=1",
            f"policy.context_window={context_window(method, self.settings)}",
        ]
        if method == SEALONG:
            all_changes.append(f"sampling.samples={self.settings.sample_counts[-1]}")
        all_changes += [*self.settings.recipe_changes, *changes]
        recipe = read_recipe(self.settings.recipe_name(method), tuple(all_changes))
        reachable = {}
        for section, urls in self.endpoints.items():
            model = getattr(recipe, section)
            if model is not None:
                reachable[section] = model.model_copy(update={"endpoints": urls})
        return recipe.model_copy(update=reachable)

    @property
    def folder(self) -> Path:
        """Where this seed's questions lie."""
        return local_folder(self.settings.out) / "questions" / f"seed-{self.seed}"

    @property
    def lengths(self) -> tuple[int, int]:
        """Tokens of the contexts: as in the demo, and twice as many."""
        return context_lengths(self.settings)

    def write_questions(self) -> None:
        """Write this seed's questions; files that are already right stay as they are."""
        settings = self.settings
        recipe = read_recipe(settings.recipe_name(SEALONG), settings.recipe_changes)
        train, held_out = settings.amounts[-1], settings.questions
        tokenizer = load_tokenizer(recipe.policy.tokenizer)
        if settings.file:
            source = Questions(source=settings.file, format=settings.file_format)
            write_file_questions(self.folder, self.seed, source, settings.questions, self.lengths, tokenizer)
        else:
            write_questions(self.folder, self.seed, train, held_out, self.lengths, tokenizer)

    def identity(self, methods: Sequence[str]) -> str:
        """The fingerprint (16 hex digits) of what decides the figures of rows by these methods: recipes, questions,
        models."""
        recipes: dict[str, Any] = {}
        models = {}
        for method in methods:
            if method not in self.settings.methods:
                continue
            recipe = self.recipe(method)
            recipes[method] = [
                recipe.identity(),
                recipe.training and recipe.training.model_dump(mode="json"),
                recipe.evaluation and recipe.evaluation.model_dump(mode="json", exclude={"questions"}),
            ]
            for section in ("policy", "judge"):
                model = getattr(recipe, section)
                if model is not None and model.serve is not None:
                    models[f"{method} {section}"] = base_identity(model.serve.model_path)
        questions = []
        for name in (TRAIN, HELD_OUT, SHORT):
            questions.append((self.folder / f"{name}.jsonl").read_text("utf-8"))
        parts = {
            "recipes": recipes,
            "models": models,
            "questions": questions,
            "amounts": [self.settings.questions, *self.settings.amounts],
        }
        return fingerprint(parts)[:16]

    def build(self, recipe: Recipe) -> dict[str, Any]:
        """What the build flow returns; the flow runs once for a recipe."""
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
        plan = load_plan(store, self.build(recipe)["plan_id"])
        for shard in plan.shards:
            result = read_shard_result(store, plan.plan_id, shard.index)
            assert result is not None  # a dataset is published when all shards have results
            yield load_shard_data(plan, result, recipe, store)

    def train(self, recipe: Recipe) -> Trained | None:
        """What the train flow returns for the recipe's dataset; None when the dataset has no pair to train on."""
        from flows.shard import shard_recipe
        from flows.train import train

        dataset = self.build(recipe)["dataset"]
        if not dataset["splits"].get("train"):
            return None
        trained: Trained = train(shard_recipe(recipe), dataset["manifest"])
        return trained

    def compare(self, recipe: Recipe, trained: Trained | None, label: str = "") -> list[Observation]:
        """Before, after and gain of each metric on the recipe's held-out questions, `label` before their names.

        Without a trained model there is only before.
        """
        from flows.evaluate import evaluation_rows

        questions = read_suite_questions(recipe, open_store(recipe.store), None)
        before, after, _ = evaluation_rows(questions, recipe, dict(trained) if trained else None)
        after_rows: Sequence[EvaluationRow | None] = after or [None] * len(before)
        observations = []
        for before_row, after_row in zip(before, after_rows, strict=True):
            length = self.length_of(before_row.prompt_tokens)
            values = _metric_values(before_row, after_row, label)
            observations.append(Observation(before_row.example_id, before_row.kind, length, values))
        return observations

    def length_of(self, prompt_tokens: int) -> int:
        """The length that a prompt's context was made for. A prompt is a little longer than its context, and a context
        a little shorter than its length."""
        shorter, longer = self.lengths
        return shorter if prompt_tokens <= (shorter + longer) / 2 else longer

    def details(self, recipe: Recipe, trained: Trained | None) -> dict[str, Any]:
        """Questions, pairs and drops of the recipe's dataset, and the losses of training."""
        counts = self.build(recipe)["dataset"]["counts"]
        details = {name: counts[name] for name in ("questions", "pairs", "drops")}
        if trained is not None:
            metrics = open_store(recipe.store).read_table(f"{trained['model']}/metrics.parquet")
            curve = []
            for loss in metrics.column("loss").to_pylist():
                curve.append(round(float(loss), 4))
            details |= {"loss": trained["loss"], "steps": trained["steps"], "curve": curve}
        return details


def context_lengths(settings: EvidenceSettings) -> tuple[int, int]:
    """Tokens of the contexts: FILE_LENGTHS on real text, else the demo's longest and twice as many."""
    if settings.file:
        return FILE_LENGTHS
    longest = read_recipe(settings.recipe_name(SEALONG), settings.recipe_changes).contexts.max_tokens
    return longest, 2 * longest


def context_window(method: str, settings: EvidenceSettings) -> int:
    """The recipe's window, or a larger one for the longest contexts, as far as the model has positions for it."""
    recipe = read_recipe(settings.recipe_name(method), settings.recipe_changes)
    window = recipe.policy.context_window
    needed = window - recipe.contexts.max_tokens + context_lengths(settings)[1]
    config = Path(resolve_model(recipe.policy.serve.model_path if recipe.policy.serve else "")) / "config.json"
    most = window
    if config.is_file():
        most = int(json.loads(config.read_text(encoding="utf-8"))["max_position_embeddings"])
    return max(window, min(needed, most))


def _metric_values(before: EvaluationRow, after: EvaluationRow | None, label: str) -> dict[str, tuple[float, float]]:
    """Before, after and gain of every metric that has a score, as means (wholes of 1)."""
    values: dict[str, tuple[float, float]] = {}
    for metric, old in before.scores.items():
        name = f"{label} {METRIC_NAMES[metric]}".strip()
        new = after.scores[metric] if after is not None else None
        if old is not None:
            values[f"{name} before"] = (old, 1.0)
        if new is not None:
            values[f"{name} after"] = (new, 1.0)
        if old is not None and new is not None:
            values[f"{name} gain"] = (new - old, 1.0)
    return values
