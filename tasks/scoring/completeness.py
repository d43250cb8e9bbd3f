"""Completeness: does the answer give all that the context holds on the question?

The judge takes notes from each chunk of the context (or says that it holds nothing relevant), once per context
and question; then it rates each answer beside all notes, which say what part of the document they came from
(LongReward, arXiv 2410.21252). A context without anything relevant is a defined case: the notes say so, and the
judge rates the answer beside that. Where the notes of one part are missing the score is null, not a guess.
"""

from collections.abc import Sequence
from typing import Any

from infra.recipe import Recipe
from tasks.judging.context import AnsweredQuestion, ScoringContext
from tasks.judging.notes import CompletenessSettings, notes_text, take_notes, with_notes
from tasks.judging.rating import Subject, rate, rating_calls, rating_prompts
from tasks.judging.steps import Steps
from tasks.scoring import Scorer

NAME = "completeness"


def score(questions: Sequence[AnsweredQuestion], settings: CompletenessSettings, scoring: ScoringContext) -> Steps:
    """One judgement for each answer of each question."""
    parts_by_question = yield from take_notes(questions, settings, scoring)
    subjects: list[Subject] = []
    judgements = []
    for question, parts in zip(questions, parts_by_question, strict=True):
        missing = next((part.notes.reason for part in parts if part.notes.reason is not None), None)
        for answer in question.answers:
            if missing is not None:
                unrated = answer.judged(NAME, None, f"notes: {missing}", {"rating": None})
                judgements.append(with_notes(unrated, parts))
            else:
                texts = {"notes": notes_text(parts, question.example.language), "question": question.example.question}
                subjects.append((question, answer, {**texts, "answer": answer.text}))
    parts_of = dict(zip([question.example.example_id for question in questions], parts_by_question, strict=True))
    for rating in (yield from rate(NAME, subjects, settings, scoring)):
        judgements.append(with_notes(rating, parts_of[rating.example_id]))
    return judgements


def _calls(settings: Any, recipe: Recipe, context_tokens: int) -> dict[str, float]:
    ratings = rating_calls(NAME, settings, recipe, context_tokens)
    return {"notes": float(-(-context_tokens // settings.chunk_tokens)), **ratings}


def _prompts(settings: Any, recipe: Recipe) -> tuple[str, ...]:
    notes = (f"judge-{recipe.judge.prompts}-notes",) if recipe.judge else ()
    return (*notes, *rating_prompts(NAME, settings, recipe))


SCORER = Scorer(NAME, CompletenessSettings, score, needs_judge=True, calls=_calls, prompts=_prompts)
