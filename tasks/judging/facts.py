"""The facts that answers state, and the judge's verdict on each.

The judge lists the facts of every answer. Each fact is looked up in the context: the nearest chunks are its passages.
Then facts are judged in rounds over all questions at once. Where answers may be pruned (`pruning.py`), a round asks
for as many verdicts as should decide the pair; otherwise one round asks for all. Equal facts of a question are one
query, and its verdict holds for every answer that states the fact.

Where the recipe has a verifier (`verifier.py`), it reads every fact first, and the judge is asked about those alone
on which it is not sure.

Where the recipe wants several facts per call, the facts of a question are put into bundles (`bundles.py`) before any is
judged, in the order in which the answers state them. So a call holds the same facts whichever of them is needed first,
and pruning changes no verdict. Facts of a bundle without a usable reply are judged one by one.

A control sample of the answers (`control_share`) has the judge's verdict on each fact alone as well, where another way
gave the one that counts. It is for the report: the scores do not depend on it.
"""

import math
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from infra.canonical import seeded_random
from tasks.chunks import Span
from tasks.judging.asking import judge_prompt, judge_settings
from tasks.judging.bundles import Bundle, Claim, bundle_query, fact_subject, make_bundles
from tasks.judging.calibration import load_calibration
from tasks.judging.context import AnsweredQuestion, ScoringContext
from tasks.judging.fact_settings import FactSettings, Granularity
from tasks.judging.pruning import PruningBounds, ScoreBounds, verdicts_needed
from tasks.judging.rating import subject_of
from tasks.judging.refusals import IGNORED, Notes, notes_by_answer
from tasks.judging.replies import NO_FACTS, read_facts, read_support
from tasks.judging.retrieval import nearest_chunks, passages_text
from tasks.judging.steps import (
    Job,
    JudgeQuery,
    ReplyForm,
    Step,
    Verdict,
    ask,
    compute,
    other_judgements,
    pruning_bounds,
)
from tasks.judging.verifier import Statement, Verified, verify
from tasks.records.example import Answer

_STATEMENT_CHARACTERS: Mapping[Granularity, int] = {"sentence": 1200, "atomic": 600}  # the most, where the form holds
_SUPPORT_FORM = ReplyForm("choice", ("[[Fully supported]]", "[[Partially supported]]", "[[No support]]"))

ClaimId = tuple[str, int, str]  # example_id, variant, fact: equal claims get one verdict


@dataclass(frozen=True, slots=True)
class FactCheck:
    """One answer, its facts, each once, and the verdicts so far. `verdicts` also holds verdicts on other facts."""

    question: AnsweredQuestion
    answer: Answer
    listed: Verdict[tuple[str, ...]]  # the judge's list of facts
    passages: tuple[tuple[Span, ...], ...]  # by fact
    variant: int  # 0 where equal facts of the question are judged once, else one for each answer
    verdicts: dict[str, Verdict[float]]  # by fact; grows, and is shared by all checks with this variant
    bundles: dict[str, Bundle]  # by fact: what is asked about in one call
    failed_bundles: dict[str, tuple[str, ...]]  # by fact: keys of the calls on its bundle, when none could be used
    verified: Mapping[str, Verified] | None = None  # by fact: what the verifier says; None without one
    controls: dict[str, Verdict[float]] = field(default_factory=dict)  # by fact: the judge's verdict on it alone
    notes: Notes = "unknown"  # what completeness' notes hold on the question

    @property
    def facts(self) -> tuple[str, ...]:
        return self.listed.value or ()

    @property
    def own_verdicts(self) -> list[Verdict[float]]:
        """Verdicts on this answer's facts, in their order."""
        return [self.verdicts[fact] for fact in self.facts if fact in self.verdicts]

    @property
    def missing(self) -> list[int]:
        """Places of the facts without a verdict."""
        return [place for place, fact in enumerate(self.facts) if fact not in self.verdicts]

    @property
    def fault(self) -> str | None:
        """Why there can be no score: the list of facts, or a verdict, could not be had."""
        if self.listed.reason is not None:
            return f"facts: {self.listed.reason}"
        for verdict in self.own_verdicts:
            if verdict.reason is not None:
                return f"support: {verdict.reason}"
        return None

    def number(self, fact: str) -> int | None:
        """The fact's number in the call that its verdict came from; None when there was no call on several facts."""
        bundle = self.bundles.get(fact, ())
        if len(bundle) <= 1 or fact in self.failed_bundles or fact not in self.verdicts:
            return None
        return 1 + [claim.fact for claim in bundle].index(fact)

    def is_verified(self, fact: str) -> bool:
        """Whether the verdict on the fact is the verifier's."""
        return self.verified is not None and self.verified[fact].support is not None

    def claim_id(self, fact: str) -> ClaimId:
        return self.question.example.example_id, self.variant, fact

    def despite_notes(self, settings: FactSettings) -> bool:
        """True for an answer that claims no fact though the notes hold something, or may do so."""
        no_facts = self.listed.value == () and self.notes in ("hold", "missing")
        return no_facts and settings.no_facts_despite_notes != IGNORED

    def no_facts_score(self, settings: FactSettings) -> float | None:
        """The score of this answer, which claims no fact."""
        if not self.despite_notes(settings):
            return settings.no_facts
        return 0.0 if settings.no_facts_despite_notes == 0 and self.notes == "hold" else None

    def bounds(self, settings: FactSettings) -> ScoreBounds:
        """Between what the score can still be. An answer with a fault has no bounds."""
        if not self.facts:
            score = self.no_facts_score(settings) or 0.0
            return ScoreBounds(self.answer, score, score, 0, may_win=not self.despite_notes(settings))
        verdicts = self.own_verdicts
        unit = 10 / len(self.facts)
        certain = math.fsum(verdict.value or 0.0 for verdict in verdicts)
        missing = len(self.facts) - len(verdicts)
        return ScoreBounds(self.answer, unit * certain, unit * (certain + missing), missing, len(verdicts))


def check_facts(
    questions: Sequence[AnsweredQuestion], settings: FactSettings, scoring: ScoringContext
) -> Generator[Step, Any, list[list[FactCheck]]]:
    """The checks of each question's answers, in order.

    Every fact has a verdict, but for answers that can be neither chosen nor rejected any more.
    """
    checks = yield from _list_facts(questions, settings, scoring)
    bounds = yield from pruning_bounds()
    notes = notes_by_answer((yield from other_judgements()))
    checks = [[replace(check, notes=notes.get(check.answer.id, "unknown")) for check in group] for group in checks]
    while True:
        claims = _claims_of_round(checks, settings, bounds)
        if not claims:
            break
        yield from _judge_claims(claims, settings, scoring)
    yield from _judge_controls(checks, settings, scoring)
    return checks


def _list_facts(
    questions: Sequence[AnsweredQuestion], settings: FactSettings, scoring: ScoringContext
) -> Generator[Step, Any, list[list[FactCheck]]]:
    queries = []
    for question in questions:
        for answer in question.answers:
            queries.append(list_query(question, answer, settings, scoring))
    lists = iter((yield from ask(queries)))
    lists_by_question = [[next(lists) for _ in question.answers] for question in questions]
    jobs = []
    for question, of_question in zip(questions, lists_by_question, strict=True):
        facts: list[str] = []
        for facts_list in of_question:
            facts.extend(facts_list.value or ())
        jobs.append(_lookup_job(question, facts, settings, scoring))
    passages = yield from compute("embed", jobs)
    claims_by_question = []
    for of_question, of_facts in zip(lists_by_question, passages, strict=True):
        claims_by_question.append(_claims(of_question, of_facts))
    verified = yield from _verify(questions, claims_by_question, settings, scoring)
    checks = []
    for place, question in enumerate(questions):
        of_answers = lists_by_question[place], claims_by_question[place]
        checks.append(_checks(question, *of_answers, settings, verified[place] if verified else None))
    return checks


def _verify(
    questions: Sequence[AnsweredQuestion],
    claims: Sequence[Sequence[Sequence[Claim]]],
    settings: FactSettings,
    scoring: ScoringContext,
) -> Generator[Step, Any, list[dict[str, Verified]] | None]:
    """What the verifier says of the facts of each question, each once; None without a verifier."""
    if settings.verifier is None:
        return None
    statements: list[list[Statement]] = []
    for question, of_answers in zip(questions, claims, strict=True):
        passages: dict[str, str] = {}  # by fact
        for of_answer in of_answers:
            for claim in of_answer:
                passages[claim.fact] = passages_text(question.context, claim.passages)
        own = question.example.example_id, question.context.context_id
        statements.append(
            [Statement(text, fact, *own, fact_subject(question, fact)) for fact, text in passages.items()]
        )
    calibration = load_calibration(scoring.recipe, settings.verifier)
    verified = yield from verify(statements, settings.verifier, calibration, scoring)
    by_fact = []
    for of_question, verified_of_question in zip(statements, verified, strict=True):
        facts = [statement.text for statement in of_question]
        by_fact.append(dict(zip(facts, verified_of_question, strict=True)))
    return by_fact


def list_query(
    question: AnsweredQuestion, answer: Answer, settings: FactSettings, scoring: ScoringContext
) -> JudgeQuery[tuple[str, ...]]:
    """The query for the facts that an answer claims."""
    texts = {"question": question.example.question, "answer": answer.text}
    return JudgeQuery(
        "facts",
        judge_prompt(settings.list_step, question.example.language, judge_settings(scoring).prompts, **texts),
        question.context.context_id,
        read_facts,
        settings.facts_tokens,
        _list_form(settings.granularity),
        cut="never",
        subject=subject_of(answer),
    )


def _list_form(granularity: Granularity) -> ReplyForm:
    statement = rf"<statement>[^<>\n]{{3,{_STATEMENT_CHARACTERS[granularity]}}}</statement>"
    return ReplyForm("regex", rf"({statement}\n?){{1,80}}|{'|'.join(NO_FACTS.values())}")


def _lookup_job(
    question: AnsweredQuestion, facts: Sequence[str], settings: FactSettings, scoring: ScoringContext
) -> Job[list[tuple[Span, ...]]]:
    """The passages of each fact of a question, as [start, end) pairs of characters."""
    sizes = [settings.chunk_tokens, settings.nearest]
    return Job(
        lambda: nearest_chunks(facts, question.context, settings.chunk_tokens, settings.nearest, scoring),
        [question.context.context_id, judge_settings(scoring).tokenizer, sizes, list(facts)],
        len(facts) + question.context.tokens // settings.chunk_tokens if facts else 0,
        question.example.example_id,
    )


def _claims(
    lists: Sequence[Verdict[tuple[str, ...]]], passages: Sequence[Sequence[Sequence[int]]]
) -> list[list[Claim]]:
    """The claims of each answer to a question, from its facts in turn and their passages."""
    remaining = iter(passages)
    claims = []
    for facts_list in lists:
        of_answer = []
        for fact in facts_list.value or ():
            of_answer.append(Claim(fact, tuple((start, end) for start, end in next(remaining))))
        claims.append(of_answer)
    return claims


def _checks(
    question: AnsweredQuestion,
    lists: Sequence[Verdict[tuple[str, ...]]],
    claims: Sequence[Sequence[Claim]],
    settings: FactSettings,
    verified: Mapping[str, Verified] | None,
) -> list[FactCheck]:
    settled: dict[str, Verdict[float]] = {}
    for fact, says in (verified or {}).items():
        if says.support is not None:
            settled[fact] = Verdict(says.support, None, "", says.keys)
    for_judge = []  # by answer: claims that the verifier has left open
    for of_answer in claims:
        for_judge.append([claim for claim in of_answer if claim.fact not in settled])
    all_claims = [claim for of_answer in for_judge for claim in of_answer]
    bundles = make_bundles(all_claims, settings.facts_per_call)
    verdicts, failed, controls = dict(settled), dict[str, tuple[str, ...]](), dict[str, Verdict[float]]()
    checks = []
    for place, (answer, facts_list) in enumerate(zip(question.answers, lists, strict=True)):
        own = question, answer, facts_list, tuple(claim.passages for claim in claims[place])
        if settings.share_facts:
            checks.append(FactCheck(*own, 0, verdicts, bundles, failed, verified, controls))
        else:
            own_bundles = make_bundles(for_judge[place], settings.facts_per_call)
            checks.append(FactCheck(*own, 1 + answer.sample_index, dict(settled), own_bundles, {}, verified, {}))
    return checks


def _claims_of_round(
    checks: Sequence[Sequence[FactCheck]], settings: FactSettings, bounds: PruningBounds | None
) -> list[tuple[FactCheck, int]]:
    """What this round judges: (check, place of the fact), equal claims once. Facts of many answers come first."""
    needs = []
    for of_question in checks:
        counts = _verdicts_needed(of_question, settings, bounds)
        for sample_index, count in counts.items():
            for check in of_question:
                if check.answer.sample_index == sample_index:
                    needs.append((check, count))
    stated: Counter[ClaimId] = Counter()
    for check, _ in needs:
        stated.update(check.claim_id(fact) for fact in check.facts)
    claims: dict[ClaimId, tuple[FactCheck, int]] = {}
    for check, count in needs:
        common_first = sorted((-stated[check.claim_id(check.facts[place])], place) for place in check.missing)
        for _, place in common_first[:count]:
            claims.setdefault(check.claim_id(check.facts[place]), (check, place))
    return list(claims.values())


def _verdicts_needed(
    checks: Sequence[FactCheck], settings: FactSettings, bounds: PruningBounds | None
) -> dict[int, int]:
    """How many more verdicts the answers of a question get now, by sample index."""
    all_missing = {check.answer.sample_index: len(check.missing) for check in checks if check.missing}
    if bounds is None or not all_missing:
        return all_missing
    contending = []
    for check in checks:
        can_score = check.fault is None and (check.facts or check.no_facts_score(settings) is not None)
        if can_score and bounds.others[check.answer.id] is not None:
            contending.append(check.bounds(settings))
    # An answer that takes no part in the pair is judged all the same: a missing score throws no other one away.
    contenders = {score.answer.sample_index for score in contending}
    counts = {index: count for index, count in all_missing.items() if index not in contenders}
    earlier = bounds.earlier.get(checks[0].answer.example_id, ())
    return {**counts, **verdicts_needed([*contending, *earlier], bounds)}


def _judge_claims(
    claims: Sequence[tuple[FactCheck, int]], settings: FactSettings, scoring: ScoringContext
) -> Generator[Step, Any, None]:
    """Verdicts on these facts: by bundles first, then one by one for those without a verdict."""
    yield from _judge_bundles(claims, settings, scoring)
    alone = [(check, place) for check, place in claims if check.facts[place] not in check.verdicts]
    queries = [_support_query(check, place, settings, scoring) for check, place in alone]
    verdicts = yield from ask(queries, "facts")
    for (check, place), verdict in zip(alone, verdicts, strict=True):
        fact = check.facts[place]
        keys_of_bundle = check.failed_bundles.get(fact, ())
        check.verdicts[fact] = replace(verdict, keys=(*keys_of_bundle, *verdict.keys))


def _judge_controls(
    checks: Sequence[Sequence[FactCheck]], settings: FactSettings, scoring: ScoringContext
) -> Generator[Step, Any, None]:
    """For a sample of the answers, the judge's verdict on each fact alone whose verdict came in another way."""
    claims: dict[ClaimId, tuple[FactCheck, int]] = {}
    for of_question in checks:
        for check in of_question:
            draw = seeded_random(scoring.recipe.seed, "control", *check.answer.id).random()
            if draw >= settings.control_share:
                continue
            for place, fact in enumerate(check.facts):
                if fact in check.verdicts and (check.is_verified(fact) or check.number(fact) is not None):
                    claims.setdefault(check.claim_id(fact), (check, place))
    queries = [_support_query(check, place, settings, scoring) for check, place in claims.values()]
    verdicts = yield from ask(queries, "facts")
    for (check, place), verdict in zip(claims.values(), verdicts, strict=True):
        check.controls[check.facts[place]] = verdict


def _judge_bundles(
    claims: Sequence[tuple[FactCheck, int]], settings: FactSettings, scoring: ScoringContext
) -> Generator[Step, Any, None]:
    """Verdicts on all facts of the bundles that these facts are in, where bundles hold several facts.

    Facts of a bundle that brought no usable reply get none here, and their bundle is not asked about again.
    """
    bundles: dict[ClaimId, tuple[FactCheck, Bundle]] = {}
    for check, place in claims:
        bundle = check.bundles[check.facts[place]]
        if len(bundle) > 1 and bundle[0].fact not in check.failed_bundles:
            bundles.setdefault(check.claim_id(bundle[0].fact), (check, bundle))
    queries = []
    for check, bundle in bundles.values():
        queries.append(bundle_query(bundle, check.question, check.variant, settings.max_tokens, scoring))
    verdicts = yield from ask(queries, "bundles of facts")
    for (check, bundle), verdict in zip(bundles.values(), verdicts, strict=True):
        if verdict.value is None:
            for claim in bundle:
                check.failed_bundles[claim.fact] = verdict.keys
            continue
        for claim, support in zip(bundle, verdict.value, strict=True):
            check.verdicts[claim.fact] = Verdict(support, None, verdict.reply, verdict.keys)


def _support_query(check: FactCheck, place: int, settings: FactSettings, scoring: ScoringContext) -> JudgeQuery[float]:
    question = check.question
    fact = check.facts[place]
    prompts = judge_settings(scoring).prompts
    texts = {"passages": passages_text(question.context, check.passages[place]), "statement": fact}
    return JudgeQuery(
        "support",
        judge_prompt("support", question.example.language, prompts, **texts),
        question.context.context_id,
        partial(read_support, material="\n".join(texts.values())),
        settings.max_tokens,
        _SUPPORT_FORM if prompts == "terse" else None,
        check.variant,
        subject=fact_subject(question, fact),
    )
