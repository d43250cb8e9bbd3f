"""The longest prompt of a question: with the longest answer it has to fit the policy's window, and a training row.

A row of training is the prompt, the answer and what the chat template writes around it, as the gate before training
counts them (tasks/training/gate.py), so no answer of a question that passes here can be too long there, as long as the
base model has the policy's tokenizer.

Training limits the questions of a recipe that says something about it. A recipe that leaves the whole section out may
be built for a training elsewhere: its plan holds all questions, and a note says how many are too long for the defaults.
"""

from dataclasses import dataclass

from infra.models.forms.request_form import template_arguments
from infra.models.tokens import Tokenizer, closing_tokens, count_tokens, has_chat_template
from infra.recipe import Recipe, Training
from infra.store import Store
from tasks.records.example import Drop
from tasks.records.plan import Plan, load_shard
from tasks.training.answer_form import find_answer_form

PROMPT_TOO_LONG, TOO_LONG_TO_TRAIN = "prompt_too_long", "too_long_to_train"  # reasons of drops


@dataclass(frozen=True, slots=True)
class PromptLimits:
    """Tokens of the longest prompt that leaves room for the longest answer."""

    window: int  # in the policy's window
    training: int | None  # in training.max_length; None where the recipe says nothing about training, or has none

    @property
    def prompt(self) -> int:
        """The smaller of the two."""
        return self.window if self.training is None else min(self.window, self.training)

    def drop(self, example_id: str, tokens: int, *, rough: bool = False) -> Drop:
        """The drop of a question whose prompt has so many tokens: more than `prompt`."""
        length = f"the prompt has {'about ' if rough else ''}{tokens} tokens; beside the longest answer"
        if tokens <= self.window:
            detail = f"{length} a row of training.max_length holds {self.training}"
            return Drop(example_id, "context", TOO_LONG_TO_TRAIN, detail)
        return Drop(example_id, "context", PROMPT_TOO_LONG, f"{length} the model's window holds {self.window}")


def prompt_limits(recipe: Recipe, tokenizer: Tokenizer) -> PromptLimits:
    """The limits of a recipe; `tokenizer` is the policy's."""
    answer = recipe.sampling.max_tokens
    training = None
    if recipe.training is not None and not _unsaid(recipe.training):
        training = recipe.training.max_length - answer - _tokens_beside_answer(tokenizer, recipe)
    return PromptLimits(recipe.policy.context_window - answer, training)


def _tokens_beside_answer(tokenizer: Tokenizer, recipe: Recipe) -> int:
    """Tokens that a row has beside its prompt and its answer."""
    arguments = template_arguments(recipe.policy)
    if not has_chat_template(tokenizer):
        return 0
    form = find_answer_form(tokenizer, arguments)
    if not form.in_prompt:
        return closing_tokens(tokenizer, arguments)
    with_block, alone = count_tokens(tokenizer, [f"{form.in_prompt}A{form.closing}", "A"])
    return with_block - alone


def unsaid_training_note(plan: Plan, recipe: Recipe, store: Store) -> str:
    """A sentence on the planned questions that training by the defaults could not hold; empty when there is none."""
    if recipe.training is None or not _unsaid(recipe.training):
        return ""
    longest = recipe.training.max_length - recipe.sampling.max_tokens
    too_long = 0
    for shard in plan.shards:
        examples, contexts = load_shard(store, plan, shard.index)
        too_long += sum(contexts[example.context_id].tokens > longest for example in examples)
    if not too_long:
        return ""
    return (
        f"{too_long:,} questions are too long for the default training.max_length ({recipe.training.max_length}): "
        "state it in the recipe, and they fit or are left out before they are paid for; training: null trains nothing"
    )


def _unsaid(training: Training) -> bool:
    """Whether a recipe leaves the section out. A stored recipe has all keys, so this looks at their values."""
    return training == Training()
