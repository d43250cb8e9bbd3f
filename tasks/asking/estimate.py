"""What a plan of asking takes, before it is paid: calls by kind and their tokens.

How many questions reach a check is not known before: SHARES are what is assumed, so all but the calls that write
are expectations. Prompts of writing are counted exactly by the plan; those of checks are the prompt file at four
characters a token and what is put in.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from infra.recipe import Recipe
from infra.store import Store
from tasks.asking.answering import ANSWER, CLOSED_BOOK, FROM_PROOF, SAME, SELF_CONTAINED, TRY, WITHOUT_SENTENCE
from tasks.asking.kind import kinds_of
from tasks.asking.writing import WRITE
from tasks.prompts import load_prompt, prompt_names
from tasks.records.plan import Plan, load_examples

# Of the questions that a plan intends, the share that is expected to reach the check.
SHARES: Mapping[str, float] = {
    WRITE: 1.0,
    SELF_CONTAINED: 0.8,
    CLOSED_BOOK: 0.75,
    FROM_PROOF: 0.65,
    WITHOUT_SENTENCE: 0.6,
    ANSWER: 0.55,
    TRY: 0.5,
}
_SAME_PER_ANSWER = 0.25  # of the answers are compared by a call
_SENTENCES = 2  # of a proof that needs each
_CHARACTERS = 4  # a token
_QUESTION, _PROOF, _LABEL, _ANSWER = 30, 80, 8, 60  # tokens


@dataclass(frozen=True, slots=True)
class AskingCalls:
    """Expected calls of one kind for one question, and the tokens of one. `passages`: its prompt holds the passages."""

    kind: str
    count: float
    prompt: float
    reply: float
    most: int  # tokens of the longest reply
    passages: bool = False


def asking_calls(recipe: Recipe) -> list[AskingCalls]:
    """The calls that one row of a plan is expected to make."""
    asking = recipe.asking
    assert asking is not None
    checks = asking.checks
    kinds = kinds_of(asking.kinds)
    answered = sum(share for kind, share in kinds if kind.answered)
    needing = sum(share for kind, share in kinds if kind.needs_each)
    counts = {
        WRITE: 1.0,
        SELF_CONTAINED: float(checks.self_contained),
        CLOSED_BOOK: checks.closed_book * answered,
        FROM_PROOF: checks.from_proof * answered,
        WITHOUT_SENTENCE: _SENTENCES * needing,
        ANSWER: float(checks.answers),
        TRY: float(asking.tries),
    }
    calls = []
    compared = 0.0
    for kind, count in counts.items():
        expected = SHARES[kind] * count
        if kind in (CLOSED_BOOK, FROM_PROOF, WITHOUT_SENTENCE, ANSWER, TRY):
            compared += expected
        if expected:
            calls.append(_sized(kind, expected, recipe))
    if checks.same_answer == "judge":
        calls.append(_sized(SAME, _SAME_PER_ANSWER * compared, recipe))
    return calls


def calls_per_question(recipe: Recipe) -> int:
    """Calls that one row of a plan is expected to make, 1 at least."""
    return max(1, math.ceil(sum(calls.count for calls in asking_calls(recipe))))


def _sized(kind: str, count: float, recipe: Recipe) -> AskingCalls:
    asking = recipe.asking
    assert asking is not None
    prompts = recipe.judge.prompts if recipe.judge else "full"
    if kind == WRITE:
        return AskingCalls(kind, count, 0.0, asking.max_tokens / 4, asking.max_tokens, passages=True)
    files = {
        SELF_CONTAINED: f"ask-{prompts}-self-contained",
        CLOSED_BOOK: "ask-closed-book",
        SAME: f"judge-{prompts}-self-evaluation-reference",
        TRY: f"sample-{recipe.sampling.strategy}",
    }
    prompt = _QUESTION + _file_tokens(files.get(kind, f"ask-{prompts}-answer"))
    if kind in (SELF_CONTAINED, SAME):
        return AskingCalls(kind, count, prompt + (2 * _ANSWER if kind == SAME else 0), _LABEL, 256)
    if kind in (FROM_PROOF, WITHOUT_SENTENCE):
        prompt += _PROOF
    return AskingCalls(kind, count, prompt, _ANSWER, asking.answer_tokens, passages=kind in (ANSWER, TRY))


def _file_tokens(name: str) -> float:
    return len(load_prompt(name, "en").text) / _CHARACTERS if name in prompt_names("en") else 0.0


def write_file_tokens(recipe: Recipe) -> float:
    """Tokens of the prompt file that writes a question, the mean over the recipe's kinds."""
    asking = recipe.asking
    assert asking is not None
    if recipe.judge and recipe.judge.prompts == "terse":
        return _file_tokens("ask-terse-write")
    return sum(share * _file_tokens(f"ask-full-{kind.prompt}") for kind, share in kinds_of(asking.kinds))


def shard_calls(plan: Plan, index: int, recipe: Recipe, store: Store) -> list[AskingCalls]:
    """The expected calls of a whole shard, with the tokens of its passages. Raises StoreError."""
    shard = plan.shards[index]
    questions = len(load_examples(store, plan, index))
    write_tokens = shard.prompt_tokens / max(1, questions)
    passages = max(0.0, write_tokens - write_file_tokens(recipe))
    calls = []
    for of_kind in asking_calls(recipe):
        prompt = write_tokens if of_kind.kind == WRITE else of_kind.prompt + (passages if of_kind.passages else 0.0)
        calls.append(replace(of_kind, count=of_kind.count * questions, prompt=prompt))
    return calls
