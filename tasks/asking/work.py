"""The work of a shard of a plan of asking: its questions are written and checked, and become the shard's tables.

`answers` has every reply that was paid for, `strategy` being the kind of the call; `judgements` what each check has
found; `questions` those that have passed; `drops` the others.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from infra.ledger import Entry
from infra.models.protocol import Prompt
from infra.recipe import Recipe
from tasks.asking.answering import ANSWER, CLOSED_BOOK, FROM_PROOF, SAME, SELF_CONTAINED, TRY, WITHOUT_SENTENCE
from tasks.asking.checks import Candidate, Checks, sections_of
from tasks.asking.writing import WRITE, IntendedQuestion
from tasks.judging.context import ScoringContext
from tasks.judging.steps import ModelRole
from tasks.records.example import Answer, Context, Drop, Example, Judgement
from tasks.records.question import WrittenQuestion
from tasks.resources import RunResources
from tasks.scoring.run import StepRunner, run_to_end

CALLS = (WRITE, SELF_CONTAINED, CLOSED_BOOK, FROM_PROOF, WITHOUT_SENTENCE, ANSWER, TRY, SAME)  # kinds of asking's calls


def ask_questions(
    examples: Sequence[Example], contexts: Mapping[str, Context], scoring: ScoringContext, runner: StepRunner
) -> list[Candidate]:
    """The rows of a plan as candidates that have gone through all checks, in order."""
    asking = scoring.recipe.asking
    assert asking is not None  # the plan was made with it
    candidates = [Candidate(IntendedQuestion.of(example, contexts[example.context_id])) for example in examples]
    run_to_end(Checks(asking, scoring).work(candidates), runner)
    return candidates


def tables_of(candidates: Sequence[Candidate], resources: RunResources) -> dict[str, list[Any]]:
    """The rows of the shard's tables by name. Raises LedgerError."""
    answers: list[Answer] = []
    judgements: list[Judgement] = []
    questions: list[WrittenQuestion] = []
    drops: list[Drop] = []
    for candidate in candidates:
        answers.extend(_answers(candidate, resources))
        judgements.extend(candidate.judgements)
        if candidate.drop is not None:
            drops.append(candidate.drop)
        else:
            questions.append(_written(candidate))
    return {"answers": answers, "judgements": judgements, "questions": questions, "drops": drops}


def section_of(kind: str, recipe: Recipe) -> ModelRole:
    """The section of the model that calls of this kind go to."""
    writer, answerer = sections_of(recipe)
    if kind == WRITE:
        return writer
    return "policy" if kind in (CLOSED_BOOK, TRY) else answerer


def _written(candidate: Candidate) -> WrittenQuestion:
    intended = candidate.intended
    return WrittenQuestion(
        example_id=intended.example_id,
        context_id=intended.places[0].document_id,
        question=candidate.draft.question,
        answers=candidate.draft.answers,
        kind=intended.kind.name,
        language=intended.language,
        evidence=tuple(candidate.evidence),
        difficulty=candidate.difficulty,
        tries=candidate.tries,
    )


def _answers(candidate: Candidate, resources: RunResources) -> list[Answer]:
    """Every call for a question, in order; each once, although a query may have taken several."""
    keys = [key for call in candidate.calls for key in call.verdict.keys]
    entries = dict(resources.ledger.lookup(keys))
    answers: list[Answer] = []
    for call in candidate.calls:
        for key in call.verdict.keys:
            last = key == call.verdict.keys[-1]
            finish = "stop" if call.verdict.reason is None or not last else call.verdict.reason
            entry = entries.get(key)
            tokens = _tokens(call.section, call.query.prompt, entry, resources)
            text = call.verdict.reply if last and entry is not None and not entry.is_refusal else ""
            own = candidate.intended.example_id, len(answers), text, finish, *tokens, call.query.kind, key
            answers.append(Answer(*own))
    return answers


def _tokens(section: ModelRole, prompt: Prompt, entry: Entry | None, resources: RunResources) -> tuple[int, int]:
    """Prompt and output tokens of a call; 0 for one that was refused."""
    client = resources.scoring().client(section)
    if entry is None or entry.is_refusal or client is None:
        return 0, 0
    usage = client.usage_of(prompt, entry)
    return usage.prompt_tokens, usage.completion_tokens
