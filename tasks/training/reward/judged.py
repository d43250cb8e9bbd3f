"""Judged answers of published datasets: every answer with its scores, and the prompt of its question.

The answers and their scores are a dataset's `evidence`. The prompt, with the whole context, comes from the plan in the
store; where the plan is not there any more, from the dataset's pairs, which questions without a pair do not have. A
head is a scorer of the reward. It learns its scores times its weight over the mean weight, so that the mean of all
heads is the reward, whatever the weights. Leaves out: the greedy and the stronger model's answers, which have no score.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from infra.errors import InputError, LongmillError
from infra.recipe import Recipe, RewardTraining, parse_recipe
from infra.store import Store
from tasks.judging.reward_input import Messages, question_messages
from tasks.questions.chat import flat_messages
from tasks.records.dataset import Split, SplitName
from tasks.records.plan import load_examples, load_plan, load_shard, recipe_path
from tasks.records.reader import SPLITS, PublishedDataset, open_dataset
from tasks.reporting.judged_questions import JudgedAnswer, JudgedQuestion, questions_of_rows

REWARD = "reward"  # the one head of a pairwise model
_COLUMNS = (
    *("example_id", "context_id", "question", "references", "kind", "language"),
    *("sample_index", "text", "finish_reason", "reward", "judgements"),
)


@dataclass(frozen=True, slots=True)
class RewardAnswer:
    """An answer with its score for each head; null where the scorer gave none."""

    sample_index: int
    text: str
    scores: tuple[float | None, ...]
    reward: float | None


@dataclass(frozen=True, slots=True)
class RewardQuestion:
    """A question's prompt and its judged answers."""

    example_id: str
    context_id: str
    split: SplitName
    prompt: Messages
    answers: tuple[RewardAnswer, ...]


@dataclass(frozen=True)
class JudgedData:
    """The judged answers of some datasets of one store, all with the same scorers and weights."""

    datasets: tuple[PublishedDataset, ...]
    heads: tuple[str, ...]
    shares: tuple[float, ...]  # of each head: its weight over the mean weight
    sides: "Sides"

    @property
    def name(self) -> str:
        """The name of the first dataset."""
        return str(self.datasets[0].manifest["name"])

    @property
    def licences(self) -> list[str]:
        """The licences that the datasets state, each once."""
        stated = [str(dataset.manifest["licence"]) for dataset in self.datasets if dataset.manifest.get("licence")]
        return sorted(set(stated))

    def check(self) -> None:
        """Raises StoreError naming the first file that is missing or has other bytes than were published."""
        for dataset in self.datasets:
            for config in ("evidence", "pairs"):
                for split in SPLITS:
                    for table in dataset.tables(config, split):
                        table.check(dataset.store)

    def questions(self, drops: Counter[str]) -> Iterator[RewardQuestion]:
        """The questions with an answer to learn from; answers that are left out are counted by reason."""
        for dataset in self.datasets:
            prompts = StoredPrompts(dataset)
            for split in SPLITS:
                for table in dataset.tables("evidence", split):
                    rows = table.rows_of(dataset.store, _COLUMNS)
                    for judged in questions_of_rows(rows, {}):
                        question = self._question(judged, prompts, drops)
                        if question is not None:
                            yield question

    def _question(self, judged: JudgedQuestion, prompts: "StoredPrompts", drops: Counter[str]) -> RewardQuestion | None:
        answers = []
        for of_dataset in judged.answers:
            answer = self._answer(of_dataset)
            if not answer.text.strip():
                drops["no_text"] += 1
            elif all(score is None for score in answer.scores):
                drops["no_score"] += 1
            else:
                answers.append(answer)
        if not answers:
            return None
        example = judged.example
        prompt = prompts.of(example.example_id)
        if prompt is None:
            drops["no_context"] += len(answers)
            return None
        side = self.sides.of(example.context_id)
        return RewardQuestion(example.example_id, example.context_id, side, prompt, tuple(answers))

    def _answer(self, judged: JudgedAnswer) -> RewardAnswer:
        if self.heads == (REWARD,):
            return RewardAnswer(judged.index, judged.text, (judged.reward,), judged.reward)
        scores: list[float | None] = []
        for head, share in zip(self.heads, self.shares, strict=True):
            score = judged.scores.get(head)
            scores.append(None if score is None or score.value is None else score.value * share)
        return RewardAnswer(judged.index, judged.text, tuple(scores), judged.reward)


@dataclass(frozen=True)
class Sides:
    """Which contexts are for training: the datasets' own split, or one by the seed where they have no test context."""

    test: frozenset[str]
    drawn: Split | None

    def of(self, context_id: str) -> SplitName:
        """The side of a context. One that is in any dataset's test split is never trained on."""
        if self.drawn is not None:
            return self.drawn.side(context_id)
        return "test" if context_id in self.test else "train"

    @property
    def rule(self) -> str:
        """How the sides were made, in words."""
        if self.drawn is None:
            return "the datasets' own test split"
        return f"{self.drawn.test_fraction:.0%} of the contexts, by seed {self.drawn.seed}"


def read_judged(store: Store, manifests: Sequence[str], settings: RewardTraining, seed: int) -> JudgedData:
    """The judged answers of datasets, by the paths of their manifests in the store.

    Raises MissingError or StoreError for a dataset that is not there, InputError for datasets that do not fit together.
    """
    if not manifests:
        raise InputError("give at least one dataset with judged answers: its manifest.json, or its folder")
    datasets = tuple(open_dataset(store, path) for path in manifests)
    weights = [_weights(dataset) for dataset in datasets]
    for dataset, own in zip(datasets, weights, strict=True):
        if own != weights[0]:
            raise InputError(
                f"{dataset.place}: its reward is made of {_in_words(own)}, that of {datasets[0].place} of "
                f"{_in_words(weights[0])}; train on datasets with the same scorers and weights"
            )
    sides = _sides(datasets, settings.test_fraction, seed)
    if settings.objective == "pairwise":
        return JudgedData(datasets, (REWARD,), (1.0,), sides)
    mean = sum(weights[0].values()) / len(weights[0])
    return JudgedData(datasets, tuple(weights[0]), tuple(weight / mean for weight in weights[0].values()), sides)


def _weights(dataset: PublishedDataset) -> dict[str, float]:
    """The scorers of the reward, in the recipe's order. Raises InputError for a dataset without judged answers."""
    weights: dict[str, float] = {}
    if "scoring" in dataset.manifest.get("recipe", {}):
        weights = {name: weight for name, weight in dataset.weights.items() if weight > 0}
    if not weights or not any(dataset.tables("evidence", split) for split in SPLITS):
        raise InputError(f"{dataset.place}: a dataset without judged answers; give one that `longmill build` published")
    return weights


def _in_words(weights: dict[str, float]) -> str:
    return ", ".join(f"{name} ({weight:g})" for name, weight in weights.items())


def _sides(datasets: Sequence[PublishedDataset], test_fraction: float, seed: int) -> Sides:
    contexts: dict[SplitName, set[str]] = {"train": set(), "test": set()}
    for dataset in datasets:
        for split, of_split in contexts.items():
            for table in dataset.tables("evidence", split):
                of_split.update(str(row["context_id"]) for row in table.rows_of(dataset.store, ("context_id",)))
    if contexts["test"]:
        return Sides(frozenset(contexts["test"]), None)
    return Sides(frozenset(), Split(seed, test_fraction).with_training(contexts["train"]))


class StoredPrompts:
    """The messages before the answers of a dataset's questions. A shard's are in memory at a time."""

    def __init__(self, dataset: PublishedDataset) -> None:
        self._dataset = dataset
        self._recipe = _recipe_of_plan(dataset)
        self._places: dict[str, int] = {}  # of each example: its shard, or the table of pairs that it is in
        self._tables = [table for split in SPLITS for table in dataset.tables("pairs", split)]
        self._loaded: int | None = None
        self._prompts: dict[str, Messages] = {}
        if self._recipe is not None:
            self._plan = load_plan(dataset.store, dataset.manifest["plan_id"])
            for shard in self._plan.shards:
                for example in load_examples(dataset.store, self._plan, shard.index):
                    self._places[example.example_id] = shard.index
        else:
            for place, table in enumerate(self._tables):
                for row in table.rows_of(dataset.store, ("example_id",)):
                    self._places[str(row["example_id"])] = place

    def of(self, example_id: str) -> Messages | None:
        """The messages of a question; None where neither the plan nor a pair has them."""
        place = self._places.get(example_id)
        if place is None:
            return None
        if place != self._loaded:
            self._prompts = self._from_pairs(place) if self._recipe is None else self._from_plan(place, self._recipe)
            self._loaded = place
        return self._prompts.get(example_id)

    def _from_plan(self, shard: int, recipe: Recipe) -> dict[str, Messages]:
        examples, contexts = load_shard(self._dataset.store, self._plan, shard)
        prompts: dict[str, Messages] = {}
        for example in examples:
            prompts[example.example_id] = question_messages(example, contexts[example.context_id], recipe)
        return prompts

    def _from_pairs(self, place: int) -> dict[str, Messages]:
        rows = self._tables[place].rows_of(self._dataset.store, ("example_id", "language", "prompt"))
        return {str(row["example_id"]): flat_messages(row["prompt"], row["language"]) for row in rows}


def _recipe_of_plan(dataset: PublishedDataset) -> Recipe | None:
    """The recipe that the dataset's plan was built with; None where the store does not have it, or not readable."""
    plan_id = str(dataset.manifest.get("plan_id", ""))
    try:
        load_plan(dataset.store, plan_id)
        recipe = parse_recipe(json.loads(dataset.store.read(recipe_path(plan_id))))
    except (LongmillError, ValueError):
        return None
    strategy = dataset.manifest["recipe"]["sampling"]["strategy"]  # the stored recipe is that of the last build
    return recipe.model_copy(update={"sampling": recipe.sampling.model_copy(update={"strategy": strategy})})
