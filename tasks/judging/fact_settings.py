"""The settings of faithfulness: how facts are listed and checked."""

from typing import Annotated, Literal

from pydantic import Field

from infra.recipe import Positive, RecipeSection
from infra.recipe.models import Fraction
from tasks.judging.refusals import DespiteNotes
from tasks.judging.verifier_settings import VerifierSettings

GRANULARITY = "granularity"  # the key of the scorer
ATOMIC = "atomic"  # a value of the key

Granularity = Literal["sentence", "atomic"]
_LIST_STEPS: dict[Granularity, str] = {"sentence": "sentence-facts", "atomic": "facts"}
_FACTS_PER_ANSWER: dict[Granularity, int] = {"sentence": 14, "atomic": 30}  # of LongReward's published answers


class FactSettings(RecipeSection):
    """How facts are listed and checked."""

    granularity: Granularity = Field(
        "sentence",
        description="what one fact is. sentence: a sentence or list item that states facts, made to stand on its own; "
        "what the answer concludes from its own sentences is left out (the paper); atomic: each single claim, "
        "conclusions too, as in plans from before this key, for about twice the calls",
    )
    facts_tokens: Positive = Field(2048, description="longest list of facts of one answer, in tokens")
    max_tokens: Positive = Field(512, description="longest verdict on one fact, in tokens")
    chunk_tokens: Positive = Field(128, description="tokens per chunk that facts are looked up in")
    nearest: Positive = Field(5, description="chunks that a fact is checked against")
    no_facts: Annotated[float, Field(ge=0, le=10)] | None = Field(
        10.0, description="score of an answer that claims no fact (an honest refusal); null: it has none"
    )
    no_facts_despite_notes: DespiteNotes = Field(
        None,
        description="score of such an answer where completeness' notes hold something. null: it has none (the paper); "
        "0: it may be rejected, and is never chosen; ignore_notes: that of no_facts, as in plans from before this key",
    )
    share_facts: bool = Field(True, description="judge equal facts of the answers to a question once")
    facts_per_call: Positive = Field(
        1,
        description="most facts of a question that the judge is asked about in one call; 1: each in a call of its own",
    )
    verifier: VerifierSettings | None = Field(
        None, description="a small classifier that gives the verdicts of which it is sure, in the judge's place"
    )
    control_share: Fraction = Field(
        0.0,
        description="share of answers, by seed, whose facts are judged one a call as well where their verdicts came "
        "from a call on several facts or from the verifier; both verdicts are kept, and the report has their agreement",
    )
    expected_facts: Positive | None = Field(
        None, description="facts per answer, for estimates before a run alone; null: 14, or 30 where they are atomic"
    )

    @property
    def list_step(self) -> str:
        """The step of the judge's prompts that list the facts of an answer."""
        return _LIST_STEPS[self.granularity]

    @property
    def facts_per_answer(self) -> int:
        """How many facts to expect of an answer before there is one."""
        return self.expected_facts or _FACTS_PER_ANSWER[self.granularity]
