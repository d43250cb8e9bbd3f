"""A cascade: cheap scorers first, the judge only where they leave open which answer is best and which is worst."""

from typing import Annotated

from pydantic import Field

from infra.recipe.models import Fraction, RecipeSection


class Cascade(RecipeSection):
    """Scorers in stages. The scorers with a weight are the judge, the last stage."""

    stages: tuple[str, ...] = Field(
        min_length=1,
        description="scorers of `scorers` with weight 0 that are asked before the judge, the cheapest first",
    )
    last: tuple[str, ...] = Field(
        (),
        description="scorers of the judge that are dear once for a question, as completeness is, whose notes read the "
        "whole context: they are asked only where its other scores leave the pair open. []: all are asked together",
    )
    agreement: Annotated[float, Field(ge=0.5, lt=1)] = Field(
        0.95,
        description="share of questions whose best and worst answer are to be those of the judge asked about all of "
        "them; with the calibration, that much is reached or passed in 19 of 20 cases",
    )
    calibration: str | None = Field(
        None,
        description="what the stages say of the judge: the file in the store that `longmill agreement DATASET "
        "--cascade RECIPE` has written; its name is the hash of its content, so that it is part of the plan. null: "
        "every answer is judged, to calibrate on",
    )
    control_share: Fraction = Field(
        0.05,
        description="share of questions, drawn by the recipe's seed, whose answers are all judged: they show the "
        "agreement that is reached",
    )
