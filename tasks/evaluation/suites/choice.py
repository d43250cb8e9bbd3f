"""Multiple choice: the share of answers that choose the right option, over several orders of the options.

The letter is looked for in what follows the last line that begins with "Answer:", or in the whole answer without one;
an answer that repeats one option's text chooses it too. An answer that chooses nothing is wrong. A question without
options has no accuracy: its value is missing, with the reason `not_multiple_choice`.

With `orders` of more than 1 a question is asked several times and its accuracy is the mean: first with its options as
they came, then shuffled by the recipe's seed, so that the right option stands at another place each time while there is
one left. A model that prefers a letter gains nothing by it. The context comes before the options, so that a server's
prefix cache serves.
"""

import random
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from infra.canonical import seed_number
from tasks.choices import LETTERS, with_options
from tasks.evaluation.suites import Suite, SuiteQuestion, SuiteSettings
from tasks.metrics import choice_accuracy, options_of
from tasks.records.example import Context, Example


class ChoiceSettings(SuiteSettings):
    """How often a question is asked."""

    orders: Annotated[int, Field(ge=1, le=26)] = Field(1, description="orders of the options that are asked about")


class SeveralOrders(ChoiceSettings):
    """How often a question is asked, where options are few."""

    orders: Annotated[int, Field(ge=1, le=26)] = Field(4, description="orders of the options that are asked about")


def accuracy(text: str, example: Example, context: Context) -> float | None:
    """1.0 for the right option."""
    return choice_accuracy(text, example)


def in_orders(question: SuiteQuestion, settings: ChoiceSettings, seed: int) -> SuiteQuestion:
    """The question with its options in several orders; as it is where it has no options or no right one."""
    example = question.example
    options = options_of(example)
    if settings.orders == 1 or not options or len(example.references) != 2:
        return question
    right = LETTERS.index(example.references[0])
    forms = [(example, question.context)]
    for number in range(1, settings.orders):
        others = [place for place in range(len(options)) if place != right]
        random.Random(seed_number(seed, "orders", example.example_id, number)).shuffle(others)
        place = (right + number) % len(options)
        order = [*others[:place], right, *others[place:]]
        text = with_options(example.question, [options[old] for old in order])
        references = (LETTERS[place], options[right])
        forms.append((replace(example, question=text, references=references), question.context))
    return replace(question, forms=tuple(forms))


SUITE = Suite(
    "choice",
    {"accuracy": accuracy},
    reasons={"accuracy": "not_multiple_choice"},
    about="any multiple choice with a context, by the recipe's sampling prompt",
    settings=ChoiceSettings,
    prepare=in_orders,
)
