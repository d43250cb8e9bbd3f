"""Sampling where rewards say if a question needs more answers: rounds of drawing and of scoring what was drawn.

Each answer is judged once. What earlier answers have got is known to pruning, so an answer that can be neither best nor
worst any more is left unjudged, as where all are drawn at once; the pair of a question is that of its answers so far.
"""

from collections.abc import Sequence

from infra.running import progress
from tasks.judging.refusals import unfounded_refusals
from tasks.records.example import Answer, AnswerId, Example, Judgement
from tasks.refused_answers import refusal_words, with_words
from tasks.sampling import sample_rounds
from tasks.scoring import ActiveScorer, parse_scorers, rewards
from tasks.scoring.run import StepRunner, score_answers
from tasks.shard_tasks import SamplingRound, ShardInMemory, Span, answered_questions, sample_span
from tasks.stopping import Rewarded, is_decided

Judged = dict[AnswerId, dict[str, Judgement]]  # by answer, then scorer


def sample_by_reward(shard: ShardInMemory, span: Span, runner: StepRunner) -> tuple[list[Answer], list[Judgement]]:
    """The answers of the examples in `span` and their judgements, by example; the same whatever was in the ledger."""
    recipe = shard.resources.recipe
    scorers = parse_scorers(recipe)
    still_open = shard.examples[span[0] : span[1]]
    answers_by_example: dict[str, list[Answer]] = {example.example_id: [] for example in still_open}
    judged: Judged = {}
    for number, indices in enumerate(sample_rounds(recipe), 1):
        if not still_open:
            break
        earlier = [answer for example in still_open for answer in answers_by_example[example.example_id]]
        open_ids = frozenset(example.example_id for example in still_open)
        drawn = sample_span(shard, span, SamplingRound(number, open_ids, tuple(earlier)))
        judged_before = [(answer, judged[answer.id]) for answer in earlier if answer.sample_index >= 0]
        questions = answered_questions(shard, span, drawn)
        scored = score_answers(questions, scorers, shard.resources.scoring(), runner, judged_before)
        for judgement in with_words(scored, refusal_words(drawn, shard.resources.ledger)):
            judged.setdefault(judgement.answer_id, {})[judgement.scorer] = judgement
        for answer in drawn:
            answers_by_example[answer.example_id].append(answer)
        going_on = []
        for example in still_open:
            if not _is_decided(shard, example, answers_by_example[example.example_id], judged, scorers):
                going_on.append(example)
        saved = recipe.sampling.samples - indices.stop
        progress.advance("sample", saved * (len(still_open) - len(going_on)))
        still_open = going_on
    answers: list[Answer] = []
    judgements: list[Judgement] = []
    for of_example in answers_by_example.values():
        of_example.sort(key=lambda answer: answer.sample_index < 0)
        answers += of_example
        for answer in of_example:
            judgements += judged.get(answer.id, {}).values()
    return answers, judgements


def _is_decided(
    shard: ShardInMemory,
    example: Example,
    answers: Sequence[Answer],
    judged: Judged,
    scorers: Sequence[ActiveScorer],
) -> bool:
    samples = [answer for answer in answers if answer.sample_index >= 0]
    of_samples = [judgement for answer in samples for judgement in judged[answer.id].values()]
    rewarded = Rewarded(rewards(of_samples, scorers), unfounded_refusals(of_samples))
    return is_decided(example, samples, shard.resources.recipe, rewarded)
