"""How a recipe's reward agrees with a reward bench: its scorers judge the bench's answers, batch by batch.

Calls go through the ledger, so a run that was interrupted goes on where it was, and a second one makes no call. Nothing
is pruned: every answer gets every score.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from infra.recipe import Recipe
from infra.running import progress
from infra.serving.servers import start_servers
from tasks.evaluation.reward_bench import RankedSet, bench_figures, read_bench
from tasks.judging.context import AnsweredQuestion
from tasks.records.example import Judgement
from tasks.resources import open_resources
from tasks.scoring import check_scorers, rewards
from tasks.scoring.run import score_answers

STAGE = "bench"


def judge_bench(recipe: Recipe, source: str) -> dict[str, Any]:
    """The figures of `bench_figures`, with "bench", "recipe" and the "calls" made by kind.

    Raises InputError for a bench that cannot be read, before a server starts.
    """
    sets = read_bench(source)
    scorers = check_scorers(recipe)
    in_full = recipe.model_copy(update={"scoring": recipe.scoring.in_full()})
    judgements: list[Judgement] = []
    with start_servers(in_full, waiting=True) as servers:
        settings = servers.with_endpoints()
        with open_resources(settings) as resources:
            progress.expect(STAGE, len(sets))
            for batch in _batches(sets, recipe):
                questions = [AnsweredQuestion(ranked.example, ranked.context, ranked.answers) for ranked in batch]
                judgements += score_answers(questions, scorers, resources.scoring())
                progress.advance(STAGE, len(batch))
            calls = {kind: asdict(counts) for kind, counts in resources.counts().items()}
    figures = bench_figures(sets, rewards(judgements, scorers), judgements)
    return {"bench": source, "recipe": recipe.name, **figures, "calls": calls}


def _batches(sets: Sequence[RankedSet], recipe: Recipe) -> list[Sequence[RankedSet]]:
    """Sets that are judged together: about `execution.batch_calls` answers."""
    batches: list[Sequence[RankedSet]] = []
    start = answers = 0
    for place, ranked in enumerate(sets):
        answers += len(ranked.answers)
        if answers >= recipe.execution.batch_calls:
            batches.append(sets[start : place + 1])
            start, answers = place + 1, 0
    if start < len(sets):
        batches.append(sets[start:])
    return batches
