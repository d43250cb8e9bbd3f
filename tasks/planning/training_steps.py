"""How long training on a plan's dataset will be, at most: every planned question gives a pair, or it is shorter."""

from dataclasses import asdict, dataclass
from typing import Any

from infra.recipe import Recipe
from tasks.records.plan import Plan
from tasks.training.settings import epochs_of, planned_steps


@dataclass(frozen=True, slots=True)
class ExpectedTraining:
    """What a plan's training takes when each of its questions gives a pair."""

    questions: int  # of the train split
    short_rows: int  # of training.mix
    steps: int
    epochs: float  # passes over questions and short rows
    epochs_end: bool  # False where training.max_steps ends the run before training.epochs

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values under the fields' names."""
        return asdict(self)


def expected_training(plan: Plan, recipe: Recipe) -> ExpectedTraining | None:
    """None for a recipe without training. Raises RecipeError when its batch cannot be split over its devices."""
    settings = recipe.training
    if settings is None:
        return None
    examples = plan.planned_questions
    questions = round(examples * (1 - recipe.dataset.test_fraction))
    short_rows = round(settings.mix.ratio * questions) if settings.mix else 0
    rows = questions + short_rows
    steps = planned_steps(settings, rows)
    unlimited = planned_steps(settings.model_copy(update={"max_steps": None}), rows)
    return ExpectedTraining(questions, short_rows, steps, epochs_of(settings, rows, steps), steps == unlimited)
