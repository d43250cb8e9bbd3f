"""Consensus: an answer is as good as it is close to what the policy answers on the whole. No judge is asked.

Minimum Bayes Risk decoding over the N samples of a question (SeaLong, arXiv 2411.08147): the score of an answer
y is the mean over all samples y*, itself included, of u(y, y*), where u is the inner product of L2-normalised
sentence embeddings, in [-1, 1], the F-measure of ROUGE-1, ROUGE-2 or ROUGE-L, in [0, 1], or BERTScore's F1, in [-1, 1].

Defined at the edges: one sample scores 1.0. Equal texts score the same, exactly, and each of them counts as a
sample. An answer without text has no score and is no sample either: its reason is what became of its call
("prompt_too_long", "content_filter", ...), or "empty_answer" when the model said nothing. An answer that was cut
at max_tokens is scored as it stands. Scores are rounded to 6 decimals.

Leaves out: u by the policy's own word, which the scorer `self_evaluation` has (form: reference).
"""

import json
from collections.abc import Sequence

from tasks.judging.context import AnsweredQuestion, ScoringContext, no_text_reason
from tasks.judging.similarity import ConsensusSettings, compared_text, consensus_job
from tasks.judging.steps import Steps, compute
from tasks.scoring import Scorer

NAME = "consensus"


def score(questions: Sequence[AnsweredQuestion], settings: ConsensusSettings, scoring: ScoringContext) -> Steps:
    """One judgement for each answer of each question, those without text included."""
    jobs = [consensus_job(question, settings, scoring) for question in questions]
    scores_by_question = yield from compute("embed", jobs)
    judgements = []
    for question, scores in zip(questions, scores_by_question, strict=True):
        remaining = iter(scores)
        evidence = json.dumps({"samples": len(scores), "similarity": settings.similarity}, sort_keys=True)
        for answer in (*question.answers, *question.without_text):
            value = next(remaining) if compared_text(answer, settings) else None
            reason = None if value is not None else no_text_reason(answer) or "empty_answer"
            judgements.append(answer.judged(NAME, value, reason, evidence))
    return judgements


SCORER = Scorer(NAME, ConsensusSettings, score)
