"""Scoring by a cascade: stage by stage, then the judge, on those answers that still decide the pair.

Every answer also gets a judgement by the name `cascade`: the reward that pairing uses. It is the judge's where the
judge was asked, and otherwise what the stages say of the judge; the evidence says which. The judge's own scorers never
get a number that the judge has not given: their score is null, with the reason "decided".

Questions of the control sample, and all questions where the recipe names no calibration yet, are judged in full; so
are those of a cascade that cannot keep its promise. Of a control question the evidence says what the cascade would have
decided, and whether that is what the judge says.

Where scorers come `last`, the judge gives the other scores first, and the last ones only where these leave the pair
open. Nothing is pruned then, since pruning has to wait for every other score.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from infra.canonical import seeded_random, text_id
from tasks.judging.cascade import (
    Candidate,
    Decision,
    StageModels,
    decide,
    predict,
    reward_of,
    with_parts,
    with_rewards,
)
from tasks.judging.cascade_calibration import (
    IN_PART,
    JUDGE,
    CascadeCalibration,
    JudgedCandidates,
    Operating,
    end_of,
    load_cascade,
    trace,
    unjudged,
)
from tasks.judging.context import AnsweredQuestion, ScoringContext, no_text_reason
from tasks.judging.pruning import PRUNED
from tasks.judging.refusals import unfounded_refusals
from tasks.pairing import may_be_chosen
from tasks.records.example import Answer, AnswerId, Judgement
from tasks.scoring import CASCADE, ActiveScorer, rewards
from tasks.scoring.run import StepRunner, in_full, score_answers

DECIDED = "decided"  # reason of a score that nobody was asked for, since the pair was decided without it


@dataclass(slots=True)
class _Question:
    """A question on its way through the cascade."""

    question: AnsweredQuestion
    groups: list[list[Answer]]  # with text; answers of the same text stand together
    decision: Decision
    candidates: list[Candidate] = field(default_factory=list)  # one for each group
    rounds: int = 0
    stage: str | None = None  # the one that decided; None while it is open
    control: bool = False
    expected: float | None = None  # agreement, by the calibration; None where every answer is judged
    agrees: bool | None = None  # of a control question: whether the cascade's decision is the judge's

    @property
    def example_id(self) -> str:
        return self.question.example.example_id


class _Cascade:
    """The stages over some questions, and all that was said of their answers."""

    def __init__(self, scorers: Sequence[ActiveScorer], scoring: ScoringContext, runner: StepRunner | None) -> None:
        cascade = scoring.recipe.scoring.cascade
        assert cascade is not None
        self.names = cascade.stages
        self.stages = [scorer for name in cascade.stages for scorer in scorers if scorer.name == name]
        self.judges = [scorer for scorer in scorers if scorer.name not in cascade.stages]
        self.first_judges = [scorer for scorer in self.judges if scorer.name not in cascade.last]
        self.last_judges = [scorer for scorer in self.judges if scorer.name in cascade.last]
        self.scorers, self.scoring, self.runner = scorers, scoring, runner
        self.calibration: CascadeCalibration | None = load_cascade(scoring.recipe)
        self.point: Operating | None = None
        if self.calibration is not None:
            self.point = self.calibration.operating(cascade.agreement)
        self.judgements: dict[AnswerId, dict[str, Judgement]] = {}

    @property
    def models(self) -> StageModels:
        assert self.calibration is not None  # without one every answer is judged
        return self.calibration.models

    @property
    def some_last(self) -> bool:
        return bool(self.last_judges)

    def take(self, judgements: Iterable[Judgement]) -> None:
        for judgement in judgements:
            self.judgements.setdefault(judgement.answer_id, {})[judgement.scorer] = judgement

    def judge_in_full(self, questions: Sequence[_Question]) -> None:
        """Every scorer on every answer; then what the cascade would have decided."""
        whole = [standing.question for standing in questions]
        self.take(score_answers(whole, self.scorers, in_full(self.scoring), self.runner))
        for standing in questions:
            self.candidates_of(standing)
            self.take_rewards(standing, range(len(standing.groups)))
            standing.stage = JUDGE
            if self.point is not None:
                judged = JudgedCandidates(standing.example_id, tuple(standing.candidates))
                end = end_of(trace(judged, self.models, self.names, self.some_last), self.point.threshold)
                standing.decision, standing.stage, standing.agrees = end.decision, end.stage, end.agrees

    def ask_stage(self, stage: int, questions: Sequence[_Question]) -> None:
        """The scores of a stage, and what they decide."""
        whole = [standing.question for standing in questions]
        self.take(score_answers(whole, [self.stages[stage]], self.scoring, self.runner))
        for standing in questions:
            self.candidates_of(standing)
            self.settle(standing, unjudged(standing.candidates, stage + 1), self.names[stage])

    def ask_judge(self, questions: Sequence[_Question]) -> None:
        """A round of the judge: on each question about the answers that most probably are best or worst."""
        to_judge = [(standing, standing.decision.ask) for standing in questions]
        if not self.some_last:
            earlier = []
            for standing in questions:
                for candidate, group in zip(standing.candidates, standing.groups, strict=True):
                    if candidate.judged:
                        earlier += [(answer, self.judgements[answer.id]) for answer in group]
            self.take(score_answers(_alone(to_judge), self.judges, self.scoring, self.runner, earlier))
        else:
            new = []
            for standing, places in to_judge:
                new.append((standing, [place for place in places if not standing.candidates[place].judged_in_part]))
            whole = [(standing, places) for standing, places in to_judge if not standing.decision.in_part]
            for judges, to_judge_now in ((self.first_judges, new), (self.last_judges, whole)):
                self.take(score_answers(_alone(to_judge_now), judges, in_full(self.scoring), self.runner))
        for standing, places in to_judge:
            standing.rounds += 1
            in_part = standing.decision.in_part
            self.take_rewards(standing, places, in_part)
            self.settle(standing, standing.candidates, IN_PART if in_part else JUDGE)

    def candidates_of(self, standing: _Question) -> None:
        """The candidates with the stages' scores; one for each text."""
        standing.candidates = []
        for group in standing.groups:
            first = group[0]
            of_answer = self.judgements[first.id]
            scores = tuple(of_answer[name].score if name in of_answer else None for name in self.names)
            cut_off = not may_be_chosen(first.finish_reason, self.scoring.recipe.pairing)
            standing.candidates.append(Candidate(text_id(first.text), scores, cut_off))

    def take_rewards(self, standing: _Question, places: Iterable[int], in_part: bool = False) -> None:
        """The judge's rewards of the candidates at these places, or its word in part alone."""
        places = list(places)
        firsts = [standing.groups[place][0] for place in places]
        judged = [judgement for first in firsts for judgement in self.judgements[first.id].values()]
        if self.some_last:
            parts = rewards(judged, self.first_judges)
            standing.candidates = with_parts(standing.candidates, places, [parts[first.id] for first in firsts])
        if not in_part:
            whole = rewards(judged, self.judges)
            standing.candidates = with_rewards(standing.candidates, places, [whole[first.id] for first in firsts])
        refusals = unfounded_refusals(judged)
        for place, first in zip(places, firsts, strict=True):
            if first.id in refusals:
                standing.candidates[place] = replace(standing.candidates[place], unfounded=True)

    def settle(self, standing: _Question, candidates: list[Candidate], stage: str) -> None:
        assert self.point is not None
        standing.candidates = candidates
        standing.decision = decide(candidates, self.models, standing.rounds, self.some_last)
        if standing.decision.confidence >= self.point.threshold:
            standing.stage = stage


def score_by_recipe(
    questions: Sequence[AnsweredQuestion],
    scorers: Sequence[ActiveScorer],
    scoring: ScoringContext,
    runner: StepRunner | None = None,
) -> list[Judgement]:
    """Every scorer's judgement of every answer, as the recipe has it: in stages where it has a cascade.

    By question, then answer, then scorer, the cascade's own last. Raises as `score_answers`, and RecipeError for a
    calibration that is another cascade's.
    """
    settings = scoring.recipe.scoring.cascade
    if settings is None:
        return score_answers(questions, scorers, scoring, runner)
    cascade = _Cascade(scorers, scoring, runner)
    standings = [_Question(question, _groups(question, scoring), Decision(None, None, 0.0)) for question in questions]
    full: list[_Question] = []
    staged: list[_Question] = []
    for standing in standings:
        draw = seeded_random(scoring.recipe.seed, "cascade", standing.example_id).random()
        standing.control = draw < settings.control_share
        if cascade.point is not None:
            standing.expected = round(cascade.point.agreement, 4)
        (full if cascade.point is None or standing.control else staged).append(standing)
    if full:
        cascade.judge_in_full(full)
    for stage in range(len(cascade.stages)):
        if still_open := [standing for standing in staged if standing.stage is None]:
            cascade.ask_stage(stage, still_open)
    while still_open := [standing for standing in staged if standing.stage is None]:
        cascade.ask_judge(still_open)
    judgements = []
    for standing in standings:
        judgements += _judgements(standing, cascade)
    return judgements


def _alone(to_judge: Iterable[tuple[_Question, Sequence[int]]]) -> list[AnsweredQuestion]:
    """The questions with the answers of these groups alone; those without any are left out."""
    questions = []
    for standing, places in to_judge:
        answers = tuple(answer for place in places for answer in standing.groups[place])
        if answers:
            questions.append(replace(standing.question, answers=answers))
    return questions


def _groups(question: AnsweredQuestion, scoring: ScoringContext) -> list[list[Answer]]:
    groups: dict[tuple[str, bool], list[Answer]] = {}
    for answer in question.answers:
        if no_text_reason(answer) is None:
            may_win = may_be_chosen(answer.finish_reason, scoring.recipe.pairing)
            groups.setdefault((answer.text, may_win), []).append(answer)
    return list(groups.values())


def _judgements(standing: _Question, cascade: _Cascade) -> list[Judgement]:
    """All judgements of a question's answers: null with a reason where nobody was asked."""
    place_of = {answer.id: place for place, group in enumerate(standing.groups) for answer in group}
    predictions = predict(standing.candidates, cascade.models) if cascade.calibration is not None else None
    judgements = []
    for answer in standing.question.answers:
        no_text = no_text_reason(answer)
        of_answer = cascade.judgements.get(answer.id, {})
        for scorer in cascade.scorers:
            missing = answer.judged(scorer.name, None, no_text or DECIDED)
            judgements.append(of_answer.get(scorer.name, missing))
        if no_text is not None:
            judgements.append(answer.judged(CASCADE, None, no_text, _evidence(standing, None)))
            continue
        candidate = standing.candidates[place_of[answer.id]]
        if candidate.judged:
            reason = None if candidate.reward is not None else _missing_reason(of_answer, cascade.judges)
            judgements.append(answer.judged(CASCADE, candidate.reward, reason, _evidence(standing, JUDGE)))
            continue
        assert predictions is not None  # without a calibration every answer is judged
        prediction = predictions[place_of[answer.id]]
        scored = candidate.leading_scores()
        by = cascade.names[min(len(scored), len(cascade.names)) - 1] if scored else None
        if candidate.judged_in_part:
            by = IN_PART
        evidence = _evidence(standing, by) | {"spread": round(prediction.spread, 6)}
        judgements.append(answer.judged(CASCADE, reward_of(candidate, prediction), None, evidence))
    return judgements


def _evidence(standing: _Question, by: str | None) -> dict[str, object]:
    """`by`: whose word the reward is; of the question the stage that decided, how sure it was, and the control."""
    evidence: dict[str, object] = {"by": by, "stage": standing.stage, "rounds": standing.rounds}
    evidence["confidence"] = standing.decision.confidence
    if standing.expected is not None:
        evidence["expected"] = standing.expected
    if standing.control:
        evidence |= {"control": True, "agrees": standing.agrees}
    return evidence


def _missing_reason(of_answer: Mapping[str, Judgement], judges: Sequence[ActiveScorer]) -> str:
    """Why the judge's reward is null."""
    reasons = [of_answer[judge.name].reason for judge in judges if judge.weight > 0 and judge.name in of_answer]
    return next((reason for reason in reasons if reason is not None), PRUNED)
