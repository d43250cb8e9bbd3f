"""What a scorer is given: questions with their sampled answers, and the resources that it may use."""

from collections.abc import Callable
from dataclasses import dataclass, field

from infra.models.client import ModelClient
from infra.models.completions import FINISHED
from infra.models.embedding.embedder import Embedder
from infra.models.protocol import LedgerLike
from infra.recipe import Recipe
from tasks.judging.cache import SharedCache
from tasks.judging.trial import JudgeTrial
from tasks.records.example import Answer, Context, Example

SCORE_DIGITS = 6  # of a score and a reward: beyond them, machines differ


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """A question with its context and its sampled answers (sample_index >= 0).

    What a scorer gets has the answers with text in `answers` and the others in `without_text`.
    """

    example: Example
    context: Context
    answers: tuple[Answer, ...]
    without_text: tuple[Answer, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoringContext:
    """What scorers may use. The embedding model is loaded when `embedder` is called for the first time."""

    embedder: Callable[[], Embedder]
    policy: ModelClient | None
    recipe: Recipe
    judge: ModelClient | None = None
    cache: SharedCache = field(default_factory=SharedCache)
    reward_model: ModelClient | None = None  # of a reward model behind an endpoint
    trial: JudgeTrial = field(default_factory=JudgeTrial)  # of the judge
    strong: ModelClient | None = None
    verifier: ModelClient | None = None  # of a verifier of facts behind an endpoint
    ledger: LedgerLike | None = None  # where a local verifier's numbers are recorded

    def client(self, role: str) -> ModelClient | None:
        """The client of the model that a query goes to, by its role (`ModelRole`)."""
        clients = {"judge": self.judge, "policy": self.policy, "strong": self.strong}
        return {**clients, "reward_model": self.reward_model, "verifier": self.verifier}[role]


def no_text_reason(answer: Answer) -> str | None:
    """Why an answer has no text to score; None when it has one."""
    if answer.text.strip():
        return None
    return "empty_answer" if answer.finish_reason in FINISHED else answer.finish_reason
