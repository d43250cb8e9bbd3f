"""What the questions of a plan look like: how many have references, and the first one as the policy will see it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from infra.recipe import Recipe
from infra.store import Store
from tasks.metrics import options_of
from tasks.questions.chat import prompt_text
from tasks.records.plan import Plan, load_examples, load_shard
from tasks.sample_prompt import sample_prompt


@dataclass(frozen=True, slots=True)
class ReferenceCounts:
    """Questions of a plan: all, those with a reference, and those with options to choose from."""

    questions: int
    with_references: int
    multiple_choice: int

    def to_json(self) -> dict[str, int]:
        """JSON-ready values under the fields' names."""
        return asdict(self)

    @property
    def note(self) -> str:
        """A sentence where questions lack references; empty when all have one."""
        missing = self.questions - self.with_references
        if not missing:
            return ""
        which = "no question has" if not self.with_references else f"{missing:,} of {self.questions:,} questions lack"
        return (
            f"{which} a reference answer: figures that need one (SubEM, agreement, evaluation) leave them out. If the "
            "rows have answers, their format is another, or questions.fields.answers names the field"
        )


def count_references(store: Store, plan: Plan) -> ReferenceCounts:
    """Count the questions of a plan. Reads the tables of examples, without their contexts."""
    questions = with_references = multiple_choice = 0
    for shard in plan.shards:
        for example in load_examples(store, plan, shard.index):
            questions += 1
            with_references += bool(example.references)
            multiple_choice += bool(options_of(example))
    return ReferenceCounts(questions, with_references, multiple_choice)


def first_question(store: Store, plan: Plan, recipe: Recipe) -> Mapping[str, Any]:
    """The first planned question: example_id, kind, references, and its whole `prompt` as the policy will see it."""
    examples, contexts = load_shard(store, plan, 0)
    example = examples[0]
    context = contexts[example.context_id]
    prompt = sample_prompt(example, context, recipe.sampling.strategy, recipe.policy, plan.special_tokens)
    return {
        "example_id": example.example_id,
        "kind": example.kind,
        "references": list(example.references),
        "prompt": prompt_text(prompt.messages, prompt.tools, example.language),
    }
