"""Ratings that are given alone, without reasons before them: what the baselines `quality` and `self_evaluation` share.

What it leaves out: the expected rating, which belongs to LongReward's own dimensions (`rating.py`).
"""

from collections.abc import Callable, Mapping, Sequence

from infra.canonical import canonical
from tasks.judging.asking import JudgeQuery, ReplyForm, Verdict, ask_all, judge_of, judge_prompt
from tasks.judging.rating import RATING, no_text_reason, unscored
from tasks.judging.replies import read_rating
from tasks.records.example import Answer, Judgement
from tasks.scoring import AnsweredQuestion, ScoringContext

_FORM = ReplyForm("regex", RATING)


def rate_plainly(
    scorer: str,
    cases: Sequence[AnsweredQuestion],
    shown: Callable[[AnsweredQuestion, Answer], Mapping[str, str]],
    max_tokens: int,
    bench: ScoringContext,
) -> list[Judgement]:
    """One judgement for each answer, null for one without text; evidence {"rating", "reply"}.

    `shown` fills the placeholders of the scorer's prompt, which is named after it.
    """
    judge, _ = judge_of(bench)
    step = scorer.replace("_", "-")
    answers = [(case, answer) for case in cases for answer in case.answers]
    spoken = [(case, answer) for case, answer in answers if no_text_reason(answer) is None]
    asks = [
        JudgeQuery(
            scorer,
            judge_prompt(step, case.example.language, judge.prompts, **shown(case, answer)),
            case.context.context_id,
            read_rating,
            max_tokens,
            _FORM,
        )
        for case, answer in spoken
    ]
    words = iter(ask_all(asks, bench))
    return [
        unscored(scorer, answer) if no_text_reason(answer) else _judgement(scorer, answer, next(words))
        for _, answer in answers
    ]


def _judgement(scorer: str, answer: Answer, word: Verdict[int]) -> Judgement:
    evidence = canonical({"rating": word.value, "reply": word.reply}).decode()
    score = None if word.value is None else float(word.value)
    return Judgement(answer.example_id, answer.sample_index, scorer, score, word.reason, evidence, word.keys)
