"""The facts that answers claim, and the judge's verdict on each.

Facts are listed for all answers first and looked up in the context among its nearest chunks; then they are judged,
in rounds over all questions at once. Where answers may be left alone (`standing.py`), a round asks for as many
verdicts as should decide the pair, otherwise one round asks for all. Equal facts of a question are one question to
the judge, and its verdict is known to every answer that claims the fact. Where the recipe wants several facts in a
call, those of a call are known together (`bundles.py`); a call that brings no usable reply is made up for one by one.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from infra.recipe import Positive, RecipeSection
from tasks.judging.asking import JudgeQuery, ReplyForm, Verdict, ask_all, judge_of, judge_prompt
from tasks.judging.bundles import Bundle, Claim, ask_bundle, bundled, passages_text
from tasks.judging.chunks import Span
from tasks.judging.pruning import PruningBounds, ScoreBounds, verdicts_wanted
from tasks.judging.rating import no_text_reason
from tasks.judging.replies import NO_FACTS, read_facts, read_support
from tasks.judging.retrieval import nearest
from tasks.records.example import Answer
from tasks.scoring import AnsweredQuestion, ScoringContext

_LISTED = ReplyForm("regex", rf"(<statement>[^<>\n]{{3,600}}</statement>\n?){{1,80}}|{'|'.join(NO_FACTS.values())}")
_LABELS = ("[[Fully supported]]", "[[Partially supported]]", "[[No support]]")


class FactSettings(RecipeSection):
    """How facts are listed and checked."""

    facts_tokens: Positive = Field(2048, description="longest list of facts of one answer, in tokens")
    max_tokens: Positive = Field(512, description="longest verdict on one fact, in tokens")
    chunk_tokens: Positive = Field(128, description="tokens per chunk that facts are looked up in")
    nearest: Positive = Field(5, description="chunks that a fact is checked against")
    no_facts: Annotated[float, Field(ge=0, le=10)] | None = Field(
        10.0, description="score of an answer that claims no fact (an honest refusal); null: it has none"
    )
    share_facts: bool = Field(True, description="judge equal facts of the answers to a question once")
    facts_per_call: Positive = Field(
        1,
        description="most facts of a question that the judge is asked about in one call; 1: each in a call of its own",
    )
    expected_facts: Positive = Field(20, description="facts per answer, for estimates before a run alone")


@dataclass(frozen=True, slots=True)
class FactCheck:
    """One answer, its facts, each once, and the verdicts so far. `verdicts` also holds those on other facts."""

    case: AnsweredQuestion
    answer: Answer
    listed: Verdict[tuple[str, ...]]  # the judge's list of facts
    passages: tuple[tuple[Span, ...], ...]  # by fact
    variant: int  # 0 where equal facts of the question are judged once, else one for each answer
    verdicts: dict[str, Verdict[float]]  # by fact; grows as they come in, for all trials with this variant
    bundles: dict[str, Bundle]  # by fact: what is asked in one call, for all trials with this variant
    in_vain: dict[str, tuple[str, ...]]  # by fact: keys of the calls on its bundle, where none was of use; grows

    @property
    def facts(self) -> tuple[str, ...]:
        return self.listed.value or ()

    @property
    def words(self) -> list[Verdict[float]]:
        """Verdicts on this answer's facts, in their order."""
        return [self.verdicts[fact] for fact in self.facts if fact in self.verdicts]

    @property
    def missing(self) -> list[int]:
        """Places of the facts without a verdict."""
        return [place for place, fact in enumerate(self.facts) if fact not in self.verdicts]

    def number(self, fact: str) -> int | None:
        """The fact's number in the call that its verdict came from; null when it was asked about alone."""
        bundle = self.bundles[fact]
        if len(bundle) == 1 or fact in self.in_vain or fact not in self.verdicts:
            return None
        return 1 + [claim.fact for claim in bundle].index(fact)

    @property
    def fault(self) -> str | None:
        """Why there can be no score: the facts, or a verdict, could not be had."""
        if self.listed.reason is not None:
            return f"facts: {self.listed.reason}"
        return next((f"support: {word.reason}" for word in self.words if word.reason is not None), None)

    def prospect(self, no_facts: float) -> ScoreBounds:
        """Between what its score can still be. An answer with a fault has none."""
        if not self.facts:
            return ScoreBounds(self.answer, no_facts, no_facts, 0)
        words, unit = self.words, 10 / len(self.facts)
        sure, missing = math.fsum(word.value or 0.0 for word in words), len(self.facts) - len(words)
        return ScoreBounds(self.answer, unit * sure, unit * (sure + missing), missing, len(words))


def try_answers(
    cases: Sequence[AnsweredQuestion], settings: FactSettings, bench: ScoringContext
) -> list[list[FactCheck]]:
    """The trials of each case's answers that have text, in their order.

    Every fact has a verdict, but for answers that `bench.standing` says can be neither chosen nor rejected.
    """
    trials = _list_facts(cases, settings, bench)
    while wanted := [
        (each, count)
        for of_case in trials
        for index, count in _wanted(of_case, settings, bench.standing).items()
        for each in of_case
        if each.answer.sample_index == index
    ]:
        _judge_facts(wanted, settings, bench)
    return trials


def _wanted(trials: Sequence[FactCheck], settings: FactSettings, standing: PruningBounds | None) -> dict[int, int]:
    """How many more verdicts the answers of a question get now, by sample index."""
    everything = {each.answer.sample_index: len(each.missing) for each in trials if each.missing}
    if standing is None or not everything:
        return everything
    contending = [
        each.prospect(settings.no_facts or 0.0)
        for each in trials
        if each.fault is None
        and (each.facts or settings.no_facts is not None)
        and standing.others[each.answer.example_id, each.answer.sample_index] is not None
    ]
    # What takes no part in the pair is judged all the same: a score that is missing throws no other one away.
    apart = everything.keys() - {each.answer.sample_index for each in contending}
    return {**{index: everything[index] for index in apart}, **verdicts_wanted(contending, standing)}


def _list_facts(
    cases: Sequence[AnsweredQuestion], settings: FactSettings, bench: ScoringContext
) -> list[list[FactCheck]]:
    judge, _ = judge_of(bench)
    spoken = [[answer for answer in case.answers if no_text_reason(answer) is None] for case in cases]
    asks = [
        JudgeQuery(
            "facts",
            judge_prompt(
                "facts", case.example.language, judge.prompts, question=case.example.question, answer=answer.text
            ),
            case.context.context_id,
            read_facts,
            settings.facts_tokens,
            _LISTED,
            cut="never",
        )
        for case, answers in zip(cases, spoken, strict=True)
        for answer in answers
    ]
    words = iter(ask_all(asks, bench))
    return [list(_trials(case, answers, words, settings, bench)) for case, answers in zip(cases, spoken, strict=True)]


def _trials(
    case: AnsweredQuestion,
    answers: Sequence[Answer],
    words: Iterator[Verdict[tuple[str, ...]]],
    settings: FactSettings,
    bench: ScoringContext,
) -> Iterator[FactCheck]:
    listed = [next(words) for _ in answers]
    facts = [fact for word in listed for fact in word.value or ()]
    found = iter(nearest(facts, case.context, settings.chunk_tokens, settings.nearest, bench))
    claims = [[Claim(fact, next(found)) for fact in word.value or ()] for word in listed]
    together = bundled([claim for each in claims for claim in each], settings.facts_per_call)
    verdicts: dict[str, Verdict[float]] = {}
    in_vain: dict[str, tuple[str, ...]] = {}
    for answer, word, own in zip(answers, listed, claims, strict=True):
        passages = tuple(claim.passages for claim in own)
        if settings.share_facts:
            yield FactCheck(case, answer, word, passages, 0, verdicts, together, in_vain)
        else:
            apart = bundled(own, settings.facts_per_call)
            yield FactCheck(case, answer, word, passages, 1 + answer.sample_index, {}, apart, {})


def _judge_facts(wanted: Sequence[tuple[FactCheck, int]], settings: FactSettings, bench: ScoringContext) -> None:
    """Verdicts on so many facts of each trial, or more; first those that most of the trials claim."""
    claims = Counter(_claim(each, fact) for each, _ in wanted for fact in each.facts)
    asked: dict[tuple[str, int, str], tuple[FactCheck, int]] = {}
    for each, count in wanted:
        common_first = sorted((-claims[_claim(each, each.facts[place])], place) for place in each.missing)
        for _, place in common_first[:count]:
            asked.setdefault(_claim(each, each.facts[place]), (each, place))
    _judge_bundles(list(asked.values()), settings, bench)
    alone = [(each, place) for each, place in asked.values() if each.facts[place] not in each.verdicts]
    words = ask_all([_ask_support(each, place, settings, bench) for each, place in alone], bench)
    for (each, place), word in zip(alone, words, strict=True):
        fact = each.facts[place]
        each.verdicts[fact] = replace(word, keys=(*each.in_vain.get(fact, ()), *word.keys))


def _judge_bundles(asked: Sequence[tuple[FactCheck, int]], settings: FactSettings, bench: ScoringContext) -> None:
    """Verdicts on all facts of the bundles that these facts are in, where bundles are of several facts.

    Facts of a bundle that brought no usable reply get none here, and their bundle is not asked about again.
    """
    together: dict[tuple[str, int, str], tuple[FactCheck, Bundle]] = {}
    for each, place in asked:
        bundle = each.bundles[each.facts[place]]
        if len(bundle) > 1 and bundle[0].fact not in each.in_vain:
            together.setdefault(_claim(each, bundle[0].fact), (each, bundle))
    asks = [
        ask_bundle(bundle, each.case, each.variant, settings.max_tokens, bench) for each, bundle in together.values()
    ]
    for (each, bundle), word in zip(together.values(), ask_all(asks, bench), strict=True):
        if word.value is None:
            each.in_vain.update((claim.fact, word.keys) for claim in bundle)
            continue
        for claim, support in zip(bundle, word.value, strict=True):
            each.verdicts[claim.fact] = Verdict(support, None, word.reply, word.keys)


def _claim(trial: FactCheck, fact: str) -> tuple[str, int, str]:
    """What a verdict is on: equal claims get one."""
    return trial.case.example.example_id, trial.variant, fact


def _ask_support(trial: FactCheck, place: int, settings: FactSettings, bench: ScoringContext) -> JudgeQuery[float]:
    judge, _ = judge_of(bench)
    context = trial.case.context
    prompt = judge_prompt(
        "support",
        trial.case.example.language,
        judge.prompts,
        passages=passages_text(context, trial.passages[place]),
        statement=trial.facts[place],
    )
    form = ReplyForm("choice", _LABELS) if judge.prompts == "terse" else None
    return JudgeQuery("support", prompt, context.context_id, read_support, settings.max_tokens, form, trial.variant)
