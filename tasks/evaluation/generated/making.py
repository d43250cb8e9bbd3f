"""The questions of a generated suite, by its settings, for a model: in the order in which they are best sent.

Questions about one haystack come one after another, long prompts before short ones and deep needles before others, so
that what a server has read for one serves the next.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from infra.errors import RecipeError
from infra.models.forms.request_form import template_arguments
from infra.models.special_tokens import own_special_tokens
from infra.models.tokens import Conversation, Tokenizer
from infra.recipe import Positive, Recipe
from infra.recipe.models import Fraction
from tasks.evaluation.compare import EvaluationRow
from tasks.evaluation.generated.counting import TextCounter
from tasks.evaluation.generated.effective_length import THRESHOLD, effective_length
from tasks.evaluation.generated.haystack import LIBRARY, haystack_source
from tasks.evaluation.generated.question import Case, Workshop
from tasks.evaluation.suites import Metric, Suite, SuiteQuestion, SuiteSettings
from tasks.metrics import gold_value
from tasks.prompts import load_prompt
from tasks.records.example import Context, Example
from tasks.sample_prompt import prompt_from

SHORTEST, LONGEST = 1_000, 1_048_576  # tokens of a prompt
_DEFAULT_SHORTEST, _DEFAULT_LONGEST = 4_096, 131_072
PROMPT = "sample-direct_answer"

Length = Annotated[int, Field(ge=SHORTEST, le=LONGEST)]
Task = Callable[[Case, Sequence[float], Workshop], Iterator[SuiteQuestion]]


class LengthSettings(SuiteSettings):
    """Settings of every generated suite."""

    language: Literal["en", "zh"] = Field("en", description="language of the texts and questions")
    lengths: tuple[Length, ...] | None = Field(
        None,
        description="tokens of the whole prompts, from 1000 to 1048576; without them 4096, 8192 and so on, up to the "
        "policy's context_window or 131072",
    )
    depths: tuple[Fraction, ...] = Field(
        (0.0, 0.25, 0.5, 0.75, 1.0), min_length=1, description="where in the text the answer stands, from 0 to 1"
    )
    texts: Positive = Field(5, description="texts of every length; each is asked about at every depth")
    threshold: Fraction = Field(
        THRESHOLD, description="score that a length must reach to be effective; RULER's, which is Llama-2-7B's at 4096"
    )


class HaystackSettings(LengthSettings):
    """Settings of suites that hide something in a text."""

    haystack: str = Field(
        LIBRARY,
        description="text around what is hidden: library (the articles that ship with Longmill), noise (a few "
        "sentences again and again), or your own documents, by path or URL as in `documents.source`",
    )


def generated(
    settings: LengthSettings,
    names: Sequence[str],
    tasks: Mapping[str, Task],
    answer_tokens: Mapping[str, int],
    recipe: Recipe,
    tokenizer: Tokenizer,
) -> Iterator[SuiteQuestion]:
    """The questions of the tasks of these names at all lengths.

    Raises RecipeError for a length that the model cannot read.
    """
    workshop = _workshop(settings, recipe, tokenizer)
    lengths = sorted(_lengths(settings, recipe.policy.context_window), reverse=True)
    depths = sorted(set(settings.depths), reverse=True)
    for sample in range(settings.texts):
        for name in names:
            longest_answer = settings.max_tokens or answer_tokens.get(name) or answer_tokens[""]
            for length in lengths:
                target = min(length, recipe.policy.context_window - longest_answer)
                yield from tasks[name](Case(name, length, target, sample), depths, workshop)


def recall(text: str, example: Example, context: Context) -> float | None:
    """The share of the right items that an answer holds, as RULER counts; of a single item, whether it does."""
    return gold_value(text, example)


RECALL = ("recall", recall)  # a metric and its name


def generated_suite(
    name: str,
    metric: tuple[str, Metric],
    *,
    about: str,
    settings: type[LengthSettings],
    tasks: Mapping[str, Task],
    names: Callable[[Any], Sequence[str]],
    answer_tokens: Mapping[str, int],
    average: Literal["questions", "tasks"],
) -> Suite:
    """A suite of generated questions. `names(settings)` are the tasks that are asked, of `tasks`.

    Its summary is the longest prompt at which the model still finds what is asked, by the metric.
    """

    def generate(own: LengthSettings, recipe: Recipe, tokenizer: Tokenizer) -> Iterator[SuiteQuestion]:
        return generated(own, names(own), tasks, answer_tokens, recipe, tokenizer)

    def summary(rows: Sequence[EvaluationRow], baseline: object, own: LengthSettings) -> Mapping[str, float | None]:
        scores = []
        for row in rows:
            scores.append((int(row.groups["length"]), row.task, row.scores.get(metric[0])))
        return {"effective_length": effective_length(scores, own.threshold).length}

    return Suite(
        name,
        dict([metric]),
        about=about,
        settings=settings,
        generate=generate,
        prompt=lambda example, own: PROMPT,
        answer_tokens=answer_tokens,
        average=average,
        summary=summary,
    )


def _lengths(settings: LengthSettings, window: int) -> list[int]:
    if settings.lengths is None:
        length, lengths = _DEFAULT_SHORTEST, []
        while length <= min(window, _DEFAULT_LONGEST):
            lengths.append(length)
            length *= 2
        return lengths or [min(window, _DEFAULT_SHORTEST)]
    too_long = [length for length in settings.lengths if length > window]
    if too_long:
        raise RecipeError(
            f"evaluation.suites: lengths: {max(too_long)} tokens are more than policy.context_window, {window}; leave "
            "them out, or raise it where the model can read more"
        )
    return sorted(set(settings.lengths))


def _workshop(settings: LengthSettings, recipe: Recipe, tokenizer: Tokenizer) -> Workshop:
    model, language = recipe.policy, settings.language
    own, template = own_special_tokens(tokenizer), load_prompt(PROMPT, language)

    def render(question: str, context: str) -> Conversation:
        example = Example("", question, "", (), "", language, "{}")
        return prompt_from(template, example, context, model, own).messages

    haystack = settings.haystack if isinstance(settings, HaystackSettings) else LIBRARY
    source = haystack_source(haystack, language, tokenizer)
    counter = TextCounter(tokenizer, template_arguments(model))
    return Workshop(language, recipe.seed, source, counter, render)
