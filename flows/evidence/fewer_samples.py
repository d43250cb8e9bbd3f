"""Row 15: fewer samples by question: what does the stopping rule `consensus` save, and what does it cost?

Replayed on SeaLong's answers, of which every question has all N: sample i is the same request with a rule and without,
so the first n of them are what a recipe with the rule would have drawn. The choice is that of the consensus (embedding)
over these n, of equal scores the first. Samples and tokens are a share of those of all N.
"""

from collections.abc import Callable, Sequence

import numpy as np

from flows.evidence import SEALONG, EvidenceTableRow, Figures, Observation, SeedResult, figure_value
from flows.evidence.consensus import SIMILARITIES, consensus_pick
from flows.evidence.experiment import Experiment
from infra.models.embedding.embedder import Embedder, open_embedder
from infra.recipe import Recipe
from tasks.judging.similarity import compared_text
from tasks.metrics import example_sub_em
from tasks.records.example import Answer, Example
from tasks.refused_answers import is_refused
from tasks.samplers import find_sampler
from tasks.scoring import AnsweredQuestion, ScoringContext
from tasks.stopping import is_decided, stop_rounds

CONFIDENCES = (0.9, 0.95, 1.0)
_MBR = SIMILARITIES["MBR(embedding)"]
_LOSS = "choice with fewer − with all"


def measure(experiment: Experiment) -> SeedResult:
    """What each question of the training set adds, for each confidence."""
    recipe = experiment.recipe(SEALONG)
    embedder = open_embedder(recipe.embedding)
    observations = []
    for shard in experiment.shards(recipe):
        samples: dict[str, list[Answer]] = {}
        for answer in shard.answers:
            if answer.sample_index >= 0:
                samples.setdefault(answer.example_id, []).append(answer)
        for example in shard.examples:
            of_example = samples[example.example_id]
            case = AnsweredQuestion(example, shard.contexts[example.context_id], tuple(of_example))
            scoring = ScoringContext(_embedded(case, embedder), None, recipe)
            values: dict[str, tuple[float, float]] = {}
            for confidence in CONFIDENCES:
                values |= replayed(case, with_rule(recipe, confidence), scoring, f"at {confidence:g}")
            length = experiment.length_of(of_example[0].prompt_tokens)
            observations.append(Observation(example.example_id, example.kind, length, values))
    return SeedResult(observations, experiment.details(recipe, None))


def _embedded(case: AnsweredQuestion, embedder: Embedder) -> Callable[[], Embedder]:
    """The vectors of a question's answers as an embedder: they are needed again for each confidence."""
    texts = sorted({compared_text(answer, _MBR) for answer in case.answers} - {""})
    vectors = dict(zip(texts, embedder.embed(texts), strict=True))
    of_question = Embedder(lambda some: np.stack([vectors[text] for text in some]))
    return lambda: of_question


def with_rule(recipe: Recipe, confidence: float) -> Recipe:
    """The recipe with the stopping rule `consensus`."""
    stop = {"rule": "consensus", "confidence": confidence}
    return recipe.model_copy(update={"sampling": recipe.sampling.model_copy(update={"stop": stop})})


def samples_drawn(example: Example, answers: Sequence[Answer], recipe: Recipe) -> int:
    """How many of a question's samples the recipe's rule would have drawn."""
    for indices in stop_rounds(recipe, find_sampler(recipe.sampling.context).rounds(recipe)):
        if is_decided(example, answers[: indices.stop], recipe):
            return indices.stop
    return len(answers)


def replayed(
    case: AnsweredQuestion, recipe: Recipe, scoring: ScoringContext, label: str
) -> dict[str, tuple[float, float]]:
    """Samples, tokens and the choice with the rule, beside those of all samples."""
    drawn = samples_drawn(case.example, case.answers, recipe)
    first = AnsweredQuestion(case.example, case.context, case.answers[:drawn])
    values = {
        f"samples {label}": (float(drawn), float(len(case.answers))),
        f"tokens {label}": (_written(first.answers), _written(case.answers)),
    }
    scores = {}
    for answer in case.answers:
        score = None if is_refused(answer) else example_sub_em(answer.text, case.example)
        if score is not None:
            scores[answer.sample_index] = score
    few, every = (consensus_pick(question, _MBR, scoring) for question in (first, case))
    if few in scores and every in scores:
        values[f"{_LOSS} {label}"] = (scores[few] - scores[every], 1.0)
    return values


def _written(answers: Sequence[Answer]) -> float:
    return float(sum(answer.completion_tokens for answer in answers))


def target_met(figures: Figures, groups: Sequence[Figures]) -> bool | None:
    """At the default confidence fewer samples, and a choice that is not worse beyond its interval."""
    samples = figure_value(figures, "samples at 0.95")
    high = figure_value(figures, f"{_LOSS} at 0.95", "high")
    return None if samples is None or high is None else samples < 1 and high >= 0


ROW = EvidenceTableRow(
    15,
    "fewer-samples",
    "fewer samples, where consensus is clear?",
    "—",
    "fewer, and the choice not worse beyond its interval",
    (SEALONG,),
    measure,
    target_met,
)
