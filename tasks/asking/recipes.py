"""The two halves of a recipe with documents: asking questions about them, and building pairs over the questions.

Each half is a recipe of its own, so that a plan of either depends on nothing that belongs to the other, and is found
again when the other half changes.
"""

from infra.errors import RecipeError
from infra.recipe import Dataset, Questions, Recipe, Sampling
from infra.recipe.asking import NO_QUESTION
from tasks.asking.kind import kinds_of
from tasks.records.product import PAIRS, QUESTIONS, Product


def product_of(recipe: Recipe) -> Product:
    """What a build of this recipe makes."""
    return QUESTIONS if recipe.documents is not None else PAIRS


def asking_half(recipe: Recipe) -> Recipe:
    """The recipe that asks the questions. Raises RecipeError for one without documents."""
    if recipe.documents is None or recipe.asking is None:
        raise RecipeError(f"recipe {recipe.name}: there are no documents to ask about; add the section `documents`")
    kinds_of(recipe.asking.kinds)
    asking = recipe.asking
    dataset = Dataset(
        name=questions_name(recipe),
        licence=recipe.documents.licence or recipe.dataset.licence,
        test_fraction=asking.test_fraction,
        description=recipe.dataset.description,
    )
    changes = {
        "asking": asking.model_copy(update={"name": dataset.name}),
        "questions": Questions(source=NO_QUESTION),
        "contexts": type(recipe.contexts)(tools=recipe.contexts.tools),
        "sampling": Sampling(strategy=recipe.sampling.strategy),
        "scoring": type(recipe.scoring)(scorers=({"scorer": "consensus", "similarity": "rouge_l"},)),
        "embedding": type(recipe.embedding)(),
        "pairing": type(recipe.pairing)(),
        "dataset": dataset,
        "training": None,
        "evaluation": None,
    }
    return recipe.model_copy(update=changes)


def building_half(recipe: Recipe, source: str, *, with_test: bool) -> Recipe:
    """The recipe that builds pairs over the questions published at `source`.

    `with_test`: they have a test split, which the evaluation takes unless the recipe names other questions.
    """
    questions = recipe.questions
    if questions.source == NO_QUESTION:
        questions = questions.model_copy(update={"source": source})
    evaluation = recipe.evaluation
    if evaluation is not None and evaluation.questions is None and with_test:
        held_out = questions.model_copy(update={"split": "test", "limit": None})
        evaluation = evaluation.model_copy(update={"questions": held_out})
    changes = {"documents": None, "asking": None, "questions": questions, "evaluation": evaluation}
    return recipe.model_copy(update=changes)


def questions_name(recipe: Recipe) -> str:
    """The name of the dataset of a recipe's questions."""
    assert recipe.asking is not None
    return recipe.asking.name or f"{recipe.dataset.name}-questions"
