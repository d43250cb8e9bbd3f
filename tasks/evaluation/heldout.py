"""The questions that models are compared on: none of them was trained on.

Either the recipe's `evaluation.questions`, which become a plan of their own in the same store, or every
question of a published dataset whose context is on the test side, whether it gave a pair or not.
"""

import json
from dataclasses import dataclass

from infra.errors import EvaluationError
from infra.recipe import Recipe
from infra.running import progress
from infra.store import Store
from tasks.planning.make_plan import make_plan
from tasks.records.dataset import Split
from tasks.records.example import Context, Example
from tasks.records.plan import Plan, load_plan, load_shard
from tasks.yield_gate import check_asked

NO_WINDOW = 2**31 - 1

HeldOutQuestion = tuple[Example, Context]


@dataclass(frozen=True, slots=True)
class UnbuiltDataset:
    """A dataset that is not published yet: its plan, and the split that its rows will have."""

    plan: Plan
    split: Split


Dataset = str | UnbuiltDataset | None  # a manifest in the store, or what will be published


def heldout_questions(
    recipe: Recipe, store: Store, dataset: Dataset, needs_references: bool = True
) -> list[HeldOutQuestion]:
    """(example, context) of every held-out question that has a reference, or of all, in the plan's order.

    Says how many rows of `evaluation.questions` could not be read. Raises YieldError where these are too many, and
    EvaluationError when the recipe names no questions and there is no dataset to take them from.
    """
    evaluation = recipe.evaluation
    if evaluation is not None and evaluation.questions is not None:
        contexts = evaluation.contexts or recipe.contexts
        settings = {
            "max_tokens": evaluation.max_tokens,
            "context": "full",
            "options": {},
            "stop": None,
            "logprobs": False,
        }
        sampling = recipe.sampling.model_copy(update=settings)
        # No question is dropped for its length here: evaluation cuts the middle out of a context that is too long,
        # and nothing is trained on.
        policy = recipe.policy.model_copy(update={"context_window": NO_WINDOW})
        changes = {"questions": evaluation.questions, "contexts": contexts, "sampling": sampling, "policy": policy}
        plan = make_plan(recipe.model_copy(update={**changes, "training": None}), store, for_pairs=False)
        if left_out := check_asked(store, plan, evaluation.questions.source, recipe.execution):
            progress.say(left_out)
        split: Split | None = None
    elif isinstance(dataset, UnbuiltDataset):
        plan, split = dataset.plan, dataset.split
    elif dataset is not None:
        published = json.loads(store.read(dataset))
        plan = load_plan(store, published["plan_id"])
        split = Split.from_json(published["split"])
    else:
        raise EvaluationError("no questions to evaluate on: give evaluation.questions, or the manifest of a dataset")
    questions: list[HeldOutQuestion] = []
    without_reference = 0
    for shard in plan.shards:
        examples, contexts_by_id = load_shard(store, plan, shard.index)
        for example in examples:
            held_out = split is None or split.side(example.context_id) == "test"
            if held_out and (example.references or not needs_references):
                questions.append((example, contexts_by_id[example.context_id]))
            elif held_out:
                without_reference += 1
    if questions and without_reference:
        progress.say(
            f"{without_reference:,} of {without_reference + len(questions):,} evaluation questions have no reference "
            "answer to compare with, and are left out"
        )
    return questions


def is_heldout(plan: Plan) -> bool:
    """Whether a plan holds the recipe's `evaluation.questions`: one that is evaluated on and never built."""
    return bool(plan.recipe["policy"]["context_window"] == NO_WINDOW)
