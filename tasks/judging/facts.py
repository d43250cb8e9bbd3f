"""The facts that answers state, and the judge's verdict on each.

The judge lists the facts of every answer. Each fact is looked up in the context: the nearest chunks are its passages.
Then facts are judged in rounds over all questions at once. Where answers may be pruned (`pruning.py`), a round asks
for as many verdicts as should decide the pair; otherwise one round asks for all. Equal facts of a question are one
query, and its verdict holds for every answer that states the fact.

Where the recipe wants several facts per call, the facts of a question are put into bundles before any is judged, in
the order in which the answers state them. So a call holds the same facts whichever of them is needed first, and
pruning changes no verdict. In the prompt every fact stands between tags with its number, after its passages; texts are
quoted, so that none can bring a tag, a number or a label of its own. A reply must give exactly one verdict on each
number. Facts of a bundle without a usable reply are judged one by one.
"""

import math
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from infra.models.protocol import Prompt
from tasks.chunks import Span
from tasks.judging.asking import judge_prompt, judge_settings
from tasks.judging.context import SCORE_DIGITS, AnsweredQuestion, ScoringContext
from tasks.judging.fact_settings import FactSettings, Granularity
from tasks.judging.pruning import PRUNED, PruningBounds, ScoreBounds, verdicts_needed
from tasks.judging.quoting import quoted
from tasks.judging.rating import subject_of
from tasks.judging.refusals import DESPITE_NOTES, IGNORED, Notes, notes_by_answer
from tasks.judging.replies import NO_FACTS, SUPPORT_LABELS, read_facts, read_support, read_supports
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
from tasks.prompts import load_prompt
from tasks.records.example import Answer, Judgement

BUNDLE_KIND = "supports"  # of calls about several facts, and the step of their prompts
_STATEMENT_CHARACTERS: Mapping[Granularity, int] = {"sentence": 1200, "atomic": 600}  # the most, where the form holds
_SUPPORT_FORM = ReplyForm("choice", ("[[Fully supported]]", "[[Partially supported]]", "[[No support]]"))
_REASON = r"[^\[\]\n]{1,600}"
_FACT_CHARACTERS = 60  # of a fact, in a message


@dataclass(frozen=True, slots=True)
class Claim:
    """A fact and the passages of the context that it is checked against."""

    fact: str
    passages: tuple[Span, ...]


Bundle = tuple[Claim, ...]
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
        """The fact's number in the call that its verdict came from; None when the call was about it alone."""
        bundle = self.bundles[fact]
        if len(bundle) == 1 or fact in self.failed_bundles or fact not in self.verdicts:
            return None
        return 1 + [claim.fact for claim in bundle].index(fact)

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
            return checks
        yield from _judge_claims(claims, settings, scoring)


def checked_judgement(scorer: str, check: FactCheck, settings: FactSettings, judged: set[tuple[int, str]]) -> Judgement:
    """The judgement on a checked answer. `judged`: (variant, fact) of verdicts that an earlier answer has; grows."""
    facts = [_fact_evidence(check, place, judged) for place in range(len(check.facts))]
    judged.update((check.variant, fact) for fact in check.facts if fact in check.verdicts)
    evidence = {"reply": check.listed.reply, "facts": facts, "no_facts": check.listed.value == ()}
    if check.despite_notes(settings) and check.notes == "hold":
        evidence[DESPITE_NOTES] = True
    score, reason = support_score(check, settings)
    keys = dict.fromkeys(check.listed.keys)
    for verdict in check.own_verdicts:
        keys.update(dict.fromkeys(verdict.keys))
    return check.answer.judged(scorer, score, reason, evidence, keys)


def support_score(check: FactCheck, settings: FactSettings) -> tuple[float | None, str | None]:
    """The score and, where it is None, the reason."""
    if check.fault is not None:
        return None, check.fault
    if check.missing:
        return None, PRUNED
    if not check.facts:
        score = check.no_facts_score(settings)
        reason = DESPITE_NOTES if check.despite_notes(settings) else "no_facts"
        return score, reason if score is None else None
    supported = math.fsum(verdict.value or 0.0 for verdict in check.own_verdicts)
    return round(10 * supported / len(check.facts), SCORE_DIGITS), None


def _fact_evidence(check: FactCheck, place: int, judged: set[tuple[int, str]]) -> dict[str, Any]:
    fact = check.facts[place]
    verdict = check.verdicts.get(fact)
    number = check.number(fact)
    evidence = {
        "text": fact,
        "support": verdict.value if verdict else None,
        "reason": verdict.reason if verdict else PRUNED,
        "passages": [list(span) for span in check.passages[place]],
        "reply": verdict.reply if verdict else None,
        "key": verdict.keys[-1] if verdict else None,
        "shared": verdict is not None and (check.variant, fact) in judged,
    }
    return evidence if number is None else {**evidence, "number": number}


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
    checks = []
    for question, of_question, of_facts in zip(questions, lists_by_question, passages, strict=True):
        checks.append(_checks(question, of_question, of_facts, settings))
    return checks


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


def _checks(
    question: AnsweredQuestion,
    lists: Sequence[Verdict[tuple[str, ...]]],
    passages: Sequence[Sequence[Sequence[int]]],
    settings: FactSettings,
) -> list[FactCheck]:
    remaining = iter(passages)
    claims_by_answer = []
    all_claims: list[Claim] = []
    for facts_list in lists:
        claims = []
        for fact in facts_list.value or ():
            claims.append(Claim(fact, tuple((start, end) for start, end in next(remaining))))
        claims_by_answer.append(claims)
        all_claims.extend(claims)
    bundles = make_bundles(all_claims, settings.facts_per_call)
    verdicts: dict[str, Verdict[float]] = {}
    failed: dict[str, tuple[str, ...]] = {}
    checks = []
    for answer, facts_list, claims in zip(question.answers, lists, claims_by_answer, strict=True):
        of_facts = tuple(claim.passages for claim in claims)
        if settings.share_facts:
            checks.append(FactCheck(question, answer, facts_list, of_facts, 0, verdicts, bundles, failed))
        else:
            own_bundles = make_bundles(claims, settings.facts_per_call)
            variant = 1 + answer.sample_index
            checks.append(FactCheck(question, answer, facts_list, of_facts, variant, {}, own_bundles, {}))
    return checks


def make_bundles(claims: Sequence[Claim], size: int) -> dict[str, Bundle]:
    """The bundle of each fact: at most `size` claims in the order given, each fact once."""
    distinct = list({claim.fact: claim for claim in claims}.values())
    bundles: dict[str, Bundle] = {}
    for start in range(0, len(distinct), size):
        bundle = tuple(distinct[start : start + size])
        for claim in bundle:
            bundles[claim.fact] = bundle
    return bundles


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
    return {**counts, **verdicts_needed(contending, bounds)}


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
        subject=_fact_subject(question, fact),
    )


def bundle_query(
    bundle: Bundle, question: AnsweredQuestion, variant: int, max_tokens: int, scoring: ScoringContext
) -> JudgeQuery[tuple[float, ...]]:
    """The query whether each fact of the bundle is supported. `max_tokens`: of the verdict on one fact."""
    prompts = judge_settings(scoring).prompts
    language = question.example.language
    count = len(bundle)
    statements = _bundle_statements(bundle, question)
    return JudgeQuery(
        BUNDLE_KIND,
        _bundle_prompt(statements, language, prompts),
        question.context.context_id,
        partial(read_supports, count=count, material=statements),
        max_tokens * count,
        bundle_form(language, prompts, count),
        variant,
        subject=_fact_subject(question, bundle[0].fact),
    )


def _bundle_statements(bundle: Bundle, question: AnsweredQuestion) -> str:
    """The facts of a bundle with their passages, numbered and quoted."""
    statements = []
    for number, claim in enumerate(bundle, 1):
        statements.append(
            f'<passages number="{number}">\n{quoted(passages_text(question.context, claim.passages))}\n</passages>\n\n'
            f'<statement number="{number}">\n{quoted(claim.fact)}\n</statement>'
        )
    return "\n\n".join(statements)


def _bundle_prompt(statements: str, language: str, prompts: str) -> Prompt:
    text = load_prompt(f"judge-{prompts}-{BUNDLE_KIND}", language)
    return Prompt(({"role": "user", "content": text.render(statements=statements)},))


def bundle_form(language: str, prompts: str, count: int) -> ReplyForm:
    """One line for each number in turn: the number, reasons where the prompt wants some, the label."""
    label = rf"\[\[({'|'.join(SUPPORT_LABELS[language])})\]\]"
    reason = _REASON if prompts == "full" else ""
    return ReplyForm("regex", r"\n".join(rf"{number}\. {reason}{label}" for number in range(1, count + 1)))


def _fact_subject(question: AnsweredQuestion, fact: str) -> str:
    short = fact if len(fact) <= _FACT_CHARACTERS else fact[: _FACT_CHARACTERS - 1] + "…"
    return f"question {question.example.example_id}, fact “{short}”"
