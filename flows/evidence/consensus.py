"""Row 1: does consensus choose well? SubEM of what random, greedy, MBR and an oracle pick from N samples.

The N samples are the first N of the largest N. Random is the mean over the samples, the oracle's pick the best of
them; MBR is the scorer `consensus` with embeddings and with ROUGE-L, of equal scores the first sample.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from flows.evidence import SAMPLE_COUNTS, SEALONG, EvidenceRow, Figures, Measured, Observation, value_of
from flows.evidence.workplace import Workplace
from infra.models.embedding import open_embedder
from tasks.metrics import example_sub_em
from tasks.records.example import Answer
from tasks.reporting.judged import refused
from tasks.sampling import GREEDY
from tasks.scoring import AnsweredQuestion, ScoringContext
from tasks.scoring.consensus import ConsensusSettings
from tasks.scoring.run import score_with

SIMILARITIES: Mapping[str, ConsensusSettings] = {
    "MBR(embedding)": ConsensusSettings(similarity="embedding"),
    "MBR(ROUGE)": ConsensusSettings(similarity="rouge_l"),
}
MOST = SAMPLE_COUNTS[-1]
WON = f"MBR(embedding)@{MOST} − greedy"
_TARGET = 0.06


def measure(work: Workplace) -> Measured:
    """What each question of the training set adds."""
    recipe = work.recipe(SEALONG)
    embedder = open_embedder(recipe.embedding)
    bench = ScoringContext(lambda: embedder, None, recipe)
    observations = []
    for shard in work.shards(recipe):
        answers: dict[str, list[Answer]] = {}
        for answer in shard.answers:
            answers.setdefault(answer.example_id, []).append(answer)
        for example in shard.examples:
            drawn = tuple(each for each in answers[example.example_id] if each.sample_index >= GREEDY)
            values = picked(AnsweredQuestion(example, shard.contexts[example.context_id], drawn), bench)
            length = work.length(drawn[0].prompt_tokens)
            observations.append(Observation(example.example_id, example.kind, length, values))
    return Measured(observations, work.about(recipe, None))


def picked(case: AnsweredQuestion, bench: ScoringContext) -> dict[str, tuple[float, float]]:
    """SubEM of each way of picking, for each N; `case.answers` are the greedy answer and the samples."""
    scores = {
        each.sample_index: score
        for each in case.answers
        if not refused(each) and (score := example_sub_em(each.text, case.example)) is not None
    }
    found: dict[str, float] = {}
    if GREEDY in scores:
        found["greedy"] = scores[GREEDY]
    for count in SAMPLE_COUNTS:
        first = tuple(each for each in case.answers if 0 <= each.sample_index < count)
        known = [scores[each.sample_index] for each in first if each.sample_index in scores]
        if not known:
            continue
        found[f"random@{count}"] = sum(known) / len(known)
        for name, settings in SIMILARITIES.items():
            if (index := _best(AnsweredQuestion(case.example, case.context, first), settings, bench)) in scores:
                found[f"{name}@{count}"] = scores[index]
        found[f"oracle@{count}"] = max(known)
    if {"greedy", f"MBR(embedding)@{MOST}"} <= found.keys():
        found[WON] = found[f"MBR(embedding)@{MOST}"] - found["greedy"]
    return {name: (value, 1.0) for name, value in found.items()}


def _best(case: AnsweredQuestion, settings: ConsensusSettings, bench: ScoringContext) -> Any:
    """The sample with the highest consensus, of equals the first; None when no sample has one."""
    judgements = score_with("consensus", settings, [case], bench)
    scored = [(-each.score, each.sample_index) for each in judgements if each.score is not None]
    return min(scored)[1] if scored else None


def met(figures: Figures, groups: Sequence[Figures]) -> bool | None:
    """MBR with embeddings is 6 points above greedy."""
    won = value_of(figures, WON)
    return None if won is None else won >= _TARGET


ROW = EvidenceRow(
    1,
    "consensus",
    "does consensus choose well?",
    "79.5 / 82 / 88 / 85 (random, greedy, MBR, ROUGE) on 2Wiki",
    "MBR − greedy ≥ +6",
    (SEALONG,),
    measure,
    met,
    headline=("greedy", f"MBR(embedding)@{MOST}", f"MBR(ROUGE)@{MOST}", f"oracle@{MOST}", WON),
)
